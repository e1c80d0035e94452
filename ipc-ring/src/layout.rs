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
//! receivers_offset       receivers' words  receivers; of lane l at receivers_offset + 512 × l
//! senders_offset         senders' words    senders
//! slots_offset           slots             senders; of kind 2, stamps by the receiver as well
//! alarms_offset          alarms            everybody; if `wait` is 3, 4 or 5
//! (In kind 4, both sides write all words, and slots.)
//!
//! participants_offset = round_up(256 + schema_len, P)
//! receivers_offset    = participants_offset + round_up(128 × participants, P)
//! senders_offset      = receivers_offset + round_up(512 × lanes, P)
//! lanes_offset        = senders_offset; kind 3: + 512 + round_up(8 × lanes, 128); kind 4: + 256 + round_up(4 × capacity, 128)
//! slots_offset        = lanes_offset + 512
//! lane_stride         = 512 + round_up(capacity × slot_stride, 128)
//! alarms_offset       = round_up(lanes_offset + lanes × lane_stride, P)
//! segment_size        = alarms_offset + round_up(256 × participants, P); without alarms, alarms_offset
//! lanes               = 1; kind 3: participants − receivers
//!
//! header                                              participant entry, 128 bytes, index i at 128 × i
//!   0  u8[8] magic            "ipc-ring"                0  u64   session   number << 2 | state
//!   8  u32   abi_version      0                                            (0 never, 1 joined, 2 left)
//!  12  u32   byte_order       0x01020304                8  u64   start_time, clock ticks after boot
//!  16  u32   kind             1 SPSC, 2 MPSC, 3 lanes, 16  u32   pid, in the holder's namespace
//!                             4 locked
//!  20  u32   wait             0 spin, 1 futex, …       20  u32   role      1 sender, 2 receiver
//!  24  u32   flags            bit 0: remove when idle, 24  u8[32] program, padded with zeros
//!                             1: priorities inherited 56  u64   bygone_to_receiver, a session number
//!  28  u32   participants                              64  u64   messages  sent or received by this session, or
//!  32  u64   capacity, slots of a lane, a power of 2                       where it began
//!  40  u32   message_size, bytes                       72  u64   waits     for room or for messages
//!  44  u32   message_align, bytes                      80  u64   sleeps
//!  48  u64   slot_stride, bytes                        88  u64   wakes     of the other side
//!  56  u64   stamp_offset in a slot, bytes             96  u64   skipped   where it began, of the word below
//!  64  u64   segment_size, bytes                      104  u64   corrupt   messages dropped
//!  72  u64   page_size, bytes                         112  u64   bygone_to_sender, a session number
//!  80  u64   participants_offset                     words of a side of a lane
//!  88  u64   receivers_offset                          0  u64 position    receivers: head
//!  96  u64   senders_offset                                               senders: SPSC, lanes: announced; MPSC: hint
//! 104  u64   slots_offset, of lane 0                 128  u64 attention   number << 2 | left << 1 | fence; an odd number asks for no wake
//! 112  u64   schema_len, bytes                       256  u64 answered    the last number that was answered
//! 120  u64   fingerprint of the schema               264  u32 futex       bumped before each wake
//!                                                   272  u64 skipped     receivers: places passed over
//! 128  u64   origin, the first position
//! 136  u64   lanes_offset                            kind 3, at senders_offset
//! 144  u64   lane_stride, bytes                      264  u32 futex       of all lanes: the receiver sleeps on it
//! 152  u64   alarms_offset                           512  u64[lanes] ready: each lane's `answered`
//! 160  u32   receivers                              kind 4, at senders_offset
//! 164  u32   0                                        0  mutex of the C library
//! 168  u64   pid_namespace                          128  u64 free      how many slots are
//!                                                   136  u64 unsettled not 0: slots were handed on without the mutex
//! 176  zeros to 256                                 256  u32[capacity] order
//!
//!                                                   alarm, 256 bytes, of participant i at 256 × i
//!                                                     0  u32    waiting   1: for the condition variable
//!                                                     8         semaphore, mutex and condition variable of the C library
//!
//! slot at position p of lane l: index i = p mod capacity
//!   slots_offset + l × lane_stride + i × slot_stride
//!     0             message, message_size bytes
//!     stamp_offset  u64 stamp = p << 12 | state << 10 | owner
//!                     state: 0 initial, 1 claimed (MPSC only), 2 published, 3 skipped (MPSC only)
//!                     owner: participant index while claimed, else 0
//!                     kind 4 has no such index i, and other states: see the source of ring::locked
//!   new slot i: (first − capacity) << 12, where first is the first position from origin on that goes into slot i
//!
//! locks on bytes of the file (open file descriptions; no effect on its contents)
//!   i            held exclusively by the mapping of participant i for as long as it lives
//!   1 << 32      lifecycle: shared while joining, exclusive while removing
//! Receivers are the last participants, one but in kind 4; the others are senders. Sender i of kind 3 owns lane i.
//! ```
//!
//! # How to take part
//!
//! *To read* the message at position p: load its stamp (Acquire); it must equal `p << 12 | 2 << 10`; copy the
//! message. The receiver then stores p + 1 to `head` (Release). An onlooker instead issues an Acquire fence and then, in kinds
//! 1 and 3, loads `announced`: if `announced − p`, unsigned and wrapping, is at most `capacity`, the copy is whole; in kind 2 it
//! loads the stamp again, which must be the same.
//!
//! *To wake*, if `wait` is 1 (0 and 2: nobody sleeps; 3 to 5: [`crate::wait::alarm`] says what takes the place of FUTEX_WAIT and
//! FUTEX_WAKE): after its store a receiver fences (SeqCst) and loads the senders' `attention`; if its number is
//! neither 0 nor the receivers' `answered`, it adds 1 to the receivers' `futex` word, wakes all who sleep on that word
//! (FUTEX_WAKE, not private), and only then stores the number to `answered`. If the number is odd, nobody is to be woken.
//!
//! *To sleep* it loads the senders' `futex` word, stores an even number that was never answered (session << 32, counted up
//! by 2) to its `attention`, calls `membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED)`, looks again, and sleeps on the loaded value for
//! 50 ms at most. A receiver that only polls does none of this.
//!
//! *In kind 2* a receiver goes past a position that shows `skipped` (p << 12 | 3 << 10), and turns a claimed one into that, by
//! compare-exchange, if the byte of its owner is not locked. Senders that wait for room share their `attention`: each adds 8 to it;
//! the receiver wakes as many as it gave slots back, and stores the number to `answered` only if fewer were asleep.
//!
//! *Kind 4* is a queue under a mutex, which is there in place of the rules above: [`crate::ring::locked`]. Receivers share their
//! `attention` as senders do. `pid_namespace` is the one that all must be of who lock a mutex in the ring (`st_ino` of
//! `/proc/self/ns/pid`); 0 if there is none.
//!
//! *In kind 3* each lane is a ring of its own, but for what its sender wakes the receiver by: the lane's ready word in the place
//! of `answered`, and the one futex word of all lanes. To sleep, the receiver arms the `attention` of all lanes.
//!
//! A receiver takes part by locking its byte and entering its session; an onlooker needs neither.
//!
//! # Why it is so
//!
//! *Stamp behind the message, in the same slot.* A message of up to 56 bytes and its stamp share a cache line,
//! so one line transfer moves both. Behind, since a writer fills memory upwards: the line that the receiver
//! polls is the last one touched. In front, the round trip of 256 bytes took 266 to 283 ns, behind 237 to 251; up to a
//! line it made no difference, nor a clear one to throughput (three runs each, by turns, with the command below).
//!
//! *Strides* up to a line are powers of two, so that no small slot straddles two lines. Slots of more than two lines begin
//! on a line, so that the stamp which the receiver polls is not in the line that the sender fills next: at 256 bytes, 43 to
//! 45 million messages a second against 29 to 38 when packed, and a round trip of 0.9 × the time. Between, packing costs
//! nothing (64 bytes: 119 to 130 against 107 to 130 million) and nearly halves the memory. (Medians of three runs each of
//! `cargo run --release -p ipc-ring-benches -- --quick --only throughput/64 --only throughput/256 --only round-trip/256`,
//! by turns with the other rule, on two cores of an AMD EPYC.)
//!
//! *Every word has one writer side.* A sleeper's `attention` is answered in the waker's own region and not
//! reset by the waker, so that a later part can map the other side's region read-only. The stamps of kind 2 are the exception: its
//! receiver settles claims of the dead, and hands lines back by a store ([`crate::ring::mpsc`]).
//!
//! *An onlooker decides by `announced`*, not by the stamp: an old stamp over a new message looks intact before
//! and after. The producer says how far it may write before it begins, a quarter of the ring at a time; that is
//! one comparison, which it makes anyway to find room, and one fence per quarter ring. The alternative, a
//! Release fence between every publish and the next message, would cost aarch64 a barrier per message.

