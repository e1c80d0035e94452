//! The stamp, positions, and the view of the slots. The algorithms are in the modules below, one each.
//!
//! A **position** numbers messages from the ring's origin on, wrapping at 2^64. The message at position *p*
//! goes into the slot with index *p* mod *N*, where *N* is the capacity. Each slot carries a **stamp**:
//!
//! ```text
//! 63                         12 11 10 9        0
//! | position, its low 52 bits  | state | owner |
//! ```
//!
//! Expected stamps are computed from positions, wrapping, and compared by equality: there is no order among
//! stamps and no arithmetic on one that a peer wrote. 52 bits of position come round after 52 days at a billion
//! messages a second; to be fooled, a process would have to sleep for exactly a multiple of that.
//!
//! A ring knows nothing of mappings, files, processes or message types. It answers "this slot is yours to
//! fill", "publish it", "this slot is yours to read", "release it" ([`Produce`], [`Consume`]), and is told that the owner
//! of a claim is dead. The layer above moves the messages.

pub(crate) mod lanes;
pub(crate) mod locked;
pub(crate) mod mpsc;
pub(crate) mod spsc;
#[cfg(all(test, not(loom)))]
mod tests;

use crate::layout::{Call, MAX_PARTICIPANTS, Side, Slot};
use crate::message::ShmMessage;
use crate::sync::{AtomicU64, Fault, Ordering, planted};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

const POSITION_SHIFT: u32 = 12;
const STATE_SHIFT: u32 = 10;
const CLAIMED: u64 = 1 << STATE_SHIFT;
const PUBLISHED: u64 = 2 << STATE_SHIFT;
const SKIPPED: u64 = 3 << STATE_SHIFT;
/// Owners are participants' indices.
const OWNER: u64 = (1 << STATE_SHIFT) - 1;

/// The stamp of a slot that nobody has written yet, as if it were the one before its first position.
pub(crate) const fn initial(position: u64) -> u64 {
    position << POSITION_SHIFT
}

/// The stamp that publishes `position`.
#[inline(always)]
pub(crate) const fn published(position: u64) -> u64 {
    position << POSITION_SHIFT | PUBLISHED
}

/// The stamp by which `owner`, a participant's index, has `position` to itself until it publishes.
#[inline(always)]
pub(crate) const fn claimed(position: u64, owner: u32) -> u64 {
    position << POSITION_SHIFT | CLAIMED | owner as u64 & OWNER
}

/// The stamp of a position that will never have a message.
#[inline(always)]
pub(crate) const fn skipped(position: u64) -> u64 {
    position << POSITION_SHIFT | SKIPPED
}

/// An end of a ring.
pub(crate) trait End {
    type Slots: Slots;

    /// The ring that answered slots are in.
    fn ring(&self) -> &Ring<Self::Slots>;

    /// Whether there was no slot because the ring can't be had at all.
    #[inline(always)]
    fn is_stuck(&self) -> bool {
        false
    }

    /// Whether anybody may go on by what was done besides what was asked for, since this was asked last.
    #[inline(always)]
    fn has_stirred(&mut self) -> bool {
        false
    }
}

/// The producing end of a ring.
pub(crate) trait Produce: End {
    /// The slot that is the caller's to fill, if there is room.
    fn slot(&mut self) -> Option<usize>;

    /// Publishes the slot that [`slot`](Produce::slot) answered last.
    fn publish(&mut self);

    /// Whether a slot was answered that is neither published nor given up, and others wait for that.
    #[inline(always)]
    fn is_open(&self) -> bool {
        false
    }

    /// Gives up the slot that was answered last, unless it was published. True if that lets others go on.
    fn abandon(&mut self) -> bool {
        false
    }

    /// Whether it is worth asking for a slot again, after there was none.
    fn has_room(&self) -> bool;

