//! The two sides.

use super::inside::Inside;
use super::{Locked, PATIENCE, borrowed, filled, finished};
use crate::layout::MAX_PARTICIPANTS;
use crate::ring::{Ahead, Consume, End, Look, POSITION_SHIFT, Produce, Ring, Slots, claimed};
use crate::sync::{Fault, Ordering, planted};
use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

/// Borrowing no more than so many slots at a time allocates nothing.
const HAND: usize = 256;

/// What both sides have of a participant.
struct Seat<S> {
    locked: Locked<S>,
    /// The participant's index.
    owner: u32,
    /// What a predecessor had in hand is settled.
    is_swept: bool,
    /// The mutex could not be had.
    is_stuck: bool,
    /// Others may go on by what was done besides.
    has_stirred: bool,
}

impl<S: Slots> Seat<S> {
    fn new(locked: Locked<S>, owner: u32) -> Self {
        Self {
            locked,
            owner,
            is_swept: planted(Fault::NoSweep),
            is_stuck: false,
            has_stirred: false,
        }
    }

    /// The ring, with the mutex held.
    fn enter(&mut self, patience: Duration) -> Option<Inside<'_, S>> {
        let inside = self.locked.enter(patience);
        self.is_stuck = inside.is_none();
        let mut inside = inside?;
        if !self.is_swept {
            // Before we have anything in hand ourselves.
            inside.bury(|index| index == self.owner);
            self.is_swept = true;
        }
        self.has_stirred |= inside.has_stirred;
        Some(inside)
    }

    /// Fills or finishes these slots, and goes on with them, or leaves that to others.
    fn hand_on<'a>(&mut self, slots: impl Iterator<Item = &'a usize> + Clone, stamp: u64) {
        for &slot in slots.clone() {
            self.locked.hand_on(slot, stamp);
        }
        if planted(Fault::NotQueued) {
            return;
        }
        let moment = self.locked.moment();
        if let Some(mut inside) = self.enter(moment) {
            for &slot in slots {
                inside.settle_own(slot, stamp);
            }
        } else {
            self.locked.leave_unsettled();
        }
    }

    /// Takes back what the dead have in hand, if anybody has. Whether there was some message before that, in whosever hand; none if
    /// that can't be known.
    fn bury(&mut self, is_dead: impl Fn(u32) -> bool) -> Option<bool> {
        let mut seen = Answers::default();
        let survey = self.locked.survey(|owner| seen.of(owner, &is_dead));
        if survey.is_amiss || !self.is_swept {
            // Asked again with the mutex held: see "Death" in the module's own documentation.
            let mut asked = if planted(Fault::AskedUnlocked) {
                seen
            } else {
                Answers::default()
            };
            let mut inside = self.enter(PATIENCE)?;
            inside.bury(|owner| asked.of(owner, &is_dead));
            let has_stirred = inside.has_stirred;
            drop(inside);
            self.has_stirred |= has_stirred;
        }
        Some(survey.is_read)
    }
}

/// What the kernel said about each owner, so that it is asked once for who has several slots.
struct Answers([Option<bool>; MAX_PARTICIPANTS as usize]);

impl Default for Answers {
    fn default() -> Self {
        Self([None; MAX_PARTICIPANTS as usize])
    }
}

impl Answers {
    fn of(&mut self, owner: u32, is_dead: impl Fn(u32) -> bool) -> bool {
        // An owner has as many bits in a stamp.
        *self.0[owner as usize].get_or_insert_with(|| is_dead(owner))
    }
}

/// One producer's private side.
pub(crate) struct Producer<S> {
    seat: Seat<S>,
    /// The slot that is claimed and not filled.
    open: Option<usize>,
}

impl<S: Slots> Producer<S> {
    /// Takes part as `owner`. A predecessor by that index is gone, by the kernel's word.
    pub(crate) fn join(locked: Locked<S>, owner: u32) -> Self {
        debug_assert!(owner < locked.senders);
        Self {
            seat: Seat::new(locked, owner),
            open: None,
        }
    }
}

impl<S: Slots> End for Producer<S> {
    type Slots = S;

    fn ring(&self) -> &Ring<S> {
        &self.seat.locked.ring
    }

    fn is_stuck(&self) -> bool {
        self.seat.is_stuck
    }

    fn has_stirred(&mut self) -> bool {
        mem::take(&mut self.seat.has_stirred)
    }
}

impl<S: Slots> Produce for Producer<S> {
    /// Asked again without a publish in between, it answers the same slot.
    #[inline]
    fn slot(&mut self) -> Option<usize> {
        self.seat.is_stuck = false;
        if self.open.is_none() && self.has_room() {
            let owner = self.seat.owner;
            let slot = self.seat.enter(PATIENCE)?.reserve(owner);
            self.open = slot;
        }
        self.open
    }

    #[inline]
    fn publish(&mut self) {
        let Some(slot) = self.open.take() else {
            debug_assert!(false, "published without a slot");
            return;
        };
        let filled = filled(self.seat.owner);
        self.seat.hand_on([slot].iter(), filled);
    }

