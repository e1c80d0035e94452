//! What both sides of a channel have in common: joining, leaving, waiting, and word of the other side.

use super::kind::Mechanism;
use super::participants::{self, Peer};
use super::peers::Peers;
use crate::error::Role;
use crate::layout::{Call, Counters, attention};
use crate::participant::{Dead, Session, end_unless, is_alive};
use crate::ring::{Look, Ring, Slots};
use crate::segment::mapped::Segment;
use crate::sync::{AtomicU64, Fault, Ordering, fence, planted, spin_loop};
use crate::sys::membarrier;
use crate::wait::{Called, READY, ROOM, Reach, SLICE, Sleeper, Wait, Waker, slice};
use std::cell::OnceCell;
use std::sync::OnceLock;
use std::thread::{available_parallelism, yield_now};
use std::time::{Duration, Instant};

/// Looks between two glances at the clock.
const LOOKS: u32 = 32;

/// How a handle waits, as its user asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// It does not hear of endings.
    pub(super) keep_open: bool,
    /// How long to poll before sleeping.
    pub(super) poll: Duration,
}

impl Habits {
    /// How often to look before the clock is asked.
    pub(super) fn looks(&self) -> u32 {
        if self.poll.is_zero() { 0 } else { LOOKS }
    }
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            keep_open: false,
            // About what going to sleep and being woken costs.
            poll: Duration::from_micros(10),
        }
    }
}

/// Why waiting ended without what was waited for.
pub(super) enum Stop {
    TimedOut,
    /// The other side has left.
    Closed,
    Died(Dead),
    NameLost,
    /// The ring can't be had.
    Stuck,
}

/// A participant's cold state.
pub(super) struct Endpoint {
    segment: Segment,
    role: Role,
    peers: Peers,
    wait: Wait,
    habits: Habits,
    sleeper: Sleeper,
    /// The number of our own session.
    session: u64,
    told_name_lost: bool,
    /// When the kernel was last asked about the others, or we joined.
    asked: Instant,
}

impl Endpoint {
    /// Takes `role` in a segment whose lock for it we hold. Not joined yet.
    pub(super) fn new(mut segment: Segment, role: Role, habits: Habits) -> Self {
        let wait = Wait::from_id(segment.places().header.wait).unwrap_or_default();
        let session = segment.own_entry().next_number();
        let alarm = segment.take_alarm();
        Self {
            peers: Peers::of(role, &segment),
            segment,
            role,
            wait,
            habits,
            sleeper: Sleeper::new(session, alarm),
            session,
            told_name_lost: false,
            asked: Instant::now(),
        }
    }

    /// The number of our own session.
    pub(super) fn session(&self) -> u64 {
        self.session
    }

    /// What this process wakes the other side by.
    pub(super) fn waker(&self) -> Waker {
        // Where nobody ever sleeps, nobody has to be reached.
        let reachable = !self.wait.sleeps() || membarrier::register();
        Waker::new(reachable, self.reach(self.role.other()))
    }

    fn reach(&self, role: Role) -> Reach {
        let word = match role {
            Role::Sender => ROOM,
            Role::Receiver => READY,
        };
        let indices = self.segment.places().header.indices(role);
        self.segment.reach(indices, word)
    }

    /// Wakes everybody who sleeps on `ring`, after something was done by which any of them may go on.
    #[cold]
    pub(super) fn call_everybody<S: Slots>(&self, ring: &Ring<S>) {
        for (role, call) in [
            (Role::Sender, ring.to_senders()),
            (Role::Receiver, ring.to_receivers()),
        ] {
            Waker::new(false, self.reach(role)).notify_surely(call);
        }
    }

    /// Wakes those of our own side, who are called by this, for what we leave to them.
    #[cold]
    pub(super) fn call_fellows(&self, call: Call<'_>) {
        Waker::new(false, self.reach(self.role)).notify_surely(call);
    }

    /// Joins. A session of a peer that ended before is not ours to hear of if it left nothing for us to do.
    pub(super) fn join<K: Mechanism>(&mut self) {
        let places = self.segment.places();
        // A receiver that left before we came is not ours to miss.
        let of_all = OnceCell::new();
        let left_nothing = |peer| match self.role {
            Role::Sender => true,
            Role::Receiver if K::SENDERS_SHARE => {
                *of_all.get_or_init(|| K::left_nothing(places, peer))
            }
            Role::Receiver => K::left_nothing(places, peer),
        };
        self.peers.join(&self.segment, left_nothing);
        participants::begin_counting::<K>(&self.segment, self.role);
        // Takes back that a predecessor left, and wakes that it asked for.
        let take_back = || K::set_attention(places, self.role, self.segment.index(), 0);
        if planted(Fault::TakenBackEarly) {
            take_back();
        }
        self.segment.own_entry().join(self.session);
        // After joining: if we are killed in between, the role is still one that was left.
        take_back();
    }

