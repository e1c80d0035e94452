//! Sleeping without slowing the awake.
//!
//! Each side (the senders, the receivers) has an **attention** word that it alone writes, on a line that it
//! hardly ever changes, and a **bell** that it alone rings.
//!
//! ```text
//! 63                                    2    1       0
//! | arming number, 0 = nobody sleeps   | left | fence |
//! ```
//!
//! The side that sleeps:
//! 1. takes a ticket of the other side's futex word,
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
//! Nothing hangs on a wake that does not come: every sleep is sliced ([`slice`]), and each slice looks again.

use crate::layout::{Apart, Bell};
use crate::sync::{AtomicU64, Fault, Ordering, fence, light_barrier, now, planted};
use crate::sys::membarrier;
use std::time::{Duration, Instant};

/// How a side waits when there is nothing to do. Chosen when a ring is created, and the same for both sides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Wait {
    /// Poll, and never sleep: for sides that have a core of their own. A side that waits asks the kernel every 50 ms
    /// whether the other one lives; otherwise nobody makes a system call.
    Spin,
    /// Poll for about ten microseconds, then sleep on a futex until woken.
    #[default]
    Futex,
}

impl Wait {
    /// As the header says it.
    pub(crate) const fn id(self) -> u32 {
        match self {
            Self::Spin => 0,
            Self::Futex => 1,
        }
    }

    pub(crate) const fn from_id(id: u32) -> Option<Self> {
        match id {
            0 => Some(Self::Spin),
            1 => Some(Self::Futex),
            _ => None,
        }
    }
}

/// "Please fence between publishing and loading this word."
const FENCE: u64 = 1;
/// "Whoever wrote this word has left."
pub(crate) const LEFT: u64 = 2;
const NUMBER_SHIFT: u32 = 2;

/// How long somebody sleeps at first without looking again.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// The `n`-th slice of a wait: 50 ms at first, 200 ms for who has slept for long, so that an idle process costs little.
pub(crate) fn slice(n: u32) -> Duration {
    SLICE * (1 << (n / 4).min(2))
}

/// The same for a sleeper that could not pass its barrier.
const SHORT_SLICE: Duration = Duration::from_millis(1);
/// Sleeps that follow each other within this time are frequent.
const FREQUENT: Duration = Duration::from_millis(1);
/// So many frequent sleeps in a row, and the other side is asked to fence.
const FREQUENT_SLEEPS: u32 = 4;

/// The private side of who wakes.
pub(crate) struct Waker {
    /// The attention word that needs no answer, as last seen; or [`NEVER_QUIET`].
    quiet: u64,
    /// This process can't be reached by the sleepers' barrier.
    fences_itself: bool,
}

/// Not a value of the word: numbers do not get there.
const NEVER_QUIET: u64 = u64::MAX;

impl Waker {
    /// `reachable`: this process has registered for the sleepers' barrier.
    pub(crate) fn new(reachable: bool) -> Self {
        Self {
            quiet: if reachable { 0 } else { NEVER_QUIET },
            fences_itself: !reachable,
        }
    }

    /// After a publish or release: wakes the other side if it sleeps. `attention` is its word, `bell` ours.
    #[inline(always)]
    pub(crate) fn notify(&mut self, attention: &AtomicU64, bell: &Bell) {
        light_barrier();
        // Relaxed: what a woken side then reads is ordered by the stamps and `head`.
        if attention.load(Ordering::Relaxed) != self.quiet {
            self.answer(attention, bell);
        }
    }

    #[cold]
    fn answer(&mut self, attention: &AtomicU64, bell: &Bell) {
        let mut word = attention.load(Ordering::Relaxed);
        let fenced = self.fences_itself || word & FENCE != 0;
        if fenced {
            fence(Ordering::SeqCst);
            word = attention.load(Ordering::Relaxed);
        }
        Self::ring_if_armed(word, bell);
        // As long as a fence is asked for, every notify comes here.
        self.quiet = if fenced { NEVER_QUIET } else { word };
    }

    /// Like [`notify`](Waker::notify), by a full fence, for the rare occasions that nobody must miss: leaving,
    /// and going to sleep oneself.
    pub(crate) fn notify_surely(&mut self, attention: &AtomicU64, bell: &Bell) {
        fence(Ordering::SeqCst);
        if !planted(Fault::NoRingOnLeave) {
            Self::ring_if_armed(attention.load(Ordering::Relaxed), bell);
        }
    }

