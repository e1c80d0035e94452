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
//! | unsettled           | by who has handed a slot on and can't have the mutex | Release | Acquire of who has it next |
//!
//! **Order.** A message is queued behind all that were queued before: what was sent before another one was begun arrives first.
//! What is given back goes to the front.
//!
//! **Death.** A slot that somebody dead has claimed is freed, and a message that he has borrowed is given back: by who finds no room
//! or no message for some time ([`Producer::look`], [`Consumer::look`]), and by the next holder of his index before he
//! joins ([`sweep`]). The kernel is asked whether he is dead *with the mutex held*: if he is, then his next one has not claimed
//! anything yet, since for that he would have to hold the mutex after us.

mod ends;
mod inside;

pub(crate) use ends::{Consumer, Producer};

use super::{OWNER, Ring, STATE_SHIFT, Slots, initial, published, skipped};
use crate::layout::Ledger;
use crate::sync::{AtomicU32, AtomicU64, Fault, Ordering, order, planted};
use crate::sys::mutex::Sort;
use inside::Inside;
use std::time::Duration;

/// How long to wait for the mutex to get something to do.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait for it at least where the rest can be left to whoever has it next.
const MOMENT: Duration = Duration::from_millis(10);
/// What it takes at most to look at a slot that is in no cache.
const A_LOOK: Duration = Duration::from_nanos(100);

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
        let free = self.ledger().free.0.slots.load(Ordering::Relaxed);
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

    /// Whether somebody has handed a slot on who could not go on with it, as far as can be seen without the mutex.
    fn is_unsettled(&self) -> bool {
        self.ledger().free.0.unsettled.load(Ordering::Relaxed) != 0
    }

    /// Fills or finishes a slot.
    fn hand_on(&self, slot: usize, stamp: u64) {
        // Release: the message was written, or read, before. Pairs with Acquire in `shown`.
        let release = order(Ordering::Release, Fault::HandedOnRelaxed);
        self.stamp(slot).store(stamp, release);
    }

    /// Leaves what was handed on to whoever has the mutex next.
    #[cold]
    fn leave_unsettled(&self) {
        // Release: what was handed on is visible to who takes note of this. Pairs with Acquire in `enter`.
        let unsettled = &self.ledger().free.0.unsettled;
        unsettled.store(1, Ordering::Release);
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

    /// Takes the mutex. None if it can't be had in time.
    fn enter(&self, patience: Duration) -> Option<Inside<'_, S>> {
        let held = self.ledger().mutex.0.lock(self.sort, patience).ok()?;
        let mut inside = Inside::new(self, held);
        if inside.held.owner_died() {
            if !planted(Fault::NotRebuilt) {
                inside.rebuild();
            }
            inside.held.make_consistent();
        }
        let unsettled = &self.ledger().free.0.unsettled;
        // Acquire: pairs with Release in `leave_unsettled`.
        if unsettled.load(Ordering::Relaxed) != 0 && unsettled.swap(0, Ordering::Acquire) != 0 {
            inside.settle_all();
        }
        Some(inside)
    }

    /// Looks at all slots, without the mutex, for what is in somebody's hand.
    fn survey(&self, mut is_dead: impl FnMut(u32) -> bool) -> Survey {
        let (mut survey, mut in_hand) = (Survey::default(), 0);
        survey.is_amiss = self.ledger().mutex.0.is_abandoned();
        let all = self.ring.capacity();
        let words = || (self.head_now(), self.tail_now(), self.free());
        let (before, queued) = (words(), self.queued());
        survey.is_read = queued > 0;
        if queued + self.free() == all {
            return survey;
        }
        for slot in 0..all as usize {
            match self.shown(slot).0 {
                Shown::Claimed(owner) | Shown::Borrowed(owner) if is_dead(owner) => {
                    survey.is_amiss = true;
                }
                Shown::Claimed(_) | Shown::Borrowed(_) => in_hand += 1,
                // Anybody can go on with these.
                Shown::Filled | Shown::Finished => survey.is_amiss = true,
                Shown::Queued | Shown::Free => {}
            }
            survey.is_read |= matches!(
                self.shown(slot).0,
                Shown::Filled | Shown::Queued | Shown::Borrowed(_)
            );
        }
        // Unless that changed while we looked, there is a slot of which these words do not know.
        survey.is_amiss |= words() == before && self.queued() + self.free() + in_hand != all;
        survey
    }

    fn head_now(&self) -> u64 {
        self.head().load(Ordering::Relaxed)
    }

    fn tail_now(&self) -> u64 {
        self.tail().load(Ordering::Relaxed)
    }

    /// How long to wait for the mutex where the rest can be left to whoever has it next: for longer than it is held by who looks at
    /// all slots.
    fn moment(&self) -> Duration {
        (MOMENT + A_LOOK.saturating_mul(u32::try_from(self.ring.capacity()).unwrap_or(u32::MAX)))
            .min(PATIENCE)
    }

    /// Does `act` with the mutex held.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn stand_with_the_mutex(&self, act: impl FnOnce()) {
        let _inside = self.enter(PATIENCE).unwrap();
        act();
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

/// What is in the hands of owners.
#[derive(Default)]
struct Survey {
    /// Something is to be done about it, with the mutex held.
    is_amiss: bool,
    /// Some message is there, or was a moment ago, in somebody's hand or not.
    is_read: bool,
}

/// Settles what a dead holder of the index `owner` had in hand. To be called by the index's new holder, as soon as it is that. If
/// the mutex can't be had in a moment, the new holder does it when it first has it. True if others may go on by that.
pub(crate) fn sweep<S: Slots>(locked: &Locked<S>, owner: u32) -> bool {
    if planted(Fault::NoSweep) {
        return false;
    }
    let inside = locked.enter(locked.moment());
    inside.is_some_and(|mut inside| {
        inside.bury(|index| index == owner);
        inside.has_stirred
    })
}
