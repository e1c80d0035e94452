//! What was sent and received, outside of the ring under test: words that outlive whoever stored them.
//!
//! A sender notes what it is about to send before it does, and that it was sent afterwards. A receiver puts what it has
//! received on a tape, on which the test follows.

use crate::Numbered;
use ipc_ring_tests::Words;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// So many processes there may be in a run, one after the other.
const LIVES: u64 = 1 << 18;
/// Notes that the tape has room for.
const TAPE: u64 = 1 << 14;

/// Words apart from each other.
const LINE: usize = 8;
const CLOCK: usize = 0;
const FINISH: usize = LINE;
const NOTED: usize = 2 * LINE;
const CHECKED: usize = 3 * LINE;
const DEATHS_TOLD: usize = 4 * LINE;
const ENDINGS_TOLD: usize = 5 * LINE;
const LEAVERS: usize = 6 * LINE;
const ROWS: usize = 7 * LINE;
const NOTES: usize = ROWS + LIVES as usize * LINE;
const NOTE: usize = 4;
const WORDS: usize = NOTES + TAPE as usize * NOTE;

pub(crate) struct Ledger(Words);

/// What one process says of itself.
pub(crate) struct Row<'a>(&'a [AtomicU64]);

/// What a process is doing, as it says itself. What it did last when it was killed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Doing {
    /// It has only just come into being.
    Starting,
    Joining,
    /// It is in a call of the library that sends or receives.
    Calling,
    /// A sender: it has a place for a message and has not published it. A receiver: it has a message and has not noted it, or
    /// not consumed it.
    Holding,
    /// Something of its own.
    Other,
    Leaving,
    HasLeft,
}

impl Doing {
    pub(crate) const ALL: [Self; 7] = [
        Self::Starting,
        Self::Joining,
        Self::Calling,
        Self::Holding,
        Self::Other,
        Self::Leaving,
        Self::HasLeft,
    ];
}

impl Row<'_> {
    /// So many messages may have been sent.
    pub(crate) fn attempted(&self) -> &AtomicU64 {
        &self.0[0]
    }

    /// So many were sent for certain.
    pub(crate) fn returned(&self) -> &AtomicU64 {
        &self.0[1]
    }

    /// When the last of those had been sent.
    pub(crate) fn end(&self) -> &AtomicU64 {
        &self.0[2]
    }

    /// Not 0: it is to leave.
    pub(crate) fn is_to_leave(&self) -> &AtomicU64 {
        &self.0[3]
    }

    /// Says what comes now.
    pub(crate) fn begins(&self, doing: Doing) {
        // Release: what it did before is not seen later than this.
        self.0[4].store(doing as u64, Ordering::Release);
    }

    pub(crate) fn doing(&self) -> Doing {
        Doing::ALL[self.0[4].load(Ordering::Acquire) as usize]
    }
}

impl Ledger {
    pub(crate) fn of(path: impl AsRef<Path>) -> Self {
        Self(Words::of(path, WORDS))
    }

    pub(crate) fn row(&self, life: u64) -> Row<'_> {
        assert!(life < LIVES, "so many were killed?");
        Row(&self.0[ROWS + life as usize * LINE..][..LINE])
    }

    /// What is done after this was read is done after all whose time is lower.
    pub(crate) fn now(&self) -> u64 {
        self.0[CLOCK].load(Ordering::SeqCst)
    }

    /// A time that nobody else has. What is done before is done before anybody reads a higher one.
    pub(crate) fn tick(&self) -> u64 {
        self.0[CLOCK].fetch_add(1, Ordering::SeqCst)
    }

    /// Not 0: everybody is to leave.
    pub(crate) fn finish(&self) -> &AtomicU64 {
        &self.0[FINISH]
    }

    /// How many deaths receivers were told of.
    pub(crate) fn deaths_told(&self) -> &AtomicU64 {
        &self.0[DEATHS_TOLD]
    }

    /// How often receivers were told that nobody sends any more.
    pub(crate) fn endings_told(&self) -> &AtomicU64 {
        &self.0[ENDINGS_TOLD]
    }

    /// How many senders were told to leave.
    pub(crate) fn leavers(&self) -> &AtomicU64 {
        &self.0[LEAVERS]
    }

    /// How many messages were noted. The test may read it when no receiver lives, or follows it.
    pub(crate) fn noted(&self) -> u64 {
        self.0[NOTED].load(Ordering::Acquire)
    }

    /// A receiver's: notes a message, once there is room on the tape.
    pub(crate) fn note(&self, message: &Numbered) {
        let noted = self.noted();
        while noted - self.0[CHECKED].load(Ordering::Acquire) >= TAPE {
            // Looked at again and again: to be told, it would have to leave word where the next one finds it who is killed here.
            thread::sleep(Duration::from_micros(50));
        }
        for (word, value) in self.note_words(noted).iter().zip(message.words()) {
            word.store(value, Ordering::Relaxed);
        }
        self.0[NOTED].store(noted + 1, Ordering::Release);
    }

    /// The test's: the note with this number, which is there.
    pub(crate) fn read(&self, number: u64) -> Numbered {
        let words = self.note_words(number);
        let words = std::array::from_fn(|i| words[i].load(Ordering::Relaxed));
        Numbered::of_words(words)
    }

    /// The test's: the notes before this number are done with.
    pub(crate) fn checked(&self, number: u64) {
        self.0[CHECKED].store(number, Ordering::Release);
    }

    fn note_words(&self, number: u64) -> &[AtomicU64] {
        &self.0[NOTES + (number % TAPE) as usize * NOTE..][..NOTE]
    }
}
