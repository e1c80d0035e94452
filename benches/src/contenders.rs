//! Who takes part, in which patterns, and in which variants.
//!
//! Where a contender leaves a choice to its user, each choice is measured, and its best one stands for it.

use anyhow::Result;

use self::{
    bytes::{Blocking, Spinning},
    ceiling::Blocks,
    floor::{FirstLineFirst, FirstLineLast, Flags, Slot},
    ours::{
        ByCondvar, ByFutex, ByQueue, BySemaphore, Calling, Ring, Sleeping, Spsc, Trying, Waiting,
    },
    pipe::Pipe,
    signals::{Event, Futex, Queue, Semaphore, Signalled},
    socket::Socket,
};
use crate::{
    contender::{Outcome, Plan, round_trip, round_trip_on_one_core, stream},
    idle::{Busy, Pause},
    worker::Separation,
    workload::{Pattern, Workload},
};

mod array_queue;
mod bytes;
mod ceiling;
mod floor;
pub(crate) mod many_senders;
mod ours;
mod pipe;
mod rtrb;
mod signals;
mod socket;
mod thingbuf;

/// A ring of so many slots stays in the caches that belong to one core.
const FEW: usize = 1 << 10;

/// A ring of so many slots does not, for most sizes of message: which is better depends on the machine.
const MANY: usize = 1 << 14;

/// The name of this project's ring among the contenders, used by `send` and `recv`. What is promised is promised of it.
pub(crate) const OURS: &str = "ipc-ring";

/// The same ring, used by `try_send` and `try_recv`.
const OURS_TRYING: &str = "ipc-ring, try";

/// The same ring, told to sleep after a while. While nobody does, that costs next to nothing.
pub(crate) const OURS_SLEEPING: &str = "ipc-ring, futex";

/// The system's futex, bare.
pub(crate) const RAW_FUTEX: &str = "futex";

const PIPE: &str = "pipe";

/// The same two between two cores, asleep until the message comes.
pub(crate) const FUTEX_ASLEEP: &str = "futex, asleep";
pub(crate) const PIPE_ASLEEP: &str = "pipe, asleep";

/// One variant of a contender.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) contender: &'static str,
    pub(crate) variant: String,
    pub(crate) separation: Separation,
    /// How many messages it holds at most, as far as it counts in messages.
    pub(crate) slots: usize,
    pub(crate) run: Run,
}

type Run = fn(&Plan<'_>) -> Result<Outcome>;

impl Entry {
    fn between_processes(contender: &'static str, variant: &str, slots: usize, run: Run) -> Self {
        Self {
            contender,
            variant: variant.to_owned(),
            separation: Separation::Processes,
            slots,
            run,
        }
    }

    fn between_threads(contender: &'static str, variant: &str, slots: usize, run: Run) -> Self {
        Self {
            separation: Separation::Threads,
            ..Self::between_processes(contender, variant, slots, run)
        }
    }

    /// For those that do not count in messages: they warm up with as many as the smaller rings.
    fn plain(contender: &'static str, variant: &str, run: Run) -> Self {
        Self::between_processes(contender, variant, FEW, run)
    }
}

/// What is compared with each other.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) workload: Workload,
    pub(crate) entries: Vec<Entry>,
}

/// The sizes are chosen around what a line holds beside a stamp of 8 bytes: a quarter, just a line, just more than a
/// line, several lines.
pub(crate) fn cells() -> Vec<Cell> {
    let sizes = [
        sized::<1, 1>(),
        sized::<7, 1>(),
        sized::<8, 2>(),
        sized::<32, 5>(),
    ];
    let mut cells: Vec<Cell> = sizes.into_iter().flatten().collect();
    cells.extend(many_senders::cells());
    cells.extend([blocking::<1>(), blocking::<7>()]);
    cells.sort_by_key(|cell| cell.workload);
    cells
}

