//! What is done with the mutex held.

use super::{FREE, Locked, Shown, borrowed};
use crate::ring::{OWNER, POSITION_SHIFT, Slots, claimed, published};
use crate::sync::{AtomicU64, Ordering, may_end};
use crate::sys::mutex::Held;

/// In the order: no slot.
const NONE: u32 = u32::MAX;

/// The ring, with the mutex held.
pub(super) struct Inside<'a, S> {
    pub(super) at: &'a Locked<S>,
    pub(super) held: Held<'a>,
    /// Others may go on by what was done here, besides what was asked for.
    pub(super) has_stirred: bool,
}

/// What is written is not what can be: somebody breaks the rules.
struct Nonsense;

impl<'a, S: Slots> Inside<'a, S> {
    pub(super) fn new(at: &'a Locked<S>, held: Held<'a>) -> Self {
        Self {
            at,
            held,
            has_stirred: false,
        }
    }

    fn capacity(&self) -> u64 {
        self.at.ring.capacity()
    }

    /// The slots that are free begin here in the order, and messages end.
    fn tail(&self) -> u64 {
        self.at.tail().load(Ordering::Relaxed)
    }

    fn slot_at(&self, position: u64) -> usize {
        // Whatever is written there, it is no index beyond the last slot.
        let slot = self.at.order(position).load(Ordering::Relaxed);
        self.at.ring.index(slot.into())
    }

    /// Every store with the mutex held is one of these, so that a test can end after each of them.
    fn store(word: &AtomicU64, value: u64) {
        word.store(value, Ordering::Relaxed);
        may_end();
    }

    fn set_stamp(&self, slot: usize, stamp: u64) {
        Self::store(self.at.stamp(slot), stamp);
    }

    fn set_head(&self, head: u64) {
        Self::store(self.at.head(), head);
    }

    fn set_tail(&self, tail: u64) {
        Self::store(self.at.tail(), tail);
    }

    fn set_free(&self, free: u64) {
        Self::store(&self.at.ledger().free.0.slots, free);
    }

    fn set_order(&self, position: u64, slot: u32) {
        self.at.order(position).store(slot, Ordering::Relaxed);
        may_end();
    }

    /// Does what it is given; once more, if that came upon nonsense, with everything derived anew.
    fn sanely(&mut self, act: impl Fn(&Self) -> Result<Option<usize>, Nonsense>) -> Option<usize> {
        if let Ok(slot) = act(self) {
            return slot;
        }
        self.rebuild();
        act(self).unwrap_or(None)
    }

    /// Takes a free slot for a sender.
    pub(super) fn reserve(&mut self, owner: u32) -> Option<usize> {
        self.sanely(|this| {
            let Some(free) = this.at.free().checked_sub(1) else {
                return Ok(None);
            };
            let slot = this.slot_at(this.tail().wrapping_add(free));
            if this.at.shown(slot).0 != Shown::Free {
                return Err(Nonsense);
            }
            this.set_stamp(slot, claimed(0, owner));
            this.set_free(free);
            Ok(Some(slot))
        })
    }

    /// Takes the message at the front for a receiver.
    pub(super) fn borrow(&mut self, owner: u32) -> Option<usize> {
        self.sanely(|this| {
            if this.at.queued() == 0 {
                return Ok(None);
            }
            let head = this.at.head().load(Ordering::Relaxed);
            let slot = this.slot_at(head);
            if this.at.stamp(slot).load(Ordering::Relaxed) != published(head) {
                return Err(Nonsense);
            }
            this.set_stamp(slot, borrowed(head, owner));
            this.set_head(head.wrapping_add(1));
            Ok(Some(slot))
        })
    }

    /// Puts a message at the end of the queue.
    fn queue(&self, slot: usize) {
        let tail = self.tail();
        self.set_stamp(slot, published(tail));
        // The first of the free ones makes room, and becomes the last.
        let first_free = self.at.order(tail).load(Ordering::Relaxed);
        self.set_order(tail.wrapping_add(self.at.free()), first_free);
        self.set_order(tail, slot as u32);
        self.set_tail(tail.wrapping_add(1));
    }

    /// Puts a message back at the front of the queue.
    pub(super) fn give_back(&self, slot: usize) {
        let front = self.at.head().load(Ordering::Relaxed).wrapping_sub(1);
        self.set_stamp(slot, published(front));
        self.set_order(front, slot as u32);
        self.set_head(front);
    }

    pub(super) fn release(&self, slot: usize) {
        self.set_stamp(slot, FREE);
        let free = self.at.free();
        self.set_order(self.tail().wrapping_add(free), slot as u32);
        self.set_free(free + 1);
    }

    /// Goes on with a slot if its owner has handed it on. Whether he has.
    fn settle(&self, slot: usize) -> bool {
        match self.at.shown(slot).0 {
            Shown::Filled => self.queue(slot),
            Shown::Finished => self.release(slot),
            Shown::Free | Shown::Claimed(_) | Shown::Queued | Shown::Borrowed(_) => return false,
        }
        true
    }

