//! The operations in which a victim may be killed, and what is known of each without looking at a ring.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Error, Result};

use crate::event::{FIRST, NEWCOMER, RECEIVER, Seat};
use crate::ring::Kind;

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
    /// A ring in which no place is free.
    JoinRefused,
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

    pub(crate) const ALL: [Self; 31] = [
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
        Self::JoinRefused,
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
            Self::JoinRefused => "sender/join-refused",
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
                | Op::JoinRefused
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

    /// Whether `kind` has it.
    pub(crate) fn is_of(self, kind: Kind) -> bool {
        match self {
            Op::SenderLeaveOpen => kind.shares_slots(),
            Op::RecvPastClaim => kind == Kind::Mpsc,
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
            | Op::JoinRefused
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

    /// Whether the victim takes part, at the latest when it is done.
    pub(crate) fn takes_part(self) -> bool {
        !matches!(self, Op::Remove | Op::RemoveInUse | Op::JoinRefused)
    }

    /// Whether the victim comes or leaves in it: before it returns, nobody can say whether it is there.
    pub(crate) fn comes_or_leaves(self) -> bool {
        let leaves = matches!(
            self,
            Op::SenderLeave | Op::SenderLeaveOpen | Op::ReceiverLeave
        );
        leaves || self.is_long() && self.takes_part()
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
