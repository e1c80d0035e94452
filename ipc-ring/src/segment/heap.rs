//! A ring on the heap, for tests and models: the same words and slots, built in place by the same constructors.
#![allow(unsafe_code, reason = "a test's own allocation")]
#![cfg_attr(
    not(loom),
    allow(dead_code, reason = "endings and sleep are the models' share")
)]

use super::first_stamp;
use crate::layout::{Entry, Side, Slot};
use crate::message::ShmMessage;
use crate::ring::lanes::{self, Common};
use crate::ring::{Ring, TypedSlots, UntypedSlots};
use crate::sync::{AtomicU64, UnsafeCell};
use crate::sys::futex::Futex;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::{MaybeUninit, offset_of};
use std::ptr::NonNull;

/// Words, entries and slots. Rings made from it must not outlive it; tests keep it in an `Arc`.
pub(crate) struct Heap<T: ShmMessage> {
    senders: Box<Side>,
    receivers: Box<Side>,
    pub(crate) sender_entry: Entry,
    slots: NonNull<Slot<T>>,
    layout: Layout,
    capacity: u64,
}

// SAFETY: words are atomics, and slots are handed over by the ring, which is what the tests check.
unsafe impl<T: ShmMessage> Send for Heap<T> {}

// SAFETY: as above.
unsafe impl<T: ShmMessage> Sync for Heap<T> {}

impl<T: ShmMessage> Heap<T> {
    pub(crate) fn new(capacity: u64, origin: u64) -> Self {
        let align = align_of::<Slot<T>>().max(64);
        let layout = Layout::from_size_align(capacity as usize * Slot::<T>::STRIDE, align).unwrap();
        // SAFETY: a slot is not zero-sized.
        let memory = unsafe { alloc(layout) };
        let slots = NonNull::new(memory)
            .unwrap_or_else(|| handle_alloc_error(layout))
            .cast();
        let heap = Self {
            senders: Box::new(Side::new(origin)),
            receivers: Box::new(Side::new(origin)),
            sender_entry: Entry::new(),
            slots,
            layout,
            capacity,
        };
        for index in 0..capacity {
            let slot = Slot {
                message: UnsafeCell::new(MaybeUninit::uninit()),
                stamp: AtomicU64::new(first_stamp(origin, capacity, index)),
            };
            // SAFETY: the place is ours, aligned, and holds nothing yet.
            unsafe { heap.slot(index).write(slot) };
        }
        heap
    }

    fn slot(&self, index: u64) -> NonNull<Slot<T>> {
        // SAFETY: below the capacity, for which the allocation was made.
        unsafe { self.slots.byte_add(index as usize * Slot::<T>::STRIDE) }
    }

    pub(crate) fn ring(&self) -> Ring<TypedSlots<T>> {
        // SAFETY: initialised in `new`.
        let slots = unsafe { TypedSlots::new(self.slots.cast()) };
        self.ring_of(slots)
    }

    pub(crate) fn untyped_ring(&self) -> Ring<UntypedSlots> {
        let offset = offset_of!(Slot<T>, stamp);
        // SAFETY: initialised in `new`, with this stride.
        let slots = unsafe { UntypedSlots::new(self.slots.cast(), Slot::<T>::STRIDE, offset) };
        self.ring_of(slots)
    }

    pub(crate) fn ring_of<S: crate::ring::Slots>(&self, slots: S) -> Ring<S> {
        let (senders, receivers) = (
            NonNull::from(&*self.senders),
            NonNull::from(&*self.receivers),
        );
        // SAFETY: initialised in `new`; callers keep the heap alive.
        unsafe { Ring::new(senders, receivers, slots, self.capacity) }
    }

    pub(crate) fn senders(&self) -> &Side {
        &self.senders
    }

    pub(crate) fn receivers(&self) -> &Side {
        &self.receivers
    }
}

