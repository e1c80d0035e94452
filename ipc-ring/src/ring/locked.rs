//! Several producers, several consumers, one queue under one mutex: the textbook's bounded buffer (Dijkstra, "Cooperating
//! sequential processes", 1965), in which a slot goes through the hands of one owner at a time and says itself in whose it is.
//!
//! The mutex is held to take a slot and to hand it on; messages are written and read outside of it. So who writes or reads one
//! slowly, or is stopped meanwhile, holds up nobody; who is stopped in the few instructions with the mutex held, everybody.
//!
//! **The truth is one stamp a slot.** `N` is the index of a sender, `R` that of a receiver; what is in capitals is done with the
//! mutex held, the rest by the owner alone, whenever he is ready:
//!
//! ```text
//!          RESERVE            fill              QUEUE              BORROW                 finish            FREE
//! free ─────────────▶ claimed(N) ──▶ filled(N) ────────▶ queued(p) ────────▶ borrowed(p, R) ──▶ finished(R) ───────▶ free
//!   ▲      GIVE UP      │                                    ▲      GIVE BACK     │
//!   └───────────────────┘                                    └────────────────────┘
//! ```
//!
//! Each arrow is one store of that word. *fill* sends the message and *finish* receives it for good; what follows only moves the
//! slot, and anybody may do it, who holds the mutex. Who can't have the mutex for long, since its holder stands still, leaves that
//! to later.
//!
//! | stamp       | as in [`super`]                        |
//! |-------------|----------------------------------------|
//! | free        | initial, at any position               |
//! | claimed(N)  | claimed, at position 0, by N           |
//! | filled(N)   | skipped, at position 0, with N         |
//! | queued(p)   | published at p                         |
//! | borrowed(p, R) | published at p, with R, which is not 0 |
//! | finished(R) | skipped, at position 0, with R         |
//!
//! **The rest is derived**, and written with the mutex held: queued messages have the positions `head` (the receivers' word) to
//! `tail` (the senders'), without a gap; `order[p mod capacity]` is the slot of position p; and from `tail` on, it lists the `free`
//! slots. (One array for both: a slot is in one of them at most.) Who dies with the mutex held leaves its next holder to derive them
//! anew ([`Inside::rebuild`]).
//!
//! | word                | written                     | ordering | partner                                     |
//! |---------------------|-----------------------------|----------|---------------------------------------------|
//! | stamp: fill, finish | by its owner                | Release  | Acquire of who holds the mutex              |
//! | all others          | with the mutex held         | Relaxed  | the mutex                                   |
//! | head, tail, free    | likewise; read without it   | Relaxed  | none: who reads them looks whether it is worth taking the mutex |
//!
//! **Order.** A message is queued behind all that were queued before: what was sent before another one was begun arrives first.
//! What is given back goes to the front.
//!
//! **Death.** A slot that somebody dead has claimed is freed, and a message that he has borrowed is given back: by who waits for
//! room or for a message ([`Producer::look`], [`Consumer::look`]), and by the next holder of his index before he
//! joins ([`sweep`]). The kernel is asked whether he is dead *with the mutex held*: if he is, then his next one has not claimed
//! anything yet, since for that he would have to hold the mutex after us.

mod inside;

use super::{
    Ahead, Consume, Look, OWNER, POSITION_SHIFT, Produce, Ring, STATE_SHIFT, Slots, claimed,
    initial, published, skipped,
};
use crate::layout::{Ledger, MAX_PARTICIPANTS};
use crate::sync::{AtomicU32, AtomicU64, Fault, Ordering, order, planted};
use crate::sys::mutex::Sort;
use inside::Inside;
use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::time::Duration;

/// How long to wait for the mutex, which is held for some instructions, or for as long as it takes to look at all slots.
const PATIENCE: Duration = Duration::from_secs(1);

const FREE: u64 = initial(0);
const STATE: u64 = 3 << STATE_SHIFT;
const fn filled(owner: u32) -> u64 {
    skipped(0) | owner as u64 & OWNER
}

const fn finished(owner: u32) -> u64 {
    filled(owner)
}

