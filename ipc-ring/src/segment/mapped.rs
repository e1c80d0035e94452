//! A segment that this process has mapped and takes part in.
#![allow(unsafe_code, reason = "pointers into the mapping")]

use super::attach::remove_if_idle;
use super::doorbells::Queues;
use super::posix::Object;
use super::{Side, first_stamp};
use crate::layout::{
    Alarm, Entry, Header, INHERIT_PRIORITY, LANES, LOCKED, Ledger, ORDER_OFFSET, READY_OFFSET,
    RECEIVERS_STRIDE, REMOVE_WHEN_IDLE, SCHEMA_OFFSET,
};
use crate::message::ShmMessage;
use crate::ring::lanes::Common;
use crate::ring::locked::Locked;
use crate::ring::{Ring, Slots, TypedSlots, UntypedSlots};
use crate::schema::Schema;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::sys::doorbell::Doorbell;
use crate::sys::fork::Token;
use crate::sys::map::Mapping;
use crate::sys::mutex::Sort;
use crate::wait::alarm::{Device, Doorbells, Others, Own};
use crate::wait::{Reach, Wait};
use nix::sys::stat::fstat;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

/// The header and where everything lies; all of it within the mapping, by [`Header::is_consistent`].
pub(crate) struct Places {
    pub(crate) header: Header,
    base: NonNull<u8>,
}

// SAFETY: a pointer to memory of the process, not of a thread.
unsafe impl Send for Places {}

impl Places {
    /// # Safety
    ///
    /// `base` must be the start of a mapping of `header.segment_size` bytes that outlives the result and what is
    /// made from it, and `header` consistent.
    pub(crate) unsafe fn new(header: Header, base: NonNull<u8>) -> Self {
        Self { header, base }
    }

    fn at<T>(&self, offset: u64) -> NonNull<T> {
        // SAFETY: offsets of a consistent header lie within the mapping.
        unsafe { self.base.add(offset as usize) }.cast()
    }

    fn senders(&self, lane: u32) -> NonNull<Side> {
        self.at(self.header.lanes_offset + self.header.lane_stride * u64::from(lane))
    }

    fn receivers(&self, lane: u32) -> NonNull<Side> {
        self.at(self.header.receivers_offset + RECEIVERS_STRIDE * u64::from(lane))
    }

    fn slots(&self, lane: u32) -> NonNull<u8> {
        self.at(self.header.slots_offset + self.header.lane_stride * u64::from(lane))
    }

    /// What all lanes have in common; for rings of this kind.
    fn common_words(&self) -> NonNull<Side> {
        debug_assert_eq!(self.header.kind, LANES);
        self.at(self.header.senders_offset)
    }

    fn ready(&self) -> NonNull<AtomicU64> {
        self.at(self.header.senders_offset + READY_OFFSET)
    }

    fn ring<S: Slots>(&self, lane: u32, slots: S) -> Ring<S> {
        assert!(lane < self.header.lanes(), "a lane beyond the last");
        let (senders, receivers) = (self.senders(lane), self.receivers(lane));
        // SAFETY: words and slots were initialised before the segment was published; that the mapping outlives the ring is
        // vouched for by who made the places.
        unsafe { Ring::new(senders, receivers, slots, self.header.capacity) }
    }

    /// The ring of a lane; kinds without lanes have one.
    ///
    /// # Safety
    ///
    /// Messages must have the size and alignment of `T`.
    pub(crate) unsafe fn typed_ring<T: ShmMessage>(&self, lane: u32) -> Ring<TypedSlots<T>> {
        // SAFETY: the slots were initialised, at a stride that follows from size and alignment.
        self.ring(lane, unsafe { TypedSlots::new(self.slots(lane)) })
    }

