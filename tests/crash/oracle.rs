//! The oracle: holds what survivors report against the promise, message by message.
//!
//! It runs a queue beside the ring. The queue knows from the log outside the segment what must be in the ring; the
//! one message whose call was in flight may or may not be in it, until an event settles that.

use std::collections::VecDeque;
use std::fmt;

use crate::event::{Ending, Event, Role};
use crate::message::Tag;
use crate::scenario::{Delivery, Gone, Promise, SURVIVOR};

/// How many times survivors must have filled and emptied the ring.
pub(crate) const LAPS: usize = 3;

/// What broke the promise.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) what: String,
    /// What had been reported up to then.
    events: String,
}

impl Violation {
    pub(crate) fn new(what: impl Into<String>, events: &[Event]) -> Self {
        Self {
            what: what.into(),
            events: shortened(events),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, events } = self;
        write!(f, "{what}, after [{events}]")
    }
}

/// Whether the `Possible` message was there, if there was one.
pub(crate) fn judge(promise: &Promise, events: &[Event]) -> Result<Option<bool>, Violation> {
    let mut model = Model {
        promise,
        queue: promise.messages.iter().copied().collect(),
        possible_was_there: None,
        joined: Vec::new(),
        received: 0,
        received_of_survivor: 0,
    };
    for (index, event) in events.iter().enumerate() {
        model
            .apply(event)
            .map_err(|what| Violation::new(what, &events[..index]))?;
    }
    if events.last() != Some(&Event::Finished) {
        return Err(Violation::new("survivors stopped", events));
    }
    match model.received_of_survivor {
        enough if enough >= LAPS * promise.capacity => Ok(model.possible_was_there),
        few => Err(Violation::new(
            format!("only {few} messages of survivors arrived"),
            events,
        )),
    }
}

struct Model<'a> {
    promise: &'a Promise,
    queue: VecDeque<(Tag, Delivery)>,
    possible_was_there: Option<bool>,
    joined: Vec<Role>,
    received: usize,
    received_of_survivor: usize,
}

impl Model<'_> {
    fn apply(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Joined(role) => self.joined.push(*role),
            Event::Sent(tag) => {
                if self.certain() == self.promise.capacity {
                    return Err("a full ring took one more message".to_owned());
                }
                if self.queue.len() == self.promise.capacity {
                    // There was room for it only if the message in flight is not there.
                    self.settle(false);
                }
                self.queue.push_back((*tag, Delivery::Certain));
            }
            Event::Full => match self.promise.capacity - self.certain() {
                0 => self.settle(false),
                1 if self.queue.len() == self.promise.capacity => self.settle(true),
                room => return Err(format!("full with room for {room}")),
            },
            Event::Received(tag) => self.receive(*tag)?,
            Event::Empty => {
                self.settle(false);
                if let Some((lost, _)) = self.queue.front() {
                    return Err(format!("message {lost} is lost"));
                }
            }
            Event::Told(role, ending) => self.told(*role, *ending)?,
            Event::Finished => {}
            Event::Failed(text) => return Err(text.clone()),
        }
        Ok(())
    }

    fn receive(&mut self, tag: Tag) -> Result<(), String> {
        if let Some(&(front, Delivery::Possible)) = self.queue.front() {
            self.settle(front == tag);
        }
        match self.queue.front() {
            Some(&(expected, _)) if expected == tag => {
                self.queue.pop_front();
                self.received += 1;
                self.received_of_survivor += usize::from(tag.sender == SURVIVOR);
                Ok(())
            }
            Some((expected, _)) => Err(format!("message {tag} came where {expected} was due")),
            None => Err(format!("message {tag} came out of an empty ring")),
        }
    }

    /// A side that asks is told once that its counterpart died, or that it left. An end from before the side joined is
    /// its business only if it has to do with what is found: messages, or a full ring that nobody empties.
    fn told(&mut self, role: Role, ending: Ending) -> Result<(), String> {
        use Ending::{Closed, Died, Timeout};

        let (counterpart, gone) = match role {
            Role::Sender => (Role::Receiver, self.promise.receiver),
            Role::Receiver => (Role::Sender, self.promise.sender),
        };
        let true_endings: &[Ending] = match (role, gone) {
            // The counterpart is a survivor, and those leave.
            _ if self.joined.contains(&counterpart) => &[Closed],
            (Role::Receiver, _) if self.received == 0 => &[Timeout],
            (Role::Receiver, Gone::Left) => &[Closed],
            (Role::Receiver, Gone::DiedLeaving) => &[Died, Closed],
            (Role::Sender, Gone::Left) => &[Timeout],
            (Role::Sender, Gone::DiedLeaving) => &[Died, Timeout],
            (_, Gone::Died) => &[Died],
            (_, Gone::NeverCame) => &[Timeout],
        };
        if !true_endings.contains(&ending) {
            return Err(format!(
                "the {role:?} was told {ending:?} instead of {true_endings:?}"
            ));
        }
        if role == Role::Receiver {
            self.settle(false);
            if let Some((lost, _)) = self.queue.front() {
                return Err(format!(
                    "the receiver was told {ending:?} before message {lost}"
                ));
            }
        }
        Ok(())
    }

    fn certain(&self) -> usize {
        self.queue
            .iter()
            .filter(|(_, delivery)| *delivery == Delivery::Certain)
            .count()
    }

    /// Decides about the message in flight, unless that is settled.
    fn settle(&mut self, there: bool) {
        let Some(index) = self
            .queue
            .iter()
            .position(|(_, delivery)| *delivery == Delivery::Possible)
        else {
            return;
        };
        self.possible_was_there = Some(there);
        if there {
            self.queue[index].1 = Delivery::Certain;
        } else {
            self.queue.remove(index);
        }
    }
}

/// The last ones of a long list.
fn shortened(events: &[Event]) -> String {
    const SHOWN: usize = 12;
    let start = events.len().saturating_sub(SHOWN);
    let shown = events[start..]
        .iter()
        .map(Event::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if start == 0 {
        shown
    } else {
        format!("…, {shown}")
    }
}