const fn borrowed(position: u64, owner: u32) -> u64 {
    published(position) | owner as u64 & OWNER
}

/// What a stamp says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shown {
    Free,
    Claimed(u32),
    Filled,
    Queued,
    Borrowed(u32),
    Finished,
}

#[allow(unsafe_code, reason = "pointers into a segment")]
mod view {
    use super::*;
    use std::ptr::NonNull;

    /// A ring with what goes with it under the mutex.
    #[derive(Clone, Copy)]
    pub(crate) struct Locked<S> {
        pub(super) ring: Ring<S>,
        ledger: NonNull<Ledger>,
        order: NonNull<AtomicU32>,
        pub(super) sort: Sort,
        /// Indices below are senders', others receivers'.
        pub(super) senders: u32,
    }

    // SAFETY: it points at atomics and a mutex in shared memory, and at slots whose hand-over the ring orders.
    unsafe impl<S: Send> Send for Locked<S> {}

    impl<S: Slots> Locked<S> {
        /// A ring for as many `senders`, at least one.
        ///
        /// # Safety
        ///
        /// `order` must have as many words as the ring has slots. They and the ledger, whose mutex is of this `sort`, must be
        /// initialised and outlive the result and what is made from it.
        pub(crate) unsafe fn new(
            ring: Ring<S>,
            ledger: NonNull<Ledger>,
            order: NonNull<AtomicU32>,
            sort: Sort,
            senders: u32,
        ) -> Self {
            debug_assert!(senders > 0);
            Self {
                ring,
                ledger,
                order,
                sort,
                senders,
            }
        }

        pub(super) fn ledger(&self) -> &Ledger {
            // SAFETY: by the contract of `new`; all of it may be shared.
            unsafe { self.ledger.as_ref() }
        }

        /// Where it is written which slot `position` has.
        pub(super) fn order(&self, position: u64) -> &AtomicU32 {
            let place = self.ring.index(position);
            // SAFETY: below the capacity, as many as there are by the contract of `new`.
            let word = unsafe { self.order.add(place) };
            // SAFETY: likewise.
            unsafe { word.as_ref() }
        }
    }
}

pub(crate) use view::Locked;

impl<S: Slots> Locked<S> {
    fn head(&self) -> &AtomicU64 {
        &self.ring.receivers().position.0
    }

    fn tail(&self) -> &AtomicU64 {
        &self.ring.senders().position.0
    }

    /// How many slots are free, as far as can be seen without the mutex.
    fn free(&self) -> u64 {
        let free = self.ledger().free.0.load(Ordering::Relaxed);
        free.min(self.ring.capacity())
    }

    /// How many messages are queued, as far as can be seen without the mutex.
    fn queued(&self) -> u64 {
        let head = self.head().load(Ordering::Relaxed);
        let tail = self.tail().load(Ordering::Relaxed);
        tail.wrapping_sub(head).min(self.ring.capacity())
    }

    fn stamp(&self, slot: usize) -> &AtomicU64 {
        self.ring.slots.stamp(slot)
    }

    /// Fills or finishes a slot.
    fn hand_on(&self, slot: usize, stamp: u64) {
        // Release: the message was written, or read, before. Pairs with Acquire in `shown`, and in `Inside::settle_own`.
        let release = order(Ordering::Release, Fault::HandedOnRelaxed);
        self.stamp(slot).store(stamp, release);
    }

    /// What the stamp of a slot says, and all of it. What fits nothing is free.
    fn shown(&self, slot: usize) -> (Shown, u64) {
        // Acquire: what its owner did before he handed it on. Pairs with Release in `hand_on`.
        let stamp = self.stamp(slot).load(Ordering::Acquire);
        let owner = (stamp & OWNER) as u32;
        let is_sender = owner < self.senders;
        let shown = match (stamp & STATE) >> STATE_SHIFT {
            1 if is_sender => Shown::Claimed(owner),
            2 if owner == 0 => Shown::Queued,
            2 if !is_sender => Shown::Borrowed(owner),
            3 if is_sender => Shown::Filled,
            3 => Shown::Finished,
            _ => Shown::Free,
        };
        (shown, stamp)
    }