#[cfg(not(loom))]
use crate::error::Role;
use crate::message::ShmMessage;
use crate::schema::Schema;
use crate::sync::{AtomicU32, AtomicU64, UnsafeCell};
use crate::sys::condvar::Condvar;
use crate::sys::futex::Futex;
use crate::sys::mutex::Mutex;
use crate::sys::semaphore::Semaphore;
use std::mem::{MaybeUninit, offset_of};
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

const CACHE_LINE: usize = 64;
/// Distance that keeps two words apart even for a prefetcher that fetches lines in pairs.
const LINE_PAIR: usize = 128;
/// What a side's words take.
const WORDS_LEN: u64 = 512;
const ENTRY_LEN: u64 = 128;
const ALARM_LEN: u64 = 256;

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

/// One slot: a message and the stamp that publishes it.
#[repr(C)]
pub(crate) struct Slot<T> {
    /// Written by the sender that may fill the slot, read by whoever saw it published.
    pub(crate) message: UnsafeCell<MaybeUninit<T>>,
    /// Written by senders: Release to publish. In kind 2 by the receiver as well, before it gives the slot back.
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

/// No ring of kind 4 has more slots: their numbers are of 32 bits, one of which is none.
pub(crate) const MAX_ORDERED: u64 = 1 << 31;
/// Where the order begins behind `senders_offset`.
pub(crate) const ORDER_OFFSET: u64 = 256;
/// Where the ready words begin behind `senders_offset`.
pub(crate) const READY_OFFSET: u64 = WORDS_LEN;
/// The distance of two lanes' receivers' words.
pub(crate) const RECEIVERS_STRIDE: u64 = WORDS_LEN;

/// The words that one side (the senders, the receivers) writes and the other reads.
#[repr(C)]
pub(crate) struct Side {
    /// Senders of SPSC and lanes: `announced`, the position up to which messages may have been begun. Of MPSC: a hint of the
    /// next position to claim. Of a locked ring: its tail, the position of the next message to be queued.
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
    /// Of receivers of MPSC: places that were passed over, since there will never be a message. For people to read.
    pub(crate) skipped: AtomicU64,
}

/// A side's attention word: `number << 2 | left << 1 | fence`. Number 0: nobody sleeps. What it means is said in
/// [`crate::wait`].
pub(crate) mod attention {
    /// "Please fence between publishing and loading this word."
    pub(crate) const FENCE: u64 = 1;
    /// "Whoever wrote this word has left."
    pub(crate) const LEFT: u64 = 2;
    /// In a number: "Answer, but wake nobody."
    pub(crate) const QUIET: u64 = 1;
    /// From one number to the next of its sort.
    pub(crate) const STEP: u64 = 2;