    /// The ring of a lane, whatever its messages are.
    pub(crate) fn untyped_ring(&self, lane: u32) -> Ring<UntypedSlots> {
        let header = &self.header;
        let (stride, stamp) = (header.slot_stride as usize, header.stamp_offset as usize);
        // SAFETY: the slots were initialised with this stride and offset.
        self.ring(lane, unsafe {
            UntypedSlots::new(self.slots(lane), stride, stamp)
        })
    }

    /// # Safety
    ///
    /// As for `typed_ring`.
    pub(crate) unsafe fn typed_locked<T: ShmMessage>(&self) -> Locked<TypedSlots<T>> {
        // SAFETY: as the caller says.
        self.locked(unsafe { self.typed_ring(0) })
    }

    /// What is a queue under a mutex, whatever its messages are.
    pub(crate) fn untyped_locked(&self) -> Locked<UntypedSlots> {
        self.locked(self.untyped_ring(0))
    }

    fn locked<S: Slots>(&self, ring: Ring<S>) -> Locked<S> {
        assert_eq!(self.header.kind, LOCKED, "a ring without a mutex");
        let (ledger, order) = (self.ledger(), self.order());
        // SAFETY: initialised before the segment was published, and there is a word of order for each slot; that the mapping
        // outlives the ring is vouched for by who made the places.
        unsafe { Locked::new(ring, ledger, order, self.sort(), self.header.senders().end) }
    }

    /// Of rings of this kind.
    fn ledger(&self) -> NonNull<Ledger> {
        self.at(self.header.senders_offset)
    }

    fn order(&self) -> NonNull<AtomicU32> {
        self.at(self.header.senders_offset + ORDER_OFFSET)
    }

    fn sort(&self) -> Sort {
        Sort {
            inherits_priority: self.header.flags & INHERIT_PRIORITY != 0,
        }
    }

    /// What all lanes have in common; for rings of this kind.
    pub(crate) fn common(&self) -> Common {
        let lanes = self.header.lanes() as usize;
        // SAFETY: initialised before the segment was published, all atomics.
        let words = unsafe { self.common_words().as_ref() };
        let futex = NonNull::from(&words.bell.0.futex);
        // SAFETY: so were the ready words, one a lane.
        unsafe { Common::new(self.ready(), futex, lanes) }
    }

    /// Messages that nobody has received.
    pub(crate) fn unread(&self) -> u64 {
        if self.header.kind == LOCKED {
            return self.untyped_locked().unread();
        }
        let lanes = 0..self.header.lanes();
        lanes.map(|lane| self.untyped_ring(lane).unread()).sum()
    }

    pub(crate) fn sender_words(&self, lane: u32) -> &Side {
        assert!(lane < self.header.lanes(), "a lane beyond the last");
        // SAFETY: initialised before the segment was published; all its fields are atomics.
        unsafe { self.senders(lane).as_ref() }
    }

    pub(crate) fn receiver_words(&self, lane: u32) -> &Side {
        assert!(lane < self.header.lanes(), "a lane beyond the last");
        // SAFETY: as for `sender_words`.
        unsafe { self.receivers(lane).as_ref() }
    }

    fn entry_ptr(&self, index: u32) -> NonNull<Entry> {
        assert!(
            index < self.header.participants,
            "a participant beyond the table"
        );
        let offset = u64::from(index) * size_of::<Entry>() as u64;
        self.at(self.header.participants_offset + offset)
    }

    pub(crate) fn entry(&self, index: u32) -> &Entry {
        // SAFETY: initialised before the segment was published; all its fields are atomics.
        unsafe { self.entry_ptr(index).as_ref() }
    }

    /// How to reach the participants with these indices when they sleep. Doorbells, of these `queues`, say `word`.
    pub(crate) fn reach(
        &self,
        indices: Range<u32>,
        queues: Option<Queues>,
        word: &'static str,
    ) -> Reach {
        let Some(device) = self.device() else {
            return Reach::Futex;
        };
        let header = self.header;
        let open = |queues: Queues| move |index| queues.open(&header.called_with(index)).ok();
        let doorbells = queues.map(|queues| Doorbells::new(self.header.participants, open(queues)));
        let doorbells = doorbells.map(Arc::new);
        assert!(
            indices.end <= self.header.participants,
            "a participant beyond the table"
        );
        // SAFETY: initialised before the segment was published, one a participant; that the mapping outlives them is vouched for
        // by who made the places.
        Reach::Alarms(unsafe { Others::new(self.alarm(0), indices, device, doorbells, word) })
    }