/// The cells of messages of `WORDS` words, which take `LINES` lines together with a flag of 8 bytes.
fn sized<const WORDS: usize, const LINES: usize>() -> [Cell; 2] {
    const { assert!(LINES == (WORDS + 1).div_ceil(8)) };
    let (plain, between_processes, between_threads) = (
        Entry::plain,
        Entry::between_processes,
        Entry::between_threads,
    );

    #[rustfmt::skip] // A table: one variant of a contender a line.
    let mut round_trips = vec![
        plain("floor", "busy", round_trip::<Flags<LINES, FirstLineFirst, Busy>, 1>),
        plain("floor", "pause", round_trip::<Flags<LINES, FirstLineFirst, Pause>, 1>),
        plain("floor with payload", "busy", round_trip::<Slot<WORDS, Busy>, WORDS>),
        plain("floor with payload", "pause", round_trip::<Slot<WORDS, Pause>, WORDS>),
        between_processes(OURS, "1 Ki slots", FEW, round_trip::<Ring<WORDS, FEW, Spsc, Waiting>, WORDS>),
        between_processes(OURS_TRYING, "1 Ki slots", FEW, round_trip::<Ring<WORDS, FEW, Spsc, Trying<Pause>>, WORDS>),
        between_threads("rtrb", "1 Ki slots, busy", FEW, round_trip::<rtrb::Ring<WORDS, FEW, Busy>, WORDS>),
        between_threads("rtrb", "1 Ki slots, pause", FEW, round_trip::<rtrb::Ring<WORDS, FEW, Pause>, WORDS>),
        plain(PIPE, "spinning", round_trip::<Pipe<Spinning>, WORDS>),
        plain("Unix socket", "spinning", round_trip::<Socket<Spinning>, WORDS>),
        between_processes(OURS_SLEEPING, "1 Ki slots", FEW, round_trip::<Ring<WORDS, FEW, Spsc, Sleeping>, WORDS>),
        plain(FUTEX_ASLEEP, "", round_trip::<Signalled<WORDS, Futex>, WORDS>),
        plain(PIPE_ASLEEP, "blocking", round_trip::<Pipe<Blocking>, WORDS>),
    ];
    if LINES > 1 {
        round_trips.extend([
            plain(
                "floor",
                "first last, busy",
                round_trip::<Flags<LINES, FirstLineLast, Busy>, 1>,
            ),
            plain(
                "floor",
                "first last, pause",
                round_trip::<Flags<LINES, FirstLineLast, Pause>, 1>,
            ),
        ]);
    }
    #[rustfmt::skip] // A table: one variant of a contender a line.
    let streams = vec![
        plain("ceiling", "4 of 4 KiB", stream::<Blocks<WORDS, 0x1000, 4>, WORDS, 1>),
        plain("ceiling", "4 of 16 KiB", stream::<Blocks<WORDS, 0x4000, 4>, WORDS, 1>),
        plain("ceiling", "4 of 64 KiB", stream::<Blocks<WORDS, 0x1_0000, 4>, WORDS, 1>),
        plain("ceiling", "32 of 64 KiB", stream::<Blocks<WORDS, 0x1_0000, 32>, WORDS, 1>),
        plain("ceiling", "4 of 256 KiB", stream::<Blocks<WORDS, 0x4_0000, 4>, WORDS, 1>),
        plain("ceiling", "16 of 256 KiB", stream::<Blocks<WORDS, 0x4_0000, 16>, WORDS, 1>),
        between_processes(OURS, "1 Ki slots", FEW, stream::<Ring<WORDS, FEW, Spsc, Waiting>, WORDS, 1>),
        between_processes(OURS, "16 Ki slots", MANY, stream::<Ring<WORDS, MANY, Spsc, Waiting>, WORDS, 1>),
        between_processes(OURS_SLEEPING, "1 Ki slots", FEW, stream::<Ring<WORDS, FEW, Spsc, Sleeping>, WORDS, 1>),
        between_processes(OURS_SLEEPING, "16 Ki slots", MANY, stream::<Ring<WORDS, MANY, Spsc, Sleeping>, WORDS, 1>),
        between_processes(OURS_TRYING, "1 Ki slots", FEW, stream::<Ring<WORDS, FEW, Spsc, Trying<Pause>>, WORDS, 1>),
        between_processes(OURS_TRYING, "16 Ki slots", MANY, stream::<Ring<WORDS, MANY, Spsc, Trying<Pause>>, WORDS, 1>),
        between_threads("rtrb", "1 Ki slots, busy", FEW, stream::<rtrb::Ring<WORDS, FEW, Busy>, WORDS, 1>),
        between_threads("rtrb", "1 Ki slots, pause", FEW, stream::<rtrb::Ring<WORDS, FEW, Pause>, WORDS, 1>),
        between_threads("rtrb", "16 Ki slots, busy", MANY, stream::<rtrb::Ring<WORDS, MANY, Busy>, WORDS, 1>),
        between_threads("rtrb", "16 Ki slots, pause", MANY, stream::<rtrb::Ring<WORDS, MANY, Pause>, WORDS, 1>),
        plain(PIPE, "blocking", stream::<Pipe<Blocking>, WORDS, 1>),
        plain(PIPE, "spinning", stream::<Pipe<Spinning>, WORDS, 1>),
        plain("Unix socket", "blocking", stream::<Socket<Blocking>, WORDS, 1>),
        plain("Unix socket", "spinning", stream::<Socket<Spinning>, WORDS, 1>),
    ];
    let cell = |pattern, entries| Cell {
        workload: Workload {
            pattern,
            message_bytes: WORDS * 8,
            senders: 1,
        },
        entries,
    };
    [
        cell(Pattern::RoundTrip, round_trips),
        cell(Pattern::Throughput, streams),
    ]
}

