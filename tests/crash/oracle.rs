//! The oracle: holds what processes report against the promise, message by message.
//!
//! It runs queues beside the ring: one for `spsc` and `mpsc`, one a sender for `lanes`. It knows from the log outside the
//! segment what must be in them. What the victim had in flight may or may not be there until an event settles that; the same
//! goes for what somebody has in flight who sleeps in a call.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use crate::event::{Ending, Event, RECEIVER, Seat};
use crate::message::Tag;
use crate::operation::Operation;
use crate::recovery::LAPS;
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
    /// Whether it removes the ring, with all that is in it.
    pub(crate) removes: bool,
}

/// How a participant is, as far as the log knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Lives,
    Left,
    Died,
    /// It was killed while it left, or while it came.
    Unsure,
}

/// Whether the receiver is to hear how a sender ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hears {
    Must,
    /// It left something if what is in flight is there; or somebody may have come in its place.
    May,
    /// It ended before the receiver came, and left nothing; or that was told.
    MustNot,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    life: Life,
    /// When it joined and when it ended, in events.
    since: usize,
    until: usize,
    hears: Hears,
    /// Whether somebody may have come in its place.
    may_be_replaced: bool,
    /// Of a sender: whether a receiver came when it had ended and left nothing. No successor of that one needs to hear of it.
    is_bygone: bool,
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
    records: BTreeMap<Seat, Record>,
    now: usize,
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
            records: BTreeMap::new(),
            now: 0,
            received_after: 0,
            is_removed: false,
        }
    }

    /// Takes note of events, in their order.
    pub(crate) fn see(&mut self, events: &[Event]) -> Result<(), Violation> {
        for (index, event) in events.iter().enumerate() {
            self.now += 1;
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
        if self.kind == Kind::Mpsc && in_flight.claims && in_flight.sends.is_empty() {
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
        if in_flight.removes {
            self.queues.clear();
            self.taking.clear();
            self.records.clear();
        }
        // What was sent is in the ring, or was received meanwhile. Of several senders, its place is where it was claimed.
        for &tag in &in_flight.sends {
            let known = self.sending.iter().position(|&(known, _)| known == tag);
            let known = known.expect("it was in flight");
            let is_sent = events.contains(&Event::Sent(tag));
            match self.sending[known].1 {
                Flight::Open if is_sent && self.kind == Kind::Mpsc => {
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
        self.now += 1;
        self.phase = Phase::After;
        // From now on, it is for survivors to remove what there is.
        self.is_removed = false;
        for &seat in seats {
            let lives = self.records.get(&seat).map(|record| record.life);
            if is_unsure {
                self.end(seat, Life::Unsure);
            } else if lives == Some(Life::Lives) {
                self.end(seat, Life::Died);
            }
        }
    }

    /// Everybody is dead.
    pub(crate) fn killed_all(&mut self) {
        let living = self.records.iter();
        let living = living.filter(|(_, record)| record.life == Life::Lives);
        let living = living.map(|(&seat, _)| seat).collect::<Vec<_>>();
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
            // A batch is one unit; and so is what goes with a ring.
            if (same_queue || self.removes) && there(was_one) != there(was_other) {
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
            Event::Left(seat) => self.end(*seat, Life::Left),
            Event::Vanished(seat) => self.end(*seat, Life::Died),
            Event::Asleep(RECEIVER) => self.receiver_sleeps = true,
            Event::Asleep(seat) => {
                let sequence = self.sent.get(seat).copied().unwrap_or_default() + 1;
                let tag = Tag {
                    sender: *seat,
                    sequence,
                };
                self.waiting.push((tag, Flight::Open));
            }
            Event::Reserved(_) => self.empty_places += usize::from(self.kind == Kind::Mpsc),
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
                let is_over = self.phase == Phase::After;
                if let Some(queued) = self.queues.values().flatten().find(|_| is_over) {
                    return Err(format!("message {} was removed with the ring", queued.tag));
                }
                self.is_removed = true;
                self.queues.clear();
                self.records.clear();
            }
            Event::Refused => {}
            Event::Done => {}
            Event::Failed(text) => return Err(text.clone()),
        }
        Ok(())
    }

    fn queue_of(&self, seat: Seat) -> Seat {
        match self.kind {
            Kind::Spsc | Kind::Mpsc => 0,
            Kind::Lanes => seat,
        }
    }

    fn push(&mut self, tag: Tag) {
        let queued = Queued {
            tag,
            phase: self.phase,
            may_be_gone: self.taking.contains(&(tag, Flight::Open)),
        };
        let queue = self.queue_of(tag.sender);
        self.queues.entry(queue).or_default().push_back(queued);
    }

    /// Messages that are in the queue for certain, and those that may be.
    fn occupancy(&self, queue: Seat) -> (usize, usize) {
        let queued = self.queues.get(&queue).into_iter().flatten();
        let certain = queued.clone().filter(|queued| !queued.may_be_gone).count();
        let in_flight = self.sending.iter().chain(&self.waiting);
        let here = in_flight.filter(|(tag, _)| self.queue_of(tag.sender) == queue);
        let count = |wanted| here.clone().filter(|(_, flight)| *flight == wanted).count();
        let (open, due) = (count(Flight::Open), count(Flight::Due));
        (
            certain + due,
            queued.count() + open + due + self.empty_places,
        )
    }

    /// A sender that was there before found the ring open: the receiver that was killed while it came or left has not left.
    fn is_open_to(&mut self, seat: Seat) {
        let since = self.records.get(&seat).map(|record| record.since);
        if let Some(receiver) = self.records.get_mut(&RECEIVER)
            && receiver.life == Life::Unsure
            // Or nobody had ever come.
            && receiver.since < receiver.until
            && since.is_some_and(|since| since < receiver.until)
        {
            receiver.life = Life::Died;
        }
    }

    fn send(&mut self, tag: Tag) -> Result<(), String> {
        self.sent.insert(tag.sender, tag.sequence);
        self.is_open_to(tag.sender);
        if let Some(index) = self.waiting.iter().position(|&(known, _)| known == tag) {
            let (_, flight) = self.waiting.remove(index);
            if flight == Flight::Open {
                self.push(tag);
            }
            return Ok(());
        }
        let queue = self.queue_of(tag.sender);
        let (certain, _) = self.occupancy(queue);
        let taken = certain.saturating_sub(usize::from(self.receiver_sleeps));
        match self.capacity - taken.min(self.capacity) {
            0 => return Err(format!("a full ring took {tag}")),
            // There was room for it only if nothing is there that may be; unless who sleeps has taken that.
            1 if !self.receiver_sleeps => self.nothing_in_flight_is_there(queue, false)?,
            _ => {}
        }
        self.push(tag);
        Ok(())
    }

    fn full(&mut self, seat: Seat) -> Result<(), String> {
        self.is_open_to(seat);
        let queue = self.queue_of(seat);
        let (_, most) = self.occupancy(queue);
        // What a dead predecessor left in the lane.
        let left_over = match self.kind {
            Kind::Lanes => {
                let dead = |seat: &Seat| {
                    self.records
                        .get(seat)
                        .is_some_and(|r| r.life != Life::Lives)
                };
                let left = self.queues.iter().filter(|(owner, _)| dead(owner));
                let in_flight = self
                    .sending
                    .iter()
                    .filter(|(_, flight)| *flight == Flight::Open);
                left.map(|(_, queue)| queue.len()).sum::<usize>() + in_flight.count()
            }
            Kind::Spsc | Kind::Mpsc => 0,
        };
        match self.capacity.checked_sub(most + left_over) {
            Some(room) if room > 0 => Err(format!("full with room for {room}")),
            Some(_) if self.kind == Kind::Spsc && self.phase == Phase::After => {
                self.all_in_flight_is_there();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn receive(&mut self, tag: Tag) -> Result<(), String> {
        if self.receiver_sleeps {
            self.receiver_sleeps = false;
        }
        let queue = self.queue_of(tag.sender);
        if let Some(index) = self.sending.iter().position(|&(known, _)| known == tag) {
            if self.sending[index].1 == Flight::NotThere {
                return Err(format!(
                    "message {tag} came when it could not be there any more"
                ));
            }
            let front = self.queues.get(&queue).and_then(VecDeque::front);
            if let Some(front) = front.filter(|front| front.phase == Phase::Before) {
                return Err(format!("message {tag} came where {} was due", front.tag));
            }
            if self.sending[index].1 == Flight::There {
                return Err(format!("message {tag} came twice"));
            }
            self.sending[index].1 = Flight::There;
            return Ok(());
        }
        if let Some(index) = self.waiting.iter().position(|&(known, _)| known == tag) {
            if self.waiting[index].1 == Flight::There {
                return Err(format!("message {tag} came twice"));
            }
            self.waiting[index].1 = Flight::There;
            self.received_after += usize::from(self.phase == Phase::After);
            return Ok(());
        }
        let messages = self.queues.entry(queue).or_default();
        let gone = messages
            .iter()
            .take_while(|queued| queued.may_be_gone && queued.tag != tag);
        let gone = gone.count();
        let gone = messages
            .drain(..gone)
            .map(|queued| queued.tag)
            .collect::<Vec<_>>();
        let front = messages.pop_front();
        for tag in gone {
            self.settle_taking(tag, Flight::NotThere);
        }
        match front {
            Some(front) if front.tag == tag => {
                self.settle_taking(tag, Flight::There);
                if front.phase == Phase::After {
                    self.received_after += 1;
                    self.nothing_in_flight_is_there(queue, true)?;
                }
                Ok(())
            }
            Some(front) => Err(format!("message {tag} came where {} was due", front.tag)),
            None => Err(format!("message {tag} came out of an empty ring")),
        }
    }

    /// The receiver found no message; `has_asked` the kernel about whoever is in the way.
    fn look_in_vain(&mut self, has_asked: bool) -> Result<(), String> {
        let is_in_the_way = self.kind == Kind::Mpsc
            && (self.phase == Phase::Amid || !has_asked)
            && (self.empty_places > 0 || self.has_sending_open());
        if is_in_the_way {
            return Ok(());
        }
        if self.phase == Phase::After {
            for queue in 0..=Seat::MAX {
                self.nothing_in_flight_is_there(queue, true)?;
            }
            self.empty_places = 0;
        }
        let queued = self.queues.values().flatten();
        match queued.clone().find(|queued| !queued.may_be_gone) {
            Some(lost) => Err(format!("message {} is lost", lost.tag)),
            None => Ok(()),
        }
    }

    fn has_sending_open(&self) -> bool {
        self.sending
            .iter()
            .any(|(_, flight)| *flight == Flight::Open)
    }

    fn settle_taking(&mut self, tag: Tag, flight: Flight) {
        let taking = self.taking.iter_mut().filter(|(known, _)| *known == tag);
        taking.for_each(|(_, known)| *known = flight);
    }

    /// Nothing that was in flight when the victim was killed is in this queue; nor, if the receiver `has_passed`, what is due.
    fn nothing_in_flight_is_there(&mut self, queue: Seat, has_passed: bool) -> Result<(), String> {
        if self.phase != Phase::After {
            return Ok(());
        }
        let kind = self.kind;
        let is_here = |tag: &Tag| kind != Kind::Lanes || tag.sender == queue;
        for (tag, flight) in &mut self.sending {
            match *flight {
                Flight::Open if is_here(tag) => *flight = Flight::NotThere,
                Flight::Due if has_passed => return Err(format!("message {tag} is lost")),
                _ => {}
            }
        }
        let messages = self.queues.entry(queue).or_default();
        let gone = messages.iter().filter(|queued| queued.may_be_gone);
        let gone = gone.map(|queued| queued.tag).collect::<Vec<_>>();
        messages.retain(|queued| !queued.may_be_gone);
        for tag in gone {
            self.settle_taking(tag, Flight::NotThere);
        }
        Ok(())
    }

    /// Everything that was in flight is there: of `spsc`.
    fn all_in_flight_is_there(&mut self) {
        for (_, flight) in &mut self.sending {
            if *flight == Flight::Open {
                *flight = Flight::Due;
            }
        }
        for queued in self.queues.values_mut().flatten() {
            queued.may_be_gone = false;
        }
    }

    fn join(&mut self, seat: Seat) {
        let record = Record {
            life: Life::Lives,
            since: self.now,
            until: usize::MAX,
            hears: Hears::Must,
            may_be_replaced: false,
            is_bygone: false,
        };
        if seat == RECEIVER {
            // Who was killed may not have heard what it was to hear, and leaves that to its successor.
            let inherits = match self.records.get(&RECEIVER).map(|record| record.life) {
                Some(Life::Died) => Hears::Must,
                Some(Life::Unsure) => Hears::May,
                _ => Hears::MustNot,
            };
            let seats = self.records.keys().copied().collect::<Vec<_>>();
            for seat in seats {
                let queue = self.queue_of(seat);
                let left_something = match self.occupancy(queue) {
                    (1.., _) => Hears::Must,
                    (0, 1..) => Hears::May,
                    // In its lane there may be what a predecessor left.
                    (0, 0) if self.queues.values().any(|queue| !queue.is_empty()) => Hears::May,
                    (0, 0) => Hears::MustNot,
                };
                let record = self.records.get_mut(&seat).expect("just listed");
                if record.life != Life::Lives {
                    let hears = match left_something {
                        Hears::MustNot if !record.is_bygone => inherits,
                        Hears::May if !record.is_bygone && inherits == Hears::Must => Hears::Must,
                        other => other,
                    };
                    record.is_bygone = hears == Hears::MustNot;
                    record.hears = match hears {
                        Hears::Must if record.may_be_replaced => Hears::May,
                        other => other,
                    };
                }
            }
        } else {
            self.somebody_may_have_come_in_place_of_senders();
        }
        self.records.insert(seat, record);
    }

    /// Of a place, the last session counts.
    fn somebody_may_have_come_in_place_of_senders(&mut self) {
        for (&seat, record) in &mut self.records {
            if seat != RECEIVER && record.life != Life::Lives {
                record.may_be_replaced = true;
                if record.hears == Hears::Must {
                    record.hears = Hears::May;
                }
            }
        }
    }

    fn end(&mut self, seat: Seat, life: Life) {
        let now = self.now;
        if life == Life::Unsure && seat != RECEIVER && !self.records.contains_key(&seat) {
            self.somebody_may_have_come_in_place_of_senders();
        }
        let record = self.records.entry(seat).or_insert(Record {
            life,
            since: now,
            until: now,
            hears: Hears::Must,
            may_be_replaced: false,
            is_bygone: false,
        });
        // Whoever comes in the place of somebody dead and dies as well is somebody dead.
        if record.life != Life::Died {
            record.life = life;
            record.until = now;
        }
    }

    fn told_to_receiver(&mut self, ending: Ending) -> Result<(), String> {
        if std::mem::take(&mut self.receiver_sleeps) {
            // It was told before much that was said since: by then, nothing of this need have been so.
            return match ending {
                Ending::Died => {
                    self.death_was_told();
                    Ok(())
                }
                Ending::Closed => Ok(()),
                Ending::Timeout => Err("who slept was told nothing".to_owned()),
            };
        }
        self.asked_in_vain(ending)
    }

    /// The receiver found no message, and asked about everybody.
    fn asked_in_vain(&mut self, ending: Ending) -> Result<(), String> {
        self.look_in_vain(true)
            .map_err(|lost| format!("the receiver was told {ending:?}: {lost}"))?;
        if self.removes {
            return Ok(());
        }
        let senders = || {
            self.records
                .iter()
                .filter(|(seat, _)| **seat != RECEIVER)
                .map(|(_, r)| r)
        };
        let any = |lives: &[Life], hears: &[Hears]| {
            senders().any(|record| lives.contains(&record.life) && hears.contains(&record.hears))
        };
        let must_die = any(&[Life::Died], &[Hears::Must]);
        let may_die = any(&[Life::Died, Life::Unsure], &[Hears::Must, Hears::May]);
        let must_close = any(&[Life::Left], &[Hears::Must]);
        let may_close = any(&[Life::Left, Life::Unsure], &[Hears::Must, Hears::May]);
        let is_one_there = senders().any(|record| record.life == Life::Lives);
        // While the victim stands still in its call, it lives; and where it came or left, it may be there or not.
        let is_fit = match ending {
            Ending::Died => may_die,
            Ending::Closed => !must_die && !is_one_there && may_close,
            Ending::Timeout => !must_die && (is_one_there || !must_close),
        };
        if !is_fit {
            return Err(format!(
                "the receiver was told {ending:?}, of {:?}",
                self.records
            ));
        }
        if ending == Ending::Died {
            self.death_was_told();
        }
        Ok(())
    }

    /// Each death is told once.
    fn death_was_told(&mut self) {
        let untold = self.records.iter_mut().filter(|(seat, record)| {
            **seat != RECEIVER
                && matches!(record.life, Life::Died | Life::Unsure)
                && record.hears != Hears::MustNot
        });
        let mut untold = untold.map(|(_, record)| record).collect::<Vec<_>>();
        let is_certain =
            |record: &&mut Record| record.life == Life::Died && record.hears == Hears::Must;
        let first = untold.iter().position(is_certain).unwrap_or(0);
        if let Some(record) = untold.get_mut(first) {
            record.hears = Hears::MustNot;
        }
    }

    fn told_to_sender(&mut self, seat: Seat, ending: Ending) -> Result<(), String> {
        let slept = self.waiting.iter().any(|(tag, _)| tag.sender == seat);
        self.waiting.retain(|(tag, _)| tag.sender != seat);
        if self.removes {
            return Ok(());
        }
        let came = self.records.get(&seat).map_or(0, |record| record.since);
        let left = self.records.get(&RECEIVER).map_or(0, |record| record.until);
        let inherits = |lives: &[Life]| {
            self.records.iter().any(|(&other, record)| {
                let is_another = other != RECEIVER && other != seat;
                is_another && lives.contains(&record.life) && record.since < left
            })
        };
        let must_inherit = self.kind == Kind::Spsc && inherits(&[Life::Died]);
        let is_fit = match self.records.get(&RECEIVER) {
            // Another receiver may have come since.
            _ if slept => self.phase == Phase::After && ending != Ending::Timeout,
            None => ending == Ending::Timeout,
            Some(receiver) => match receiver.life {
                Life::Lives => ending == Ending::Timeout,
                // Unless a sender was killed that was there, and in whose place this one may have come.
                Life::Left if receiver.until < came => match ending {
                    Ending::Timeout => !must_inherit,
                    Ending::Closed => inherits(&[Life::Died, Life::Unsure]),
                    Ending::Died => false,
                },
                Life::Left => ending == Ending::Closed,
                Life::Died => ending == Ending::Died,
                Life::Unsure => true,
            },
        };
        if is_fit {
            Ok(())
        } else {
            let receiver = self.records.get(&RECEIVER);
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
