//! Several producers, one consumer, a ring for one producer ([`spsc`](super::spsc)) for each. Nobody shares a word
//! that is written with each message, so sending takes no read-modify-write and nobody waits for a stopped producer. Order
//! holds within a lane.
//!
//! The consumer serves the lanes in turn, at most [`TURN`] messages of one at a time. To find the busy ones among many, it
//! stops looking at lanes that were empty for some rounds, and calls on their producers (by the lane's attention word, with a
//! number that asks for no wake) to say so when they have something: to store that number as their **ready** word.
//!
//! | word        | written by          | ordering            | partner                                   |
//! |-------------|---------------------|---------------------|-------------------------------------------|
//! | attention of a lane | the consumer | Relaxed            | the producer, after each publish; see [`crate::wait`] |
//! | ready of a lane | its producer    | Relaxed             | [`Consumer::slot`]                        |
//!
//! **Ready words are hints.** Call and publish are not ordered by a barrier, and a producer may be killed between its
//! publish and its ready word. So the consumer looks at every lane's stamp in every [`FULL_ROUND`]th round, and before it
//! answers that there is nothing; in particular before it sleeps, and at each slice of sleep.

use super::{Ahead, Consume, End, Produce, Ring, Slots, spsc};
use crate::layout::{Call, attention};
use crate::sync::{AtomicU64, Fault, Ordering, planted};
use crate::sys::futex::Futex;
use std::ptr::NonNull;

/// Messages of one lane, while others may have some.
pub(crate) const TURN: u64 = 64;
/// With no more lanes than these, each is looked at each time: a look costs less than keeping book.
pub(crate) const EAGER: usize = 8;
/// A lane that was empty in so many rounds is looked at no more until its producer calls.
const PATIENCE: u32 = 4;
/// All lanes are looked at in each round whose number is a multiple of this.
const FULL_ROUND: u32 = 16;

#[allow(unsafe_code, reason = "pointers into a segment")]
mod view {
    use super::*;

    /// What all lanes have in common: their ready words, and what the consumer sleeps on.
    #[derive(Clone, Copy)]
    pub(crate) struct Common {
        ready: NonNull<AtomicU64>,
        futex: NonNull<Futex>,
        lanes: usize,
    }

    // SAFETY: it points at atomics in shared memory.
    unsafe impl Send for Common {}

    impl Common {
        /// # Safety
        ///
        /// `ready` must point at as many words as there are `lanes`; they and `futex` must be initialised and outlive the
        /// result and what is made from it.
        pub(crate) unsafe fn new(
            ready: NonNull<AtomicU64>,
            futex: NonNull<Futex>,
            lanes: usize,
        ) -> Self {
            Self {
                ready,
                futex,
                lanes,
            }
        }

        /// The words of the lane with this number.
        pub(super) fn bell(&self, lane: usize) -> Bell {
            assert!(lane < self.lanes, "a lane beyond the last");
            // SAFETY: there are `lanes` of them, by the contract of `new`.
            let ready = unsafe { self.ready.add(lane) };
            Bell {
                ready,
                futex: self.futex,
            }
        }
    }

    /// What a lane's producer calls by.
    #[derive(Clone, Copy)]
    pub(super) struct Bell {
        ready: NonNull<AtomicU64>,
        futex: NonNull<Futex>,
    }

    // SAFETY: as for `Common`.
    unsafe impl Send for Bell {}

    impl Bell {
        #[inline(always)]
        pub(super) fn ready(&self) -> &AtomicU64 {
            // SAFETY: by the contract of `Common::new`.
            unsafe { self.ready.as_ref() }
        }

        #[inline(always)]
        pub(super) fn futex(&self) -> &Futex {
            // SAFETY: as for `ready`.
            unsafe { self.futex.as_ref() }
        }
    }
}

use view::Bell;
pub(crate) use view::Common;

/// One producer's private side: a lane of its own.
pub(crate) struct Producer<S> {
    lane: spsc::Producer<S>,
    bell: Bell,
}

impl<S: Slots> Producer<S> {
    /// Takes the lane with this number, `ring`. A predecessor is gone, by the kernel's word, and its stores are visible.
    pub(crate) fn take_over(ring: Ring<S>, number: usize, common: Common) -> Self {
        Self {
            lane: spsc::Producer::take_over(ring),
            bell: common.bell(number),
        }
    }
}

