//! A ring on the heap, for tests and models: the same words and slots, built in place by the same constructors.
#![allow(unsafe_code, reason = "a test's own allocation")]
#![cfg_attr(
    not(loom),
    allow(dead_code, reason = "endings and sleep are the models' share")
)]

use super::first_stamp;
use crate::layout::{Apart, Entry, Free, Ledger, Side, Slot};
use crate::message::ShmMessage;
#[cfg(not(loom))]
use crate::ring::Slots as _;
use crate::ring::lanes::{self, Common};
use crate::ring::locked::{self, Locked};
use crate::ring::{Ring, TypedSlots, UntypedSlots};
#[cfg(not(loom))]
use crate::sync::Ordering;
use crate::sync::{AtomicU32, AtomicU64, UnsafeCell};
use crate::sys::futex::Futex;
use crate::sys::mutex::{Mutex, Sort};
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

/// A queue under a mutex on the heap.
pub(crate) struct HeapLocked<T: ShmMessage> {
    heap: Heap<T>,
    ledger: Box<Ledger>,
    order: Box<[AtomicU32]>,
    senders: u32,
}

impl<T: ShmMessage> HeapLocked<T> {
    /// With so many `senders`; receivers have the indices from there on.
    pub(crate) fn new(capacity: u64, origin: u64, senders: u32) -> Self {
        let ledger = Box::new(Ledger {
            mutex: Apart(Mutex::new()),
            free: Apart(Free {
                slots: AtomicU64::new(capacity),
                unsettled: AtomicU64::new(0),
            }),
        });
        #[cfg(not(loom))]
        ledger.mutex.0.begin(Sort::default());
        Self {
            heap: Heap::new(capacity, origin),
            ledger,
            order: (0..capacity)
                .map(|slot| AtomicU32::new(slot as u32))
                .collect(),
            senders,
        }
    }

    pub(crate) fn locked(&self) -> Locked<TypedSlots<T>> {
        let (ledger, order) = (
            NonNull::from(&*self.ledger),
            NonNull::from(&*self.order).cast(),
        );
        let ring = self.heap.ring();
        // SAFETY: initialised in `new`, with a word for each slot; callers keep the heap alive.
        unsafe { Locked::new(ring, ledger, order, Sort::default(), self.senders) }
    }

    pub(crate) fn producer(&self, owner: u32) -> locked::Producer<TypedSlots<T>> {
        locked::Producer::join(self.locked(), owner)
    }

    pub(crate) fn consumer(&self, owner: u32) -> locked::Consumer<TypedSlots<T>> {
        locked::Consumer::join(self.locked(), owner)
    }

    pub(crate) fn slots(&self) -> TypedSlots<T> {
        *self.heap.ring().slots()
    }

    /// Writes `value` into one of the words: head, tail, how many slots are free, the order, the stamps.
    #[cfg(not(loom))]
    pub(crate) fn scribble(&self, place: usize, value: u64) {
        let capacity = self.order.len();
        let ring = self.heap.ring();
        let word = match place {
            0 => &self.heap.receivers().position.0,
            1 => &self.heap.senders().position.0,
            2 => &self.ledger.free.0.slots,
            place if place - 3 < capacity => {
                self.order[place - 3].store(value as u32, Ordering::Relaxed);
                return;
            }
            place => ring.slots().stamp((place - 3 - capacity) % capacity),
        };
        word.store(value, Ordering::Relaxed);
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
