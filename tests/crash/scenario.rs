//! What the victim does, on a ring in which state, and who else is there.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail};

use crate::act::Act;
use crate::event::{RECEIVER, Seat};
use crate::image::Object;
use crate::ring::{Kind, Ring};

/// The sender that has always been there.
pub(crate) const FIRST: Seat = 1;
/// Another one, in the kinds that have several.
pub(crate) const SECOND: Seat = 2;
/// A sender that comes in the operation.
pub(crate) const NEWCOMER: Seat = 3;

/// The one call during which the victim may be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Operation {
    TrySend,
    TrySendFull,
    /// On a full ring, until the receiver takes a message: when the victim is about to sleep.
    SendWaiting,
    ReservePublish,
    /// A place that is given up.
    ReserveDrop,
    SendSlice,
    SenderLeave,
    /// With a reservation that was forgotten.
    SenderLeaveOpen,
    TryRecv,
    TryRecvEmpty,
    /// On an empty ring, until somebody sends: when the victim is about to sleep.
    RecvWaiting,
    /// On an empty ring, sleeping in vain.
    RecvTimeout,
    /// With the claim of somebody dead in the way.
    RecvPastClaim,
    /// On an empty ring whose sender has died.
    RecvTold,
    PeekConsume,
    RecvSlice,
    Drain,
    ReceiverLeave,
    Create,
    SenderJoin,
    /// A ring that nobody uses, and that somebody removes meanwhile.
    JoinRemoved,
    Clone,
    /// In the place of somebody who died between two calls.
    SenderTakeover,
    /// In the place of somebody who was killed amid `try_send`: a crash while recovering from a crash.
    SenderRecovery,
    ReceiverJoin,
    ReceiverTakeover,
    /// In the place of somebody who was killed amid `try_recv`.
    ReceiverRecovery,
    /// The last one leaves a ring that goes when idle.
    LastLeave,
    Remove,
    /// In vain.
    RemoveInUse,
}

use Operation as Op;

impl Operation {
    /// Messages of a batch at most.
    pub(crate) const BATCH: usize = 3;

