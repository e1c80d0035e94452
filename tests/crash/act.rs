//! What the explorer asks processes to do, one line an act.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail};

use crate::event::Seat;
use crate::operation::Operation;
use crate::ring::Ring;

/// One act of one process. It answers with events, of which the last is `Done` or `Failed`.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// All that follows is about this ring. What the process still holds of an earlier one, it loses as if it had died.
    Take(Ring),
    /// Opens or creates the ring.
    Join(Seat),
    /// Sends the participant's next message, without waiting.
    Send(Seat),
    /// Reserves a place and forgets it.
    Reserve(Seat),
    Receive,
    /// Goes to sleep in a call on another thread: the receiver for a message, a sender for room.
    Sleep(Seat),
    Leave(Seat),
    /// Loses the handle as a death would: no destructor, and the kernel takes the mapping and its lock.
    Vanish(Seat),
    /// Removes the ring, if nobody uses it.
    Remove,
    /// The receiver leaves and comes back.
    Return,
    /// All whom the process plays send and receive what they can, for some laps, while the victim stands still.
    Lap,
    /// The operation under test, between two markers.
    Operate(Operation, Seat),
    /// What those who live on do after a crash: see [`crate::recovery`].
    Recover(Order),
}

/// How many times survivors must have filled and emptied the ring when they have recovered.
pub(crate) const LAPS: usize = 3;

/// In which order survivors look after the crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    /// The receiver, or its successor, drains what is there and is told about senders; then new senders come.
    ReceiverFirst,
    /// New senders come, in the places of the dead, and all fill the ring; then the receiver looks.
    SenderFirst,
    /// Nothing, for ever. A negative control of the watchdog.
    Stall,
}

impl Order {
    /// The orders in which every image is recovered.
    pub(crate) const RECOVERIES: [Self; 2] = [Self::ReceiverFirst, Self::SenderFirst];

    fn name(self) -> &'static str {
        match self {
            Self::ReceiverFirst => "receiver-first",
            Self::SenderFirst => "sender-first",
            Self::Stall => "stall",
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Order {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::ReceiverFirst, Self::SenderFirst, Self::Stall];
        let known = all.into_iter().find(|order| order.name() == text);
        known.with_context(|| format!("no order is called {text:?}"))
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Take(ring) => write!(f, "take {ring}"),
            Self::Join(seat) => write!(f, "join {seat}"),
            Self::Send(seat) => write!(f, "send {seat}"),
            Self::Reserve(seat) => write!(f, "reserve {seat}"),
            Self::Receive => f.write_str("receive -"),
            Self::Sleep(seat) => write!(f, "sleep {seat}"),
            Self::Leave(seat) => write!(f, "leave {seat}"),
            Self::Vanish(seat) => write!(f, "vanish {seat}"),
            Self::Remove => f.write_str("remove -"),
            Self::Return => f.write_str("return -"),
            Self::Lap => f.write_str("lap -"),
            Self::Operate(operation, seat) => write!(f, "operate {seat} {operation}"),
            Self::Recover(order) => write!(f, "recover {order}"),
        }
    }
}

impl FromStr for Act {
    type Err = Error;

    /// Parses what `Display` printed.
    fn from_str(line: &str) -> Result<Self> {
        let (word, rest) = line.split_once(' ').context("an act of one word")?;
        Ok(match word {
            "take" => Self::Take(rest.parse()?),
            "join" => Self::Join(rest.parse()?),
            "send" => Self::Send(rest.parse()?),
            "reserve" => Self::Reserve(rest.parse()?),
            "receive" => Self::Receive,
            "sleep" => Self::Sleep(rest.parse()?),
            "leave" => Self::Leave(rest.parse()?),
            "vanish" => Self::Vanish(rest.parse()?),
            "remove" => Self::Remove,
            "return" => Self::Return,
            "lap" => Self::Lap,
            "operate" => {
                let (seat, operation) = rest.split_once(' ').context("operate as whom?")?;
                Self::Operate(operation.parse()?, seat.parse()?)
            }
            "recover" => Self::Recover(rest.parse()?),
            _ => bail!("nobody knows how to {line:?}"),
        })
    }
}