    /// The same for a slot that the caller has handed on, by this stamp.
    pub(super) fn settle_own(&mut self, slot: usize, stamp: u64) {
        // Relaxed: it is our own, or none.
        if self.at.stamp(slot).load(Ordering::Relaxed) == stamp {
            self.settle(slot);
        }
    }

    /// The same for all.
    #[cold]
    pub(super) fn settle_all(&mut self) {
        if self.at.queued() + self.at.free() == self.capacity() {
            return;
        }
        for slot in 0..self.capacity() as usize {
            self.has_stirred |= self.settle(slot);
        }
    }

    /// Goes on with what owners have handed on, and takes back what those have in hand of whom this is said.
    pub(super) fn bury(&mut self, mut is_gone: impl FnMut(u32) -> bool) {
        if self.at.queued() + self.at.free() == self.capacity() {
            return;
        }
        let (mut given_back, mut in_hand) = (Vec::new(), 0);
        for slot in 0..self.capacity() as usize {
            match self.at.shown(slot) {
                (Shown::Claimed(owner), _) if is_gone(owner) => {
                    self.release(slot);
                    self.has_stirred = true;
                }
                (Shown::Borrowed(owner), stamp) if is_gone(owner) => given_back.push((stamp, slot)),
                (Shown::Claimed(_) | Shown::Borrowed(_), _) => in_hand += 1,
                _ => self.has_stirred |= self.settle(slot),
            }
        }
        // In the order in which they were: relative to the front, since positions wrap.
        let head = published(self.at.head().load(Ordering::Relaxed));
        let behind_head = |stamp: u64| (stamp & !OWNER).wrapping_sub(head).cast_signed();
        given_back.sort_unstable_by_key(|&(stamp, _)| behind_head(stamp));
        self.has_stirred |= !given_back.is_empty();
        for (_, slot) in given_back.into_iter().rev() {
            self.give_back(slot);
        }
        if self.at.queued() + self.at.free() + in_hand != self.capacity() {
            // Somebody who breaks the rules has written there.
            self.rebuild();
        }
    }

    /// Derives everything anew from the stamps. Who does that may die as well: it changes no stamp but such as nobody has in hand,
    /// and can be done again.
    ///
    /// Whoever died had stored one stamp at most that the other words do not know of yet. So queued messages lie between one place
    /// before `head` (just given back) and a capacity behind it. Where a peer broke the rules, what does not fit is dropped, and
    /// gaps are closed.
    pub(super) fn rebuild(&mut self) {
        let capacity = self.capacity();
        let first = self.at.head().load(Ordering::Relaxed).wrapping_sub(1);
        for position in 0..capacity {
            self.set_order(position, NONE);
        }
        let slots = 0..capacity as usize;
        for slot in slots.clone() {
            if let (Shown::Queued, stamp) = self.at.shown(slot) {
                let distance = stamp.wrapping_sub(published(first)) >> POSITION_SHIFT;
                if distance <= capacity {
                    self.set_order(first.wrapping_add(distance), slot as u32);
                } else {
                    self.set_stamp(slot, FREE);
                }
            }
        }
        let (mut head, mut tail) = (None, first.wrapping_add(1));
        for distance in 0..=capacity {
            let position = first.wrapping_add(distance);
            let slot = self.at.order(position).load(Ordering::Relaxed);
            let at = self.at.ring.index(slot.into());
            if slot == NONE || self.at.stamp(at).load(Ordering::Relaxed) != published(position) {
                continue;
            }
            if head.is_none() {
                (head, tail) = (Some(position), position);
            }
            if tail != position {
                self.set_stamp(at, published(tail));
                self.set_order(tail, slot);
            }
            tail = tail.wrapping_add(1);
        }
        let head = head.unwrap_or(tail);
        // Of two at one position, the order has one; and a free slot may show anything that fits nothing.
        let mut free = 0;
        for slot in slots.clone() {
            let is_free = match self.at.shown(slot) {
                (Shown::Free, _) => true,
                (Shown::Queued, stamp) => {
                    let distance = stamp.wrapping_sub(published(head)) >> POSITION_SHIFT;
                    let position = head.wrapping_add(distance);
                    distance >= tail.wrapping_sub(head)
                        || self.at.order(position).load(Ordering::Relaxed) != slot as u32
                }
                _ => false,
            };
            if is_free {
                self.set_stamp(slot, FREE);
                self.set_order(tail.wrapping_add(free), slot as u32);
                free += 1;
            }
        }
        self.set_head(head);
        self.set_tail(tail);
        self.set_free(free);
        for slot in slots {
            self.settle(slot);
        }
        // Nobody knows what the dead one had told whom.
        self.has_stirred = true;
    }
}
