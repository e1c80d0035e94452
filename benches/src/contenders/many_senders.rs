//! Rings that take several senders, beside each other: with one sender, and with more than small machines have cores.

use super::{
    Cell, Entry, FEW, MANY, array_queue,
    ours::{self, Lanes, Mpsc, Sleeping, Spsc, Trying, Waiting},
    rtrb, thingbuf,
};
use crate::{
    contender::stream,
    idle::{Busy, Pause, Yield},
    workload::{Pattern, Workload},
};

/// This project's ring with one order of all messages, used by `send` and `recv`. What is promised is promised of it.
pub(crate) const MPSC: &str = "mpsc";

/// This project's ring with a lane for each sender and none to spare, used by `send` and `recv`. Promised likewise.
pub(crate) const LANES: &str = "lanes";

/// This project's ring for one sender, used by `send` and `recv`.
pub(crate) const SPSC: &str = "spsc";

pub(crate) const ARRAY_QUEUE: &str = "ArrayQueue";
pub(crate) const THINGBUF: &str = "thingbuf";

/// As many lanes as there are unless said otherwise, of which those without a sender are looked at in vain.
const LANES_OF_16: &str = "lanes, 16 of them";

const MPSC_TRYING: &str = "mpsc, try";
const LANES_TRYING: &str = "lanes, try";

/// Whose rates are divided by whose.
pub(crate) const RATIOS: [(&str, &str); 7] = [
    (MPSC, ARRAY_QUEUE),
    (MPSC, THINGBUF),
    (MPSC, SPSC),
    (LANES, ARRAY_QUEUE),
    (LANES, THINGBUF),
    (LANES, SPSC),
    (LANES, MPSC),
];

/// A message and its stamp take a quarter of a line, or a line.
pub(super) fn cells() -> [Cell; 4] {
    [
        cell::<1, 1>(from_one::<1>()),
        cell::<7, 1>(from_one::<7>()),
        cell::<1, 4>(from_several::<1, 4>()),
        cell::<7, 4>(from_several::<7, 4>()),
    ]
}

/// With what is measured whatever the number of senders, `entries` besides.
fn cell<const WORDS: usize, const SENDERS: usize>(entries: Vec<Entry>) -> Cell {
    let (between_processes, between_threads) = (Entry::between_processes, Entry::between_threads);
    #[rustfmt::skip] // A table: one variant of a contender a line.
    let mut all = vec![
        between_processes(MPSC, "1 Ki slots, spinning", FEW, stream::<ours::Ring<WORDS, FEW, Mpsc<SENDERS>, Waiting>, WORDS, SENDERS>),
        between_processes(MPSC, "16 Ki slots, spinning", MANY, stream::<ours::Ring<WORDS, MANY, Mpsc<SENDERS>, Waiting>, WORDS, SENDERS>),
        between_processes(MPSC_TRYING, "1 Ki slots, pause", FEW, stream::<ours::Ring<WORDS, FEW, Mpsc<SENDERS>, Trying<Pause>>, WORDS, SENDERS>),
        between_processes(MPSC_TRYING, "16 Ki slots, pause", MANY, stream::<ours::Ring<WORDS, MANY, Mpsc<SENDERS>, Trying<Pause>>, WORDS, SENDERS>),
        between_processes(LANES, "1 Ki slots, spinning", SENDERS * FEW, stream::<ours::Ring<WORDS, FEW, Lanes<SENDERS>, Waiting>, WORDS, SENDERS>),
        between_processes(LANES, "16 Ki slots, spinning", SENDERS * MANY, stream::<ours::Ring<WORDS, MANY, Lanes<SENDERS>, Waiting>, WORDS, SENDERS>),
        between_processes(LANES_TRYING, "1 Ki slots, pause", SENDERS * FEW, stream::<ours::Ring<WORDS, FEW, Lanes<SENDERS>, Trying<Pause>>, WORDS, SENDERS>),
        between_processes(LANES_TRYING, "16 Ki slots, pause", SENDERS * MANY, stream::<ours::Ring<WORDS, MANY, Lanes<SENDERS>, Trying<Pause>>, WORDS, SENDERS>),
        between_processes(LANES_OF_16, "1 Ki slots, spinning", SENDERS * FEW, stream::<ours::Ring<WORDS, FEW, Lanes<16>, Waiting>, WORDS, SENDERS>),
        between_processes(LANES_OF_16, "16 Ki slots, spinning", SENDERS * MANY, stream::<ours::Ring<WORDS, MANY, Lanes<16>, Waiting>, WORDS, SENDERS>),
        between_threads(ARRAY_QUEUE, "1 Ki slots, busy", FEW, stream::<array_queue::Queue<WORDS, FEW, Busy>, WORDS, SENDERS>),
        between_threads(ARRAY_QUEUE, "16 Ki slots, busy", MANY, stream::<array_queue::Queue<WORDS, MANY, Busy>, WORDS, SENDERS>),
        between_threads(ARRAY_QUEUE, "1 Ki slots, pause", FEW, stream::<array_queue::Queue<WORDS, FEW, Pause>, WORDS, SENDERS>),
        between_threads(ARRAY_QUEUE, "16 Ki slots, pause", MANY, stream::<array_queue::Queue<WORDS, MANY, Pause>, WORDS, SENDERS>),
        between_threads(THINGBUF, "1 Ki slots, busy", FEW, stream::<thingbuf::Queue<WORDS, FEW, Busy>, WORDS, SENDERS>),
        between_threads(THINGBUF, "16 Ki slots, busy", MANY, stream::<thingbuf::Queue<WORDS, MANY, Busy>, WORDS, SENDERS>),
        between_threads(THINGBUF, "1 Ki slots, pause", FEW, stream::<thingbuf::Queue<WORDS, FEW, Pause>, WORDS, SENDERS>),
        between_threads(THINGBUF, "16 Ki slots, pause", MANY, stream::<thingbuf::Queue<WORDS, MANY, Pause>, WORDS, SENDERS>),
    ];
    all.extend(entries);
    Cell {
        workload: Workload {
            pattern: Pattern::ManySenders,
            message_bytes: WORDS * 8,
            senders: SENDERS,
        },
        entries: all,
    }
}