    /// The same, past the dead where these are in the way: `is_dead` asks the kernel, as in [`settle`].
    fn look(&mut self, _is_dead: impl Fn(u32) -> bool) -> Look {
        match self.has_room() {
            true => Look::Ready,
            false => Look::Nothing,
        }
    }

    /// Messages that are published and not yet released.
    fn len(&self) -> u64;

    /// The words to call the receiver by.
    #[inline(always)]
    fn call(&self) -> Call<'_> {
        self.ring().to_receivers()
    }
}

/// The consuming end of a ring.
pub(crate) trait Consume: End {
    /// The slot that is the caller's to read, if a message is there. Nothing is taken from memory of an earlier look:
    /// "none" means that the stamp was loaded after the call began.
    fn slot(&mut self) -> Option<usize>;

    /// What lies `ahead` positions, fewer than the capacity, behind the slot that was answered last.
    fn ahead(&mut self, ahead: u64) -> Ahead;

    /// Gives back `count` positions, beginning with the slot that was answered last. All must have been looked at.
    fn release(&mut self, count: u64);

    /// How many positions were released since some moment, wrapping.
    fn position(&self) -> u64;

    /// Positions from the slot on that was answered last that may be looked at and released, until it is somebody else's
    /// turn.
    #[inline(always)]
    fn turn(&self) -> u64 {
        self.ring().capacity()
    }

    /// Whether a sender finds no room.
    fn is_full(&self) -> bool {
        self.len() == self.ring().capacity()
    }

    /// Whether [`slot`](Consume::slot) would answer "none".
    fn is_empty(&self) -> bool;

    /// Looks for a message, past the dead where these are in the way. `is_dead` asks the kernel, as in [`settle`].
    fn look(&mut self, is_dead: impl Fn(u32) -> bool) -> Look
    where
        Self: Sized,
    {
        look_past_the_dead(self, is_dead)
    }

    /// Leaves what was looked at and not released to others. True if there was something.
    fn abandon(&mut self) -> bool {
        false
    }

    /// Messages that are published and not yet released.
    fn len(&self) -> u64;

    /// The owner of a claim that nothing gets past.
    fn claimant(&self) -> Option<u32> {
        None
    }

    /// Turns that claim into "skipped", if it is still there. `owner` has died, after it was answered by
    /// [`claimant`](Consume::claimant).
    fn skip(&mut self, _owner: u32) {}

    /// Takes note that `count` of the positions to be released were [`Ahead::Skipped`].
    fn passed_over(&self, _count: u64) {}

    /// The words to call senders by that wait for what is released.
    #[inline(always)]
    fn call(&self) -> Call<'_> {
        self.ring().to_senders()
    }
}

/// What is in a consumer's way, when it finds no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum InTheWay {
    /// No claim; what there is instead was not looked at.
    Nothing,
    /// A claim of somebody who lives. There may be messages behind it.
    Claim,
    /// A claim of somebody dead was: it is worth looking again.
    Settled,
}

/// Gets past a claim whose owner is dead. `is_dead` asks the kernel, which orders all that the dead did before its answer.
pub(crate) fn settle(consumer: &mut impl Consume, is_dead: impl FnOnce(u32) -> bool) -> InTheWay {
    // The claim is loaded before the question: an index that has a new holder by then was swept.
    let Some(owner) = consumer.claimant() else {
        return InTheWay::Nothing;
    };
    if planted(Fault::SkipUnasked) || is_dead(owner) {
        consumer.skip(owner);
        return InTheWay::Settled;
    }
    InTheWay::Claim
}

/// What there is to do for somebody who waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    Ready,
    Nothing,
    /// Nothing, as long as somebody who lives does not go on.
    Held,
    /// The ring can't be had at all: nobody knows.
    Stuck,
}