    /// Takes the mutex. None if it can't be had.
    fn enter(&self) -> Option<Inside<'_, S>> {
        let held = self.ledger().mutex.0.lock(self.sort, PATIENCE).ok()?;
        let mut inside = Inside { at: self, held };
        if inside.held.owner_died() {
            if !planted(Fault::NotRebuilt) {
                inside.rebuild();
            }
            inside.held.make_consistent();
        }
        Some(inside)
    }

    /// Messages that nobody has received, those that somebody is about to among them. Looks at every slot.
    pub(crate) fn unread(&self) -> u64 {
        let is_unread = |slot: &usize| {
            matches!(
                self.shown(*slot).0,
                Shown::Filled | Shown::Queued | Shown::Borrowed(_)
            )
        };
        (0..self.ring.capacity() as usize).filter(is_unread).count() as u64
    }
}

/// Settles what a dead holder of the index `owner` had in hand. To be called by the index's new holder, before it takes part.
/// True if there was something, or the mutex can't be had and nobody knows.
pub(crate) fn sweep<S: Slots>(locked: &Locked<S>, owner: u32) -> bool {
    if planted(Fault::NoSweep) {
        return false;
    }
    let inside = locked.enter();
    inside.is_none_or(|inside| inside.bury(|index| index == owner))
}

/// One producer's private side.
pub(crate) struct Producer<S> {
    locked: Locked<S>,
    /// The participant's index.
    owner: u32,
    /// The slot that is claimed and not filled.
    open: Option<usize>,
    /// The slot that is filled and not queued, since the mutex could not be had.
    owed: Option<usize>,
    is_stuck: bool,
}

impl<S: Slots> Producer<S> {
    /// Takes part as `owner`. A predecessor by that index is gone, by the kernel's word, and what it had in hand was settled: by
    /// itself when it left, or by [`sweep`].
    pub(crate) fn join(locked: Locked<S>, owner: u32) -> Self {
        debug_assert!(owner < locked.senders);
        Self {
            locked,
            owner,
            open: None,
            owed: None,
            is_stuck: false,
        }
    }

    /// The ring, with the mutex held, and with what was left to do done.
    fn enter(&mut self) -> Option<Inside<'_, S>> {
        let inside = self.locked.enter();
        self.is_stuck = inside.is_none();
        let inside = inside?;
        if let Some(slot) = self.owed.take() {
            inside.settle_own(slot, filled(self.owner));
        }
        Some(inside)
    }
}

impl<S: Slots> Produce for Producer<S> {
    type Slots = S;

    fn ring(&self) -> &Ring<S> {
        &self.locked.ring
    }