    fn ring_if_armed(word: u64, bell: &Bell) {
        let number = word >> NUMBER_SHIFT;
        if number == 0 || number == bell.answered.load(Ordering::Relaxed) {
            return;
        }
        if !planted(Fault::NoWake) {
            bell.futex.wake_all();
        }
        // Relaxed: only sides that ring read it, and the sleeper, for which it is a hint.
        bell.answered.store(number, Ordering::Relaxed);
    }
}

/// The private side of who sleeps.
pub(crate) struct Sleeper {
    number: u64,
    /// `number` is in our word and a barrier lies behind us, since the other side's futex word had this value.
    armed: Option<u32>,
    /// That barrier was one.
    barred: bool,
    /// The other side is asked to fence and is known to have heard.
    fences_heard: bool,
    frequent: u32,
    last: Option<Instant>,
}

impl Sleeper {
    /// A sleeper for the side's session with this number.
    pub(crate) fn new(session: u64) -> Self {
        Self {
            // Each session has numbers of its own, so that no late answer to a predecessor's is taken for one to ours.
            number: session << 32 & (u64::MAX >> NUMBER_SHIFT),
            armed: None,
            barred: false,
            fences_heard: false,
            frequent: 0,
            last: None,
        }
    }

    /// Sleeps until the other side rings, for `timeout` at most, unless `ready` turns out to hold.
    /// `attention` is our word, `bell` the other side's. Returns for no reason at times.
    ///
    /// Stays armed, so that the next slice costs no barrier, until [`wake_up`](Self::wake_up).
    pub(crate) fn sleep(
        &mut self,
        attention: &Apart<AtomicU64>,
        bell: &Apart<Bell>,
        timeout: Duration,
        ready: impl FnOnce() -> bool,
    ) {
        let (attention, bell) = (&attention.0, &bell.0);
        // Before the look: who rings after it has changed the word, or has published before we look.
        let ticket = bell.futex.ticket();
        // A number is answered after the word was bumped: as long as the word is the one before the arming, the number
        // stands. Whether it was answered since can't be read from `answered`, which may come late.
        let stands =
            self.armed == Some(ticket) || self.armed.is_some() && planted(Fault::StayArmed);
        if !stands {
            self.arm(attention, bell);
            self.armed = Some(ticket);
        }
        let timeout = if self.barred {
            timeout
        } else {
            timeout.min(SHORT_SLICE)
        };
        if planted(Fault::NoSecondLook) || !ready() {
            bell.futex.wait(ticket, timeout);
        }
    }

    fn arm(&mut self, attention: &AtomicU64, bell: &Bell) {
        self.next_number(bell);
        let fence_bit = self.fence_bit();
        // Relaxed: ordered against the look to come by the barrier.
        attention.store(self.number << NUMBER_SHIFT | fence_bit, Ordering::Relaxed);
        self.barred = self.heavy_barrier(fence_bit != 0);
    }

    /// Ends a wait.
    pub(crate) fn wake_up(&mut self, attention: &Apart<AtomicU64>, bell: &Apart<Bell>) {
        // A number that was answered needs no withdrawal: that would only cost the waker its line.
        if self.armed.is_some() && bell.0.answered.load(Ordering::Relaxed) != self.number {
            let fence_bit = if self.fences_heard { FENCE } else { 0 };
            attention.0.store(fence_bit, Ordering::Relaxed);
        }
        self.armed = None;
    }

    /// Takes a number that was not answered. Only numbers that were armed are ever answered, in this session or an
    /// earlier one, so one step past the last answer suffices.
    fn next_number(&mut self, bell: &Bell) {
        if planted(Fault::NumberReused) {
            self.number = 1;
            return;
        }
        let next = |number: u64| (number + 1) % (u64::MAX >> NUMBER_SHIFT);
        self.number = next(self.number);
        while self.number == 0 || self.number == bell.answered.load(Ordering::Relaxed) {
            self.number = next(self.number);
        }
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
    pub(crate) fn relax(&mut self, attention: &Apart<AtomicU64>) {
        if self.fences_heard && self.last.is_some_and(|last| last.elapsed() > FREQUENT) {
            self.fences_heard = false;
            self.frequent = 0;
            attention.0.store(0, Ordering::Relaxed);
        }
    }
}
