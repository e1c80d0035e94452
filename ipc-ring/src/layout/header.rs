//! The constant header, and where everything lies by it.

#[cfg(not(loom))]
use crate::error::Role;
use crate::schema::Schema;
use crate::sync::AtomicU32;
use std::mem::offset_of;
use std::ops::Range;

/// First bytes of every segment.
pub(crate) const MAGIC: [u8; 8] = *b"ipc-ring";
/// Changes with every change of the drawing above; 0 until the first release.
pub(crate) const ABI_VERSION: u32 = 0;
/// `byte_order` as written by a machine of our own order.
pub(crate) const BYTE_ORDER: u32 = 0x0102_0304;
/// Set in `flags`: the last participant to leave removes the ring.
pub(crate) const REMOVE_WHEN_IDLE: u32 = 1;
/// Set in `flags`: who holds the mutex runs with the priority of who waits for it.
pub(crate) const INHERIT_PRIORITY: u32 = 2;
/// Where the schema text begins.
pub(crate) const SCHEMA_OFFSET: u64 = 256;
/// A schema text is longer than this only if it is not ours.
pub(crate) const MAX_SCHEMA_LEN: u64 = Schema::MAX_TEXT as u64;
/// One sender, one receiver.
pub(crate) const SPSC: u32 = 1;
/// Several senders in one total order, one receiver.
pub(crate) const MPSC: u32 = 2;
/// Several senders with a lane each, one receiver.
pub(crate) const LANES: u32 = 3;
/// Several senders and several receivers, under a mutex.
pub(crate) const LOCKED: u32 = 4;
/// How sides wait, as `wait` says it.
pub(crate) const SPIN: u32 = 0;
pub(crate) const FUTEX: u32 = 1;
pub(crate) const YIELD: u32 = 2;
pub(crate) const CONDVAR: u32 = 3;
pub(crate) const SEMAPHORE: u32 = 4;
pub(crate) const QUEUE: u32 = 5;
/// No ring has more participants: an owner has 10 bits in a stamp.
pub(crate) const MAX_PARTICIPANTS: u32 = 1024;
/// The file byte that is locked shared by who joins and exclusively by who removes.
pub(crate) const LIFECYCLE_BYTE: i64 = 1 << 32;

pub(super) const CACHE_LINE: usize = 64;
/// Distance that keeps two words apart even for a prefetcher that fetches lines in pairs.
pub(super) const LINE_PAIR: usize = 128;
/// What a side's words take.
pub(super) const WORDS_LEN: u64 = 512;
pub(super) const ENTRY_LEN: u64 = 128;
pub(super) const ALARM_LEN: u64 = 256;

/// No ring of kind 4 has more slots: their numbers are of 32 bits, one of which is none.
pub(crate) const MAX_ORDERED: u64 = 1 << 31;
/// Where the order begins behind `senders_offset`.
pub(crate) const ORDER_OFFSET: u64 = 256;
/// Where the ready words begin behind `senders_offset`.
pub(crate) const READY_OFFSET: u64 = WORDS_LEN;
/// The distance of two lanes' receivers' words.
pub(crate) const RECEIVERS_STRIDE: u64 = WORDS_LEN;

/// The constant header; a reader works on its own copy of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: [u8; 8],
    pub(crate) abi_version: u32,
    pub(crate) byte_order: u32,
    pub(crate) kind: u32,
    pub(crate) wait: u32,
    pub(crate) flags: u32,
    pub(crate) participants: u32,
    pub(crate) capacity: u64,
    pub(crate) message_size: u32,
    pub(crate) message_align: u32,
    pub(crate) slot_stride: u64,
    pub(crate) stamp_offset: u64,
    pub(crate) segment_size: u64,
    pub(crate) page_size: u64,
    pub(crate) participants_offset: u64,
    pub(crate) receivers_offset: u64,
    pub(crate) senders_offset: u64,
    pub(crate) slots_offset: u64,
    pub(crate) schema_len: u64,
    pub(crate) fingerprint: u64,
    pub(crate) origin: u64,
    pub(crate) lanes_offset: u64,
    pub(crate) lane_stride: u64,
    pub(crate) alarms_offset: u64,
    pub(crate) receivers: u32,
    pub(crate) zero: u32,
    pub(crate) pid_namespace: u64,
    pub(crate) zeros: [u64; 10],
}

#[allow(unsafe_code, reason = "the bytes of a header")]
mod bytes {
    use super::Header;

    // SAFETY: a header is integers only, for which zero is a value.
    unsafe impl bytemuck::Zeroable for Header {}

    // SAFETY: it is repr(C), Copy, of integers only, and without padding: its size, asserted below, is the sum of
    // the sizes of its fields.
    unsafe impl bytemuck::Pod for Header {}
}

/// What a ring is asked to be; everything else in the header follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    pub(crate) kind: u32,
    pub(crate) wait: u32,
    pub(crate) flags: u32,
    /// Senders and receivers.
    pub(crate) participants: u32,
    pub(crate) receivers: u32,
    pub(crate) capacity: u64,
    pub(crate) message_size: u32,
    pub(crate) message_align: u32,
    pub(crate) page_size: u64,
    pub(crate) schema_len: u64,
    pub(crate) fingerprint: u64,
    pub(crate) origin: u64,
    pub(crate) pid_namespace: u64,
}