    /// Leaves, and says so to those who wait for us.
    pub(super) fn leave<K: Mechanism>(&mut self, call_others: impl FnOnce()) {
        let (places, index) = (self.segment.places(), self.segment.index());
        let say = |word| K::set_attention(places, self.role, index, word);
        let shares = K::RECEIVERS_SHARE && self.role == Role::Receiver;
        // In a word that receivers share, it is said if no other is left.
        if !shares || self.is_the_last() {
            say(attention::LEFT);
        }
        self.segment.own_entry().leave(self.session);
        if shares && !self.is_the_last_by_now() {
            // One has come meanwhile. Unless that one leaves as well: of two that leave at once, one sees the other gone.
            say(0);
        }
        if shares && self.is_the_last_by_now() {
            say(attention::LEFT);
        }
        call_others();
    }

    /// The same, after what we have stored.
    fn is_the_last_by_now(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_the_last()
    }

    /// Whether nobody else of our side lives, by the kernel's word.
    fn is_the_last(&self) -> bool {
        let (segment, own) = (&self.segment, self.segment.index());
        let places = segment.places();
        let is_there = |index| {
            index != own
                && matches!(places.entry(index).session(), Session::Joined(_))
                && is_alive(index, own, segment.file())
        };
        !places.header.indices(self.role).any(is_there)
    }

    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// As the user asked for.
    pub(super) fn habits(&self) -> Habits {
        self.habits
    }