/// Looks for a message, past claims of the dead.
pub(crate) fn look_past_the_dead(
    consumer: &mut impl Consume,
    is_dead: impl Fn(u32) -> bool,
) -> Look {
    // Each participant has one claim at most.
    for _ in 0..MAX_PARTICIPANTS {
        if consumer.slot().is_some() {
            return Look::Ready;
        }
        match settle(consumer, &is_dead) {
            InTheWay::Settled => {}
            InTheWay::Claim => break,
            // The claim that was in the way may have become a message since, with others behind it.
            InTheWay::Nothing
                if consumer.ahead(0) == Ahead::Nothing || planted(Fault::ClaimSettledUnseen) =>
            {
                return Look::Nothing;
            }
            InTheWay::Nothing => {}
        }
    }
    Look::Held
}

/// What a consumer finds ahead of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ahead {
    /// A message in this slot.
    Message(usize),
    /// No message, and there never will be.
    Skipped,
    /// Nothing yet.
    Nothing,
}

/// Where the slots are. A ring is generic over this and nothing else.
pub(crate) trait Slots {
    /// The stamp of the slot with this index, which is below the capacity.
    fn stamp(&self, index: usize) -> &AtomicU64;
}

/// A ring in memory: both sides' words, the slots, the capacity.
///
/// The capacity is a private copy: nothing that a peer writes becomes an index.
#[derive(Clone, Copy)]
pub(crate) struct Ring<S> {
    senders: NonNull<Side>,
    receivers: NonNull<Side>,
    slots: S,
    mask: u64,
}

#[allow(unsafe_code, reason = "pointers into a segment")]
mod view {
    use super::*;

    // SAFETY: it points at atomics and at slots whose hand-over the ring orders.
    unsafe impl<S: Send> Send for Ring<S> {}

    impl<S: Slots> Ring<S> {
        /// # Safety
        ///
        /// The words and the slots, of which there are `capacity`, a power of two, must be initialised and
        /// outlive the ring and everything made from it.
        pub(crate) unsafe fn new(
            senders: NonNull<Side>,
            receivers: NonNull<Side>,
            slots: S,
            capacity: u64,
        ) -> Self {
            debug_assert!(capacity.is_power_of_two());
            Self {
                senders,
                receivers,
                slots,
                mask: capacity - 1,
            }
        }

        /// The words that senders write.
        #[inline(always)]
        pub(crate) fn senders(&self) -> &Side {
            // SAFETY: valid by the contract of `new`; all its fields are atomics.
            unsafe { self.senders.as_ref() }
        }

        /// The words that receivers write.
        #[inline(always)]
        pub(crate) fn receivers(&self) -> &Side {
            // SAFETY: as for `senders`.
            unsafe { self.receivers.as_ref() }
        }
    }

    /// Slots of a type known at compile time: the stride is a constant.
    pub(crate) struct TypedSlots<T> {
        base: NonNull<u8>,
        message: PhantomData<fn(T) -> T>,
    }

    // SAFETY: moving the view to another thread moves a pointer to shared memory and no message.
    unsafe impl<T> Send for TypedSlots<T> {}

    impl<T> Clone for TypedSlots<T> {
        fn clone(&self) -> Self {
            *self
        }
    }

    impl<T> Copy for TypedSlots<T> {}

    impl<T: ShmMessage> TypedSlots<T> {
        /// # Safety
        ///
        /// `base` must point at the first of initialised slots of `T`, [`Slot::STRIDE`] apart.
        pub(crate) unsafe fn new(base: NonNull<u8>) -> Self {
            Self {
                base,
                message: PhantomData,
            }
        }

        #[inline(always)]
        fn slot(&self, index: usize) -> &Slot<T> {
            // SAFETY: indices come masked by the ring's own capacity, so the slot lies within the segment.
            let slot = unsafe { self.base.add(index * Slot::<T>::STRIDE) };
            // SAFETY: the slot is initialised; its fields are an atomic and a cell.
            unsafe { slot.cast().as_ref() }
        }

