//! The oracle: holds what processes report against the promise, message by message.
//!
//! It runs queues beside the ring: one for `spsc` and `mpsc`, one a sender for `lanes`. It knows from the log outside the
//! segment what must be in them. What the victim had in flight may or may not be there until an event settles that; the same
//! goes for what somebody has in flight who sleeps in a call.

mod endings;
mod queues;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use crate::act::LAPS;
use crate::event::{Ending, Event, RECEIVER, Seat};
use crate::message::Tag;
use crate::operation::Operation;
use crate::oracle::endings::{Hears, Life, Participants};
use crate::ring::Kind;

/// What broke the promise.
#[derive(Clone, Debug)]
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

/// What the victim is about to do when it is killed.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight {
    /// Messages that it sends, in order.
    pub(crate) sends: Vec<Tag>,
    /// Messages that it receives, in order.
    pub(crate) takes: Vec<Tag>,
    /// Whether it may take a place for a message and leave it empty.
    pub(crate) claims: bool,
    /// Whether it may be there or not, as long as it is in its call.
    pub(crate) comes_or_leaves: bool,
    /// Whether it removes the ring, with all that is in it.
    pub(crate) removes: bool,
}

/// When a message was sent, as seen from the crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the operation: nothing that it sends comes earlier.
    Before,
    Amid,
    /// Nothing that the victim had in flight comes later.
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Queued {
    tag: Tag,
    phase: Phase,
    /// The victim may have received it.
    may_be_gone: bool,
}

/// What became of a message in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    Open,
    /// It was sent, and has its place among messages that were sent meanwhile.
    Due,
    /// It was in the ring.
    There,
    NotThere,
}

/// The log, and what follows from it.
#[derive(Clone, Debug)]
pub(crate) struct World {
    kind: Kind,
    capacity: usize,
    queues: BTreeMap<Seat, VecDeque<Queued>>,
    /// The number of each sender's last message.
    sent: BTreeMap<Seat, u16>,
    /// What victims were sending.
    sending: Vec<(Tag, Flight)>,
    /// What victims were receiving.
    taking: Vec<(Tag, Flight)>,
    /// What sleepers are sending.
    waiting: Vec<(Tag, Flight)>,
    /// A receiver that sleeps may have taken a message and not said so yet.
    receiver_sleeps: bool,
    removes: bool,
    /// Places that may be taken and never have a message in them.
    empty_places: usize,
    phase: Phase,
    participants: Participants,
    received_after: usize,
    is_removed: bool,
}

impl World {
    pub(crate) fn new(kind: Kind, capacity: usize) -> Self {
        Self {
            kind,
            capacity,
            queues: BTreeMap::new(),
            sent: BTreeMap::new(),
            sending: Vec::new(),
            taking: Vec::new(),
            waiting: Vec::new(),
            receiver_sleeps: false,
            removes: false,
            empty_places: 0,
            phase: Phase::Before,
            participants: Participants::new(kind),
            received_after: 0,
            is_removed: false,
        }
    }

    /// Takes note of events, in their order.
    pub(crate) fn see(&mut self, events: &[Event]) -> Result<(), Violation> {
        for (index, event) in events.iter().enumerate() {
            self.participants.time_passes();
            self.apply(event)
                .map_err(|what| Violation::new(what, &events[..index]))?;
        }
        Ok(())
    }

    /// What `operation` by `seat` would have in flight.
    pub(crate) fn next_of(&self, operation: Operation, seat: Seat) -> InFlight {
        let mut in_flight = InFlight {
            claims: operation.claims(),
            ..InFlight::default()
        };
        if operation.sends() {
            let sequence = self.sent.get(&seat).copied().unwrap_or_default() + 1;
            in_flight.sends.push(Tag {
                sender: seat,
                sequence,
            });
        } else {
            let fronts = self.queues.values().filter_map(VecDeque::front);
            in_flight.takes.extend(fronts.map(|front| front.tag));
        }
        in_flight
    }

    /// A victim has entered a call that has not returned. May be said of several, one after the other.
    pub(crate) fn enter(&mut self, in_flight: &InFlight) {
        let open = |&tag: &Tag| (tag, Flight::Open);
        for queued in self.queues.values_mut().flatten() {
            queued.may_be_gone |= in_flight.removes || in_flight.takes.contains(&queued.tag);
            if in_flight.removes {
                self.taking.push((queued.tag, Flight::Open));
            }
        }
        self.removes |= in_flight.removes;
        self.sending.extend(in_flight.sends.iter().map(open));
        self.taking.extend(in_flight.takes.iter().map(open));
        self.participants.somebody_comes_or_leaves |= in_flight.comes_or_leaves;
        if self.kind.shares_slots() && in_flight.claims && in_flight.sends.is_empty() {
            self.empty_places += 1;
        }
        self.phase = Phase::Amid;
    }