    /// Whether the other side has left, as its words say, for us to heed.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.known_ending(), Some(Stop::Closed))
    }

    /// What is known of the other side's end without asking the kernel. For [`end_unless`].
    pub(super) fn known_ending(&self) -> Option<Stop> {
        if self.habits.keep_open {
            return None;
        }
        self.peers.known_ending(&self.segment)
    }

    /// Notes what the user is about to be told, for what is said only once.
    pub(super) fn told(&mut self, stop: &Stop) {
        match stop {
            Stop::Died(dead) => self.peers.told(dead),
            Stop::NameLost => self.told_name_lost = true,
            Stop::Closed | Stop::TimedOut | Stop::Stuck => {}
        }
    }

    /// The other side, by the kernel's word: one who lives, else one who died, else that somebody left.
    pub(super) fn peer(&mut self) -> Peer {
        self.peers.learn(&self.segment);
        let (mut died, mut left) = (None, false);
        let (own, file) = (self.segment.index(), self.segment.file());
        for index in self.segment.places().header.indices(self.role.other()) {
            let entry = self.segment.places().entry(index);
            // Its own identity: a successor may have written another one already.
            let known = self.peers.death(&self.segment, index);
            if let Some(Dead { who, .. }) = known.or_else(|| entry.death(index, own, file)) {
                died = Some(who);
                continue;
            }
            match entry.session() {
                Session::Never => {}
                Session::Left(_) => left = true,
                Session::Joined(_) => {
                    let who = entry.identity();
                    return Peer::Alive {
                        pid: who.pid,
                        program: who.program(),
                    };
                }
            }
        }
        match died {
            Some(who) => Peer::Died {
                pid: who.pid,
                program: who.program(),
            },
            None if left => Peer::Left,
            None => Peer::Never,
        }
    }

    /// Whether the participant with this index, which has claimed something, is dead, by the kernel's word. Nobody lives by an
    /// index that may not claim in a ring of this kind.
    pub(super) fn is_dead<K: Mechanism>(&self, index: u32) -> bool {
        let segment = &self.segment;
        let header = &segment.places().header;
        let may_claim = if K::RECEIVERS_SHARE {
            index < header.participants
        } else {
            header.senders().contains(&index)
        };
        !may_claim || !is_alive(index, segment.index(), segment.file())
    }

    /// Our own counters.
    #[inline(always)]
    pub(super) fn counters(&self) -> &Counters {
        &self.segment.own_entry().counters
    }

    /// Waits until `ready`, for the time until `deadline`. Ends early if the other side does and `look` finds nothing
    /// afterwards. `look` is `ready`, past claims of the dead; `call_others` wakes those of the other side that wait for us.
    pub(super) fn wait<E: Called>(
        &mut self,
        end: &mut E,
        deadline: Option<Instant>,
        ready: impl Fn(&mut E) -> bool,
        look: impl Fn(&mut E, &Self) -> Look,
        call_others: impl Fn(&E),
    ) -> Result<(), Stop> {
        count(&self.counters().waits);
        self.sleeper.relax(end);
        let begun = Instant::now();
        // Who never waits for long, since others keep it busy, hears of a death all the same.
        let ask = begun - self.asked >= SLICE;
        if !ask && poll(end, self.pause(), self.spin().min(SLICE), deadline, &ready) {
            return Ok(());
        }
        let waited = self.wait_long(end, (begun, deadline), ask, ready, look, call_others);
        self.sleeper.wake_up(end);
        let slept = self.sleeper.sleeps();
        self.counters().sleeps.store(slept, Ordering::Relaxed);
        waited
    }

    /// What to do between two looks.
    fn pause(&self) -> fn() {
        match self.wait {
            Wait::Yield => yield_now,
            _ => spin_loop,
        }
    }

    /// How long to poll at first.
    fn spin(&self) -> Duration {
        static ALONE: OnceLock<bool> = OnceLock::new();
        let alone = || available_parallelism().is_ok_and(|cores| cores.get() == 1);
        match self.wait {
            // Who does not sleep lets others run, or has a processor for itself.
            wait if wait.sleeps() && *ALONE.get_or_init(alone) => Duration::ZERO,
            _ => self.habits.poll,
        }
    }

    fn wait_long<E: Called>(
        &mut self,
        end: &mut E,
        (begun, deadline): (Instant, Option<Instant>),
        mut ask: bool,
        ready: impl Fn(&mut E) -> bool,
        look: impl Fn(&mut E, &Self) -> Look,
        call_others: impl Fn(&E),
    ) -> Result<(), Stop> {
        // The peers' words are looked at before each sleep; the kernel is asked once a slice, and before giving up.
        let mut slices = 0;
        loop {
            let sessions = self.peers.sessions(&self.segment);
            match look(end, self) {
                Look::Ready => return Ok(()),
                Look::Stuck => return Err(Stop::Stuck),
                Look::Nothing | Look::Held => {}
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let over = left.is_some_and(|left| left.is_zero());
            let ending = self.ending(ask || over);
            match end_unless_found(ending, || look(end, self))? {
                Look::Ready => return Ok(()),
                Look::Stuck => return Err(Stop::Stuck),
                _ if over => return Err(Stop::TimedOut),
                _ => {}
            }
            let polls = match self.wait.sleeps() {
                true => self.spin().saturating_sub(begun.elapsed()).min(SLICE),
                false => SLICE,
            };
            if polls.is_zero() {
                // Before we sleep, whoever waits for us is woken: one that a killed predecessor of ours, or
                // of its, forgot.
                call_others(end);
                let timeout = slice(slices).min(left.unwrap_or(Duration::MAX));
                let (peers, segment) = (&self.peers, &self.segment);
                let stir = |end: &mut E| ready(end) || peers.sessions(segment) != sessions;
                let asleep = Instant::now();
                self.sleeper.sleep(end, timeout, stir);
                if ready(end) {
                    return Ok(());
                }
                // Who is woken for nothing has not slept for long.
                slices += u32::from(asleep.elapsed() >= timeout);
            } else if poll(end, self.pause(), polls, deadline, &ready) {
                return Ok(());
            }
            ask = self.asked.elapsed() >= SLICE;
        }
    }

    fn ending(&mut self, ask: bool) -> Option<Stop> {
        if !ask {
            return self.known_ending();
        }
        self.peers.learn(&self.segment);
        self.asked = Instant::now();
        let nameless = || !self.told_name_lost && !self.segment.has_name();
        self.known_ending()
            .or_else(|| nameless().then_some(Stop::NameLost))
    }
}

/// What there is to do, or why there is nothing any more. Messages of those who ended may lie behind a claim of somebody who
/// lives: that is no end yet.
pub(super) fn end_unless_found(
    ending: Option<Stop>,
    look: impl FnOnce() -> Look,
) -> Result<Look, Stop> {
    let found = || Some(look()).filter(|&found| found != Look::Nothing);
    match end_unless(|| ending, found) {
        Ok(found) => Ok(found),
        Err(None) => Ok(Look::Nothing),
        Err(Some(stop)) => Err(stop),
    }
}

/// Adds one to a counter of our own.
pub(super) fn count(counter: &AtomicU64) {
    let before = counter.load(Ordering::Relaxed);
    counter.store(before.wrapping_add(1), Ordering::Relaxed);
}

/// Polls for `time`, and not beyond `deadline`, with a `pause` between two looks.
fn poll<E>(
    end: &mut E,
    pause: fn(),
    time: Duration,
    deadline: Option<Instant>,
    ready: impl Fn(&mut E) -> bool,
) -> bool {
    // The first looks cost no glance at the clock.
    let mut begun = None;
    // Not one look: who asks for none has looked.
    if time.is_zero() {
        return false;
    }
    loop {
        for _ in 0..LOOKS {
            if ready(end) {
                return true;
            }
            pause();
        }
        let now = Instant::now();
        if now - *begun.get_or_insert(now) >= time
            || deadline.is_some_and(|deadline| now >= deadline)
        {
            return false;
        }
    }
}
