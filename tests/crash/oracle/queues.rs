//! What must be in the ring, message by message: queues beside it, and what is in flight.

use std::collections::{BTreeSet, VecDeque};

use crate::event::Seat;
use crate::message::Tag;
use crate::oracle::{Flight, Phase, Queued, World};
use crate::ring::Kind;

impl World {
    pub(super) fn queue_of(&self, seat: Seat) -> Seat {
        match self.kind {
            Kind::Spsc | Kind::Mpsc | Kind::Locked => 0,
            Kind::Lanes => seat,
        }
    }

    pub(super) fn push(&mut self, tag: Tag) {
        let queued = Queued {
            tag,
            phase: self.phase,
            may_be_gone: self.taking.contains(&(tag, Flight::Open)),
        };
        let queue = self.queue_of(tag.sender);
        self.queues.entry(queue).or_default().push_back(queued);
    }

    /// Messages that are in the queue for certain, and those that may be.
    pub(super) fn occupancy(&self, queue: Seat) -> (usize, usize) {
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

    pub(super) fn send(&mut self, tag: Tag) -> Result<(), String> {
        self.sent.insert(tag.sender, tag.sequence);
        self.participants.is_open_to(tag.sender);
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
            1 if !self.receiver_sleeps => self.nothing_in_flight_is_there(queue, false, true)?,
            _ => {}
        }
        self.push(tag);
        Ok(())
    }

    pub(super) fn full(&mut self, seat: Seat) -> Result<(), String> {
        self.participants.is_open_to(seat);
        let queue = self.queue_of(seat);
        let (_, most) = self.occupancy(queue);
        // What a dead predecessor left in the lane.
        let left_over = match self.kind {
            Kind::Lanes => {
                let left = self.queues.iter();
                let left = left.filter(|(owner, _)| self.participants.had_ended(**owner, seat));
                let in_flight = self.sending.iter().filter(|(tag, flight)| {
                    *flight == Flight::Open && self.participants.had_ended(tag.sender, seat)
                });
                left.map(|(_, queue)| queue.len()).sum::<usize>() + in_flight.count()
            }
            Kind::Spsc | Kind::Mpsc | Kind::Locked => 0,
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

    pub(super) fn receive(&mut self, tag: Tag) -> Result<(), String> {
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
                    self.nothing_in_flight_is_there(queue, true, false)?;
                }
                Ok(())
            }
            Some(front) => Err(format!("message {tag} came where {} was due", front.tag)),
            None => Err(format!("message {tag} came out of an empty ring")),
        }
    }

    /// The receiver found no message; `has_asked` the kernel about whoever is in the way.
    pub(super) fn look_in_vain(&mut self, has_asked: bool) -> Result<(), String> {
        let is_open = (self.phase == Phase::Amid || !has_asked)
            && (self.empty_places > 0 || self.has_sending_open());
        if self.kind == Kind::Mpsc && is_open {
            // A claim is in the way.
            return Ok(());
        }
        // In a queue under a mutex it is in nobody's way; what a dead sender has filled is found by who has asked.
        if self.phase == Phase::After && !(self.kind == Kind::Locked && is_open) {
            let tags = self.sending.iter().map(|(tag, _)| tag.sender);
            let owners = self.queues.keys().copied().chain(tags);
            for queue in owners.collect::<BTreeSet<_>>() {
                self.nothing_in_flight_is_there(queue, true, true)?;
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

    /// Nothing that was in flight when the victim was killed is in this queue; nor, if the receiver `has_passed`, what is due. If
    /// it has only passed where that would have its place, it `is_certain` only where places are taken before.
    fn nothing_in_flight_is_there(
        &mut self,
        queue: Seat,
        has_passed: bool,
        is_certain: bool,
    ) -> Result<(), String> {
        if self.phase != Phase::After {
            return Ok(());
        }
        let kind = self.kind;
        let is_here = |tag: &Tag| kind != Kind::Lanes || tag.sender == queue;
        for (tag, flight) in &mut self.sending {
            match *flight {
                // What was filled and not queued comes when somebody finds it.
                Flight::Open if kind == Kind::Locked && !is_certain => {}
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
}