    /// The victim's call, which was entered with `in_flight`, has returned, and this is what it came to.
    pub(crate) fn returned(
        &mut self,
        in_flight: &InFlight,
        events: &[Event],
    ) -> Result<(), Violation> {
        self.participants.somebody_comes_or_leaves = false;
        if in_flight.removes {
            self.queues.clear();
            self.taking.clear();
            self.participants.clear();
        }
        // What was sent is in the ring, or was received meanwhile. Of several senders, its place is among what others have sent
        // meanwhile.
        for &tag in &in_flight.sends {
            let known = self.sending.iter().position(|&(known, _)| known == tag);
            let known = known.expect("it was in flight");
            let is_sent = events.contains(&Event::Sent(tag));
            match self.sending[known].1 {
                Flight::Open if is_sent && self.kind.shares_slots() => {
                    self.sending[known].1 = Flight::Due;
                }
                flight => {
                    self.sending.remove(known);
                    if is_sent && flight == Flight::Open {
                        self.push(tag);
                    }
                }
            }
            self.sent.insert(tag.sender, tag.sequence);
        }
        self.taking
            .retain(|(tag, _)| !in_flight.takes.contains(tag));
        for queued in self.queues.values_mut().flatten() {
            queued.may_be_gone &= !in_flight.takes.contains(&queued.tag);
        }
        let is_of_sends =
            |event: &Event| matches!(event, Event::Sent(tag) if in_flight.sends.contains(tag));
        let others = events.iter().filter(|event| !is_of_sends(event));
        let others = others.cloned().collect::<Vec<_>>();
        self.see(&others)
    }

    /// The participants `seats` were killed; `is_unsure`: while they came or left.
    pub(crate) fn killed(&mut self, seats: &[Seat], is_unsure: bool) {
        self.participants.time_passes();
        self.phase = Phase::After;
        self.participants.somebody_comes_or_leaves = false;
        // From now on, it is for survivors to remove what there is.
        self.is_removed = false;
        for &seat in seats {
            self.participants.killed(seat, is_unsure);
        }
    }

    /// Everybody is dead.
    pub(crate) fn killed_all(&mut self) {
        let living = self.participants.living();
        self.killed(&living, false);
    }

    /// What follows when survivors are done. Whether the operation in flight had taken effect, where that was open.
    pub(crate) fn verdict(&self, events: &[Event]) -> Result<Option<bool>, Violation> {
        let fail = |what: String| Err(Violation::new(what, events));
        if !self.is_removed {
            return fail("survivors stopped".to_owned());
        }
        if let Some(queued) = self.queues.values().flatten().next() {
            return fail(format!("message {} is lost", queued.tag));
        }
        if let Some((tag, _)) = self.waiting.first() {
            return fail(format!("who was sending {tag} never woke up"));
        }
        if self.received_after < LAPS * self.capacity {
            let few = self.received_after;
            return fail(format!("only {few} messages of survivors arrived"));
        }
        // A batch is sent from its beginning on.
        let there = |flight: Flight| flight == Flight::There;
        for pair in self.sending.windows(2) {
            let [(one, was_one), (other, was_other)] = [pair[0], pair[1]];
            if one.sender == other.sender && there(was_other) && !there(was_one) {
                return fail(format!("message {other} arrived and not {one}"));
            }
        }
        for pair in self.taking.windows(2) {
            let [(one, was_one), (other, was_other)] = [pair[0], pair[1]];
            let same_queue = self.queue_of(one.sender) == self.queue_of(other.sender);
            // A batch is one unit; and so is what goes with a ring. But in a queue under a mutex, where it is received from its
            // beginning on.
            let is_one_by_one = self.kind == Kind::Locked && !self.removes;
            let is_torn = match is_one_by_one {
                // The other one may have been sent meanwhile, or not.
                true => there(was_one) && was_other == Flight::NotThere,
                false => there(was_one) != there(was_other),
            };
            if (same_queue || self.removes) && is_torn {
                return fail(format!("of messages {one} and {other}, one came again"));
            }
        }
        Ok(match (self.sending.last(), self.taking.last()) {
            (Some(&(_, last)), None) => Some(there(last)),
            (None, Some(&(_, last))) => Some(!there(last)),
            _ => None,
        })
    }