    /// Asked again without a publish in between, it answers the same slot.
    #[inline]
    fn slot(&mut self) -> Option<usize> {
        self.is_stuck = false;
        if self.open.is_none() && self.locked.free() > 0 {
            let owner = self.owner;
            let slot = self.enter()?.reserve(owner);
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
        self.locked.hand_on(slot, filled(self.owner));
        if !planted(Fault::NotQueued) {
            // One that is owed already is older; both can't be, since the mutex was had for this slot.
            self.owed = Some(slot);
            let _ = self.enter();
        }
    }

    /// Frees the slot. True if others may be waiting for that.
    #[cold]
    fn abandon(&mut self) -> bool {
        let (open, owner) = (self.open, self.owner);
        let Some(inside) = self.enter() else {
            return false;
        };
        let Some(slot) = open.filter(|_| !planted(Fault::ClaimForgotten)) else {
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
        self.open.is_some() || self.locked.free() > 0
    }

    /// Looks for room, after it has freed what the dead have claimed.
    fn look(&mut self, is_dead: impl Fn(u32) -> bool) -> Look {
        if self.has_room() {
            return Look::Ready;
        }
        // What receivers have borrowed is theirs to give back.
        let is_gone = asked_once(0..self.locked.senders, is_dead);
        let Some(inside) = self.enter() else {
            return Look::Stuck;
        };
        inside.bury(is_gone);
        drop(inside);
        if self.has_room() {
            Look::Ready
        } else {
            Look::Nothing
        }
    }

    fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Counts messages that are being written or read as well.
    fn len(&self) -> u64 {
        self.locked.ring.capacity() - self.locked.free()
    }
}

/// Asks whether one of these `owners` is dead, once for each, when it is needed: with the mutex held. The others are not.
fn asked_once(owners: Range<u32>, is_dead: impl Fn(u32) -> bool) -> impl FnMut(u32) -> bool {
    let mut answers = Vec::new();
    if planted(Fault::AskedUnlocked) {
        answers.extend(owners.clone().map(|owner| (owner, is_dead(owner))));
    }
    move |owner| {
        if !owners.contains(&owner) {
            return false;
        }
        let known = answers.iter().find(|(index, _)| *index == owner);
        known.map_or_else(|| is_dead(owner), |(_, answer)| *answer)
    }
}

/// One consumer's private side.
pub(crate) struct Consumer<S> {
    locked: Locked<S>,
    /// The participant's index.
    owner: u32,
    /// Slots that are borrowed, the first one is the front.
    hand: VecDeque<usize>,
    /// Slots that are finished and not free, since the mutex could not be had.
    owed: Vec<usize>,
    received: u64,
    is_stuck: bool,
}

impl<S: Slots> Consumer<S> {
    /// Takes part as `owner`, as in [`Producer::join`].
    pub(crate) fn join(locked: Locked<S>, owner: u32) -> Self {
        debug_assert!(owner >= locked.senders);
        Self {
            locked,
            owner,
            hand: VecDeque::new(),
            owed: Vec::new(),
            received: 0,
            is_stuck: false,
        }
    }

    fn enter(&mut self) -> Option<Inside<'_, S>> {
        let inside = self.locked.enter();
        self.is_stuck = inside.is_none();
        let inside = inside?;
        for slot in self.owed.drain(..) {
            inside.settle_own(slot, finished(self.owner));
        }
        Some(inside)
    }

    /// Borrows one more message.
    fn borrow(&mut self) -> Option<usize> {
        self.is_stuck = false;
        if self.locked.queued() == 0 {
            return None;
        }
        let owner = self.owner;
        let slot = self.enter()?.borrow(owner)?;
        self.hand.push_back(slot);
        Some(slot)
    }
}

impl<S: Slots> Consume for Consumer<S> {
    type Slots = S;

    fn ring(&self) -> &Ring<S> {
        &self.locked.ring
    }

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
        let count = self.hand.len().min(count as usize);
        for slot in self.hand.drain(..count) {
            self.locked.hand_on(slot, finished(self.owner));
            self.owed.push(slot);
        }
        self.received = self.received.wrapping_add(count as u64);
        let _ = self.enter();
    }

    fn position(&self) -> u64 {
        self.received
    }

    fn is_full(&self) -> bool {
        self.locked.free() == 0
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those in hand, and those that nobody has in hand.
    fn len(&self) -> u64 {
        self.locked.queued() + self.hand.len() as u64
    }

    /// Looks for a message, after it has given back what the dead have borrowed.
    fn look(&mut self, is_dead: impl Fn(u32) -> bool) -> Look {
        if !self.hand.is_empty() {
            return Look::Ready;
        }
        // What senders have claimed is theirs to free.
        let is_gone = asked_once(self.locked.senders..MAX_PARTICIPANTS, is_dead);
        let Some(inside) = self.enter() else {
            return Look::Stuck;
        };
        inside.bury(is_gone);
        drop(inside);
        match self.slot() {
            Some(_) => Look::Ready,
            None if self.is_stuck => Look::Stuck,
            None => Look::Nothing,
        }
    }

    fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Gives back what is in hand.
    #[cold]
    fn abandon(&mut self) -> bool {
        let (hand, owner) = (mem::take(&mut self.hand), self.owner);
        let Some(inside) = self.enter() else {
            return false;
        };
        for &slot in hand.iter().rev() {
            let stamp = inside.at.stamp(slot).load(Ordering::Relaxed);
            if stamp == borrowed(stamp >> POSITION_SHIFT, owner) {
                inside.give_back(slot);
            }
        }
        !hand.is_empty()
    }
}
