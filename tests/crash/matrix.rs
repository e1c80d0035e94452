//! Which scenarios are explored: those of `cargo test`, or those of the full run.

use crate::operation::Operation;
use crate::ring::{Kind, Way};
use crate::scenario::{Advance, Peer, Scenario};
use crate::strike::Blows;

use Operation as Op;

/// A scenario, and where real victims of it are struck.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) scenario: Scenario,
    /// None: nowhere.
    pub(crate) blows: Option<Blows>,
}

/// One word, a message that fills a cache line together with its stamp, and one of several lines.
const SIZES: [usize; 3] = [1, 7, 25];

const CAPACITIES: [usize; 3] = [1, 2, 4];

/// Of the scenarios of one kind, operation and capacity, one of so many is explored by `cargo test`, and of those in which
/// somebody comes one of so many. Primes that no loop in [`of`] has the length of, so that what is taken meets all values of
/// each.
const STRIDE: usize = 127;
const LONG_STRIDE: usize = 509;

/// The same for the full run.
const FULL_STRIDE: usize = 5;
const FULL_LONG_STRIDE: usize = 29;

/// Of which capacity `cargo test` takes rings that wait otherwise than by a futex.
const CAPACITY_OF_OTHER_WAYS: usize = 2;

/// System calls of who joins a ring, at most.
const CALLS_OF_JOINING: usize = 32;

/// In `cargo test`. Where that takes time, at some system calls only.
const BLOWS: Blows = Blows {
    instructions: 4,
    every: 1,
    stops: 3,
};
const LONG_BLOWS: Blows = Blows {
    every: 5,
    stops: 9,
    ..BLOWS
};
const FULL_BLOWS: Blows = Blows {
    instructions: 16,
    every: 1,
    stops: 3,
};

fn blows(operation: Operation, full: bool) -> Blows {
    match (full, takes_time(operation)) {
        (true, _) => FULL_BLOWS,
        (false, true) => LONG_BLOWS,
        (false, false) => BLOWS,
    }
}

/// The scenarios of `cargo test`, or of the full run.
///
/// Operations are explored for every capacity, offset and backlog, on fresh slots, on slots that carry the stamps of earlier
/// laps, and across the end of the positions, with peers of all sorts that go on at several moments. The sizes of messages take
/// turns.
pub(crate) fn matrix(full: bool) -> Vec<Planned> {
    let (long, calls): (Vec<_>, Vec<_>) = Op::ALL
        .into_iter()
        .partition(|operation| operation.is_long());
    let mut planned = Vec::new();
    // The longest first: the processors then finish together.
    for (group, operation) in long.into_iter().chain(calls).enumerate() {
        let stride = match (full, operation.is_long()) {
            (false, false) => STRIDE,
            (false, true) => LONG_STRIDE,
            (true, false) => FULL_STRIDE,
            (true, true) => FULL_LONG_STRIDE,
        };
        for (turn, kind) in Kind::ALL.into_iter().enumerate() {
            if !operation.is_of(kind) {
                continue;
            }
            for (number, capacity) in CAPACITIES.into_iter().enumerate() {
                let is_its_turn = (group + turn + number).is_multiple_of(CAPACITIES.len());
                // What takes longest, for half of the kinds.
                let is_kinds_turn = (group + turn).is_multiple_of(2);
                if !full && operation.is_long() && !(is_its_turn && is_kinds_turn) {
                    continue;
                }
                let all = of(kind, operation, capacity);
                let stride = match kind {
                    // Each has three times as many images.
                    Kind::Locked if !full => stride * 3,
                    _ => stride,
                };
                // Beginning elsewhere in each group, or the small ones would all be taken at the same place.
                let first = (group + capacity) * 3 % stride.min(all.len().max(1));
                let taken = all.iter().skip(first).step_by(stride);
                planned.extend(taken.map(|&scenario| Planned {
                    scenario,
                    blows: None,
                }));
                if full || is_its_turn {
                    planned.extend(struck(&all, full));
                }
                // By turns as well.
                let is_one = capacity == CAPACITY_OF_OTHER_WAYS && (group + turn).is_multiple_of(3);
                if full || is_one {
                    planned.extend(other_ways(&all, full));
                }
            }
        }
    }
    for (planned, words) in planned.iter_mut().zip(SIZES.into_iter().cycle()) {
        planned.scenario.words = words;
    }
    planned
}

