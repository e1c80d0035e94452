//! The ring under test: which kind, of which messages, under which name; and how each kind is built.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail};
use ipc_ring::{
    Builder, Lanes, Locked, Mpsc, OpenError, Sender, ShmMessage, Spsc, Wait, lanes, locked, mpsc,
    spsc,
};

use crate::image::Object;

/// Which algorithm carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Spsc,
    Mpsc,
    Lanes,
    Locked,
}

/// No ring of ours has more senders.
pub(crate) const MOST_SENDERS: usize = 2;

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Spsc, Self::Mpsc, Self::Lanes, Self::Locked];

    /// How many senders there may be in our rings: as few as let one of several die.
    pub(crate) fn senders(self) -> usize {
        match self {
            Self::Spsc => 1,
            Self::Mpsc | Self::Lanes | Self::Locked => MOST_SENDERS,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Spsc => "spsc",
            Self::Mpsc => "mpsc",
            Self::Lanes => "lanes",
            Self::Locked => "locked",
        }
    }

    /// Whether senders have slots in common, in which one may have a place that stays empty when it dies.
    pub(crate) fn shares_slots(self) -> bool {
        matches!(self, Self::Mpsc | Self::Locked)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == text);
        known.with_context(|| format!("no kind is called {text:?}"))
    }
}

/// How all sides wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Way {
    Futex,
    Semaphore,
    Queue,
}

impl Way {
    /// Those but the default. (Nothing is promised for condition variables; and who does not sleep makes no wakes.)
    pub(crate) const OTHERS: [Self; 2] = [Self::Semaphore, Self::Queue];

    fn name(self) -> &'static str {
        match self {
            Self::Futex => "futex",
            Self::Semaphore => "semaphore",
            Self::Queue => "queue",
        }
    }

    fn wait(self) -> Wait {
        match self {
            Self::Futex => Wait::Futex,
            Self::Semaphore => Wait::Semaphore,
            Self::Queue => Wait::MessageQueue,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Way {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut all = [Self::Futex].into_iter().chain(Self::OTHERS);
        let known = all.find(|way| way.name() == text);
        known.with_context(|| format!("no way to wait is called {text:?}"))
    }
}

/// Everything that two processes must agree on to meet.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    pub(crate) kind: Kind,
    /// The size of a message, in words of 8 bytes.
    pub(crate) words: usize,
    pub(crate) capacity: usize,
    /// The position of the first message.
    pub(crate) start: u64,
    pub(crate) way: Way,
    /// Whether it goes with the last one who leaves.
    pub(crate) goes_when_idle: bool,
    pub(crate) object: Object,
}

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            words,
            capacity,
            start,
            way,
            goes_when_idle,
            object: Object { namespace, name },
        } = self;
        write!(
            f,
            "{kind} {words} {capacity} {start} {way} {goes_when_idle} {namespace} {name}"
        )
    }
}

impl FromStr for Ring {
    type Err = Error;

    /// Parses what `Display` printed.
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split(' ').collect::<Vec<_>>();
        let [
            kind,
            words,
            capacity,
            start,
            way,
            goes_when_idle,
            namespace,
            name,
        ] = parts[..]
        else {
            bail!("{text:?} is no ring");
        };
        Ok(Self {
            kind: kind.parse()?,
            words: words.parse()?,
            capacity: capacity.parse()?,
            start: start.parse()?,
            way: way.parse()?,
            goes_when_idle: goes_when_idle.parse()?,
            object: Object {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
        })
    }
}

/// What differs between the kinds for who uses them.
pub(crate) trait Carries: ipc_ring::Kind {
    fn named<T: ShmMessage>(name: &str) -> Builder<T, Self>;

    /// States how many senders there may be, where that can be stated.
    fn of_senders<T: ShmMessage>(builder: Builder<T, Self>, senders: usize) -> Builder<T, Self>;

    /// Joins once more. None if the kind has one sender.
    fn clone_of<T: ShmMessage>(
        sender: &Sender<T, Self>,
    ) -> Option<Result<Sender<T, Self>, OpenError>>;
}

impl Carries for Spsc {
    fn named<T: ShmMessage>(name: &str) -> Builder<T, Self> {
        spsc(name)
    }

    fn of_senders<T: ShmMessage>(builder: Builder<T, Self>, _: usize) -> Builder<T, Self> {
        builder
    }

    fn clone_of<T: ShmMessage>(_: &Sender<T, Self>) -> Option<Result<Sender<T, Self>, OpenError>> {
        None
    }
}

macro_rules! carries_for_several {
    ($kind:ident, $named:ident) => {
        impl Carries for $kind {
            fn named<T: ShmMessage>(name: &str) -> Builder<T, Self> {
                $named(name)
            }

            fn of_senders<T: ShmMessage>(
                builder: Builder<T, Self>,
                senders: usize,
            ) -> Builder<T, Self> {
                builder.max_senders(senders as u32)
            }

            fn clone_of<T: ShmMessage>(
                sender: &Sender<T, Self>,
            ) -> Option<Result<Sender<T, Self>, OpenError>> {
                Some(sender.try_clone())
            }
        }
    };
}

carries_for_several!(Mpsc, mpsc);
carries_for_several!(Lanes, lanes);
carries_for_several!(Locked, one_receiver);

/// With one receiver, who hears what a killed predecessor may not have heard, and has what that one had in hand.
fn one_receiver<T: ShmMessage>(name: &str) -> Builder<T, Locked> {
    locked(name).max_receivers(1)
}

impl Ring {
    /// Opens it.
    pub(crate) fn opener<T: ShmMessage, K: Carries>(&self) -> Builder<T, K> {
        K::named(&self.object.name).namespace(&self.object.namespace)
    }

    /// Opens or creates it.
    pub(crate) fn creator<T: ShmMessage, K: Carries>(&self) -> Builder<T, K> {
        let builder = self
            .opener()
            .capacity(self.capacity)
            .wait(self.way.wait())
            .start_position(self.start);
        let builder = if self.goes_when_idle {
            builder.remove_when_idle()
        } else {
            builder
        };
        K::of_senders(builder, self.kind.senders())
    }
}