impl Shape {
    fn lanes(&self) -> u64 {
        match self.kind {
            LANES => u64::from(self.participants - self.receivers),
            _ => 1,
        }
    }

    /// Whether there is a mutex in the segment.
    pub(crate) fn has_mutex(&self) -> bool {
        self.kind == LOCKED || self.wait == CONDVAR
    }
}

impl Header {
    /// Lays out a segment. `None` if its size does not fit the address space.
    pub(crate) fn of(shape: &Shape) -> Option<Self> {
        let page = shape.page_size;
        let size = usize::try_from(shape.message_size).ok()?;
        let align = usize::try_from(shape.message_align).ok()?;
        let slot_stride = stride(size, align) as u64;
        let participants_offset = round_up(SCHEMA_OFFSET.checked_add(shape.schema_len)?, page)?;
        let entries = ENTRY_LEN.checked_mul(u64::from(shape.participants))?;
        let receivers_offset = participants_offset.checked_add(round_up(entries, page)?)?;
        let lanes = shape.lanes();
        let receivers_len = round_up(WORDS_LEN * lanes, page)?;
        let senders_offset = receivers_offset.checked_add(receivers_len)?;
        let before_lanes = match shape.kind {
            LANES => READY_OFFSET + round_up(8 * lanes, LINE_PAIR as u64)?,
            LOCKED => {
                let order = shape.capacity.checked_mul(size_of::<AtomicU32>() as u64)?;
                ORDER_OFFSET.checked_add(round_up(order, LINE_PAIR as u64)?)?
            }
            _ => 0,
        };
        let lanes_offset = senders_offset.checked_add(before_lanes)?;
        let slots_offset = lanes_offset.checked_add(WORDS_LEN)?;
        let slots_len = shape.capacity.checked_mul(slot_stride)?;
        let lane_stride = round_up(slots_len, LINE_PAIR as u64)?.checked_add(WORDS_LEN)?;
        let lanes_len = lane_stride.checked_mul(lanes)?;
        let alarms_offset = round_up(lanes_offset.checked_add(lanes_len)?, page)?;
        let alarms = match shape.wait {
            CONDVAR | SEMAPHORE | QUEUE => u64::from(shape.participants),
            _ => 0,
        };
        let alarms_len = round_up(ALARM_LEN * alarms, page)?;
        let segment_size = alarms_offset.checked_add(alarms_len)?;
        // Addresses and file offsets are signed quantities.
        isize::try_from(segment_size).ok()?;
        i64::try_from(segment_size).ok()?;
        Some(Self {
            magic: MAGIC,
            abi_version: ABI_VERSION,
            byte_order: BYTE_ORDER,
            kind: shape.kind,
            wait: shape.wait,
            flags: shape.flags,
            participants: shape.participants,
            capacity: shape.capacity,
            message_size: shape.message_size,
            message_align: shape.message_align,
            slot_stride,
            stamp_offset: stamp_offset(size) as u64,
            segment_size,
            page_size: page,
            participants_offset,
            receivers_offset,
            senders_offset,
            slots_offset,
            schema_len: shape.schema_len,
            fingerprint: shape.fingerprint,
            origin: shape.origin,
            lanes_offset,
            lane_stride,
            alarms_offset,
            receivers: shape.receivers,
            zero: 0,
            pid_namespace: shape.pid_namespace,
            zeros: [0; 10],
        })
    }

    /// The shape that this header claims to have.
    pub(crate) fn shape(&self) -> Shape {
        Shape {
            kind: self.kind,
            wait: self.wait,
            flags: self.flags,
            participants: self.participants,
            receivers: self.receivers,
            capacity: self.capacity,
            message_size: self.message_size,
            message_align: self.message_align,
            page_size: self.page_size,
            schema_len: self.schema_len,
            fingerprint: self.fingerprint,
            origin: self.origin,
            pid_namespace: self.pid_namespace,
        }
    }

    /// How many rings of slots the segment has.
    pub(crate) fn lanes(&self) -> u32 {
        // It came from a u32.
        self.shape().lanes() as u32
    }

    /// The indices of senders.
    pub(crate) fn senders(&self) -> Range<u32> {
        0..self.participants - self.receivers
    }

    /// The indices of receivers.
    pub(crate) fn receivers(&self) -> Range<u32> {
        self.senders().end..self.participants
    }

    /// The indices of those with this role.
    #[cfg(not(loom))]
    pub(crate) fn indices(&self, role: Role) -> Range<u32> {
        match role {
            Role::Sender => self.senders(),
            Role::Receiver => self.receivers(),
        }
    }

    /// Who is called by the same words as the participant with this index, which is one of them.
    pub(crate) fn called_with(&self, index: u32) -> Range<u32> {
        if self.receivers().contains(&index) {
            self.receivers()
        } else if self.kind == LANES {
            index..index + 1
        } else {
            self.senders()
        }
    }

