//! Sleeping without slowing the awake.
//!
//! Each side (the senders, the receivers) has an **attention** word that it alone writes, on a line that it
//! hardly ever changes; and, for calling the other side, a word **answered** and a **futex** that it alone writes. The
//! three words by which a side is called are a [`Call`].
//!
//! ```text
//! 63                                    2    1       0
//! | arming number, 0 = nobody sleeps   | left | fence |
//! ```
//!
//! The side that sleeps:
//! 1. takes a ticket of the futex word,
//! 2. arms: writes a number that was never answered into its attention word,
//! 3. passes the heavy barrier (`membarrier`, or a fence if the other side is known to fence),
//! 4. looks again: only if there is still nothing to do,
//! 5. sleeps on the ticket, for a slice of time at most;
//! 6. after a slice, goes on with 4 if the futex word is still the ticket, else from 1; in the end it disarms.
//!
//! The side that wakes, after each publish or release:
//! 1. passes the light barrier (nothing but a compiler fence),
//! 2. loads the other side's attention word; if it is as it was, that's all. Otherwise, if it is armed with a
//!    number that was not answered:
//! 3. bumps the futex word and wakes,
//! 4. and only then writes the number as answered: a waker killed before that is healed by the next one.
//!
//! It is Dekker's pattern: either the waker's load (2) sees the arming, or the sleeper's look (4) sees the
//! publish, because a barrier lies between store and load on both sides. The asymmetric form is that of
//! liburcu and of folly's `AsymmetricThreadFence`; see `membarrier(2)`.
//!
//! A sleeper that sleeps often asks for fences by the `fence` bit and saves itself the system call. It believes
//! in them from the next time on: the one `membarrier` that follows the store of the bit makes every later load
//! of the word, anywhere, see it.
//!
//! # Several of a side
//!
//! *Several wakers* share `answered` and the futex. What holds for each number n is: once n is written as answered, the futex
//! word was bumped after n was armed. A slow waker may write an older number over a newer one; then the next one
//! rings once too often.
//!
//! *Several sleepers that share one attention word* (senders of one ring) arm by adding to it, so that each has a number that
//! nobody had before, and a number stands for all that were armed earlier. They never disarm, since a later number may be all
//! that calls for an earlier sleeper: a wait that ended by itself costs the waker one ring for nobody. They don't ask for
//! fences, since each would have to know that nobody takes the bit back. One that releases n slots wakes n sleepers, and answers
//! only when fewer than that were asleep.
//!
//! *One sleeper with several words* (the receiver of lanes) arms all of them, behind one barrier, and sleeps on one futex.
//!
//! An odd number asks for an answer and for no wake: see [`crate::ring::lanes`].
//!
//! # Other ways
//!
//! Where sides sleep by something else than the futex, that takes the place of the wait (5) and of the wake (3); the rest, the bump of
//! the word included, is the same: [`alarm`].
//!
//! Nothing hangs on a wake that does not come: every sleep is sliced ([`slice`]), and each slice looks again.

pub(crate) mod alarm;
mod called;

pub(crate) use called::Called;

use alarm::{Device, Others, Own};

use crate::layout::attention::{self, FENCE};
use crate::layout::{self, Call};
use crate::sync::{AtomicU64, Fault, Ordering, fence, light_barrier, now, planted};
use crate::sys::futex::Futex;
use crate::sys::membarrier;
use std::time::{Duration, Instant};

