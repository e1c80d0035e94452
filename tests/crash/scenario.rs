//! What the victim does, on a ring in which state, and who else is there.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail};

use crate::act::Act;
use crate::event::{FIRST, RECEIVER, SECOND, Seat};
use crate::image::Object;
use crate::operation::Operation;
use crate::ring::{Kind, Ring, Way};

use Operation as Op;

/// How it is with those on the victim's other side; other senders, where there are any, live and die with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Peer {
    /// Never came.
    Absent,
    /// Took part and left.
    Left,
    /// Takes part, and dies with the victim.
    Dies,
    /// Takes part, and lives on.
    Lives,
    /// Sleeps in a call when the operation begins, and lives on.
    Sleeps,
}

impl Peer {
    const ALL: [(Self, &str); 5] = [
        (Self::Absent, "absent"),
        (Self::Left, "left"),
        (Self::Dies, "dies"),
        (Self::Lives, "lives"),
        (Self::Sleeps, "sleeps"),
    ];

    /// Whether somebody else lives on when the victim is killed.
    pub(crate) fn survives(self) -> bool {
        matches!(self, Self::Lives | Self::Sleeps)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(peer, _)| peer == self);
        f.pad(name.map_or("?", |(_, name)| name))
    }
}

impl FromStr for Peer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.iter().find(|(_, name)| *name == text);
        Ok(known.with_context(|| format!("no peer is {text:?}"))?.0)
    }
}

/// When the others go on while the victim stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Advance {
    Never,
    /// After the operation has changed the segment so often.
    Change(usize),
    /// When the victim is about to make its system call with this number.
    SystemCall(usize),
    /// When the victim is about to sleep for the first time.
    Asleep,
}

impl fmt::Display for Advance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Change(changes) => write!(f, "{changes}"),
            Self::SystemCall(number) => write!(f, "call-{number}"),
            Self::Asleep => f.write_str("asleep"),
        }
    }
}

impl FromStr for Advance {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "never" => Self::Never,
            "asleep" => Self::Asleep,
            other => match other.strip_prefix("call-") {
                Some(number) => Self::SystemCall(number.parse()?),
                None => Self::Change(other.parse()?),
            },
        })
    }
}

/// One exploration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scenario {
    pub(crate) kind: Kind,
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
    /// When the others send or receive `by` messages each amid the operation.
    pub(crate) advance: Advance,
    pub(crate) by: usize,
    /// How many times a predecessor that was killed had changed the segment; 0 if none was.
    pub(crate) wreck: usize,
    pub(crate) way: Way,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            operation,
            words,
            capacity,
            start,
            history,
            backlog,
            peer,
            advance,
            by,
            wreck,
            way,
        } = self;
        write!(f, "{kind} {operation} words={words} capacity={capacity} ")?;
        match start.wrapping_neg() {
            below @ 1..=0xffff => write!(f, "start=2^64-{below}")?,
            _ => write!(f, "start={start}")?,
        }
        write!(
            f,
            " history={history} backlog={backlog} peer={peer} advance={advance} by={by} wreck={wreck} wait={way}"
        )
    }
}

impl FromStr for Scenario {
    type Err = Error;

    /// Parses what `Display` printed.
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split(' ').collect::<Vec<_>>();
        let [kind, operation, fields @ ..] = &parts[..] else {
            bail!("{text:?} is no scenario");
        };
        let field = |key: &str| {
            let values = fields.iter().filter_map(|part| part.split_once('='));
            let mut values = values.filter(|(known, _)| *known == key);
            let (_, value) = values.next().with_context(|| format!("no {key}"))?;
            Ok::<_, Error>(value)
        };
        let start = field("start")?;
        Ok(Self {
            kind: kind.parse()?,
            operation: operation.parse()?,
            words: field("words")?.parse()?,
            capacity: field("capacity")?.parse()?,
            start: match start.strip_prefix("2^64-") {
                Some(below) => below.parse::<u64>()?.wrapping_neg(),
                None => start.parse()?,
            },
            history: field("history")?.parse()?,
            backlog: field("backlog")?.parse()?,
            peer: field("peer")?.parse()?,
            advance: field("advance")?.parse()?,
            by: field("by")?.parse()?,
            wreck: field("wreck")?.parse()?,
            way: field("wait")?.parse()?,
        })
    }
}

/// Which process acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Victim,
    /// One that was killed before, amid an operation of its own.
    Wreck,
    /// Those who may live on.
    Peers,
}

/// A step on the way to the state in which the operation begins.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Act(Who, Act),
    /// The wreck operates, and is killed amid it.
    Wreck,
}

impl Scenario {
    pub(crate) fn ring(&self, object: Object) -> Ring {
        Ring {
            kind: self.kind,
            words: self.words,
            capacity: self.capacity,
            start: self.start,
            way: self.way,
            goes_when_idle: self.operation == Op::LastLeave,
            object,
        }
    }

    /// Who plays `seat` before the operation.
    fn player(&self, seat: Seat) -> Who {
        let (operation, wrecked) = (self.operation, self.operation.wrecked());
        if wrecked.is_some_and(|(_, wreck)| wreck == seat) {
            Who::Wreck
        } else if operation == Op::Clone && seat == FIRST
            || operation.is_a_call() && operation.seat() == seat
        {
            Who::Victim
        } else {
            Who::Peers
        }
    }