    /// Whether a header that was found is one that [`Header::of`] could have made, so that every offset in it
    /// is aligned and within `segment_size`.
    pub(crate) fn is_consistent(&self) -> bool {
        let plausible = self.capacity.is_power_of_two()
            && self.page_size.is_power_of_two()
            && (4096..=1 << 16).contains(&self.page_size)
            && (1..=Schema::MAX_SIZE as u32).contains(&self.message_size)
            && self.message_align.is_power_of_two()
            && self.message_align <= Schema::MAX_ALIGN as u32
            && (2..=MAX_PARTICIPANTS).contains(&self.participants)
            && (1..self.participants).contains(&self.receivers)
            && (self.kind == LOCKED || self.receivers == 1)
            && (self.kind != SPSC || self.participants == 2)
            && (self.kind != LOCKED || self.capacity <= MAX_ORDERED)
            && self.schema_len <= MAX_SCHEMA_LEN;
        plausible && Self::of(&self.shape()).as_ref() == Some(self)
    }
}

fn round_up(value: u64, to: u64) -> Option<u64> {
    value.checked_next_multiple_of(to)
}

/// Where the stamp lies in a slot of messages of `size` bytes: right behind, on the next multiple of 8.
pub(crate) const fn stamp_offset(size: usize) -> usize {
    size.next_multiple_of(size_of::<u64>())
}

/// The distance of two slots, in bytes.
pub(crate) const fn stride(size: usize, align: usize) -> usize {
    let used = stamp_offset(size) + size_of::<u64>();
    let used = used.next_multiple_of(if align > 8 { align } else { 8 });
    if used <= CACHE_LINE {
        used.next_power_of_two()
    } else if used <= 2 * CACHE_LINE {
        used
    } else {
        used.next_multiple_of(CACHE_LINE)
    }
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Header>() == SCHEMA_OFFSET as usize);
    assert!(offset_of!(Header, capacity) == 32);
    assert!(offset_of!(Header, slot_stride) == 48);
    assert!(offset_of!(Header, segment_size) == 64);
    assert!(offset_of!(Header, participants_offset) == 80);
    assert!(offset_of!(Header, slots_offset) == 104);
    assert!(offset_of!(Header, origin) == 128);
    assert!(offset_of!(Header, lane_stride) == 144);
    assert!(offset_of!(Header, alarms_offset) == 152);
    assert!(offset_of!(Header, receivers) == 160);
    assert!(offset_of!(Header, pid_namespace) == 168);
};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn shape(capacity: u64, size: u32, align: u32) -> Shape {
        Shape {
            kind: 1,
            wait: 1,
            flags: 0,
            participants: 2,
            receivers: 1,
            capacity,
            message_size: size,
            message_align: align,
            page_size: 4096,
            schema_len: 100,
            fingerprint: 7,
            origin: 0,
            pid_namespace: 0,
        }
    }

    #[test]
    fn small_slots_never_straddle_a_line() {
        for size in 1..=56 {
            assert_eq!(64 % stride(size, 1), 0, "{size} bytes");
        }
        assert_eq!(stride(8, 8), 16);
        assert_eq!(stride(24, 8), 32);
        assert_eq!(stride(56, 8), 64);
    }

    #[test]
    fn large_slots_share_no_line() {
        for size in 121..=1024 {
            assert_eq!(stride(size, 1) % 64, 0, "{size} bytes");
        }
        assert_eq!(stride(64, 8), 72);
        assert_eq!(stride(256, 8), 320);
    }

    #[test]
    fn alignment_of_a_message_survives_every_slot() {
        for align in [1, 2, 4, 8, 16, 32, 64] {
            for size in (align..=512).step_by(align) {
                assert_eq!(
                    stride(size, align) % align,
                    0,
                    "{size} bytes, align {align}"
                );
                assert!(stride(size, align) >= size + 8);
            }
        }
    }

    #[test]
    fn the_overhead_of_a_ring_stays_below_20_kib() {
        let header = Header::of(&shape(4096, 56, 8)).unwrap();
        assert!(header.segment_size - 4096 * 64 <= 20 * 1024);
    }

    #[test]
    fn a_size_beyond_the_address_space_is_refused() {
        assert!(Header::of(&shape(1 << 62, 8, 8)).is_none());
        assert!(Header::of(&shape(1 << 60, 8, 8)).is_none());
        assert!(Header::of(&shape(1 << 40, 56, 8)).is_some());
    }

    #[test]
    fn a_header_with_any_offset_bent_is_inconsistent() {
        let good = Header::of(&shape(64, 24, 8)).unwrap();
        assert!(good.is_consistent());
        let bends: [fn(&mut Header); 9] = [
            |h| h.capacity = 63,
            |h| h.slot_stride += 8,
            |h| h.stamp_offset = 1 << 40,
            |h| h.slots_offset += 64,
            |h| h.senders_offset = 0,
            |h| h.segment_size += 4096,
            |h| h.page_size = 0,
            |h| h.participants = 0,
            |h| h.message_align = 3,
        ];
        for bend in bends {
            let mut bent = good;
            bend(&mut bent);
            assert!(!bent.is_consistent(), "{bent:?}");
        }
    }
}