    const SHIFT: u32 = 2;
    const MASK: u64 = u64::MAX >> SHIFT;

    pub(crate) const fn number(word: u64) -> u64 {
        word >> SHIFT
    }

    pub(crate) const fn armed(number: u64) -> u64 {
        number << SHIFT
    }

    /// The number after this one.
    pub(crate) const fn next(number: u64) -> u64 {
        number.wrapping_add(STEP) & MASK
    }

    /// Each session has numbers of its own, so that no late answer to a predecessor's is taken for one to ours.
    pub(crate) const fn first(session: u64) -> u64 {
        session << 32 & MASK
    }
}

/// The words by which one side is called by the other; see [`crate::wait`].
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// Written by the called side: whether it sleeps.
    pub(crate) attention: &'a AtomicU64,
    /// Written by the calling side: the last number of `attention` that it answered.
    pub(crate) answered: &'a AtomicU64,
    /// Bumped by the calling side; the called one sleeps on it.
    pub(crate) futex: &'a Futex,
}

/// Who holds a participant's index, what it did, and which endings its role has done with. Written by the holder of the index's
/// lock, but for one word.
#[repr(C, align(128))]
pub(crate) struct Entry {
    /// `number << 2 | state`; Release by the holder, Acquire by everybody.
    pub(crate) session: AtomicU64,
    /// For people to read, and for a newcomer who decides how long to wait for the kernel's word.
    pub(crate) start_time: AtomicU64,
    /// Likewise; in the holder's pid namespace.
    pub(crate) pid: AtomicU32,
    /// For people to read: 1 a sender, 2 a receiver.
    pub(crate) role: AtomicU32,
    /// For people to read: the program's file name in native-endian words.
    pub(crate) program: [AtomicU64; 4],
    /// Of a sender: its last session that the receiver's role need not hear of, since it had ended and left nothing when a
    /// receiver came. Written by receivers.
    pub(crate) bygone_to_receiver: AtomicU64,
    /// Begin a line of their own.
    pub(crate) counters: Counters,
    /// Of a sender: the receiver's last session that this role need not hear of, since it had ended when a sender came. Written
    /// by the holder.
    pub(crate) bygone_to_sender: AtomicU64,
    pub(crate) reserved: AtomicU64,
}