    /// What the participant with this index sleeps by, if it is not a futex.
    pub(crate) fn own_alarm(&self, index: u32, doorbell: Option<Doorbell>) -> Option<Own> {
        let device = self.device()?;
        assert!(
            index < self.header.participants,
            "a participant beyond the table"
        );
        let called = self.header.called_with(index);
        // SAFETY: as in `reach`.
        let own = unsafe { Own::new(self.alarm(0), index, &called, device, doorbell) }?;
        own.take_over();
        Some(own)
    }

    fn device(&self) -> Option<Device> {
        Wait::from_id(self.header.wait).and_then(Wait::device)
    }

    fn alarm(&self, index: u32) -> NonNull<Alarm> {
        let offset = u64::from(index) * size_of::<Alarm>() as u64;
        self.at(self.header.alarms_offset + offset)
    }

    /// Writes everything that a reader will find, into memory that nobody else sees.
    pub(crate) fn initialise(&self, schema: &str) {
        let header = &self.header;
        // SAFETY: the mapping begins with room for a header and is page-aligned.
        unsafe { self.at::<Header>(0).write(*header) };
        let text = self.at::<u8>(SCHEMA_OFFSET);
        // SAFETY: the participants' region begins behind `schema_len` bytes from here on.
        unsafe {
            text.copy_from_nonoverlapping(NonNull::from(schema.as_bytes()).cast(), schema.len())
        };
        for index in 0..header.participants {
            // SAFETY: the entry lies in its region, aligned, and is ours alone.
            unsafe { self.entry_ptr(index).write(Entry::new()) };
        }
        for lane in 0..header.lanes() {
            self.initialise_lane(lane);
        }
        if let Some(device) = self.device() {
            for index in 0..header.participants {
                // SAFETY: the alarm lies in its region, aligned; a new object is zero, which is a value of its atomic and may be
                // anything for the rest.
                unsafe { self.alarm(index).as_ref() }.begin(device);
            }
        }
        if header.kind == LOCKED {
            self.initialise_ledger();
        }
        if header.kind == LANES {
            // SAFETY: the words lie in their region, aligned; a new object is zero, which is a value of each of them.
            unsafe { self.common_words().as_ref() }.begin(0);
            for lane in 0..header.lanes() as usize {
                // SAFETY: there is room for one a lane.
                let ready = unsafe { self.ready().add(lane) };
                // SAFETY: as above.
                unsafe { ready.write(AtomicU64::new(0)) };
            }
        }
    }

    fn initialise_ledger(&self) {
        let header = &self.header;
        // SAFETY: the ledger lies in its region, aligned; a new object is zero, which is a value of its atomic and may be anything
        // for the mutex.
        let Ledger { mutex, free } = unsafe { self.ledger().as_ref() };
        mutex.0.begin(self.sort());
        free.0.slots.store(header.capacity, Ordering::Relaxed);
        free.0.unsettled.store(0, Ordering::Relaxed);
        // The slots are in the order in which they lie, from the first position on.
        for position in 0..header.capacity {
            let place = header.origin.wrapping_add(position) & (header.capacity - 1);
            // SAFETY: there is room for one a slot.
            let word = unsafe { self.order().add(place as usize) };
            // SAFETY: aligned, and ours alone.
            unsafe { word.write(AtomicU32::new(position as u32)) };
        }
    }

