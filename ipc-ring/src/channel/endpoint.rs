//! What both sides of a channel have in common: joining, leaving, waiting, and word of the other side.

use super::Peer;
use crate::error::Role;
use crate::layout::{Entry, Side};
use crate::participant::{Dead, Session, end_unless};
use crate::segment::mapped::Segment;
use crate::sync::{Ordering, spin_loop};
use crate::sys::membarrier;
use crate::wait::{LEFT, SLICE, Sleeper, Wait, Waker, slice};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// How long to poll before sleeping: about what going to sleep and being woken costs.
const SPIN: Duration = Duration::from_micros(10);
/// Looks between two glances at the clock.
pub(super) const LOOKS: u32 = 32;

/// The participant's index that goes with a role of an SPSC ring.
pub(super) const fn index_of(role: Role) -> u32 {
    match role {
        Role::Sender => 0,
        Role::Receiver => 1,
    }
}

const fn other(role: Role) -> Role {
    match role {
        Role::Sender => Role::Receiver,
        Role::Receiver => Role::Sender,
    }
}

/// Why waiting ended without what was waited for.
pub(super) enum Stop {
    TimedOut,
    /// The other side has left.
    Closed,
    Died(Dead),
    NameLost,
}

/// A participant's cold state.
pub(super) struct Endpoint {
    segment: Segment,
    peer: u32,
    wait: Wait,
    keep_open: bool,
    spin: Duration,
    sleeper: Sleeper,
    /// The number of our own session.
    session: u64,
    /// A session of the peer that had ended before we joined and left us nothing: as if there had been none.
    bygone: Option<u64>,
    /// The peer's session that is known to be dead, and whether the user was told.
    dead: Option<Dead>,
    told_dead: bool,
    told_name_lost: bool,
}

impl Endpoint {
    /// Takes `role` in a segment whose lock for it we hold. Not joined yet.
    pub(super) fn new(segment: Segment, role: Role, keep_open: bool) -> Self {
        let wait = Wait::from_id(segment.places().header.wait).unwrap_or_default();
        let alone = available_parallelism().is_ok_and(|cores| cores.get() == 1);
        let spin = match wait {
            Wait::Spin => SLICE,
            Wait::Futex if alone => Duration::ZERO,
            Wait::Futex => SPIN,
        };
        let session = segment.own_entry().next_number();
        Self {
            peer: index_of(other(role)),
            segment,
            wait,
            keep_open,
            spin,
            sleeper: Sleeper::new(session),
            session,
            bygone: None,
            dead: None,
            told_dead: false,
            told_name_lost: false,
        }
    }

    /// What this process wakes the other side by.
    pub(super) fn waker(&self) -> Waker {
        Waker::new(match self.wait {
            // Nobody ever sleeps.
            Wait::Spin => true,
            Wait::Futex => membarrier::register(),
        })
    }

    /// Joins. A session of the peer that ended before is not ours to hear of if it left nothing for us to do.
    pub(super) fn join(&mut self, role: Role, left_nothing: impl FnOnce() -> bool) {
        let ended = match (self.peer_entry().session(), role) {
            (Session::Left(number), _) => Some(number),
            (Session::Joined(number), Role::Receiver) => self.ask_for_death().map(|_| number),
            // A sender that finds a full ring and a dead receiver wants to know.
            _ => None,
        };
        // Looked at after the ending: what the peer did before is visible.
        self.bygone = ended.filter(|_| left_nothing());
        self.segment.own_entry().join(self.session);
        // Takes back that a predecessor left, and wakes that it asked for. After joining: if we are killed in between,
        // the role is still one that was left.
        side(&self.segment, role)
            .attention
            .0
            .store(0, Ordering::Release);
    }

    /// Leaves, and says so to a peer that waits for us.
    pub(super) fn leave(&mut self, role: Role, waker: &mut Waker) {
        let (mine, theirs) = (side(&self.segment, role), side(&self.segment, other(role)));
        mine.attention.0.store(LEFT, Ordering::Release);
        self.segment.own_entry().leave(self.session);
        waker.notify_surely(&theirs.attention.0, &mine.bell.0);
    }

    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    fn peer_entry(&self) -> &Entry {
        self.segment.places().entry(self.peer)
    }

    /// The peer's session, leaving out bygones.
    fn peer_session(&self) -> Session {
        match self.peer_entry().session() {
            Session::Left(number) | Session::Joined(number) if self.bygone == Some(number) => {
                Session::Never
            }
            session => session,
        }
    }

    /// Whether the other side has left, as its words say, for us to heed.
    pub(super) fn is_closed(&self) -> bool {
        !self.keep_open && matches!(self.peer_session(), Session::Left(_))
    }

    fn ask_for_death(&self) -> Option<Dead> {
        self.peer_entry()
            .death(self.peer, self.segment.index(), self.segment.file())
    }

