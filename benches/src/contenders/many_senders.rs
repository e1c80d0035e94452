//! Rings that take several senders, beside each other: with one sender, and with more than small machines have cores.

use super::{
    Cell, Entry, FEW, MANY, Run, array_queue,
    ours::{Lanes, Locked, Mpsc, Ring, Sleeping, Spsc, Trying, Waiting},
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

/// This project's queue under a mutex, here with one receiver.
const LOCKED: &str = "locked";

/// As many lanes as there are unless said otherwise, of which those without a sender are looked at in vain.
const LANES_OF_16: &str = "lanes, 16 of them";

const MPSC_TRYING: &str = "mpsc, try";
const LANES_TRYING: &str = "lanes, try";

/// Whose rates are divided by whose.
pub(crate) const RATIOS: [(&str, &str); 8] = [
    (MPSC, ARRAY_QUEUE),
    (MPSC, THINGBUF),
    (MPSC, SPSC),
    (LANES, ARRAY_QUEUE),
    (LANES, THINGBUF),
    (LANES, SPSC),
    (LANES, MPSC),
    (LOCKED, MPSC),
];

/// A message and its stamp take a quarter of a line, or a line.
pub(super) fn cells() -> [Cell; 4] {
    [
        cell::<1, 1>(),
        cell::<7, 1>(),
        cell::<1, 4>(),
        cell::<7, 4>(),
    ]
}

fn cell<const WORDS: usize, const SENDERS: usize>() -> Cell {
    let mut entries = entries_of::<WORDS, SENDERS, FEW>("1 Ki slots");
    entries.extend(entries_of::<WORDS, SENDERS, MANY>("16 Ki slots"));
    Cell {
        workload: Workload {
            pattern: Pattern::ManySenders,
            message_bytes: WORDS * 8,
            senders: SENDERS,
        },
        entries,
    }
}

/// The variants with so many slots; of lanes: in each.
fn entries_of<const WORDS: usize, const SENDERS: usize, const SLOTS: usize>(
    size: &str,
) -> Vec<Entry> {
    let processes = |contender: &'static str, way: &str, slots: usize, run: Run| {
        Entry::between_processes(contender, &format!("{size}, {way}"), slots, run)
    };
    let threads = |contender: &'static str, way: &str, slots: usize, run: Run| {
        Entry::between_threads(contender, &format!("{size}, {way}"), slots, run)
    };
    #[rustfmt::skip] // A table: one variant of a contender a line.
    let mut entries = vec![
        processes(MPSC, "spinning", SLOTS, stream::<Ring<WORDS, SLOTS, Mpsc<SENDERS>, Waiting>, WORDS, SENDERS>),
        processes(MPSC_TRYING, "pause", SLOTS, stream::<Ring<WORDS, SLOTS, Mpsc<SENDERS>, Trying<Pause>>, WORDS, SENDERS>),
        processes(LANES, "spinning", SENDERS * SLOTS, stream::<Ring<WORDS, SLOTS, Lanes<SENDERS>, Waiting>, WORDS, SENDERS>),
        processes(LANES_TRYING, "pause", SENDERS * SLOTS, stream::<Ring<WORDS, SLOTS, Lanes<SENDERS>, Trying<Pause>>, WORDS, SENDERS>),
        processes(LOCKED, "spinning", SLOTS, stream::<Ring<WORDS, SLOTS, Locked<SENDERS>, Waiting>, WORDS, SENDERS>),
        processes(LANES_OF_16, "spinning", SENDERS * SLOTS, stream::<Ring<WORDS, SLOTS, Lanes<16>, Waiting>, WORDS, SENDERS>),
        threads(ARRAY_QUEUE, "busy", SLOTS, stream::<array_queue::Queue<WORDS, SLOTS, Busy>, WORDS, SENDERS>),
        threads(ARRAY_QUEUE, "pause", SLOTS, stream::<array_queue::Queue<WORDS, SLOTS, Pause>, WORDS, SENDERS>),
        threads(THINGBUF, "busy", SLOTS, stream::<thingbuf::Queue<WORDS, SLOTS, Busy>, WORDS, SENDERS>),
        threads(THINGBUF, "pause", SLOTS, stream::<thingbuf::Queue<WORDS, SLOTS, Pause>, WORDS, SENDERS>),
    ];
    #[rustfmt::skip] // A table: what takes one sender only.
    let of_one = || [
        processes(SPSC, "spinning", SLOTS, stream::<Ring<WORDS, SLOTS, Spsc, Waiting>, WORDS, SENDERS>),
        threads("rtrb", "busy", SLOTS, stream::<rtrb::Ring<WORDS, SLOTS, Busy>, WORDS, SENDERS>),
        threads("rtrb", "pause", SLOTS, stream::<rtrb::Ring<WORDS, SLOTS, Pause>, WORDS, SENDERS>),
    ];
    #[rustfmt::skip] // A table: what gives the core away while there is nothing to do, which may pay where senders share one.
    let of_several = || [
        processes(MPSC, "sleeping", SLOTS, stream::<Ring<WORDS, SLOTS, Mpsc<SENDERS>, Sleeping>, WORDS, SENDERS>),
        processes(MPSC_TRYING, "yielding", SLOTS, stream::<Ring<WORDS, SLOTS, Mpsc<SENDERS>, Trying<Yield>>, WORDS, SENDERS>),
        processes(LANES, "sleeping", SENDERS * SLOTS, stream::<Ring<WORDS, SLOTS, Lanes<SENDERS>, Sleeping>, WORDS, SENDERS>),
        processes(LANES_TRYING, "yielding", SENDERS * SLOTS, stream::<Ring<WORDS, SLOTS, Lanes<SENDERS>, Trying<Yield>>, WORDS, SENDERS>),
        processes(LOCKED, "sleeping", SLOTS, stream::<Ring<WORDS, SLOTS, Locked<SENDERS>, Sleeping>, WORDS, SENDERS>),
        processes(LANES_OF_16, "sleeping", SENDERS * SLOTS, stream::<Ring<WORDS, SLOTS, Lanes<16>, Sleeping>, WORDS, SENDERS>),
        threads(ARRAY_QUEUE, "yielding", SLOTS, stream::<array_queue::Queue<WORDS, SLOTS, Yield>, WORDS, SENDERS>),
        threads(THINGBUF, "yielding", SLOTS, stream::<thingbuf::Queue<WORDS, SLOTS, Yield>, WORDS, SENDERS>),
    ];
    match SENDERS {
        1 => entries.extend(of_one()),
        _ => entries.extend(of_several()),
    }
    entries
}