/// How a side waits when there is nothing to do. Chosen when a ring is created, and the same for all sides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Wait {
    /// Poll, and never sleep: for sides that have a core of their own. A side that waits asks the kernel every 50 ms
    /// whether the others live; otherwise nobody makes a system call. With more sides than cores, one that polls takes the
    /// core from the one that it waits for, most of all from an [`mpsc`](crate::mpsc) sender that is in the middle of a
    /// message.
    Spin,
    /// Like [`Spin`](Self::Spin), but let others run between looks (`sched_yield`): for more sides than cores, where nobody may
    /// sleep. Each look then is a system call.
    Yield,
    /// Poll for about ten microseconds, then sleep on a futex until woken. The fastest way to sleep, and the one whose sleepers and
    /// wakers may be killed at any instruction.
    #[default]
    Futex,
    /// Poll as long, then sleep on a condition variable shared between processes (`pthread_cond_wait`), one for each participant.
    /// For who has to use what POSIX has.
    ///
    /// The C library's own state is in shared memory here, which has a price. Whoever is killed in one of the few instructions in
    /// which it changes that, asleep or waking somebody, can leave another one waiting for ever; a sleeper waits, whatever its
    /// time-out, as long as who wakes it is stopped there; and a peer that scribbles can make others hang, end, or write where
    /// they did not want to. What is promised for processes that are killed is not promised for this.
    Condvar,
    /// Poll as long, then sleep on a semaphore shared between processes (`sem_wait`): the receiver's, or its lane's sender's, or
    /// that of all senders of [`mpsc`](crate::mpsc), or of all with a role in [`locked`](crate::locked). May be killed at any
    /// instruction. But a peer that scribbles into it can make others hang or end: the C library trusts what it finds there.
    Semaphore,
    /// Poll as long, then wait for a message in a POSIX message queue: the data go through shared memory, and "ready", or "ok" to
    /// a sender that waits for room, through the queue. There are as many queues as there would be semaphores. May be killed at any
    /// instruction.
    ///
    /// The queues are `/ipc-ring.DEVICE-INODE.INDEX` (of the ring's file, in hexadecimal) and go with the ring. All sides must be
    /// of one user and in one IPC namespace. A queue holds a message for each who may wait for it: with more than ten senders of
    /// `mpsc`, or senders or receivers of `locked`, that takes a higher `fs.mqueue.msg_max` or privileges.
    MessageQueue,
}

impl Wait {
    /// As the header says it.
    pub(crate) const fn id(self) -> u32 {
        match self {
            Self::Spin => layout::SPIN,
            Self::Futex => layout::FUTEX,
            Self::Yield => layout::YIELD,
            Self::Condvar => layout::CONDVAR,
            Self::Semaphore => layout::SEMAPHORE,
            Self::MessageQueue => layout::QUEUE,
        }
    }

    pub(crate) const fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            layout::SPIN => Self::Spin,
            layout::FUTEX => Self::Futex,
            layout::YIELD => Self::Yield,
            layout::CONDVAR => Self::Condvar,
            layout::SEMAPHORE => Self::Semaphore,
            layout::QUEUE => Self::MessageQueue,
            _ => return None,
        })
    }

    /// Whether anybody ever sleeps.
    pub(crate) const fn sleeps(self) -> bool {
        !matches!(self, Self::Spin | Self::Yield)
    }

    /// What alarms ring by, if sleepers have alarms.
    pub(crate) const fn device(self) -> Option<Device> {
        match self {
            Self::Spin | Self::Yield | Self::Futex => None,
            Self::Condvar => Some(Device::Condvar),
            Self::Semaphore => Some(Device::Semaphore),
            Self::MessageQueue => Some(Device::Doorbell),
        }
    }
}

/// How long somebody sleeps at first without looking again.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// The `n`-th slice of a wait: 50 ms at first, 200 ms for who has slept for long, so that an idle process costs little.
pub(crate) fn slice(n: u32) -> Duration {
    if planted(Fault::SleepUnsliced) {
        return Duration::MAX;
    }
    SLICE * (1 << (n / 4).min(2))
}

/// The same for a sleeper that could not pass its barrier.
const SHORT_SLICE: Duration = Duration::from_millis(1);
/// Sleeps that follow each other within this time are frequent.
const FREQUENT: Duration = Duration::from_millis(1);
/// So many frequent sleeps in a row, and the other side is asked to fence.
const FREQUENT_SLEEPS: u32 = 4;

/// How a waker reaches who sleeps.
#[derive(Clone)]
pub(crate) enum Reach {
    /// By the futex that the call names.
    Futex,
    Alarms(Others),
}

impl Reach {
    /// Wakes at most `count` of those who sleep. Whether all do that slept.
    fn ring(&self, futex: &Futex, count: u64) -> bool {
        match self {
            Self::Futex => futex.wake(count) < count,
            Self::Alarms(alarms) => alarms.ring(futex, count),
        }
    }
}

/// The private side of who wakes.
#[derive(Clone)]
pub(crate) struct Waker {
    /// The attention word that needs no answer, as last seen; or [`NEVER_QUIET`].
    quiet: u64,
    /// This process can't be reached by the sleepers' barrier.
    fences_itself: bool,
    reach: Reach,
}

/// Not a value of the word: numbers do not get there.
const NEVER_QUIET: u64 = u64::MAX;

