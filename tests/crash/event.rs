//! What survivors report, one line an event, so that what was seen before a survivor hung is not lost with it.

use std::fmt;

use crate::message::Tag;

/// Which side of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Sender,
    Receiver,
}

/// What a waiting call was told about the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Died,
    Closed,
    /// Nothing, for as long as it waited.
    Timeout,
}

/// What a survivor did, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Joined(Role),
    Sent(Tag),
    Full,
    Received(Tag),
    Empty,
    /// A call of this side ended because of what it was told about the other side.
    Told(Role, Ending),
    /// Both survivors have left, the segment is removed, and everything they had opened is closed.
    Finished,
    /// Anything that no promise allows, in words.
    Failed(String),
}

const WORDS: [(&str, Event); 10] = [
    ("joined sender", Event::Joined(Role::Sender)),
    ("joined receiver", Event::Joined(Role::Receiver)),
    ("full", Event::Full),
    ("empty", Event::Empty),
    (
        "sender: receiver died",
        Event::Told(Role::Sender, Ending::Died),
    ),
    (
        "sender: receiver left",
        Event::Told(Role::Sender, Ending::Closed),
    ),
    (
        "sender: timeout",
        Event::Told(Role::Sender, Ending::Timeout),
    ),
    (
        "receiver: sender died",
        Event::Told(Role::Receiver, Ending::Died),
    ),
    (
        "receiver: sender left",
        Event::Told(Role::Receiver, Ending::Closed),
    ),
    (
        "receiver: timeout",
        Event::Told(Role::Receiver, Ending::Timeout),
    ),
];

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(tag) => write!(f, "sent {tag}"),
            Self::Received(tag) => write!(f, "received {tag}"),
            Self::Failed(text) => write!(f, "failed {}", text.escape_debug()),
            Self::Finished => f.write_str("finished"),
            other => match WORDS.iter().find(|(_, event)| event == other) {
                Some((word, _)) => f.write_str(word),
                None => unreachable!("every other event has a fixed word"),
            },
        }
    }
}

impl Event {
    /// Parses what `Display` printed. Anything else is a failure in itself.
    pub(crate) fn parse(line: &str) -> Self {
        let fixed = WORDS
            .iter()
            .find(|(word, _)| *word == line)
            .map(|(_, event)| event.clone());
        let tagged = || match line.split_once(' ')? {
            ("sent", tag) => Tag::parse(tag).map(Self::Sent),
            ("received", tag) => Tag::parse(tag).map(Self::Received),
            ("failed", text) => Some(Self::Failed(text.to_owned())),
            _ => None,
        };
        match line {
            "finished" => Self::Finished,
            _ => fixed
                .or_else(tagged)
                .unwrap_or_else(|| Self::Failed(format!("said {line:?}"))),
        }
    }

    /// Whether a survivor says nothing more after this.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Self::Finished | Self::Failed(_))
    }
}
