//! Ways to sleep other than on the futex word: what takes the place of its wait and its wake.
//!
//! The word is there all the same: it is bumped before each ring, and says to who is about to sleep that somebody has rung since
//! he looked.
//!
//! **Semaphores and doorbells** keep what was rung until somebody sleeps, so it does not matter which comes first. There is one for
//! all who share an attention word: who really sleeps takes the ring, and who found what he looked for takes none. A ring that
//! nobody needed ends a later sleep for no reason. A sole sleeper takes back what is left before he arms (not later: it might be
//! the ring for this sleep; nor where there are several: it might be another one's). A semaphore has never more rings than twice as
//! many as may sleep by it, and a queue holds one for each: "full" says that all will wake. (Of several, one that is woken for
//! nothing, and sleeps again before the others run, may take a ring from one of them, who then finds out at his next look.)
//!
//! **Condition variables** forget, and there is one for each participant, so that who rings has to find those who sleep. That is
//! made as the kernel does it for a futex: the sleeper, with the mutex held, says that he waits, looks whether the word is still
//! as it was, and only then sleeps; who rings has bumped the word before he looks for those who wait, and tells one that is to
//! wake, with the mutex held, that he waits no more. Either the sleeper sees the bump, or he is seen to wait.

use crate::layout::Alarm;
use crate::sync::{Fault, Ordering, fence, planted};
use crate::sys::doorbell::{Doorbell, Rung};
use crate::sys::futex::Futex;
use crate::sys::semaphore::Semaphore;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Device {
    Condvar,
    Semaphore,
    Doorbell,
}

/// Opens the doorbell of the side that begins with this index, if the system lets it.
type Open = dyn Fn(u32) -> Option<Doorbell> + Send + Sync;

/// Doorbells of others, opened when they are rung first.
pub(crate) struct Doorbells {
    opened: Box<[OnceLock<Doorbell>]>,
    open: Box<Open>,
}

impl Doorbells {
    /// Those of so many participants.
    pub(crate) fn new(
        participants: u32,
        open: impl Fn(u32) -> Option<Doorbell> + Send + Sync + 'static,
    ) -> Self {
        Self {
            opened: (0..participants).map(|_| OnceLock::new()).collect(),
            open: Box::new(open),
        }
    }

    fn get(&self, index: u32) -> Option<&Doorbell> {
        let place = self.opened.get(index as usize)?;
        if place.get().is_none() {
            // Where the system has no descriptor left, the next ring tries again.
            let _ = place.set((self.open)(index)?);
        }
        place.get()
    }
}

/// What somebody sleeps by.
pub(crate) struct Own {
    /// His own of condition variables, else his side's.
    alarm: NonNull<Alarm>,
    by: By,
    /// Nobody else sleeps by it.
    is_sole: bool,
}

enum By {
    Condvar,
    Semaphore,
    Doorbell(Doorbell),
}

/// What a side is called by.
#[derive(Clone)]
pub(crate) struct Others {
    /// Of the participant with index 0.
    alarms: NonNull<Alarm>,
    side: Range<u32>,
    device: Device,
    /// Of [`Device::Doorbell`].
    doorbells: Option<Arc<Doorbells>>,
    /// What a doorbell says.
    word: &'static str,
}

/// So many rings are taken back before a sleep. There are more only if somebody does nothing but ring.
const MOST_RINGS: u32 = 16;

#[allow(unsafe_code, reason = "alarms in a segment")]
mod view {
    use super::*;

    // SAFETY: it points at what is made to be shared.
    unsafe impl Send for Own {}

    // SAFETY: likewise.
    unsafe impl Send for Others {}

    impl Own {
        /// What the participant with this index, which is called together with these, sleeps by. `doorbell` is theirs, if the
        /// device is one.
        ///
        /// # Safety
        ///
        /// `alarms` must be the first of initialised alarms, of which there are more than `index`, that outlive the result.
        pub(crate) unsafe fn new(
            alarms: NonNull<Alarm>,
            index: u32,
            called_with: &Range<u32>,
            device: Device,
            doorbell: Option<Doorbell>,
        ) -> Option<Self> {
            let (place, by) = match device {
                Device::Condvar => (index, By::Condvar),
                Device::Semaphore => (called_with.start, By::Semaphore),
                Device::Doorbell => (called_with.start, By::Doorbell(doorbell?)),
            };
            Some(Self {
                // SAFETY: by the contract.
                alarm: unsafe { alarms.add(place as usize) },
                by,
                is_sole: called_with.len() == 1,
            })
        }

        pub(super) fn alarm(&self) -> &Alarm {
            // SAFETY: by the contract of `new`; all of it may be shared.
            unsafe { self.alarm.as_ref() }
        }
    }

    impl Others {
        /// # Safety
        ///
        /// `alarms` must be the first of initialised alarms, of which there are all of `side`, that outlive the result.
        pub(crate) unsafe fn new(
            alarms: NonNull<Alarm>,
            side: Range<u32>,
            device: Device,
            doorbells: Option<Arc<Doorbells>>,
            word: &'static str,
        ) -> Self {
            Self {
                alarms,
                side,
                device,
                doorbells,
                word,
            }
        }