    fn apply(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Joined(seat) => self.join(*seat),
            Event::Left(seat) => self.participants.end(*seat, Life::Left),
            Event::Vanished(seat) => self.participants.end(*seat, Life::Died),
            Event::Asleep(RECEIVER) => {
                self.receiver_sleeps = true;
                self.participants.falls_asleep(RECEIVER);
            }
            Event::Asleep(seat) => {
                self.participants.falls_asleep(*seat);
                let sequence = self.sent.get(seat).copied().unwrap_or_default() + 1;
                let tag = Tag {
                    sender: *seat,
                    sequence,
                };
                self.waiting.push((tag, Flight::Open));
            }
            Event::Reserved(_) => self.empty_places += usize::from(self.kind.shares_slots()),
            Event::Sent(tag) => self.send(*tag)?,
            Event::Full(seat) => self.full(*seat)?,
            Event::Received(tag) => self.receive(*tag)?,
            Event::Empty => self.look_in_vain(false)?,
            Event::SleepsOn(RECEIVER) => self.asked_in_vain(Ending::Timeout)?,
            Event::SleepsOn(seat) => return Err(format!("sender {seat} sleeps on")),
            Event::Told(RECEIVER, ending) => self.told_to_receiver(*ending)?,
            Event::Told(seat, ending) => self.told_to_sender(*seat, *ending)?,
            Event::Removed => {
                // Whoever removes a ring removes what is in it.
                if let Some(seat) = self.participants.living().first() {
                    return Err(format!("the ring was removed while {seat} used it"));
                }
                let is_over = self.phase == Phase::After;
                if let Some(queued) = self.queues.values().flatten().find(|_| is_over) {
                    return Err(format!("message {} was removed with the ring", queued.tag));
                }
                self.is_removed = true;
                self.queues.clear();
                self.participants.clear();
            }
            Event::Refused => {}
            Event::Done => {}
            Event::Failed(text) => return Err(text.clone()),
        }
        Ok(())
    }

    fn join(&mut self, seat: Seat) {
        if seat == RECEIVER {
            let seats = self.participants.seats();
            let left = seats.map(|seat| (seat, self.left_something(seat)));
            let left = left.collect::<Vec<_>>();
            self.participants.receiver_joins(&left);
        } else {
            self.participants.sender_joins(seat);
        }
    }

    /// Whether a receiver that comes now is to hear of this one's end because of what it left in the ring.
    fn left_something(&self, seat: Seat) -> Hears {
        match self.occupancy(self.queue_of(seat)) {
            (1.., _) => Hears::Must,
            (0, 1..) => Hears::May,
            // In its lane there may be what a predecessor left.
            (0, 0) if self.queues.values().any(|queue| !queue.is_empty()) => Hears::May,
            (0, 0) => Hears::MustNot,
        }
    }

    fn told_to_receiver(&mut self, ending: Ending) -> Result<(), String> {
        if !std::mem::take(&mut self.receiver_sleeps) {
            return self.asked_in_vain(ending);
        }
        // It was told before much that was said since; but not before what was there when the victim was killed.
        let is_certain = |queued: &&Queued| !queued.may_be_gone && queued.phase != Phase::After;
        let queued = self.queues.values().flatten().find(is_certain);
        let due = self
            .sending
            .iter()
            .find(|(_, flight)| *flight == Flight::Due);
        match queued.map(|queued| queued.tag).or(due.map(|&(tag, _)| tag)) {
            Some(tag) => Err(format!("who slept was told {ending:?}, with {tag} there")),
            None => self.participants.told_to_sleeping_receiver(ending),
        }
    }

    /// The receiver found no message, and asked about everybody.
    fn asked_in_vain(&mut self, ending: Ending) -> Result<(), String> {
        self.look_in_vain(true)
            .map_err(|lost| format!("the receiver was told {ending:?}: {lost}"))?;
        if self.removes {
            return Ok(());
        }
        self.participants.told_to_receiver(ending)
    }

    fn told_to_sender(&mut self, seat: Seat, ending: Ending) -> Result<(), String> {
        let waiting = self.waiting.iter().position(|(tag, _)| tag.sender == seat);
        let waited = waiting.map(|index| self.waiting.remove(index));
        if self.removes {
            return Ok(());
        }
        let is_fit = match waited {
            Some((tag, Flight::There)) => {
                return Err(format!(
                    "who sent {tag}, which arrived, was told {ending:?}"
                ));
            }
            Some(_) => self.participants.sleeping_sender_may_be_told(seat, ending),
            None => self.participants.sender_may_be_told(seat, ending),
        };
        if is_fit {
            Ok(())
        } else {
            let receiver = self.participants.receiver();
            Err(format!(
                "sender {seat} was told {ending:?}, of {receiver:?}"
            ))
        }
    }
}

/// The last ones of a long list.
fn shortened(events: &[Event]) -> String {
    const SHOWN: usize = 16;
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