/// Round trips of sides that sleep until the message comes.
fn blocking<const WORDS: usize>() -> Cell {
    let (plain, ring) = (Entry::plain, Entry::between_processes);
    #[rustfmt::skip] // A table: one contender a line.
    let entries = vec![
        ring(OURS_SLEEPING, "", FEW, round_trip_on_one_core::<Ring<WORDS, FEW, Spsc, Calling<ByFutex>>, WORDS>),
        ring("ipc-ring, semaphore", "", FEW, round_trip_on_one_core::<Ring<WORDS, FEW, Spsc, Calling<BySemaphore>>, WORDS>),
        ring("ipc-ring, condition variable", "", FEW, round_trip_on_one_core::<Ring<WORDS, FEW, Spsc, Calling<ByCondvar>>, WORDS>),
        ring("ipc-ring, message queue", "", FEW, round_trip_on_one_core::<Ring<WORDS, FEW, Spsc, Calling<ByQueue>>, WORDS>),
        plain(RAW_FUTEX, "", round_trip_on_one_core::<Signalled<WORDS, Futex>, WORDS>),
        plain("semaphore", "", round_trip_on_one_core::<Signalled<WORDS, Semaphore>, WORDS>),
        plain("eventfd", "", round_trip_on_one_core::<Signalled<WORDS, Event>, WORDS>),
        plain(PIPE, "blocking", round_trip_on_one_core::<Pipe<Blocking>, WORDS>),
        plain("message queue", "blocking", round_trip_on_one_core::<Queue, WORDS>),
        plain("Unix socket", "blocking", round_trip_on_one_core::<Socket<Blocking>, WORDS>),
    ];
    Cell {
        workload: Workload {
            pattern: Pattern::Blocking,
            message_bytes: WORDS * 8,
            senders: 1,
        },
        entries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{machine::Cores, timed_loop::Layout};

    #[test]
    fn every_ratio_is_between_contenders_that_meet() {
        let cells = many_senders::cells();
        for (of, to) in many_senders::RATIOS {
            let meet = |cell: &Cell| {
                [of, to].iter().all(|&name| {
                    let mut entries = cell.entries.iter();
                    entries.any(|entry| entry.contender == name)
                })
            };
            assert!(cells.iter().any(meet), "{of} / {to}");
        }
    }

    #[test]
    fn every_contender_delivers_what_was_sent() {
        let Ok(cores) = Cores::choose() else {
            eprintln!("skipped: one core");
            return;
        };
        let mut rng = fastrand::Rng::with_seed(3);
        for cell in cells() {
            for entry in &cell.entries {
                let plan = Plan {
                    cores: &cores,
                    separation: entry.separation,
                    timed: 2 * entry.slots as u64,
                    warm_up: 100,
                    layouts: [Layout::random(&mut rng), Layout::random(&mut rng)],
                };
                if let Err(error) = (entry.run)(&plan) {
                    panic!("{cell:?}, {entry:?}: {error:#}");
                }
            }
        }
    }
}