        pub(super) fn alarm(&self, index: u32) -> &Alarm {
            debug_assert!(self.side.contains(&index));
            // SAFETY: by the contract of `new`.
            let alarm = unsafe { self.alarms.add(index as usize) };
            // SAFETY: likewise; all of it may be shared.
            unsafe { alarm.as_ref() }
        }
    }
}

impl Own {
    /// Makes it ready for a new owner: the last one, or who rang for him, may have been killed amid that.
    #[cfg(not(loom))]
    pub(crate) fn take_over(&self) {
        if matches!(self.by, By::Condvar) {
            self.alarm().waiting.store(0, Ordering::Relaxed);
            self.alarm().condvar.renew();
        }
    }

    /// Takes back what is left of earlier rings, if they can't be for somebody else. Before arming.
    pub(super) fn take_rings_back(&self) {
        if !self.is_sole && !planted(Fault::OthersRingsTakenBack) {
            return;
        }
        for _ in 0..MOST_RINGS {
            let was_rung = match &self.by {
                By::Condvar => false,
                By::Semaphore => self.alarm().semaphore.try_wait(),
                By::Doorbell(doorbell) => doorbell.hush(),
            };
            if !was_rung {
                break;
            }
        }
    }

    /// Sleeps until it is rung, for `timeout` at most. Need not, if `futex` is no longer `ticket`.
    pub(super) fn sleep(&self, futex: &Futex, ticket: u32, timeout: Duration) {
        let alarm = self.alarm();
        match &self.by {
            By::Semaphore => alarm.semaphore.wait(timeout),
            By::Doorbell(doorbell) => doorbell.wait(timeout),
            By::Condvar => {
                let waits = |waits: u32| alarm.waiting.store(waits, Ordering::Relaxed);
                let may_sleep = || {
                    if planted(Fault::WaitingSaidLate) {
                        let may = futex.ticket() == ticket;
                        waits(1);
                        return may;
                    }
                    waits(1);
                    // Between this store and this load; pairs with the one of who rings.
                    fence(Ordering::SeqCst);
                    futex.ticket() == ticket
                };
                alarm.condvar.wait(timeout, may_sleep, || waits(0));
            }
        }
    }
}

impl Others {
    /// Of a side that has an attention word for each: the participant with this index.
    pub(crate) fn only(&self, index: u32) -> Self {
        Self {
            side: index..index + 1,
            ..self.clone()
        }
    }

    /// Changes the word of the side, and wakes at most `count` of those who sleep. Whether all do that slept.
    pub(super) fn ring(&self, futex: &Futex, count: u64) -> bool {
        let bumped = futex.bump();
        // Between the bump and the publish before it, and what is read of the device: pairs with who is about to sleep.
        fence(Ordering::SeqCst);
        let most = self.side.len() as u64;
        match self.device {
            Device::Semaphore => {
                let semaphore = &self.alarm(self.side.start).semaphore;
                Self::post(semaphore, count, most)
            }
            Device::Doorbell => {
                let doorbell = self.doorbells.as_ref();
                let doorbell = doorbell.and_then(|doorbells| doorbells.get(self.side.start));
                doorbell.is_some_and(|doorbell| {
                    let rings = (0..count.min(most)).map(|_| doorbell.ring(self.word));
                    match rings.into_iter().find(|rung| *rung != Rung::Heard) {
                        None => count >= most,
                        Some(rung) => rung == Rung::Full,
                    }
                })
            }
            Device::Condvar => self.notify(bumped, count),
        }
    }

    fn post(semaphore: &Semaphore, count: u64, most: u64) -> bool {
        // What is there may be of somebody who was killed, or stands still, before he woke anybody: it is no reason not to post.
        let room = (2 * most).saturating_sub(semaphore.value().into());
        for _ in 0..count.min(most).min(room) {
            semaphore.post();
        }
        count >= most || room == 0
    }

    fn notify(&self, bumped: u32, count: u64) -> bool {
        // From another one on each time, or the first ones would always be served first.
        let len = self.side.len() as u32;
        let indices = (0..len).map(|n| self.side.start + bumped.wrapping_add(n) % len);
        let (mut woken, mut all) = (0, true);
        for index in indices {
            if woken == count {
                return false;
            }
            let Alarm {
                waiting, condvar, ..
            } = self.alarm(index);
            let waits = || waiting.load(Ordering::Relaxed) != 0;
            // Relaxed: these are under the mutex, and the one before it is behind the fence.
            let is_to_wake = || {
                let waits = waits();
                waiting.store(0, Ordering::Relaxed);
                waits
            };
            match waits().then(|| condvar.notify_if(is_to_wake)) {
                None | Some(Some(false)) => {}
                Some(Some(true)) => woken += 1,
                // Its mutex is held by somebody who stands still.
                Some(None) => all = false,
            }
        }
        all
    }
}