impl<S: Slots> End for Producer<S> {
    type Slots = S;

    #[inline(always)]
    fn ring(&self) -> &Ring<S> {
        self.lane.ring()
    }
}

impl<S: Slots> Produce for Producer<S> {
    #[inline(always)]
    fn slot(&mut self) -> Option<usize> {
        self.lane.slot()
    }

    #[inline(always)]
    fn publish(&mut self) {
        self.lane.publish();
    }

    fn has_room(&self) -> bool {
        self.lane.has_room()
    }

    fn len(&self) -> u64 {
        self.lane.len()
    }

    #[inline(always)]
    fn call(&self) -> Call<'_> {
        call(self.lane.ring(), &self.bell)
    }
}

/// The words to call the consumer by from a lane.
#[inline(always)]
fn call<'a, S: Slots>(ring: &'a Ring<S>, bell: &'a Bell) -> Call<'a> {
    Call {
        attention: &ring.receivers().attention.0,
        answered: bell.ready(),
        futex: bell.futex(),
    }
}

/// A lane as the consumer keeps it in mind.
#[derive(Clone)]
struct Lane<S> {
    consumer: spsc::Consumer<S>,
    bell: Bell,
    /// Rounds in which it was empty.
    empty: u32,
    /// Not looked at, but for full rounds, until its ready word is something else than this.
    idle: Option<u64>,
}

impl<S> Lane<S> {
    /// It is to be looked at in every round.
    fn wake(&mut self) {
        self.idle = None;
        self.empty = 0;
    }
}

/// Which lanes are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Those that are not idle.
    Busy,
    /// Those that are, behind a round of the others.
    Idle,
    All,
}

/// The consumer's private side.
pub(crate) struct Consumer<S> {
    /// The lane of the current turn, at hand; its place in `lanes` holds an old copy.
    front: spsc::Consumer<S>,
    current: usize,
    /// The turn is over at this position of its lane.
    turn_end: u64,
    lanes: Box<[Lane<S>]>,
    round: u32,
    /// The last number that asked for no wake.
    number: u64,
    /// With no more lanes than these, none is idle.
    eager: usize,
    /// The attention words say that we sleep. Then no lane becomes idle: that would take its word.
    is_armed: bool,
    /// What was released in other turns, less where the front lane began: with its position it is what was released in all.
    released: u64,
}

impl<S: Slots + Clone> Consumer<S> {
    /// Takes the consumer's side of all lanes, of which there is one at least. The caller is the only consumer from now on.
    /// `session` differs from that of every predecessor.
    pub(crate) fn take_over(
        rings: impl IntoIterator<Item = Ring<S>>,
        common: Common,
        session: u64,
        eager: usize,
    ) -> Self {
        let lane = |(number, ring)| Lane {
            consumer: spsc::Consumer::take_over(ring),
            bell: common.bell(number),
            empty: 0,
            idle: None,
        };
        let lanes: Box<[_]> = rings.into_iter().enumerate().map(lane).collect();
        let front = lanes[0].consumer.clone();
        Self {
            turn_end: front.position().wrapping_add(TURN),
            front,
            current: 0,
            lanes,
            round: 0,
            number: attention::first(session) | attention::QUIET,
            eager,
            is_armed: false,
            released: 0,
        }
    }

    /// Whether there are so many lanes that idle ones are not looked at.
    pub(crate) fn marks_idle(&self) -> bool {
        self.lanes.len() > self.eager
    }

    /// The lane that the slot answered last is in.
    #[inline(always)]
    pub(crate) fn current(&self) -> usize {
        self.current
    }