    fn has_second(&self) -> bool {
        let needs_its_place = matches!(
            self.operation,
            Op::Clone | Op::Create | Op::JoinRemoved | Op::LastLeave | Op::Remove
        );
        self.kind != Kind::Spsc && !needs_its_place
    }

    fn has_receiver(&self) -> bool {
        match self.operation {
            Op::Create => false,
            Op::ReceiverJoin => self.history > 0,
            Op::JoinRemoved | Op::LastLeave | Op::Remove => self.history > 0,
            operation if operation.seat() == RECEIVER => true,
            _ => self.peer != Peer::Absent,
        }
    }

    /// The way to the state in which the operation begins.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.operation == Op::Create {
            return steps;
        }
        let by = |seat, act: fn(Seat) -> Act| Step::Act(self.player(seat), act(seat));
        let receive = Step::Act(self.player(RECEIVER), Act::Receive);
        let pastclaim = self.operation == Op::RecvPastClaim;

        let mut comers = vec![FIRST];
        if self.has_receiver() {
            comers.push(RECEIVER);
        }
        if self.has_second() {
            comers.push(SECOND);
        }
        // The victim is now in the first place and now in the last, and creates the ring or finds it.
        if !(self.start.wrapping_add(self.history as u64)).is_multiple_of(2) {
            comers.reverse();
        }
        steps.extend(comers.into_iter().map(|seat| by(seat, Act::Join)));
        for index in 0..self.history {
            for seat in self.senders_of(index) {
                steps.extend([by(seat, Act::Send), receive.clone()]);
            }
        }
        if !pastclaim {
            for index in 0..self.backlog {
                steps.extend(
                    self.senders_of(index)
                        .into_iter()
                        .map(|seat| by(seat, Act::Send)),
                );
            }
        }
        if self.operation.wrecked().is_some() {
            steps.push(Step::Wreck);
        }
        if pastclaim {
            // Behind the claim.
            steps.extend((0..self.backlog).map(|_| by(SECOND, Act::Send)));
        }
        steps.extend(self.last_steps());
        steps
    }

    /// Who sends the message with this index: of lanes, the second sender has one in its own as well.
    fn senders_of(&self, index: usize) -> Vec<Seat> {
        match self.kind {
            Kind::Mpsc | Kind::Locked if self.has_second() && index % 2 == 1 => vec![SECOND],
            // Which one a killed receiver was taking would be anybody's guess.
            Kind::Lanes if self.operation == Op::ReceiverRecovery => vec![FIRST],
            Kind::Lanes if self.has_second() && index == 0 => vec![FIRST, SECOND],
            _ => vec![FIRST],
        }
    }

    /// What happens last before the operation.
    fn last_steps(&self) -> Vec<Step> {
        let by = |seat, act: fn(Seat) -> Act| Step::Act(self.player(seat), act(seat));
        let mut steps = Vec::new();
        match self.operation {
            Op::SenderLeaveOpen => steps.push(by(FIRST, Act::Reserve)),
            Op::SenderJoin => steps.push(by(FIRST, Act::Leave)),
            Op::JoinRemoved => {
                steps.push(by(FIRST, Act::Leave));
                if self.has_receiver() {
                    steps.push(by(RECEIVER, Act::Leave));
                }
            }
            Op::SenderTakeover | Op::RecvTold => steps.push(by(FIRST, Act::Vanish)),
            Op::ReceiverTakeover => steps.push(by(RECEIVER, Act::Vanish)),
            Op::ReceiverJoin | Op::LastLeave if self.has_receiver() => {
                steps.push(by(RECEIVER, Act::Leave));
            }
            Op::Remove => {
                steps.push(by(FIRST, Act::Vanish));
                if self.has_receiver() {
                    steps.push(by(RECEIVER, Act::Vanish));
                }
            }
            _ => {}
        }
        let is_of_receiver = self.operation.seat() == RECEIVER;
        match self.peer {
            Peer::Left if is_of_receiver => {
                steps.push(by(FIRST, Act::Leave));
                if self.has_second() {
                    steps.push(by(SECOND, Act::Leave));
                }
            }
            Peer::Left => steps.push(by(RECEIVER, Act::Leave)),
            Peer::Sleeps if is_of_receiver => steps.push(by(FIRST, Act::Sleep)),
            Peer::Sleeps => steps.push(by(RECEIVER, Act::Sleep)),
            Peer::Absent | Peer::Dies | Peer::Lives => {}
        }
        steps
    }

    /// What the others do at the moment of their advance.
    pub(crate) fn advances(&self) -> Vec<Act> {
        if self.operation == Op::JoinRemoved {
            return vec![Act::Remove];
        }
        let mut acts = Vec::new();
        for _ in 0..self.by {
            if self.operation.seat() == RECEIVER {
                let first_is_there =
                    self.player(FIRST) == Who::Peers && !matches!(self.operation, Op::RecvTold);
                if first_is_there {
                    acts.push(Act::Send(FIRST));
                }
            } else if self.peer != Peer::Absent {
                acts.push(Act::Receive);
            }
            // It must not take the place that the victim waits for.
            if self.has_second() && self.operation != Op::SendWaiting {
                acts.push(Act::Send(SECOND));
            }
        }
        acts
    }
}
