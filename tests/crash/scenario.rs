//! What the victim does, on a ring in which state; and what the log outside the segment promises about it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail};

use crate::image::Phase;
use crate::message::Tag;

/// The sender that staged the ring, and in whose name the victim sends.
pub(crate) const VICTIM: u8 = 1;
/// The sender that comes after the crash.
pub(crate) const SURVIVOR: u8 = 2;

/// The one call during which the victim may be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Operation {
    TrySend,
    TrySendFull,
    ReservePublish,
    TryRecv,
    TryRecvEmpty,
    PeekConsume,
    SenderTakeover,
    ReceiverTakeover,
    /// A take-over from a sender that was killed amid `try_send`: a crash while recovering from a crash.
    SenderRecovery,
    /// A take-over from a receiver that was killed amid `try_recv`.
    ReceiverRecovery,
    SenderLeave,
    ReceiverLeave,
}

impl Operation {
    pub(crate) const ALL: [Self; 12] = [
        Self::TrySend,
        Self::TrySendFull,
        Self::ReservePublish,
        Self::TryRecv,
        Self::TryRecvEmpty,
        Self::PeekConsume,
        Self::SenderTakeover,
        Self::ReceiverTakeover,
        Self::SenderRecovery,
        Self::ReceiverRecovery,
        Self::SenderLeave,
        Self::ReceiverLeave,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TrySend => "try_send",
            Self::TrySendFull => "try_send/full",
            Self::ReservePublish => "reserve/publish",
            Self::TryRecv => "try_recv",
            Self::TryRecvEmpty => "try_recv/empty",
            Self::PeekConsume => "peek/consume",
            Self::SenderTakeover => "sender/take-over",
            Self::ReceiverTakeover => "receiver/take-over",
            Self::SenderRecovery => "sender/recovery",
            Self::ReceiverRecovery => "receiver/recovery",
            Self::SenderLeave => "sender/leave",
            Self::ReceiverLeave => "receiver/leave",
        }
    }

    /// Whether the victim joins a ring whose earlier participants are dead, rather than using its own. That takes a
    /// hundred times as many instructions as a call.
    pub(crate) fn is_takeover(self) -> bool {
        matches!(
            self,
            Self::SenderTakeover
                | Self::ReceiverTakeover
                | Self::SenderRecovery
                | Self::ReceiverRecovery
        )
    }

    /// The operation amid which the predecessor of this one's victim is killed.
    pub(crate) fn wrecked(self) -> Option<Self> {
        match self {
            Self::SenderRecovery => Some(Self::TrySend),
            Self::ReceiverRecovery => Some(Self::TryRecv),
            _ => None,
        }
    }

    /// Whether the victim is the sender.
    pub(crate) fn is_of_sender(self) -> bool {
        matches!(
            self,
            Self::TrySend
                | Self::TrySendFull
                | Self::ReservePublish
                | Self::SenderTakeover
                | Self::SenderRecovery
                | Self::SenderLeave
        )
    }
}

/// What the victim's counterpart did before the operation. It is no living process either way: what lives on is
/// what comes after the crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// Took part, and dies without leaving.
    Attached,
    /// Never came.
    Absent,
    /// Took part and left.
    Left,
}

/// One exploration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scenario {
    pub(crate) operation: Operation,
    /// The size of a message, in words of 8 bytes.
    pub(crate) words: usize,
    pub(crate) capacity: usize,
    /// The position of the ring's first message.
    pub(crate) start: u64,
    /// How many messages were sent and received before: they move the offset and leave earlier laps behind.
    pub(crate) history: usize,
    /// How many messages are sent and not received when the operation begins.
    pub(crate) backlog: usize,
    pub(crate) peer: Peer,
    /// For recoveries: how many times the predecessor changes the segment before it is killed. Otherwise 0.
    pub(crate) wreck: usize,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} words={} capacity={} ",
            self.operation.name(),
            self.words,
            self.capacity
        )?;
        match self.start.wrapping_neg() {
            below @ 1..=0xffff => write!(f, "start=2^64-{below}")?,
            _ => write!(f, "start={}", self.start)?,
        }
        let peer = match self.peer {
            Peer::Attached => "attached",
            Peer::Absent => "absent",
            Peer::Left => "left",
        };
        let Self {
            history,
            backlog,
            wreck,
            ..
        } = self;
        write!(
            f,
            " history={history} backlog={backlog} peer={peer} wreck={wreck}"
        )
    }
}