    /// The words to call the consumer by from each lane.
    pub(crate) fn calls(&self) -> impl Iterator<Item = Call<'_>> {
        let lanes = self.lanes.iter();
        lanes.map(|lane| call(lane.consumer.ring(), &lane.bell))
    }

    /// The words to call the producers by that wait for room, one call a lane.
    pub(crate) fn calls_to_senders(&self) -> impl Iterator<Item = Call<'_>> {
        self.lanes
            .iter()
            .map(|lane| lane.consumer.ring().to_senders())
    }

    /// What the consumer sleeps on.
    pub(crate) fn futex(&self) -> &Futex {
        self.lanes[0].bell.futex()
    }

    fn lane(&self, number: usize) -> &spsc::Consumer<S> {
        if number == self.current {
            &self.front
        } else {
            &self.lanes[number].consumer
        }
    }

    /// All attention words are about to say that we sleep, and no lane is idle until [`disarmed`](Self::disarmed).
    pub(crate) fn arming(&mut self) {
        for lane in &mut self.lanes {
            lane.wake();
        }
        self.is_armed = !planted(Fault::IdleWhileArmed);
    }

    /// The attention words say no longer that we sleep.
    pub(crate) fn disarmed(&mut self) {
        self.is_armed = false;
    }

    /// Turns to the next lane that has a message.
    #[cold]
    #[inline(never)]
    fn next_turn(&mut self) -> Option<usize> {
        self.lanes[self.current].consumer = self.front.clone();
        self.round = self.round.wrapping_add(1);
        let is_full = self.round.is_multiple_of(FULL_ROUND) && !planted(Fault::ReadyIsTrusted);
        let first = if is_full { Round::All } else { Round::Busy };
        let mut found = self.find(first);
        if found.is_none() && first == Round::Busy && !planted(Fault::ReadyIsTrusted) {
            found = self.find(Round::Idle);
        }
        let (number, index) = found?;
        self.released = self.position();
        self.front = self.lanes[number].consumer.clone();
        self.released = self.released.wrapping_sub(self.front.position());
        self.current = number;
        self.turn_end = self.front.position().wrapping_add(TURN);
        Some(index)
    }

    /// The first lane behind the current one that has a message.
    fn find(&mut self, round: Round) -> Option<(usize, usize)> {
        let count = self.lanes.len();
        if round == Round::Idle && !self.marks_idle() {
            return None;
        }
        for step in 1..=count {
            let number = match self.current + step {
                behind if behind < count => behind,
                wrapped => wrapped - count,
            };
            let lane = &mut self.lanes[number];
            match lane.idle {
                // Relaxed: a hint; what is there is told by the stamp.
                Some(idle) if idle != lane.bell.ready().load(Ordering::Relaxed) => lane.wake(),
                Some(_) if round == Round::Busy => continue,
                None if round == Round::Idle => continue,
                _ => {}
            }
            if let Some(index) = lane.consumer.front() {
                lane.wake();
                return Some((number, index));
            }
            lane.empty = lane.empty.saturating_add(1);
            if lane.empty >= PATIENCE && lane.idle.is_none() && count > self.eager && !self.is_armed
            {
                self.number = self.number.wrapping_add(attention::STEP);
                lane.idle = Some(lane.bell.ready().load(Ordering::Relaxed));
                let word = &lane.consumer.ring().receivers().attention.0;
                word.store(attention::armed(self.number), Ordering::Relaxed);
            }
        }
        None
    }
}

impl<S: Slots + Clone> End for Consumer<S> {
    type Slots = S;

    #[inline(always)]
    fn ring(&self) -> &Ring<S> {
        self.front.ring()
    }
}

impl<S: Slots + Clone> Consume for Consumer<S> {
    #[inline(always)]
    fn slot(&mut self) -> Option<usize> {
        if self.front.position() != self.turn_end
            && let Some(index) = self.front.front()
        {
            return Some(index);
        }
        self.next_turn()
    }

    /// In the lane of the slot that was answered last.
    #[inline(always)]
    fn ahead(&mut self, ahead: u64) -> Ahead {
        self.front.ahead(ahead)
    }

    #[inline(always)]
    fn release(&mut self, count: u64) {
        debug_assert!(count <= self.turn_end.wrapping_sub(self.front.position()));
        self.front.release(count);
    }

    #[inline(always)]
    fn position(&self) -> u64 {
        self.released.wrapping_add(self.front.position())
    }

    #[inline(always)]
    fn turn(&self) -> u64 {
        let left = self.turn_end.wrapping_sub(self.front.position());
        left.min(self.ring().capacity())
    }

    /// Whether any of them does.
    fn is_full(&self) -> bool {
        (0..self.lanes.len()).any(|lane| self.lane(lane).is_full())
    }

    fn is_empty(&self) -> bool {
        (0..self.lanes.len()).all(|lane| self.lane(lane).is_empty())
    }

    fn len(&self) -> u64 {
        (0..self.lanes.len())
            .map(|lane| self.lane(lane).len())
            .sum()
    }

    #[inline(always)]
    fn call(&self) -> Call<'_> {
        self.front.ring().to_senders()
    }
}
