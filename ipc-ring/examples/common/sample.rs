//! The message: what one process of this machine was doing at one moment.

use std::fmt;

use ipc_ring::{FixedStr, ShmMessage};
use nix::time::{ClockId, clock_gettime};

/// One process at one moment.
///
/// The fields are ordered by alignment, so that nothing is padded. Times are nanoseconds.
#[derive(Clone, Copy, Debug, ShmMessage)]
#[repr(C)]
pub(crate) struct Sample {
    /// How many samples this sender has sent before this one.
    pub(crate) sequence: u64,
    /// When the sample was handed to the ring, by [`now_ns`].
    pub(crate) sent_ns: u64,
    /// When the process was looked at, by [`now_ns`].
    pub(crate) taken_ns: u64,
    /// When the process started, since boot. Together with the pid it names one process for
    /// ever; the pid alone is reused.
    pub(crate) started_ns: u64,
    /// Processor time spent in the program so far.
    pub(crate) user_ns: u64,
    /// Processor time the kernel has spent for the program so far.
    pub(crate) system_ns: u64,
    /// Memory of the process that is in RAM.
    pub(crate) resident_bytes: u64,
    pub(crate) pid: u32,
    pub(crate) threads: u32,
    /// How many samples of the same round are still to come: 0 ends the round.
    pub(crate) remaining: u32,
    pub(crate) state: State,
    /// The kernel's name of the process: 15 bytes for programs, up to 63 for kernel workers,
    /// cut where they do not fit.
    pub(crate) name: FixedStr<49>,
}

/// The letter that `ps` and `top` show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ShmMessage)]
#[repr(u8)]
pub(crate) enum State {
    Running,
    Sleeping,
    DiskSleep,
    Idle,
    Stopped,
    Traced,
    Zombie,
    Other,
}

impl From<char> for State {
    /// Takes the letter of `/proc/<pid>/stat`.
    fn from(letter: char) -> Self {
        match letter {
            'R' => Self::Running,
            'S' => Self::Sleeping,
            'D' => Self::DiskSleep,
            'I' => Self::Idle,
            'T' => Self::Stopped,
            't' => Self::Traced,
            'Z' => Self::Zombie,
            // Kernels before 3.14 know some more; newer ones may again.
            _ => Self::Other,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "R",
            Self::Sleeping => "S",
            Self::DiskSleep => "D",
            Self::Idle => "I",
            Self::Stopped => "T",
            Self::Traced => "t",
            Self::Zombie => "Z",
            Self::Other => "?",
        })
    }
}

/// The time on `CLOCK_MONOTONIC`, which all processes of a machine read alike.
///
/// [`std::time::Instant`] reads the same clock, but hides the number that a message has to carry.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux always has CLOCK_MONOTONIC");
    // The clock counts from boot: neither part is ever negative.
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}
