//! What happened how often.

use crate::ledger::Doing;
use std::fmt;
use std::time::Duration;

/// The processes of one side that were killed.
#[derive(Default)]
pub(crate) struct Killed {
    doing: [u64; Doing::ALL.len()],
    /// Of those in a call, the ones that slept. As the kernel saw it just before.
    asleep: u64,
    while_stopped: u64,
}

impl Killed {
    pub(crate) fn count(&mut self, doing: Doing, slept: bool, was_stopped: bool) {
        self.doing[doing as usize] += 1;
        self.asleep += u64::from(doing == Doing::Calling && slept);
        self.while_stopped += u64::from(was_stopped);
    }

    pub(crate) fn while_doing(&self, doing: Doing) -> u64 {
        self.doing[doing as usize]
    }

    fn all(&self) -> u64 {
        self.doing.iter().sum()
    }

    /// Those that the library had begun to do something for, and had not ended.
    fn inside(&self) -> u64 {
        let inside = [
            Doing::Joining,
            Doing::Calling,
            Doing::Holding,
            Doing::Leaving,
        ];
        inside.map(|doing| self.while_doing(doing)).iter().sum()
    }

    fn were_enough(&self) -> bool {
        self.all() >= 40
            && self.while_doing(Doing::Joining) >= 2
            && self.while_doing(Doing::Calling) >= 10
            && self.while_doing(Doing::Holding) >= 2
            && self.while_doing(Doing::Leaving) >= 1
            && self.asleep >= 2
            && self.while_stopped >= 2
    }
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for doing in Doing::ALL {
            write!(f, "{:10}", self.while_doing(doing))?;
        }
        write!(f, "{:10}{:10}", self.asleep, self.while_stopped)
    }
}

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) senders: Killed,
    pub(crate) receivers: Killed,
    pub(crate) stopped: u64,
    pub(crate) left: u64,
    /// How long it took at most until everybody who lived had come on, when nobody was struck any more.
    pub(crate) calm: Duration,
}

impl Tally {
    pub(crate) fn kills(&self) -> u64 {
        self.senders.all() + self.receivers.all()
    }

    /// Of all kills, those at a moment that matters.
    pub(crate) fn share_inside(&self) -> f64 {
        (self.senders.inside() + self.receivers.inside()) as f64 / self.kills().max(1) as f64
    }

    /// Whether the storm was one.
    pub(crate) fn is_enough(&self) -> bool {
        self.senders.were_enough()
            && self.receivers.were_enough()
            && self.stopped >= 10
            && self.left >= 3
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  killed   ")?;
        for doing in Doing::ALL {
            write!(f, "{:>10}", format!("{doing:?}"))?;
        }
        writeln!(f, "{:>10}{:>10}", "(Asleep)", "(Stopped)")?;
        writeln!(f, "  senders  {}", self.senders)?;
        write!(f, "  receivers{}", self.receivers)
    }
}