    /// Frees the slot. True if others may be waiting for that.
    #[cold]
    fn abandon(&mut self) -> bool {
        let owner = self.seat.owner;
        let Some(slot) = self.open.filter(|_| !planted(Fault::ClaimForgotten)) else {
            return false;
        };
        let moment = self.seat.locked.moment();
        let Some(inside) = self.seat.enter(moment) else {
            // It stays ours; or is the next one's to sweep.
            return false;
        };
        let is_ours = inside.at.stamp(slot).load(Ordering::Relaxed) == claimed(0, owner);
        if is_ours {
            inside.release(slot);
        }
        drop(inside);
        self.open = None;
        is_ours
    }

    fn has_room(&self) -> bool {
        let locked = &self.seat.locked;
        self.open.is_some() || locked.free() > 0 || locked.is_unsettled()
    }

    /// Looks for room, after it has taken back what the dead have in hand.
    fn look(&mut self, is_dead: impl Fn(u32) -> bool) -> Look {
        if !self.has_room() && self.seat.bury(is_dead).is_none() {
            return Look::Stuck;
        }
        if self.has_room() {
            Look::Ready
        } else {
            Look::Nothing
        }
    }

    /// Counts messages that are being written or read as well.
    fn len(&self) -> u64 {
        let locked = &self.seat.locked;
        locked.ring.capacity() - locked.free()
    }
}

/// One consumer's private side.
pub(crate) struct Consumer<S> {
    seat: Seat<S>,
    /// Slots that are borrowed, the first one is the front.
    hand: VecDeque<usize>,
    received: u64,
}

impl<S: Slots> Consumer<S> {
    /// Takes part as `owner`, as in [`Producer::join`].
    pub(crate) fn join(locked: Locked<S>, owner: u32) -> Self {
        debug_assert!(owner >= locked.senders);
        let hand = VecDeque::with_capacity(HAND.min(locked.ring.capacity() as usize));
        Self {
            seat: Seat::new(locked, owner),
            hand,
            received: 0,
        }
    }

    /// Borrows one more message.
    fn borrow(&mut self) -> Option<usize> {
        self.seat.is_stuck = false;
        let locked = &self.seat.locked;
        if locked.queued() == 0 && !locked.is_unsettled() {
            return None;
        }
        let owner = self.seat.owner;
        let slot = self.seat.enter(PATIENCE)?.borrow(owner)?;
        self.hand.push_back(slot);
        Some(slot)
    }
}

impl<S: Slots> End for Consumer<S> {
    type Slots = S;

    fn ring(&self) -> &Ring<S> {
        &self.seat.locked.ring
    }

    fn is_stuck(&self) -> bool {
        self.seat.is_stuck
    }

    fn has_stirred(&mut self) -> bool {
        mem::take(&mut self.seat.has_stirred)
    }
}

impl<S: Slots> Consume for Consumer<S> {
    /// Borrows the message at the front of the queue, if none is in hand.
    #[inline]
    fn slot(&mut self) -> Option<usize> {
        match self.hand.front() {
            Some(&slot) => Some(slot),
            None => self.borrow(),
        }
    }

    /// Borrows what it answers.
    fn ahead(&mut self, ahead: u64) -> Ahead {
        let known = self.hand.get(ahead as usize).copied();
        match known.or_else(|| self.borrow()) {
            Some(slot) => Ahead::Message(slot),
            None => Ahead::Nothing,
        }
    }

    fn release(&mut self, count: u64) {
        let finished = finished(self.seat.owner);
        let count = self.hand.len().min(count as usize);
        self.seat.hand_on(self.hand.range(..count), finished);
        self.hand.drain(..count);
        self.received = self.received.wrapping_add(count as u64);
    }

    fn position(&self) -> u64 {
        self.received
    }

    fn is_full(&self) -> bool {
        self.seat.locked.free() == 0
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those in hand, and those that nobody has in hand.
    fn len(&self) -> u64 {
        self.seat.locked.queued() + self.hand.len() as u64
    }

    /// Looks for a message, after it has taken back what the dead have in hand. One that somebody else has in hand may still come
    /// back.
    fn look(&mut self, is_dead: impl Fn(u32) -> bool) -> Look {
        if !self.hand.is_empty() {
            return Look::Ready;
        }
        let Some(is_read) = self.seat.bury(is_dead) else {
            return Look::Stuck;
        };
        match self.slot() {
            Some(_) => Look::Ready,
            None if self.seat.is_stuck => Look::Stuck,
            None if is_read => Look::Held,
            None => Look::Nothing,
        }
    }

    /// Gives back what is in hand. (If the mutex can't be had, whoever finds that we are gone does.)
    #[cold]
    fn abandon(&mut self) -> bool {
        if self.hand.is_empty() {
            return false;
        }
        let owner = self.seat.owner;
        let hand = mem::take(&mut self.hand);
        let moment = self.seat.locked.moment();
        let Some(inside) = self.seat.enter(moment) else {
            return false;
        };
        for &slot in hand.iter().rev() {
            let stamp = inside.at.stamp(slot).load(Ordering::Relaxed);
            if stamp == borrowed(stamp >> POSITION_SHIFT, owner) {
                inside.give_back(slot);
            }
        }
        true
    }
}
