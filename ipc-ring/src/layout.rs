//! The bytes of a segment: what another process, or a reader in another language, finds there.
//!
//! All integers have the byte order of the machine (`byte_order` tells). `P` is `page_size`; every region
//! starts on a page, so that a side can be mapped read-only where it must not write.
//!
//! ```text
//! offset                 region            written by
//! 0                      header            the creator, before anybody can open the segment; then constant
//! 256                    schema text       likewise; UTF-8, `schema_len` bytes
//! participants_offset    participants      each entry by the process that holds its index
//! receivers_offset       receivers' words  receivers
//! senders_offset         senders' words    senders
//! slots_offset           slots             senders (slots_offset = senders_offset + 512)
//!
//! participants_offset = round_up(256 + schema_len, P)
//! receivers_offset    = participants_offset + round_up(128 × participants, P)
//! senders_offset      = receivers_offset + P
//! segment_size        = round_up(slots_offset + capacity × slot_stride, P)
//!
//! header                                              participant entry, 128 bytes, index i at 128 × i
//!   0  u8[8] magic            "ipc-ring"                0  u64   session   number << 2 | state
//!   8  u32   abi_version      0                                            (0 never, 1 joined, 2 left)
//!  12  u32   byte_order       0x01020304                8  u64   start_time, clock ticks after boot
//!  16  u32   kind             1 = SPSC                 16  u32   pid, in the holder's namespace
//!  20  u32   wait             0 = spin, 1 = futex      20  u32   reserved
//!  24  u32   flags            bit 0: remove when idle  24  u8[32] program, padded with zeros
//!  28  u32   participants
//!  32  u64   capacity, slots, a power of two
//!  40  u32   message_size, bytes                     words of a side (senders', receivers')
//!  44  u32   message_align, bytes                      0  u64 position    senders: announced, receivers: head
//!  48  u64   slot_stride, bytes                      128  u64 attention   number << 2 | left << 1 | fence
//!  56  u64   stamp_offset in a slot, bytes           256  u64 answered    the last number that was answered
//!  64  u64   segment_size, bytes                     264  u32 futex       bumped before each wake
//!  72  u64   page_size, bytes
//!  80  u64   participants_offset                     slot at position p: index i = p mod capacity
//!  88  u64   receivers_offset                          slots_offset + i × slot_stride
//!  96  u64   senders_offset                              0             message, message_size bytes
//! 104  u64   slots_offset                                stamp_offset  u64 stamp
//! 112  u64   schema_len, bytes                       stamp = p << 12 | state << 10 | owner
//! 120  u64   fingerprint of the schema                       state: 0 initial, 1 claimed, 2 published, 3 skipped
//! 128  u64   origin, the first position                      owner: participant index while claimed, else 0
//! 136  zeros to 256                                  new slot i: (first − capacity) << 12, where first is the
//!                                                      first position from origin on that goes into slot i
//!
//! locks on bytes of the file (open file descriptions; no effect on its contents)
//!   i            held exclusively by the mapping of participant i for as long as it lives
//!   1 << 32      lifecycle: shared while joining, exclusive while removing
//! SPSC: the sender is participant 0, the receiver participant 1.
//! ```
//!
//! To read the message at position p: load its stamp (Acquire); it must equal `p << 12 | 2 << 10`; copy the
//! message. The receiver then stores p + 1 to `head` (Release). An onlooker instead issues an Acquire fence and
//! then loads `announced`: if `announced − p`, unsigned and wrapping, is at most `capacity`, the copy is whole.
//!
//! After that, unless `wait` is 0, a receiver wakes a sender that waits for room: it fences (SeqCst) and loads the senders'
//! `attention`; if its number is neither 0 nor the receivers' `answered`, it adds 1 to the receivers' `futex` word, wakes
//! all who sleep on that word (FUTEX_WAKE, not private), and only then stores the number to `answered`. To sleep itself it
//! loads the senders' `futex` word, stores a number that was never answered (session << 32, counted up) to its `attention`,
//! calls `membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED)`, looks again, and sleeps on the loaded value for 50 ms at most. A
//! receiver that only polls does none of this. It takes part by locking its byte and entering its session; an onlooker needs
//! neither.
//!
//! # Why it is so
//!
//! *Stamp behind the message, in the same slot.* A message of up to 56 bytes and its stamp share a cache line,
//! so one line transfer moves both. Behind, since a writer fills memory upwards: the line that the receiver
//! polls is the last one touched. In front, the round trip of 256 bytes took 266 to 283 ns, behind 237 to 251; up to a
//! line it made no difference, nor a clear one to throughput (three runs each, by turns, with the command below).
//!
//! *Strides* up to a line are powers of two, so that no small slot straddles two lines. Slots of more than two lines begin on a line, so that the stamp which the receiver polls is not in the
//! line that the sender fills next: at 256 bytes, 43 to 45 million messages a second against 29 to 38 when packed, and
//! a round trip of 0.9 × the time. Between, packing costs nothing (64 bytes: 119 to 130 against 107 to 130 million)
//! and nearly halves the memory. (Medians of three runs each of `cargo run --release -p ipc-ring-benches -- --quick
//! --only throughput/64 --only throughput/256 --only round-trip/256`, by turns with the other rule, on two cores of an
//! AMD EPYC.)
//!
//! *Every word has one writer side.* A sleeper's `attention` is answered in the waker's own region and not
//! reset by the waker, so that a later part can map the other side's region read-only.
//!
//! *An onlooker decides by `announced`*, not by the stamp: an old stamp over a new message looks intact before
//! and after. The producer says how far it may write before it begins, a quarter of the ring at a time; that is
//! one comparison, which it makes anyway to find room, and one fence per quarter ring. The alternative, a
//! Release fence between every publish and the next message, would cost aarch64 a barrier per message.