/// Every scenario that there is, with messages of that size.
#[cfg(planted)]
pub(crate) fn all(words: usize) -> Vec<Scenario> {
    let operations = Kind::ALL
        .into_iter()
        .flat_map(|kind| Op::ALL.map(|operation| (kind, operation)));
    let operations = operations.filter(|(kind, operation)| operation.is_of(*kind));
    let groups = operations
        .flat_map(|(kind, operation)| CAPACITIES.map(|capacity| of(kind, operation, capacity)));
    groups
        .flatten()
        .map(|scenario| Scenario { words, ..scenario })
        .collect()
}

/// Of each sort of peers, one scenario whose real victims are struck.
fn struck(all: &[Scenario], full: bool) -> Vec<Planned> {
    const CAPACITY: usize = 2;

    let is_long = all[0].operation.is_long();
    let mut peers = all.iter().map(|scenario| scenario.peer).collect::<Vec<_>>();
    peers.sort_unstable();
    peers.dedup();
    let one_of = |peer| {
        let sort = all.iter().filter(|scenario| {
            scenario.peer == peer
                && !matches!(scenario.advance, Advance::Change(_))
                && (full != is_long || scenario.capacity == CAPACITY)
        });
        let sort = sort.copied().collect::<Vec<_>>();
        sort.get(sort.len() / 2).copied()
    };
    let mut scenarios = peers.into_iter().filter_map(one_of).collect::<Vec<_>>();
    if !full && is_long {
        // Those whose peers live on most.
        scenarios.drain(..scenarios.len().saturating_sub(1));
    }
    let blows = Some(blows(all[0].operation, full));
    scenarios
        .into_iter()
        .map(|scenario| Planned { scenario, blows })
        .collect()
}

/// Whether each victim takes long to come to where it is struck.
fn takes_time(operation: Operation) -> bool {
    let waits = matches!(
        operation,
        Op::SendWaiting | Op::RecvWaiting | Op::RecvTimeout | Op::RecvTold | Op::RecvPastClaim
    );
    waits || operation.is_long()
}

/// Of those in which somebody waits, or is woken, or makes what that takes: one for each other way to wait, or every so many of
/// them.
fn other_ways(all: &[Scenario], full: bool) -> Vec<Planned> {
    let concerned = all.iter().filter(|scenario| {
        let is_of_waiting = matches!(
            scenario.operation,
            Op::SendWaiting
                | Op::RecvWaiting
                | Op::RecvTimeout
                | Op::Create
                | Op::SenderTakeover
                | Op::ReceiverTakeover
                | Op::LastLeave
                | Op::Remove
        );
        scenario.peer == Peer::Sleeps || is_of_waiting
    });
    let concerned = concerned.copied().collect::<Vec<_>>();
    if concerned.is_empty() {
        return Vec::new();
    }
    let is_long = concerned[0].operation.is_long();
    let stride = match (full, is_long) {
        (false, _) => concerned.len(),
        (true, false) => FULL_STRIDE,
        (true, true) => FULL_LONG_STRIDE,
    };
    let blows = (full || !is_long).then(|| blows(concerned[0].operation, full));
    let first = (concerned.len() / 2) % stride;
    let ways = Way::OTHERS.into_iter().flat_map(|way| {
        let taken = concerned.iter().skip(first).step_by(stride);
        taken.map(move |&scenario| Planned {
            scenario: Scenario { way, ..scenario },
            blows,
        })
    });
    ways.collect()
}

fn of(kind: Kind, operation: Operation, capacity: usize) -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for &backlog in &backlogs(operation, capacity) {
        for wreck in wrecks(kind, operation) {
            for &(start, history) in &starts(operation, capacity) {
                for peer in peers(kind, operation, (history, backlog, capacity)) {
                    for (advance, by) in advances(kind, operation, peer, capacity) {
                        scenarios.push(Scenario {
                            kind,
                            operation,
                            // The size is chosen by the caller.
                            words: SIZES[0],
                            capacity,
                            start,
                            history,
                            backlog,
                            peer,
                            advance,
                            by,
                            wreck,
                            way: Way::Futex,
                        });
                    }
                }
            }
        }
    }
    scenarios
}

fn backlogs(operation: Operation, capacity: usize) -> Vec<usize> {
    match operation {
        Op::TrySend
        | Op::ReservePublish
        | Op::ReserveDrop
        | Op::SendSlice
        | Op::SenderLeaveOpen
        | Op::SenderRecovery
        | Op::RecvPastClaim => (0..capacity).collect(),
        Op::TrySendFull | Op::SendWaiting => vec![capacity],
        Op::TryRecv | Op::PeekConsume | Op::RecvSlice | Op::Drain | Op::ReceiverRecovery => {
            (1..=capacity).collect()
        }
        Op::TryRecvEmpty
        | Op::RecvWaiting
        | Op::RecvTimeout
        | Op::RecvTold
        | Op::Create
        | Op::JoinRemoved => vec![0],
        Op::SenderLeave
        | Op::ReceiverLeave
        | Op::SenderJoin
        | Op::Clone
        | Op::SenderTakeover
        | Op::ReceiverJoin
        | Op::ReceiverTakeover
        | Op::LastLeave
        | Op::Remove
        | Op::RemoveInUse
        | Op::JoinRefused => (0..=capacity).collect(),
    }
}

