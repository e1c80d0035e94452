//! Where the next message is: looks for it, looks past the dead, and waits; or says why there is none.

use super::Receiver;
use crate::channel::Kind;
use crate::channel::endpoint::{Stop, count, end_unless_found};
use crate::error::{RecvTimeoutError, TryRecvError};
use crate::message::ShmMessage;
use crate::ring::{Ahead, Consume, Look};
use crate::sync::spin_loop;
use std::time::{Duration, Instant};

/// A claim that we found in the way.
pub(super) struct Stuck {
    position: u64,
    /// When it was found first, or its owner was asked for.
    since: Instant,
}

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
        if now.is_some() {
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
        self.slot_behind_claim_or_end()
            .map_err(|stop| self.tell(stop))
    }

    /// After there was none: the slot to read next, with the end that there is instead.
    pub(super) fn slot_behind_claim_or_end(&mut self) -> Result<usize, Option<Stop>> {
        if self.consumer.is_stuck() {
            return Err(Some(Stop::Stuck));
        }
        if let Some(index) = self.slot_behind_claim() {
            return Ok(index);
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

    /// The slot to read next, if a claim has been in its way for so long that its owner may be dead, and is.
    pub(super) fn slot_behind_claim(&mut self) -> Option<usize> {
        self.consumer.claimant()?;
        let position = self.consumer.position();
        let now = Instant::now();
        let found = |stuck: &Stuck| stuck.position == position;
        match self.stuck.as_ref().filter(|&stuck| found(stuck)) {
            Some(stuck) if now - stuck.since < PATIENCE => return None,
            known => {
                let is_new = known.is_none();
                let since = now;
                self.stuck = Some(Stuck { position, since });
                // Most claims are messages a moment later.
                if is_new {
                    return None;
                }
            }
        }
        self.look_past_the_dead();
        self.consumer.slot()
    }

    /// Looks for a message, having asked whether those are dead who have claimed what is in the way.
    fn look_past_the_dead(&mut self) -> Look {
        let endpoint = &self.endpoint;
        self.consumer
            .look(|owner| endpoint.is_dead(K::OWNERS_IN_THE_WAY, owner))
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

    #[cold]
    pub(super) fn wait_for_slot(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<usize, RecvTimeoutError> {
        let stop = match self.slot_or_why_not() {
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
                |consumer, endpoint| {
                    consumer.look(|owner| endpoint.is_dead(K::OWNERS_IN_THE_WAY, owner))
                },
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