/// What takes one sender only.
fn from_one<const WORDS: usize>() -> Vec<Entry> {
    let (between_processes, between_threads) = (Entry::between_processes, Entry::between_threads);
    #[rustfmt::skip] // A table: one variant of a contender a line.
    let entries = vec![
        between_processes(SPSC, "1 Ki slots, spinning", FEW, stream::<ours::Ring<WORDS, FEW, Spsc, Waiting>, WORDS, 1>),
        between_processes(SPSC, "16 Ki slots, spinning", MANY, stream::<ours::Ring<WORDS, MANY, Spsc, Waiting>, WORDS, 1>),
        between_threads("rtrb", "1 Ki slots, busy", FEW, stream::<rtrb::Ring<WORDS, FEW, Busy>, WORDS, 1>),
        between_threads("rtrb", "16 Ki slots, busy", MANY, stream::<rtrb::Ring<WORDS, MANY, Busy>, WORDS, 1>),
        between_threads("rtrb", "1 Ki slots, pause", FEW, stream::<rtrb::Ring<WORDS, FEW, Pause>, WORDS, 1>),
        between_threads("rtrb", "16 Ki slots, pause", MANY, stream::<rtrb::Ring<WORDS, MANY, Pause>, WORDS, 1>),
    ];
    entries
}

/// Variants that give the core away while there is nothing to do, which may pay where senders share one.
fn from_several<const WORDS: usize, const SENDERS: usize>() -> Vec<Entry> {
    let (between_processes, between_threads) = (Entry::between_processes, Entry::between_threads);
    #[rustfmt::skip] // A table: one variant of a contender a line.
    let entries = vec![
        between_processes(MPSC, "1 Ki slots, sleeping", FEW, stream::<ours::Ring<WORDS, FEW, Mpsc<SENDERS>, Sleeping>, WORDS, SENDERS>),
        between_processes(MPSC, "16 Ki slots, sleeping", MANY, stream::<ours::Ring<WORDS, MANY, Mpsc<SENDERS>, Sleeping>, WORDS, SENDERS>),
        between_processes(MPSC_TRYING, "1 Ki slots, yielding", FEW, stream::<ours::Ring<WORDS, FEW, Mpsc<SENDERS>, Trying<Yield>>, WORDS, SENDERS>),
        between_processes(MPSC_TRYING, "16 Ki slots, yielding", MANY, stream::<ours::Ring<WORDS, MANY, Mpsc<SENDERS>, Trying<Yield>>, WORDS, SENDERS>),
        between_processes(LANES, "1 Ki slots, sleeping", SENDERS * FEW, stream::<ours::Ring<WORDS, FEW, Lanes<SENDERS>, Sleeping>, WORDS, SENDERS>),
        between_processes(LANES, "16 Ki slots, sleeping", SENDERS * MANY, stream::<ours::Ring<WORDS, MANY, Lanes<SENDERS>, Sleeping>, WORDS, SENDERS>),
        between_processes(LANES_TRYING, "1 Ki slots, yielding", SENDERS * FEW, stream::<ours::Ring<WORDS, FEW, Lanes<SENDERS>, Trying<Yield>>, WORDS, SENDERS>),
        between_processes(LANES_TRYING, "16 Ki slots, yielding", SENDERS * MANY, stream::<ours::Ring<WORDS, MANY, Lanes<SENDERS>, Trying<Yield>>, WORDS, SENDERS>),
        between_processes(LANES_OF_16, "1 Ki slots, sleeping", SENDERS * FEW, stream::<ours::Ring<WORDS, FEW, Lanes<16>, Sleeping>, WORDS, SENDERS>),
        between_processes(LANES_OF_16, "16 Ki slots, sleeping", SENDERS * MANY, stream::<ours::Ring<WORDS, MANY, Lanes<16>, Sleeping>, WORDS, SENDERS>),
        between_threads(ARRAY_QUEUE, "1 Ki slots, yielding", FEW, stream::<array_queue::Queue<WORDS, FEW, Yield>, WORDS, SENDERS>),
        between_threads(ARRAY_QUEUE, "16 Ki slots, yielding", MANY, stream::<array_queue::Queue<WORDS, MANY, Yield>, WORDS, SENDERS>),
        between_threads(THINGBUF, "1 Ki slots, yielding", FEW, stream::<thingbuf::Queue<WORDS, FEW, Yield>, WORDS, SENDERS>),
        between_threads(THINGBUF, "16 Ki slots, yielding", MANY, stream::<thingbuf::Queue<WORDS, MANY, Yield>, WORDS, SENDERS>),
    ];
    entries
}