    /// What is known of the peer's end without asking the kernel. For [`end_unless`].
    pub(super) fn known_ending(&self) -> Option<Stop> {
        if self.keep_open {
            return None;
        }
        match self.peer_session() {
            Session::Never => None,
            Session::Left(_) => Some(Stop::Closed),
            Session::Joined(number) => {
                let dead = self.dead.as_ref().filter(|dead| dead.number == number)?;
                // A receiver that was told waits for the next sender, a sender hears it each time that the ring is full.
                let again = self.peer == index_of(Role::Receiver) || !self.told_dead;
                again.then_some(Stop::Died(*dead))
            }
        }
    }

    /// Notes what the user is about to be told, for what is said only once.
    pub(super) fn told(&mut self, stop: &Stop) {
        match stop {
            Stop::Died(_) => self.told_dead = true,
            Stop::NameLost => self.told_name_lost = true,
            Stop::Closed | Stop::TimedOut => {}
        }
    }

    /// Asks the kernel about the peer and keeps what it says.
    fn learn(&mut self) {
        let known = self.dead.as_ref().map(|dead| dead.number);
        if let Some(dead) = self
            .ask_for_death()
            .filter(|dead| Some(dead.number) != known)
        {
            self.told_dead = false;
            self.dead = Some(dead);
        }
    }

    /// The peer, by the kernel's word.
    pub(super) fn peer(&mut self) -> Peer {
        self.learn();
        match self.peer_entry().session() {
            Session::Never => Peer::Never,
            Session::Left(_) => Peer::Left,
            Session::Joined(number) => match &self.dead {
                // Its own identity: a successor may have written another one already.
                Some(Dead { number: dead, who }) if *dead == number => Peer::Died {
                    pid: who.pid,
                    program: who.program(),
                },
                _ => {
                    let who = self.peer_entry().identity();
                    Peer::Alive {
                        pid: who.pid,
                        program: who.program(),
                    }
                }
            },
        }
    }

    /// Waits until `ready`, for the time until `deadline`. `mine` and `theirs` are the sides' words. Ends early if
    /// the other side does and `ready` does not hold afterwards.
    pub(super) fn wait(
        &mut self,
        mine: &Side,
        theirs: &Side,
        waker: &mut Waker,
        deadline: Option<Instant>,
        ready: impl Fn() -> bool,
    ) -> Result<(), Stop> {
        self.sleeper.relax(&mine.attention);
        if self.poll(self.spin, deadline, &ready) {
            return Ok(());
        }
        let waited = self.wait_long(mine, theirs, waker, deadline, ready);
        self.sleeper.wake_up(&mine.attention, &theirs.bell);
        waited
    }

    fn wait_long(
        &mut self,
        mine: &Side,
        theirs: &Side,
        waker: &mut Waker,
        deadline: Option<Instant>,
        ready: impl Fn() -> bool,
    ) -> Result<(), Stop> {
        // The peer's words are looked at before each sleep; the kernel is asked once a slice, and before giving up.
        let mut ask = self.wait == Wait::Spin;
        let mut slices = 0;
        loop {
            let session = self.peer_entry().session();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let over = left.is_some_and(|left| left.is_zero());
            let ending = || self.ending(ask || over).or(over.then_some(Stop::TimedOut));
            match end_unless(ending, || ready().then_some(())) {
                Ok(()) => return Ok(()),
                Err(Some(stop)) => return Err(stop),
                Err(None) => {}
            }
            match self.wait {
                Wait::Spin => {
                    if self.poll(SLICE, deadline, &ready) {
                        return Ok(());
                    }
                }
                Wait::Futex => {
                    // Before we sleep, whoever waits for us is woken: one that a killed predecessor of ours, or
                    // of its, forgot.
                    waker.notify_surely(&theirs.attention.0, &mine.bell.0);
                    let timeout = slice(slices).min(left.unwrap_or(Duration::MAX));
                    let entry = self.segment.places().entry(self.peer);
                    let look = || ready() || entry.session() != session;
                    self.sleeper
                        .sleep(&mine.attention, &theirs.bell, timeout, look);
                    if ready() {
                        return Ok(());
                    }
                }
            }
            ask = true;
            slices += 1;
        }
    }

    fn ending(&mut self, ask: bool) -> Option<Stop> {
        if !ask {
            return self.known_ending();
        }
        self.learn();
        let nameless = || !self.told_name_lost && !self.segment.has_name();
        self.known_ending()
            .or_else(|| nameless().then_some(Stop::NameLost))
    }

    /// Polls for `time`, and not beyond `deadline`.
    fn poll(&self, time: Duration, deadline: Option<Instant>, ready: impl Fn() -> bool) -> bool {
        // The first looks cost no glance at the clock.
        let mut begun = None;
        loop {
            for _ in 0..LOOKS {
                if ready() {
                    return true;
                }
                spin_loop();
            }
            let now = Instant::now();
            if now - *begun.get_or_insert(now) >= time
                || deadline.is_some_and(|deadline| now >= deadline)
            {
                return false;
            }
        }
    }
}

/// The words of a role.
fn side(segment: &Segment, role: Role) -> &Side {
    match role {
        Role::Sender => segment.places().sender_words(),
        Role::Receiver => segment.places().receiver_words(),
    }
}