/// How often a predecessor has changed the segment: before it has done anything that counts, in the middle, at the end.
fn wrecks(kind: Kind, operation: Operation) -> Vec<usize> {
    match operation {
        // Claimed, and some of the message.
        Op::RecvPastClaim => vec![1, 2],
        Op::SenderRecovery if kind == Kind::Mpsc => vec![1, 2, 3, 4],
        Op::SenderRecovery => vec![1, 2, 3],
        Op::ReceiverRecovery => vec![1, 2],
        _ => vec![0],
    }
}

/// Every offset, as start position and number of earlier messages.
fn starts(operation: Operation, capacity: usize) -> Vec<(u64, usize)> {
    let laps = capacity as u64;
    let fresh = (0..laps).map(|offset| (offset, 0));
    let wrapping = (1..=laps + 1).map(|below| (below.wrapping_neg(), 0));
    if operation == Op::Create {
        return fresh.chain(wrapping).collect();
    }
    let lapped = (0..capacity).map(|offset| (0, 2 * capacity + offset));
    let wrapping_lapped =
        (0..capacity).map(|offset| ((2 * laps).wrapping_neg(), capacity + offset));
    fresh
        .chain(lapped)
        .chain(wrapping)
        .chain(wrapping_lapped)
        .collect()
}

fn peers(
    kind: Kind,
    operation: Operation,
    (history, backlog, capacity): (usize, usize, usize),
) -> Vec<Peer> {
    let mut peers = match operation {
        Op::Create | Op::Remove | Op::LastLeave | Op::JoinRemoved => return vec![Peer::Absent],
        Op::RemoveInUse | Op::JoinRefused => return vec![Peer::Dies, Peer::Lives],
        Op::SendWaiting | Op::RecvWaiting | Op::RecvTimeout => return vec![Peer::Lives],
        Op::SenderLeave
        | Op::SenderLeaveOpen
        | Op::TryRecv
        | Op::TryRecvEmpty
        | Op::PeekConsume
        | Op::ReceiverJoin
        | Op::ReceiverTakeover => vec![Peer::Left, Peer::Dies, Peer::Lives],
        Op::RecvTold if kind == Kind::Spsc => return vec![Peer::Dies],
        _ => vec![Peer::Dies, Peer::Lives],
    };
    let may_be_alone = matches!(
        operation,
        Op::TrySend
            | Op::TrySendFull
            | Op::ReservePublish
            | Op::SenderLeave
            | Op::SenderJoin
            | Op::SenderTakeover
    );
    // With a history, there was somebody to receive it.
    if may_be_alone && history == 0 {
        peers.push(Peer::Absent);
    }
    let sleeps = match operation {
        Op::TrySend | Op::ReservePublish | Op::SendSlice | Op::SenderLeave => backlog == 0,
        Op::TryRecv | Op::PeekConsume | Op::RecvSlice | Op::Drain | Op::ReceiverLeave => {
            backlog == capacity
        }
        _ => false,
    };
    if sleeps {
        peers.push(Peer::Sleeps);
    }
    peers
}

fn advances(
    kind: Kind,
    operation: Operation,
    peer: Peer,
    capacity: usize,
) -> Vec<(Advance, usize)> {
    match operation {
        // Until the receiver has taken one of each lane.
        Op::SendWaiting => return vec![(Advance::Asleep, kind.senders())],
        Op::RecvWaiting => return vec![(Advance::Asleep, 1)],
        Op::JoinRemoved => {
            return (1..=CALLS_OF_JOINING)
                .map(|number| (Advance::SystemCall(number), 1))
                .collect();
        }
        _ => {}
    }
    let mut advances = vec![(Advance::Never, 0)];
    let goes_on = matches!(peer, Peer::Dies | Peer::Lives)
        && matches!(
            operation,
            Op::TrySend
                | Op::ReservePublish
                | Op::ReserveDrop
                | Op::SendSlice
                | Op::TryRecv
                | Op::PeekConsume
                | Op::RecvSlice
                | Op::Drain
        );
    if goes_on {
        let mut by = vec![1, capacity];
        by.dedup();
        for change in 1..=3 {
            advances.extend(by.iter().map(|&by| (Advance::Change(change), by)));
        }
    }
    advances
}
