//! A segment that this process has mapped and takes part in.
#![allow(unsafe_code, reason = "pointers into the mapping")]

use super::attach::remove_if_idle;
use super::posix::Object;
use super::{Side, first_stamp};
use crate::layout::{Entry, Header, REMOVE_WHEN_IDLE, SCHEMA_OFFSET};
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

    pub(crate) fn senders(&self) -> NonNull<Side> {
        self.at(self.header.senders_offset)
    }

    pub(crate) fn receivers(&self) -> NonNull<Side> {
        self.at(self.header.receivers_offset)
    }

    pub(crate) fn sender_words(&self) -> &Side {
        // SAFETY: initialised before the segment was published; all its fields are atomics.
        unsafe { self.senders().as_ref() }
    }

    pub(crate) fn receiver_words(&self) -> &Side {
        // SAFETY: as for `sender_words`.
        unsafe { self.receivers().as_ref() }
    }

    pub(crate) fn slots(&self) -> NonNull<u8> {
        self.at(self.header.slots_offset)
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
        // SAFETY: the senders' words lie in their region, aligned, and are ours alone.
        unsafe { self.senders().write(Side::new(header.origin)) };
        // SAFETY: as above, for the receivers' words.
        unsafe { self.receivers().write(Side::new(header.origin)) };
        for index in 0..header.capacity {
            let offset = index * header.slot_stride + header.stamp_offset;
            let stamp = first_stamp(header.origin, header.capacity, index);
            let place = self.at::<AtomicU64>(header.slots_offset + offset);
            // SAFETY: the stamp lies in its slot, aligned, and is ours alone.
            unsafe { place.write(AtomicU64::new(stamp)) };
        }
    }
}

/// A segment in which this process holds a participant's index.
pub(crate) struct Segment {
    places: Places,
    mapping: ManuallyDrop<Mapping>,
    /// A description that holds no participant's lock, to ask the kernel by.
    file: OwnedFd,
    object: Object,
    index: u32,
    token: Token,
}

impl Segment {
    /// `mapping` is of `header.segment_size` bytes and holds the lock of `index`.
    pub(super) fn new(
        header: Header,
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
            places,
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

    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn own_entry(&self) -> &Entry {
        self.places.entry(self.index)
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