impl FromStr for Scenario {
    type Err = Error;

    /// Parses what `Display` printed.
    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(' ');
        let name = parts.next().context("no operation")?;
        let operation = Operation::ALL
            .into_iter()
            .find(|operation| operation.name() == name);
        let mut field = |key: &str| {
            let part = parts.next().with_context(|| format!("no {key}"))?;
            let value = part
                .strip_prefix(key)
                .and_then(|part| part.strip_prefix('='));
            value.with_context(|| format!("{part:?} is not {key}="))
        };
        Ok(Self {
            operation: operation.with_context(|| format!("no operation is called {name:?}"))?,
            words: field("words")?.parse()?,
            capacity: field("capacity")?.parse()?,
            start: {
                let start = field("start")?;
                match start.strip_prefix("2^64-") {
                    Some(below) => below.parse::<u64>()?.wrapping_neg(),
                    None => start.parse()?,
                }
            },
            history: field("history")?.parse()?,
            backlog: field("backlog")?.parse()?,
            peer: match field("peer")? {
                "attached" => Peer::Attached,
                "absent" => Peer::Absent,
                "left" => Peer::Left,
                other => bail!("no peer is {other:?}"),
            },
            wreck: field("wreck")?.parse()?,
        })
    }
}

/// Whether a message must be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Exactly once.
    Certain,
    /// Once or not at all: its call was in flight.
    Possible,
}

/// What those who ask for a participant that is gone must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    NeverCame,
    Died,
    Left,
    /// It was killed while leaving: either answer is true.
    DiedLeaving,
}

/// What the log outside the segment promises to survivors.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) capacity: usize,
    /// What is still to be received, in order. At most one of them is `Possible`.
    pub(crate) messages: Vec<(Tag, Delivery)>,
    pub(crate) sender: Gone,
    pub(crate) receiver: Gone,
}

impl Scenario {
    /// The tag of the next message that is sent.
    pub(crate) fn next_sent(&self) -> Tag {
        tag(self.history + self.backlog)
    }

    /// The tag of the next message that is received.
    pub(crate) fn next_received(&self) -> Tag {
        tag(self.history)
    }

    pub(crate) fn promise(&self, phase: Phase) -> Promise {
        use Operation as Op;

        let backlog = (self.history..self.history + self.backlog).map(tag);
        let mut messages = backlog
            .map(|tag| (tag, Delivery::Certain))
            .collect::<Vec<_>>();
        match (self.operation, phase) {
            (Op::TrySend | Op::ReservePublish, Phase::During) | (Op::SenderRecovery, _) => {
                messages.push((self.next_sent(), Delivery::Possible));
            }
            (Op::TrySend | Op::ReservePublish, Phase::After) => {
                messages.push((self.next_sent(), Delivery::Certain))
            }
            (Op::TryRecv | Op::PeekConsume, Phase::During) | (Op::ReceiverRecovery, _) => {
                messages[0].1 = Delivery::Possible;
            }
            (Op::TryRecv | Op::PeekConsume, Phase::After) => drop(messages.remove(0)),
            _ => {}
        }
        let peer = match self.peer {
            Peer::Attached => Gone::Died,
            Peer::Absent => Gone::NeverCame,
            Peer::Left => Gone::Left,
        };
        let victim = match (self.operation, phase) {
            (Op::SenderLeave | Op::ReceiverLeave, Phase::During) => Gone::DiedLeaving,
            (Op::SenderLeave | Op::ReceiverLeave, Phase::After) => Gone::Left,
            _ => Gone::Died,
        };
        let (sender, receiver) = if self.operation.is_of_sender() {
            (victim, peer)
        } else {
            (peer, victim)
        };
        Promise {
            capacity: self.capacity,
            messages,
            sender,
            receiver,
        }
    }

    /// Whether an operation in flight took effect, given whether the `Possible` message of its promise was there.
    pub(crate) fn took_effect(&self, possible_was_there: bool) -> bool {
        match self.operation {
            Operation::TryRecv | Operation::PeekConsume | Operation::ReceiverRecovery => {
                !possible_was_there
            }
            _ => possible_was_there,
        }
    }
}

fn tag(index: usize) -> Tag {
    Tag {
        sender: VICTIM,
        sequence: u16::try_from(index).expect("scenarios are short"),
    }
}