/// What a doorbell says to a receiver, and to a sender that waits for room.
pub(crate) const READY: &str = "ready";
pub(crate) const ROOM: &str = "ok";

/// Wakes all who sleep.
pub(crate) const ALL: u64 = u64::MAX;

impl Waker {
    /// `reachable`: this process has registered for the sleepers' barrier.
    pub(crate) fn new(reachable: bool, reach: Reach) -> Self {
        Self {
            quiet: if reachable { 0 } else { NEVER_QUIET },
            fences_itself: !reachable,
            reach,
        }
    }

    /// One that needs no fence of its own.
    #[cfg(test)]
    pub(crate) fn by_futex() -> Self {
        Self::new(true, Reach::Futex)
    }

    /// Like this one, for who alone may sleep: the participant with this index.
    pub(crate) fn only(&self, index: u32) -> Self {
        let reach = match &self.reach {
            Reach::Futex => Reach::Futex,
            Reach::Alarms(alarms) => Reach::Alarms(alarms.only(index)),
        };
        Self {
            reach,
            ..self.clone()
        }
    }

    /// After a publish or release: wakes at most `count` of those who sleep. True if it rang.
    #[inline(always)]
    pub(crate) fn notify(&mut self, call: Call<'_>, count: u64) -> bool {
        light_barrier();
        // One by one: a struct would be put into memory for the cold call, on the hot way.
        let Call {
            attention,
            answered,
            futex,
        } = call;
        // Relaxed: what a woken side then reads is ordered by the stamps and `head`.
        attention.load(Ordering::Relaxed) != self.quiet
            && self.answer(attention, answered, futex, count)
    }

    #[cold]
    fn answer(
        &mut self,
        attention: &AtomicU64,
        answered: &AtomicU64,
        futex: &Futex,
        count: u64,
    ) -> bool {
        let call = Call {
            attention,
            answered,
            futex,
        };
        let mut word = call.attention.load(Ordering::Relaxed);
        let fenced = self.fences_itself || word & FENCE != 0;
        if fenced {
            fence(Ordering::SeqCst);
            word = call.attention.load(Ordering::Relaxed);
        }
        let rang = ring_if_armed(word, call, &self.reach, count);
        // As long as a fence is asked for, or somebody may be left asleep, every notify comes here.
        self.quiet = if fenced || rang == Rang::Some {
            NEVER_QUIET
        } else {
            word
        };
        rang != Rang::Nobody
    }

    /// Like [`notify`](Waker::notify), by a full fence and for all, on the rare occasions that nobody must miss: leaving,
    /// and going to sleep oneself.
    pub(crate) fn notify_surely(&self, call: Call<'_>) {
        fence(Ordering::SeqCst);
        if !planted(Fault::NoRingOnLeave) {
            let word = call.attention.load(Ordering::Relaxed);
            ring_if_armed(word, call, &self.reach, ALL);
        }
    }
}

/// Whom a waker rang for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rang {
    /// There was no number to answer, or one that asks for no wake.
    Nobody,
    /// More may sleep.
    Some,
    All,
}

/// Answers the number in `word`, if any.
fn ring_if_armed(word: u64, call: Call<'_>, reach: &Reach, count: u64) -> Rang {
    let number = attention::number(word);
    if number == 0 || number == call.answered.load(Ordering::Relaxed) {
        return Rang::Nobody;
    }
    let mut rang = Rang::Nobody;
    if number & attention::QUIET == 0 {
        let all_awake = planted(Fault::NoWake) || reach.ring(call.futex, count);
        if !all_awake && !planted(Fault::AnsweredTooSoon) {
            return Rang::Some;
        }
        rang = Rang::All;
    }
    // Relaxed: only sides that ring read it, and the sleeper, for which it is a hint.
    call.answered.store(number, Ordering::Relaxed);
    rang
}

/// The private side of who sleeps.
pub(crate) struct Sleeper {
    number: u64,
    /// `number` is in our words and a barrier lies behind us, since the other side's futex word had this value.
    armed: Option<u32>,
    /// That barrier was one.
    barred: bool,
    /// The other side is asked to fence and is known to have heard.
    fences_heard: bool,
    frequent: u32,
    last: Option<Instant>,
    sleeps: u64,
    /// Where it sleeps, if not on the futex.
    alarm: Option<Own>,
}

