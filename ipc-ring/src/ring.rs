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
//! fill", "publish it", "this slot is yours to read", "release it". The layer above moves the messages.

pub(crate) mod spsc;
#[cfg(all(test, not(loom)))]
mod tests;

use crate::layout::{Side, Slot};
use crate::message::ShmMessage;
use crate::sync::AtomicU64;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

const POSITION_SHIFT: u32 = 12;
const STATE_SHIFT: u32 = 10;
const PUBLISHED: u64 = 2 << STATE_SHIFT;

/// The stamp of a slot that nobody has written yet, as if it were the one before its first position.
pub(crate) const fn initial(position: u64) -> u64 {
    position << POSITION_SHIFT
}

/// The stamp that publishes `position`.
#[inline(always)]
pub(crate) const fn published(position: u64) -> u64 {
    position << POSITION_SHIFT | PUBLISHED
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
}