/// What a participant did since it joined; for people to read.
#[repr(C)]
pub(crate) struct Counters {
    /// Of who shares its slots with others of its role: messages sent, or received. Of others: the position at which they began; the ring
    /// knows where they are.
    pub(crate) messages: AtomicU64,
    /// How often it had to wait.
    pub(crate) waits: AtomicU64,
    /// How often it slept.
    pub(crate) sleeps: AtomicU64,
    /// How often it woke the other side.
    pub(crate) wakes: AtomicU64,
    /// Of a receiver: what [`Bell::skipped`] was when it joined.
    pub(crate) skipped: AtomicU64,
    /// Messages that a receiver dropped because they were not values of their type.
    pub(crate) corrupt: AtomicU64,
}

/// What all of a locked ring share besides the words of sides. Behind it is the order. Written by who holds the mutex. See
/// [`crate::ring::locked`].
#[repr(C)]
pub(crate) struct Ledger {
    pub(crate) mutex: Apart<Mutex>,
    pub(crate) free: Apart<Free>,
}

/// What is known of slots besides what they show.
#[repr(C)]
pub(crate) struct Free {
    /// How many are free.
    pub(crate) slots: AtomicU64,
    /// Not 0: some were handed on by who could not have the mutex. Written by him as well.
    pub(crate) unsettled: AtomicU64,
}

/// What a participant sleeps by, if that is not a futex word. See [`crate::wait::alarm`].
#[repr(C, align(256))]
pub(crate) struct Alarm {
    /// Whether its owner waits for the condition variable. Written by him, and by who rings.
    pub(crate) waiting: AtomicU32,
    /// Of all who share an attention word, that of the first one is used.
    pub(crate) semaphore: Semaphore,
    pub(crate) condvar: Condvar,
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
        assert!(offset_of!(Header, lane_stride) == 144);
        assert!(offset_of!(Header, alarms_offset) == 152);
        assert!(offset_of!(Header, receivers) == 160);
        assert!(offset_of!(Header, pid_namespace) == 168);
        assert!(offset_of!(Ledger, free) == LINE_PAIR);
        assert!(size_of::<Ledger>() == ORDER_OFFSET as usize);
        assert!(offset_of!(Side, position) == 0);
        assert!(offset_of!(Side, attention) == LINE_PAIR);
        assert!(offset_of!(Side, bell) == 2 * LINE_PAIR);
        assert!(offset_of!(Bell, answered) == 0);
        assert!(offset_of!(Bell, futex) == 8);
        assert!(offset_of!(Bell, skipped) == 16);
        assert!(size_of::<Futex>() == 4);
        assert!(size_of::<Side>() <= WORDS_LEN as usize);
        assert!(size_of::<Entry>() == ENTRY_LEN as usize);
        assert!(size_of::<Alarm>() == ALARM_LEN as usize);
        assert!(offset_of!(Entry, start_time) == 8);
        assert!(offset_of!(Entry, pid) == 16);
        assert!(offset_of!(Entry, program) == 24);
        assert!(offset_of!(Entry, counters) == CACHE_LINE);
        assert!(offset_of!(Counters, corrupt) == 40);
        assert!(offset_of!(Entry, bygone_to_sender) == 112);
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
            role: AtomicU32::new(0),
            program: std::array::from_fn(|_| AtomicU64::new(0)),
            bygone_to_receiver: AtomicU64::new(0),
            counters: Counters {
                messages: AtomicU64::new(0),
                waits: AtomicU64::new(0),
                sleeps: AtomicU64::new(0),
                wakes: AtomicU64::new(0),
                skipped: AtomicU64::new(0),
                corrupt: AtomicU64::new(0),
            },
            bygone_to_sender: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
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

    #[test]
    fn a_program_name_from_a_peer_is_made_printable() {
        let words = [u64::from_ne_bytes(*b"a\x1b[31m\0x"), 0, 0, 0];
        assert_eq!(program_name(words), "a?[31m");
    }
}
