//! A segment that this process has mapped and takes part in.
#![allow(unsafe_code, reason = "pointers into the mapping")]

use super::attach::remove_if_idle;
use super::posix::Object;
use super::{Side, first_stamp};
use crate::layout::{
    Entry, Header, LANES, READY_OFFSET, RECEIVERS_STRIDE, REMOVE_WHEN_IDLE, SCHEMA_OFFSET,
};
use crate::message::ShmMessage;
use crate::ring::lanes::Common;
use crate::ring::{Ring, Slots, TypedSlots, UntypedSlots};
use crate::schema::Schema;
use crate::sync::AtomicU64;
use crate::sys::fork::Token;
use crate::sys::map::Mapping;
use nix::sys::stat::fstat;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

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
}

// SAFETY: it points into the mapping, which is of the process, not of a thread.
unsafe impl Send for Segment {}

impl Segment {
    /// `mapping` is of `header.segment_size` bytes and holds the lock of `index`.
    pub(super) fn new(
        header: Header,
        schema: &'static Schema,
        mapping: Mapping,
        file: OwnedFd,
        object: Object,
        index: u32,
        token: Token,
    ) -> Self {
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
