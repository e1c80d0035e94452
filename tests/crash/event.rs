//! What processes report, one line an event, so that what was seen before one of them hung is not lost with it.

use std::fmt;

use crate::message::Tag;

/// A participant, as the log outside the segment knows it: who comes in another's place has another number.
pub(crate) type Seat = u8;

/// The receiver's. Others are senders'.
pub(crate) const RECEIVER: Seat = 0;
/// The sender that has always been there.
pub(crate) const FIRST: Seat = 1;
/// Another one, in the kinds that have several.
pub(crate) const SECOND: Seat = 2;
/// A sender that comes in the operation.
pub(crate) const NEWCOMER: Seat = 3;
/// The first of those who come after the crash.
pub(crate) const FIRST_SUCCESSOR: Seat = 8;

/// What a waiting call was told about the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Died,
    Closed,
    /// Nothing, for as long as it waited.
    Timeout,
}

/// What a process did, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Joined(Seat),
    Left(Seat),
    /// Ended without leaving.
    Vanished(Seat),
    /// Sleeps in a call: the receiver for a message, a sender for room for its next message.
    Asleep(Seat),
    /// Has looked since the crash, was told nothing, and sleeps again.
    SleepsOn(Seat),
    /// Has a place for a message, and has forgotten it.
    Reserved(Seat),
    Sent(Tag),
    Full(Seat),
    Received(Tag),
    /// A look that asked nobody found no message.
    Empty,
    /// A call of this participant ended because of what it was told about the other side.
    Told(Seat, Ending),
    /// The ring was removed.
    Removed,
    /// The ring was not removed: it is in use.
    Refused,
    /// What was asked for is done.
    Done,
    /// Anything that no promise allows, in words.
    Failed(String),
}

const ENDINGS: [(&str, Ending); 3] = [
    ("died", Ending::Died),
    ("closed", Ending::Closed),
    ("timeout", Ending::Timeout),
];

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined(seat) => write!(f, "joined {seat}"),
            Self::Left(seat) => write!(f, "left {seat}"),
            Self::Vanished(seat) => write!(f, "vanished {seat}"),
            Self::Asleep(seat) => write!(f, "asleep {seat}"),
            Self::SleepsOn(seat) => write!(f, "sleeps-on {seat}"),
            Self::Reserved(seat) => write!(f, "reserved {seat}"),
            Self::Sent(tag) => write!(f, "sent {tag}"),
            Self::Full(seat) => write!(f, "full {seat}"),
            Self::Received(tag) => write!(f, "received {tag}"),
            Self::Empty => f.write_str("empty"),
            Self::Told(seat, ending) => {
                let word = ENDINGS.iter().find(|(_, known)| known == ending);
                let (word, _) = word.expect("every ending has a word");
                write!(f, "{word} {seat}")
            }
            Self::Removed => f.write_str("removed"),
            Self::Refused => f.write_str("refused"),
            Self::Done => f.write_str("done"),
            Self::Failed(text) => write!(f, "failed {}", text.escape_debug()),
        }
    }
}

impl Event {
    /// Parses what `Display` printed. Anything else is a failure in itself.
    pub(crate) fn parse(line: &str) -> Self {
        let parsed = match line.split_once(' ') {
            None => match line {
                "empty" => Some(Self::Empty),
                "removed" => Some(Self::Removed),
                "refused" => Some(Self::Refused),
                "done" => Some(Self::Done),
                _ => None,
            },
            Some(("failed", text)) => Some(Self::Failed(text.to_owned())),
            Some(("sent", tag)) => Tag::parse(tag).map(Self::Sent),
            Some(("received", tag)) => Tag::parse(tag).map(Self::Received),
            Some((word, seat)) => seat.parse().ok().and_then(|seat| Self::of(word, seat)),
        };
        parsed.unwrap_or_else(|| Self::Failed(format!("said {line:?}")))
    }

    fn of(word: &str, seat: Seat) -> Option<Self> {
        Some(match word {
            "joined" => Self::Joined(seat),
            "left" => Self::Left(seat),
            "vanished" => Self::Vanished(seat),
            "asleep" => Self::Asleep(seat),
            "sleeps-on" => Self::SleepsOn(seat),
            "reserved" => Self::Reserved(seat),
            "full" => Self::Full(seat),
            _ => {
                let known = ENDINGS.iter().find(|(known, _)| *known == word);
                Self::Told(seat, known?.1)
            }
        })
    }

    /// Whether nothing more is said after this, to what was asked for last.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Self::Done | Self::Failed(_))
    }
}
