//! What is written while the ring is used: the words of sides and participants, slots, and what there is under a mutex.

use super::header::{
    ALARM_LEN, CACHE_LINE, ENTRY_LEN, LINE_PAIR, ORDER_OFFSET, WORDS_LEN, stamp_offset, stride,
};
use crate::message::ShmMessage;
use crate::sync::{AtomicU32, AtomicU64, UnsafeCell};
use crate::sys::condvar::Condvar;
use crate::sys::futex::Futex;
use crate::sys::mutex::Mutex;
use crate::sys::semaphore::Semaphore;
use std::mem::{MaybeUninit, offset_of};

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
const _: () = {
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

    #[test]
    fn a_program_name_from_a_peer_is_made_printable() {
        let words = [u64::from_ne_bytes(*b"a\x1b[31m\0x"), 0, 0, 0];
        assert_eq!(program_name(words), "a?[31m");
    }
}
