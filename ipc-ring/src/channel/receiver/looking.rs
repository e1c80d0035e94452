//! Where the next message is: looks for it, looks past the dead, and waits; or says why there is none.

use super::Receiver;
use crate::channel::Kind;
use crate::channel::endpoint::{Endpoint, Stop, count, end_unless_found};
use crate::error::{RecvTimeoutError, TryRecvError};
use crate::message::ShmMessage;
use crate::ring::{Ahead, Consume, End, Look};
use crate::sync::spin_loop;
use crate::wait::SLICE;
use std::mem;
use std::time::{Duration, Instant};

/// How long a claim may be in the way of somebody who never waits, until the kernel is asked whether its owner lives.
const PATIENCE: Duration = Duration::from_millis(1);

impl<T: ShmMessage, K: Kind> Receiver<T, K> {
    /// The slot to read next, if its message is there.
    #[inline(always)]
    pub(super) fn slot_now(&mut self) -> Option<usize> {
        if self.is_current() {
            self.consumer.slot()
        } else {
            None
        }
    }

    /// The same, looking for a while. Here and not in the slow way, which takes longer to enter and leave than a message
    /// takes to arrive.
    #[inline(always)]
    pub(super) fn slot_soon(&mut self) -> Option<usize> {
        let now = self.slot_now();
        if now.is_some() || self.consumer.is_stuck() {
            return now;
        }
        // Where several receive, nobody lets messages pile up for himself.
        if !K::RECEIVERS_SHARE
            && self.stand_off.caught_up(self.consumer.position())
            && self.is_current()
        {
            let ahead = |count| matches!(self.consumer.ahead(count - 1), Ahead::Message(_));
            self.stand_off.gamble(ahead);
        }
        for _ in 0..self.looks {
            let now = self.slot_now();
            if now.is_some() || self.consumer.is_stuck() {
                return now;
            }
            spin_loop();
        }
        None
    }

    /// The slot to read next, with the reason why not.
    #[inline(never)]
    pub(super) fn slot_or_why_not(&mut self) -> Result<usize, TryRecvError> {
        match self.slot_now() {
            Some(index) => Ok(index),
            None => self.slot_behind_claim_or_why_not(),
        }
    }

    /// The same, after there was none.
    #[cold]
    #[inline(never)]
    pub(super) fn slot_behind_claim_or_why_not(&mut self) -> Result<usize, TryRecvError> {
        if !self.is_current() {
            return Err(TryRecvError::Forked);
        }
        if mem::take(&mut self.is_stuck_untold) {
            return Err(TryRecvError::Stuck);
        }
        self.slot_behind_claim_or_end()
            .map_err(|stop| self.tell(stop))
    }

    /// After there was none: the slot to read next, with the end that there is instead.
    pub(super) fn slot_behind_claim_or_end(&mut self) -> Result<usize, Option<Stop>> {
        if let Some(index) = self.slot_behind_claim() {
            return Ok(index);
        }
        if self.consumer.is_stuck() {
            return Err(Some(Stop::Stuck));
        }
        if K::notify_senders_of_rest::<T>(&mut self.wakers, &self.consumer) {
            count(&self.endpoint.counters().wakes);
        }
        let ending = self.endpoint.known_ending();
        // If this is the end, then nothing is left behind a claim of the dead.
        match end_unless_found(ending, || self.look_past_the_dead()) {
            Ok(Look::Ready) => self.consumer.slot().ok_or(None),
            Ok(Look::Stuck) => Err(Some(Stop::Stuck)),
            Ok(Look::Nothing | Look::Held) => Err(None),
            Err(stop) => Err(Some(stop)),
        }
    }