    pub(crate) const ALL: [Self; 30] = [
        Self::TrySend,
        Self::TrySendFull,
        Self::SendWaiting,
        Self::ReservePublish,
        Self::ReserveDrop,
        Self::SendSlice,
        Self::SenderLeave,
        Self::SenderLeaveOpen,
        Self::TryRecv,
        Self::TryRecvEmpty,
        Self::RecvWaiting,
        Self::RecvTimeout,
        Self::RecvPastClaim,
        Self::RecvTold,
        Self::PeekConsume,
        Self::RecvSlice,
        Self::Drain,
        Self::ReceiverLeave,
        Self::Create,
        Self::SenderJoin,
        Self::JoinRemoved,
        Self::Clone,
        Self::SenderTakeover,
        Self::SenderRecovery,
        Self::ReceiverJoin,
        Self::ReceiverTakeover,
        Self::ReceiverRecovery,
        Self::LastLeave,
        Self::Remove,
        Self::RemoveInUse,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TrySend => "try_send",
            Self::TrySendFull => "try_send/full",
            Self::SendWaiting => "send/waiting",
            Self::ReservePublish => "reserve/publish",
            Self::ReserveDrop => "reserve/drop",
            Self::SendSlice => "try_send_slice",
            Self::SenderLeave => "sender/leave",
            Self::SenderLeaveOpen => "sender/leave-open",
            Self::TryRecv => "try_recv",
            Self::TryRecvEmpty => "try_recv/empty",
            Self::RecvWaiting => "recv/waiting",
            Self::RecvTimeout => "recv/timeout",
            Self::RecvPastClaim => "recv/past-claim",
            Self::RecvTold => "recv/told",
            Self::PeekConsume => "peek/consume",
            Self::RecvSlice => "try_recv_slice",
            Self::Drain => "drain",
            Self::ReceiverLeave => "receiver/leave",
            Self::Create => "create",
            Self::SenderJoin => "sender/join",
            Self::JoinRemoved => "sender/join-removed",
            Self::Clone => "sender/clone",
            Self::SenderTakeover => "sender/take-over",
            Self::SenderRecovery => "sender/recovery",
            Self::ReceiverJoin => "receiver/join",
            Self::ReceiverTakeover => "receiver/take-over",
            Self::ReceiverRecovery => "receiver/recovery",
            Self::LastLeave => "last/leave",
            Self::Remove => "remove",
            Self::RemoveInUse => "remove/in-use",
        }
    }

    /// Whether the victim comes in it. That takes a hundred times as many instructions as a call.
    pub(crate) fn is_long(self) -> bool {
        matches!(
            self,
            Op::Create
                | Op::SenderJoin
                | Op::JoinRemoved
                | Op::Clone
                | Op::SenderTakeover
                | Op::SenderRecovery
                | Op::ReceiverJoin
                | Op::ReceiverTakeover
                | Op::ReceiverRecovery
                | Op::LastLeave
                | Op::Remove
                | Op::RemoveInUse
        )
    }

    /// Whether kind has it.
    pub(crate) fn is_of(self, kind: Kind) -> bool {
        match self {
            Op::SenderLeaveOpen | Op::RecvPastClaim => kind == Kind::Mpsc,
            Op::Clone => kind != Kind::Spsc,
            _ => true,
        }
    }

    /// The operation amid which a predecessor is killed, and as whom.
    pub(crate) fn wrecked(self) -> Option<(Self, Seat)> {
        match self {
            Op::SenderRecovery | Op::RecvPastClaim => Some((Op::TrySend, FIRST)),
            Op::ReceiverRecovery => Some((Op::TryRecv, RECEIVER)),
            _ => None,
        }
    }

    /// As whom the victim operates. In the end it is nobody who removes.
    pub(crate) fn seat(self) -> Seat {
        match self {
            Op::TrySend
            | Op::TrySendFull
            | Op::SendWaiting
            | Op::ReservePublish
            | Op::ReserveDrop
            | Op::SendSlice
            | Op::SenderLeave
            | Op::SenderLeaveOpen
            | Op::LastLeave => FIRST,
            Op::TryRecv
            | Op::TryRecvEmpty
            | Op::RecvWaiting
            | Op::RecvTimeout
            | Op::RecvPastClaim
            | Op::RecvTold
            | Op::PeekConsume
            | Op::RecvSlice
            | Op::Drain
            | Op::ReceiverLeave
            | Op::ReceiverJoin
            | Op::ReceiverTakeover
            | Op::ReceiverRecovery => RECEIVER,
            Op::Create
            | Op::SenderJoin
            | Op::JoinRemoved
            | Op::Clone
            | Op::SenderTakeover
            | Op::SenderRecovery
            | Op::Remove
            | Op::RemoveInUse => NEWCOMER,
        }
    }

    /// Whether the victim is there before the operation, as whom it is.
    pub(crate) fn is_a_call(self) -> bool {
        !self.is_long() || matches!(self, Op::LastLeave)
    }

    /// Whether the operation sends.
    pub(crate) fn sends(self) -> bool {
        matches!(
            self,
            Op::TrySend | Op::SendWaiting | Op::ReservePublish | Op::SendSlice
        )
    }

    /// Whether it takes a place for a message, which a killed victim may leave empty.
    pub(crate) fn claims(self) -> bool {
        self.sends() || self == Op::ReserveDrop
    }

    /// Whether, when all is done, somebody who slept must have been called by the victim.
    pub(crate) fn calls(self) -> bool {
        self.sends()
            || matches!(
                self,
                Op::SenderLeave
                    | Op::TryRecv
                    | Op::PeekConsume
                    | Op::RecvSlice
                    | Op::Drain
                    | Op::ReceiverLeave
            )
    }

    /// Whether it ends the ring, if nothing happens.
    pub(crate) fn ends_the_ring(self) -> bool {
        matches!(self, Op::LastLeave | Op::Remove)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Operation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL
            .into_iter()
            .find(|operation| operation.name() == text);
        known.with_context(|| format!("no operation is called {text:?}"))
    }
}

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
pub(crate) enum Moment {
    Never,
    /// After the operation has changed the segment so often.
    Change(usize),
    /// When the victim is about to make its system call with this number.
    SystemCall(usize),
    /// When the victim is about to sleep for the first time.
    Asleep,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Change(changes) => write!(f, "{changes}"),
            Self::SystemCall(number) => write!(f, "call-{number}"),
            Self::Asleep => f.write_str("asleep"),
        }
    }
}

impl FromStr for Moment {
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
    pub(crate) advance: Moment,
    pub(crate) by: usize,
    /// How many times a predecessor that was killed had changed the segment; 0 if none was.
    pub(crate) wreck: usize,
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
        } = self;
        write!(f, "{kind} {operation} words={words} capacity={capacity} ")?;
        match start.wrapping_neg() {
            below @ 1..=0xffff => write!(f, "start=2^64-{below}")?,
            _ => write!(f, "start={start}")?,
        }
        write!(
            f,
            " history={history} backlog={backlog} peer={peer} advance={advance} by={by} wreck={wreck}"
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
            Kind::Mpsc if self.has_second() && index % 2 == 1 => vec![SECOND],
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