        /// Lends the message's memory in slot `index` to `write`.
        ///
        /// # Safety
        ///
        /// The ring must have said that the slot is the caller's to fill, and not yet been told to publish it.
        #[inline(always)]
        pub(crate) unsafe fn fill<R>(
            &self,
            index: usize,
            write: impl FnOnce(*mut MaybeUninit<T>) -> R,
        ) -> R {
            self.slot(index).message.with_mut(write)
        }

        /// Lends the message in slot `index` to `read`.
        ///
        /// # Safety
        ///
        /// The ring must have said that the slot is the caller's to read, and not yet been told to release it.
        #[inline(always)]
        pub(crate) unsafe fn read<R>(
            &self,
            index: usize,
            read: impl FnOnce(*const MaybeUninit<T>) -> R,
        ) -> R {
            self.slot(index).message.with(read)
        }
    }

    impl<T: ShmMessage> Slots for TypedSlots<T> {
        #[inline(always)]
        fn stamp(&self, index: usize) -> &AtomicU64 {
            &self.slot(index).stamp
        }
    }

    /// Slots whose stride was read, once, from a validated header.
    #[derive(Clone, Copy)]
    pub(crate) struct UntypedSlots {
        base: NonNull<u8>,
        stride: usize,
        stamp_offset: usize,
    }

    // SAFETY: as for `TypedSlots`.
    unsafe impl Send for UntypedSlots {}

    impl UntypedSlots {
        /// # Safety
        ///
        /// `base` must point at the first of initialised slots, `stride` bytes apart, with their stamps at
        /// `stamp_offset`.
        pub(crate) unsafe fn new(base: NonNull<u8>, stride: usize, stamp_offset: usize) -> Self {
            Self {
                base,
                stride,
                stamp_offset,
            }
        }
    }

    impl Slots for UntypedSlots {
        #[inline(always)]
        fn stamp(&self, index: usize) -> &AtomicU64 {
            // SAFETY: as in `TypedSlots::slot`; the stamp lies within the slot.
            let stamp = unsafe { self.base.add(index * self.stride + self.stamp_offset) };
            // SAFETY: initialised and aligned to 8, since base, stride and offset are.
            unsafe { stamp.cast().as_ref() }
        }
    }
}

pub(crate) use view::{TypedSlots, UntypedSlots};

#[inline(always)]
fn call<'a>(called: &'a Side, caller: &'a Side) -> Call<'a> {
    let bell = &caller.bell.0;
    Call {
        attention: &called.attention.0,
        answered: &bell.answered,
        futex: &bell.futex,
    }
}

impl<S: Slots> Ring<S> {
    /// How many messages the ring holds at most.
    #[inline(always)]
    pub(crate) fn capacity(&self) -> u64 {
        self.mask + 1
    }

    #[inline(always)]
    fn index(&self, position: u64) -> usize {
        (position & self.mask) as usize
    }

    #[inline(always)]
    fn stamp(&self, position: u64) -> &AtomicU64 {
        self.slots.stamp(self.index(position))
    }

    /// The slots, for who moves messages.
    #[inline(always)]
    pub(crate) fn slots(&self) -> &S {
        &self.slots
    }

    /// The words by which senders call the receiver.
    #[inline(always)]
    pub(crate) fn to_receivers(&self) -> Call<'_> {
        call(self.receivers(), self.senders())
    }

    /// The words by which the receiver calls senders.
    #[inline(always)]
    pub(crate) fn to_senders(&self) -> Call<'_> {
        call(self.senders(), self.receivers())
    }

    /// Published messages from `head` on. Looks at every slot.
    pub(crate) fn unread(&self) -> u64 {
        let head = self.receivers().position.0.load(Ordering::Acquire);
        let positions = (0..self.capacity()).map(|ahead| head.wrapping_add(ahead));
        positions
            .filter(|&position| self.stamp(position).load(Ordering::Relaxed) == published(position))
            .count() as u64
    }
}