    fn initialise_lane(&self, lane: u32) {
        let header = &self.header;
        // SAFETY: the senders' words lie in their region, aligned; a new object is zero, which is a value of each of them.
        unsafe { self.senders(lane).as_ref() }.begin(header.origin);
        // SAFETY: as above, for the receivers' words.
        unsafe { self.receivers(lane).as_ref() }.begin(header.origin);
        for index in 0..header.capacity {
            let offset = (index * header.slot_stride + header.stamp_offset) as usize;
            let stamp = first_stamp(header.origin, header.capacity, index);
            // SAFETY: the stamp lies in its slot.
            let place = unsafe { self.slots(lane).add(offset) }.cast();
            // SAFETY: aligned, and ours alone.
            unsafe { place.write(AtomicU64::new(stamp)) };
        }
    }
}

/// A participant's place, as its process has it.
pub(super) struct Place {
    pub(super) index: u32,
    pub(super) token: Token,
    /// The ring's queues and its own, if it waits by such.
    pub(super) doorbell: Option<(Queues, Doorbell)>,
}

/// A segment in which this process holds a participant's index.
pub(crate) struct Segment {
    places: Places,
    schema: &'static Schema,
    mapping: ManuallyDrop<Mapping>,
    /// A description that holds no participant's lock, to ask the kernel by.
    file: OwnedFd,
    object: Object,
    index: u32,
    own_entry: NonNull<Entry>,
    token: Token,
    /// The ring's queues, and our own until a sleeper takes it.
    doorbell: Option<(Queues, Option<Doorbell>)>,
}

// SAFETY: it points into the mapping, which is of the process, not of a thread.
unsafe impl Send for Segment {}

impl Segment {
    /// `mapping` is of `header.segment_size` bytes and holds the lock of `place`.
    pub(super) fn new(
        header: Header,
        schema: &'static Schema,
        mapping: Mapping,
        file: OwnedFd,
        object: Object,
        place: Place,
    ) -> Self {
        let Place {
            index,
            token,
            doorbell,
        } = place;
        debug_assert!(header.is_consistent());
        // SAFETY: the mapping is dropped last, in `drop`.
        let places = unsafe { Places::new(header, mapping.base()) };
        Self {
            own_entry: places.entry_ptr(index),
            places,
            schema,
            mapping: ManuallyDrop::new(mapping),
            file,
            object,
            index,
            token,
            doorbell: doorbell.map(|(queues, own)| (queues, Some(own))),
        }
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// What its messages were checked against.
    pub(crate) fn schema(&self) -> &'static Schema {
        self.schema
    }

    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    #[inline(always)]
    pub(crate) fn own_entry(&self) -> &Entry {
        // SAFETY: checked when it was taken; as for `Places::entry`.
        unsafe { self.own_entry.as_ref() }
    }

    pub(crate) fn token(&self) -> Token {
        self.token
    }

    /// What this participant sleeps by, if it is not a futex. For the first who asks.
    pub(crate) fn take_alarm(&mut self) -> Option<Own> {
        let doorbell = self.doorbell.as_mut().and_then(|(_, own)| own.take());
        self.places.own_alarm(self.index, doorbell)
    }

    /// How to reach the participants with these indices when they sleep. Doorbells say `word`.
    pub(crate) fn reach(&self, indices: Range<u32>, word: &'static str) -> Reach {
        let queues = self.doorbell.as_ref().map(|&(queues, _)| queues);
        self.places.reach(indices, queues, word)
    }

    /// Whether the object still has its name. If the system won't say, it has.
    pub(crate) fn has_name(&self) -> bool {
        fstat(&self.file).map_or(true, |file| file.st_nlink > 0)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if !self.token.is_current() {
            // A forked child: there is nothing behind the addresses, or something of the child's own.
            return;
        }
        // SAFETY: dropped once, here; what points into it is not used any more.
        unsafe { ManuallyDrop::drop(&mut self.mapping) };
        if self.places.header.flags & REMOVE_WHEN_IDLE != 0 {
            // A name that stays is what `remove` and the next participants are for.
            let _ = remove_if_idle(&self.object, &self.file, self.index);
        }
    }
}