/// The scenarios that are explored: those of `cargo test`, or `full`.
///
/// Short operations are explored for every capacity, offset and backlog, on fresh slots, on slots that carry the
/// stamps of earlier laps, and across the end of the positions, with the sizes of messages taking turns. Take-overs
/// differ little among these, so only one of [`TAKEOVER_STRIDE`] is taken. `full` takes all, in all sizes.
pub(crate) fn matrix(full: bool) -> Vec<Scenario> {
    let (takeovers, calls): (Vec<_>, Vec<_>) = Operation::ALL
        .into_iter()
        .partition(|operation| operation.is_takeover());
    // The longest first: the processors then finish together.
    let operations = takeovers.into_iter().chain(calls);
    let groups = operations
        .flat_map(|operation| [1, 2, 4].map(|capacity| of_operation(operation, capacity)));
    if full {
        let sized = |scenario: Scenario| SIZES.map(|words| Scenario { words, ..scenario });
        return groups.flatten().flat_map(sized).collect();
    }
    let taken = groups.enumerate().flat_map(|(index, group)| {
        let stride = if group[0].operation.is_takeover() {
            TAKEOVER_STRIDE
        } else {
            1
        };
        // Beginning elsewhere in each group, or the small ones would all be taken at the same place.
        let first = index * 3 % stride.min(group.len());
        group.into_iter().skip(first).step_by(stride)
    });
    let sizes = SIZES.into_iter().cycle();
    taken
        .zip(sizes)
        .map(|(scenario, words)| Scenario { words, ..scenario })
        .collect()
}

/// One word, a message that fills a cache line together with its stamp, and one of several lines.
const SIZES: [usize; 3] = [1, 7, 25];

/// A prime that no loop in [`of_operation`] has the length of, so that what is taken meets all values of each.
const TAKEOVER_STRIDE: usize = 19;

fn of_operation(operation: Operation, capacity: usize) -> Vec<Scenario> {
    use Operation as Op;

    let mut scenarios = Vec::new();
    let backlogs = match operation {
        Op::TrySend | Op::ReservePublish | Op::SenderRecovery => 0..=capacity - 1,
        Op::TrySendFull => capacity..=capacity,
        Op::TryRecv | Op::PeekConsume | Op::ReceiverRecovery => 1..=capacity,
        Op::TryRecvEmpty => 0..=0,
        Op::SenderTakeover | Op::ReceiverTakeover | Op::SenderLeave | Op::ReceiverLeave => {
            0..=capacity
        }
    };
    let wrecks = match operation {
        Op::SenderRecovery => 1..=3,
        Op::ReceiverRecovery => 1..=1,
        _ => 0..=0,
    };
    for backlog in backlogs {
        for wreck in wrecks.clone() {
            for (start, history) in starts(capacity) {
                for &peer in peers(operation, history) {
                    // The size is chosen by the caller.
                    let words = SIZES[0];
                    scenarios.push(Scenario {
                        operation,
                        words,
                        capacity,
                        start,
                        history,
                        backlog,
                        peer,
                        wreck,
                    });
                }
            }
        }
    }
    scenarios
}

/// Every offset, as start position and number of earlier messages.
fn starts(capacity: usize) -> Vec<(u64, usize)> {
    let laps = capacity as u64;
    let fresh = (0..laps).map(|offset| (offset, 0));
    let lapped = (0..capacity).map(|offset| (0, 2 * capacity + offset));
    let wrapping = (1..=laps + 1).map(|below| (below.wrapping_neg(), 0));
    let wrapping_lapped =
        (0..capacity).map(|offset| ((2 * laps).wrapping_neg(), capacity + offset));
    fresh
        .chain(lapped)
        .chain(wrapping)
        .chain(wrapping_lapped)
        .collect()
}

fn peers(operation: Operation, history: usize) -> &'static [Peer] {
    use Operation as Op;

    match operation {
        // With a history, there was somebody to receive it.
        Op::TrySend | Op::TrySendFull | Op::ReservePublish | Op::SenderTakeover if history == 0 => {
            &[Peer::Attached, Peer::Absent]
        }
        Op::TryRecv | Op::TryRecvEmpty | Op::PeekConsume | Op::ReceiverTakeover => {
            &[Peer::Attached, Peer::Left]
        }
        _ => &[Peer::Attached],
    }
}