    /// The slot to read next, if something has been in its way for so long that the dead may have it, and they have.
    pub(super) fn slot_behind_claim(&mut self) -> Option<usize> {
        let patience = if K::RECEIVERS_SHARE {
            // What others have in hand is in nobody's way.
            SLICE
        } else {
            self.consumer.claimant()?;
            PATIENCE
        };
        // Most claims are messages a moment later.
        if self.consumer.is_stuck() || !self.standstill.lasts(self.consumer.position(), patience) {
            return None;
        }
        match self.look_past_the_dead() {
            Look::Ready => self.consumer.slot(),
            Look::Nothing | Look::Held | Look::Stuck => None,
        }
    }

    /// Looks for a message, having asked whether those are dead who have claimed what is in the way.
    fn look_past_the_dead(&mut self) -> Look {
        look::<T, K>(&mut self.consumer, &self.endpoint)
    }

    fn tell(&mut self, stop: Option<Stop>) -> TryRecvError {
        let Some(stop) = stop else {
            return TryRecvError::Empty;
        };
        self.endpoint.told(&stop);
        match stop {
            Stop::Died(dead) => TryRecvError::SenderDied {
                pid: dead.who.pid,
                program: dead.who.program(),
            },
            Stop::Closed | Stop::NameLost | Stop::TimedOut => TryRecvError::Closed,
            Stop::Stuck => TryRecvError::Stuck,
        }
    }

    /// The slot to read next, waited for.
    #[cold]
    pub(super) fn wait_for_slot(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<usize, RecvTimeoutError> {
        match self.slot_now() {
            Some(index) => Ok(index),
            None => self.wait_after_none(deadline),
        }
    }

    /// The same, after there was none.
    #[cold]
    pub(super) fn wait_after_none(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<usize, RecvTimeoutError> {
        let stop = match self.slot_behind_claim_or_why_not() {
            Ok(index) => return Ok(index),
            Err(TryRecvError::Empty) => match self.wait(deadline) {
                Ok(index) => return Ok(index),
                Err(stop) => stop,
            },
            Err(TryRecvError::Closed) => return Err(RecvTimeoutError::Closed),
            Err(TryRecvError::SenderDied { pid, program }) => {
                return Err(RecvTimeoutError::SenderDied { pid, program });
            }
            Err(TryRecvError::Corrupt(invalid)) => return Err(RecvTimeoutError::Corrupt(invalid)),
            Err(TryRecvError::Forked) => return Err(RecvTimeoutError::Forked),
            Err(TryRecvError::Stuck) => return Err(RecvTimeoutError::Stuck),
        };
        self.endpoint.told(&stop);
        Err(match stop {
            Stop::TimedOut => RecvTimeoutError::Timeout,
            Stop::Closed => RecvTimeoutError::Closed,
            Stop::NameLost => RecvTimeoutError::NameLost,
            Stop::Stuck => RecvTimeoutError::Stuck,
            Stop::Died(dead) => RecvTimeoutError::SenderDied {
                pid: dead.who.pid,
                program: dead.who.program(),
            },
        })
    }

    /// Waits for a message. Whoever tells the user why there is none notes it.
    pub(super) fn wait(&mut self, deadline: Option<Instant>) -> Result<usize, Stop> {
        loop {
            let wakers = &self.wakers;
            self.endpoint.wait(
                &mut self.consumer,
                deadline,
                |consumer| consumer.slot().is_some() || consumer.is_stuck(),
                look::<T, K>,
                |consumer| K::notify_all_senders::<T>(wakers, consumer),
            )?;
            if self.consumer.is_stuck() {
                return Err(Stop::Stuck);
            }
            if let Some(index) = self.consumer.slot() {
                return Ok(index);
            }
        }
    }
}

/// Looks for a message, past the dead.
fn look<T: ShmMessage, K: Kind>(consumer: &mut K::Consumer<T>, endpoint: &Endpoint) -> Look {
    let look = consumer.look(|owner| endpoint.is_dead::<K>(owner));
    if consumer.has_stirred() {
        endpoint.call_everybody(consumer.ring());
    }
    look
}