use crate::message::ShmMessage;
use crate::schema::Schema;
use crate::sync::{AtomicU32, AtomicU64, UnsafeCell};
use crate::sys::futex::Futex;
use std::mem::{MaybeUninit, offset_of};

/// First bytes of every segment.
pub(crate) const MAGIC: [u8; 8] = *b"ipc-ring";
/// Changes with every change of the drawing above; 0 until the first release.
pub(crate) const ABI_VERSION: u32 = 0;
/// `byte_order` as written by a machine of our own order.
pub(crate) const BYTE_ORDER: u32 = 0x0102_0304;
/// Set in `flags`: the last participant to leave removes the ring.
pub(crate) const REMOVE_WHEN_IDLE: u32 = 1;
/// Where the schema text begins.
pub(crate) const SCHEMA_OFFSET: u64 = 256;
/// A schema text is longer than this only if it is not ours.
pub(crate) const MAX_SCHEMA_LEN: u64 = Schema::MAX_TEXT as u64;
/// The file byte that is locked shared by who joins and exclusively by who removes.
pub(crate) const LIFECYCLE_BYTE: i64 = 1 << 32;

const CACHE_LINE: usize = 64;
/// Distance that keeps two words apart even for a prefetcher that fetches lines in pairs.
const LINE_PAIR: usize = 128;
const SENDER_WORDS_LEN: u64 = 512;
const ENTRY_LEN: u64 = 128;

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
    pub(crate) zeros: [u64; 15],
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
    pub(crate) participants: u32,
    pub(crate) capacity: u64,
    pub(crate) message_size: u32,
    pub(crate) message_align: u32,
    pub(crate) page_size: u64,
    pub(crate) schema_len: u64,
    pub(crate) fingerprint: u64,
    pub(crate) origin: u64,
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
        let senders_offset = receivers_offset.checked_add(page)?;
        let slots_offset = senders_offset.checked_add(SENDER_WORDS_LEN)?;
        let slots_len = shape.capacity.checked_mul(slot_stride)?;
        let segment_size = round_up(slots_offset.checked_add(slots_len)?, page)?;
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
            zeros: [0; 15],
        })
    }

    /// The shape that this header claims to have.
    pub(crate) fn shape(&self) -> Shape {
        Shape {
            kind: self.kind,
            wait: self.wait,
            flags: self.flags,
            participants: self.participants,
            capacity: self.capacity,
            message_size: self.message_size,
            message_align: self.message_align,
            page_size: self.page_size,
            schema_len: self.schema_len,
            fingerprint: self.fingerprint,
            origin: self.origin,
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
            && (1..=1024).contains(&self.participants)
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

/// One slot: a message and the stamp that publishes it.
#[repr(C)]
pub(crate) struct Slot<T> {
    /// Written by the sender that may fill the slot, read by whoever saw it published.
    pub(crate) message: UnsafeCell<MaybeUninit<T>>,
    /// Written by senders: Release to publish.
    pub(crate) stamp: AtomicU64,
}

impl<T: ShmMessage> Slot<T> {
    /// The distance of two slots, in bytes. Under loom a slot holds handles and is as long as it is.
    pub(crate) const STRIDE: usize = if cfg!(loom) {
        size_of::<Self>()
    } else {
        assert!(offset_of!(Self, stamp) == stamp_offset(size_of::<T>()));
        stride(size_of::<T>(), align_of::<T>())
    };
}

/// The words that one side (the senders, the receivers) writes and the other reads.
#[repr(C)]
pub(crate) struct Side {
    /// Senders: `announced`, the position up to which messages may have been begun.
    /// Receivers: `head`, the position of the next message to be received.
    pub(crate) position: Apart<AtomicU64>,
    /// Of the side that sleeps. See [`crate::wait`].
    pub(crate) attention: Apart<AtomicU64>,
    /// Of the side that wakes. See [`crate::wait`].
    pub(crate) bell: Apart<Bell>,
}

/// A value that shares no line, nor pair of lines, with another.
#[repr(C, align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

/// What a side rings when the other one sleeps.
#[repr(C)]
pub(crate) struct Bell {
    /// The last number of the other side's attention word that was answered.
    pub(crate) answered: AtomicU64,
    /// The other side sleeps on this.
    pub(crate) futex: Futex,
}

/// Who holds a participant's index. Written by the holder of the index's lock.
#[repr(C, align(128))]
pub(crate) struct Entry {
    /// `number << 2 | state`; Release by the holder, Acquire by everybody.
    pub(crate) session: AtomicU64,
    /// For people to read.
    pub(crate) start_time: AtomicU64,
    /// For people to read; in the holder's pid namespace.
    pub(crate) pid: AtomicU32,
    pub(crate) reserved: AtomicU32,
    /// For people to read: the program's file name in native-endian words.
    pub(crate) program: [AtomicU64; 4],
}

#[cfg(not(loom))]
mod exact {
    use super::*;

    const _: () = {
        assert!(size_of::<Header>() == SCHEMA_OFFSET as usize);
        assert!(offset_of!(Header, capacity) == 32);
        assert!(offset_of!(Header, slot_stride) == 48);
        assert!(offset_of!(Header, segment_size) == 64);
        assert!(offset_of!(Header, participants_offset) == 80);
        assert!(offset_of!(Header, slots_offset) == 104);
        assert!(offset_of!(Header, origin) == 128);
        assert!(offset_of!(Side, position) == 0);
        assert!(offset_of!(Side, attention) == LINE_PAIR);
        assert!(offset_of!(Side, bell) == 2 * LINE_PAIR);
        assert!(offset_of!(Bell, answered) == 0);
        assert!(offset_of!(Bell, futex) == 8);
        assert!(size_of::<Futex>() == 4);
        assert!(size_of::<Side>() <= SENDER_WORDS_LEN as usize);
        assert!(size_of::<Entry>() == ENTRY_LEN as usize);
        assert!(offset_of!(Entry, start_time) == 8);
        assert!(offset_of!(Entry, pid) == 16);
        assert!(offset_of!(Entry, program) == 24);
    };
}

/// The program's name as text, whatever bytes a peer wrote there.
pub(crate) fn program_name(words: [u64; 4]) -> String {
    let mut bytes = [0; 32];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(32);
    String::from_utf8_lossy(&bytes[..len])
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

impl Entry {
    /// An index that nobody has held.
    pub(crate) fn new() -> Self {
        Self {
            session: AtomicU64::new(0),
            start_time: AtomicU64::new(0),
            pid: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
            program: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn shape(capacity: u64, size: u32, align: u32) -> Shape {
        Shape {
            kind: 1,
            wait: 1,
            flags: 0,
            participants: 2,
            capacity,
            message_size: size,
            message_align: align,
            page_size: 4096,
            schema_len: 100,
            fingerprint: 7,
            origin: 0,
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

    #[test]
    fn a_program_name_from_a_peer_is_made_printable() {
        let words = [u64::from_ne_bytes(*b"a\x1b[31m\0x"), 0, 0, 0];
        assert_eq!(program_name(words), "a?[31m");
    }
}