impl<T: ShmMessage> Drop for Heap<T> {
    fn drop(&mut self) {
        for index in 0..self.capacity {
            // SAFETY: initialised in `new` and dropped once.
            unsafe { self.slot(index).drop_in_place() };
        }
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.slots.as_ptr().cast(), self.layout) };
    }
}

/// Lanes on the heap.
pub(crate) struct HeapLanes<T: ShmMessage> {
    lanes: Vec<Heap<T>>,
    ready: Box<[AtomicU64]>,
    futex: Box<Futex>,
}

impl<T: ShmMessage> HeapLanes<T> {
    pub(crate) fn new(lanes: usize, capacity: u64, origin: u64) -> Self {
        Self {
            lanes: (0..lanes).map(|_| Heap::new(capacity, origin)).collect(),
            ready: (0..lanes).map(|_| AtomicU64::new(0)).collect(),
            futex: Box::new(Futex::new()),
        }
    }

    pub(crate) fn lane(&self, number: usize) -> &Heap<T> {
        &self.lanes[number]
    }

    pub(crate) fn common(&self) -> Common {
        let ready = NonNull::from(&*self.ready).cast();
        // SAFETY: initialised in `new`, one a lane; callers keep the heap alive.
        unsafe { Common::new(ready, NonNull::from(&*self.futex), self.lanes.len()) }
    }

    pub(crate) fn producer(&self, lane: usize) -> lanes::Producer<TypedSlots<T>> {
        lanes::Producer::take_over(self.lanes[lane].ring(), lane, self.common())
    }

    /// With no more lanes than `eager`, none is idle.
    pub(crate) fn consumer(&self, eager: usize) -> lanes::Consumer<TypedSlots<T>> {
        let rings = self.lanes.iter().map(Heap::ring);
        lanes::Consumer::take_over(rings, self.common(), 1, eager)
    }
}

/// Moves messages as the channel does: fill, then publish; copy, then release.
pub(crate) mod traffic {
    use crate::message::ShmMessage;
    use crate::ring::{Consume, Produce, TypedSlots};
    use crate::sync::{Fault, planted};
    use std::mem::MaybeUninit;

    /// Fills the slot to come with `value`. Through `typed`, since `ring` may know no type.
    pub(crate) fn try_send<T: ShmMessage>(
        producer: &mut impl Produce,
        typed: TypedSlots<T>,
        value: T,
    ) -> bool {
        let Some(index) = producer.slot() else {
            return false;
        };
        if planted(Fault::PublishEarly) {
            producer.publish();
            fill(typed, index, value);
        } else {
            fill(typed, index, value);
            producer.publish();
        }
        true
    }

    /// Writes into a slot that the ring has given out.
    pub(crate) fn fill<T: ShmMessage>(typed: TypedSlots<T>, index: usize, value: T) {
        // SAFETY: the place is valid for as long as the closure runs.
        let write = |place: *mut MaybeUninit<T>| unsafe { place.cast::<T>().write(value) };
        // SAFETY: the caller was given the slot and has not published it.
        unsafe { typed.fill(index, write) };
    }

    /// Reads from a slot that the ring has given out.
    pub(crate) fn read<T: ShmMessage>(typed: TypedSlots<T>, index: usize) -> T {
        // SAFETY: it was filled before it was published.
        let read = |place: *const MaybeUninit<T>| unsafe { place.cast::<T>().read() };
        // SAFETY: the caller was given the slot and has not released it.
        unsafe { typed.read(index, read) }
    }

    pub(crate) fn try_recv<T: ShmMessage>(
        consumer: &mut impl Consume,
        typed: TypedSlots<T>,
    ) -> Option<T> {
        let index = consumer.slot()?;
        if planted(Fault::ReleaseEarly) {
            consumer.release(1);
        }
        let value = read(typed, index);
        if !planted(Fault::ReleaseEarly) {
            consumer.release(1);
        }
        Some(value)
    }
}