impl Sleeper {
    /// A sleeper for the side's session with this number, on its own alarm or on the side's futex.
    pub(crate) fn new(session: u64, alarm: Option<Own>) -> Self {
        Self {
            number: attention::first(session),
            armed: None,
            barred: false,
            fences_heard: false,
            frequent: 0,
            last: None,
            sleeps: 0,
            alarm,
        }
    }

    /// Sleeps until the other side rings, for `timeout` at most, unless `ready` turns out to hold. Returns for no reason at
    /// times.
    ///
    /// Stays armed, so that the next slice costs no barrier, until [`wake_up`](Self::wake_up).
    pub(crate) fn sleep<E: Called>(
        &mut self,
        end: &mut E,
        timeout: Duration,
        ready: impl FnOnce(&mut E) -> bool,
    ) {
        // Before the look: who rings after it has changed the word, or has published before we look.
        let ticket = end.futex().ticket();
        // A number is answered after the word was bumped: as long as the word is the one before the arming, the number
        // stands. Whether it was answered since can't be read from `answered`, which may come late.
        let stands =
            self.armed == Some(ticket) || self.armed.is_some() && planted(Fault::StayArmed);
        if !stands {
            self.take_rings_back_and_arm(end);
            self.armed = Some(ticket);
        }
        let timeout = if self.barred {
            timeout
        } else {
            timeout.min(SHORT_SLICE)
        };
        if planted(Fault::NoSecondLook) || !ready(end) {
            self.sleeps += 1;
            match &self.alarm {
                None => end.futex().wait(ticket, timeout),
                Some(alarm) => alarm.sleep(end.futex(), ticket, timeout),
            }
        }
    }

    fn take_rings_back_and_arm(&mut self, end: &mut impl Called) {
        let late = planted(Fault::RingsTakenBackLate);
        if let Some(alarm) = self.alarm.as_ref().filter(|_| !late) {
            alarm.take_rings_back();
        }
        self.arm(end);
        if let Some(alarm) = self.alarm.as_ref().filter(|_| late) {
            alarm.take_rings_back();
        }
    }

    fn arm(&mut self, end: &mut impl Called) {
        let fence_bit = if end.may_ask_for_fences() {
            self.fence_bit()
        } else {
            0
        };
        self.number = end.arm(self.number, fence_bit);
        self.barred = self.heavy_barrier(fence_bit != 0);
    }

    /// Ends a wait.
    pub(crate) fn wake_up(&mut self, end: &mut impl Called) {
        if self.armed.take().is_some() {
            end.disarm(self.number, self.kept_fence_bit());
        }
    }

    fn kept_fence_bit(&self) -> u64 {
        if self.fences_heard { FENCE } else { 0 }
    }

    /// A full barrier here and, whether they know or not, in the threads of the other side.
    fn heavy_barrier(&mut self, asks_for_fences: bool) -> bool {
        if planted(Fault::NoHeavyBarrier) {
            return true;
        }
        if self.fences_heard {
            fence(Ordering::SeqCst);
            return true;
        }
        let done = membarrier::global();
        if !done {
            // Enough for a waker that fences for itself; the others are met at the next slice.
            fence(Ordering::SeqCst);
        }
        self.fences_heard = done && asks_for_fences;
        done
    }

    /// Decides whether to ask for fences from now on.
    fn fence_bit(&mut self) -> u64 {
        let now = now();
        let frequent = matches!((now, self.last), (Some(now), Some(last)) if now - last < FREQUENT);
        self.frequent = if frequent {
            self.frequent.saturating_add(1)
        } else {
            0
        };
        self.last = now;
        if self.frequent >= FREQUENT_SLEEPS {
            FENCE
        } else {
            self.fences_heard = false;
            0
        }
    }

    /// Stops asking for fences once sleeping has become rare. To be called when waiting begins.
    pub(crate) fn relax(&mut self, end: &mut impl Called) {
        if self.fences_heard && self.last.is_some_and(|last| last.elapsed() > FREQUENT) {
            self.fences_heard = false;
            self.frequent = 0;
            end.disarm(NEVER_ARMED, 0);
        }
    }

    /// How often it slept.
    pub(crate) fn sleeps(&self) -> u64 {
        self.sleeps
    }
}

/// No answer has this number, so that disarming it writes the words whatever was answered.
const NEVER_ARMED: u64 = u64::MAX;
