//! What those who live on do after a crash, or those who come: find what is there, fill every place, and go round the ring.

use std::sync::Mutex;

use anyhow::{Context as _, Result, bail, ensure};
use ipc_ring::{OpenError, RemoveError, remove_in};

use crate::act::{LAPS, Order};
use crate::event::{Ending, Event, FIRST_SUCCESSOR, RECEIVER};
use crate::leftover;
use crate::ring::Carries;
use crate::troupe::{Handles, JUST_ASK, PATIENCE};

/// So often a receiver is told something other than a message before there is nothing more to tell.
const MOST_ENDINGS: usize = 4;

/// So often who sleeps is sent something before it must have found it.
const MOST_CALLS: usize = 2;

impl<const N: usize, K: Carries> Handles<N, K> {
    pub(crate) fn recover(&mut self, order: Order) -> Result<()> {
        self.watch_sleepers();
        match order {
            Order::ReceiverFirst => {
                if !self.is_asleep() || self.awaken_if_told(RECEIVER)? {
                    self.have_receiver()?;
                    self.drain()?;
                    // Those who were there need nobody in the place of the dead.
                    self.fill()?;
                    self.drain()?;
                    self.have_senders()?;
                } else {
                    // Somebody has to send before it is told anything.
                    self.have_senders()?;
                    self.have_receiver()?;
                    self.drain()?;
                }
                self.awaken_senders()?;
                self.drain()?;
            }
            Order::SenderFirst => {
                self.have_senders()?;
                if self.is_receiver_attached() {
                    self.fill()?;
                } else {
                    // They are told that there is none. Who sleeps is told by itself.
                    self.awaken_senders()?;
                    self.fill()?;
                    self.ask_for_the_receiver()?;
                }
                self.have_receiver()?;
                self.drain()?;
                self.awaken_senders()?;
                self.drain()?;
            }
            Order::Stall => loop {
                std::thread::park();
            },
        }
        for _ in 0..LAPS {
            self.fill()?;
            self.drain()?;
        }
        self.pass_to_and_fro()?;
        self.no_place_is_left()?;
        self.end()
    }

    fn is_asleep(&self) -> bool {
        self.sleeping().contains(&RECEIVER)
    }

    /// Comes as the receiver, or wakes up as it once it has something to receive.
    fn have_receiver(&mut self) -> Result<()> {
        for _ in 0..MOST_CALLS {
            if !self.is_asleep() {
                break;
            }
            // A ring may be full of a place without a message, which the receiver passes over and sleeps on.
            self.fill()?;
            self.awaken_if_told(RECEIVER)?;
        }
        ensure!(
            !self.is_asleep(),
            "the receiver sleeps with a message there"
        );
        if self.receiver.is_none() {
            self.join(RECEIVER)?;
        }
        Ok(())
    }

    /// Comes as a sender into each place that is free. No place is lost with the dead.
    fn have_senders(&mut self) -> Result<()> {
        for seat in FIRST_SUCCESSOR.. {
            if self.senders_attached() == self.ring.kind.senders() {
                break;
            }
            self.join(seat)?;
        }
        Ok(())
    }

    fn awaken_senders(&mut self) -> Result<()> {
        for seat in self.sleeping() {
            if seat != RECEIVER {
                self.awaken(seat)?;
            }
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        for seat in self.seats_of_senders() {
            // One more than there is room for, and one for who sleeps and takes one meanwhile.
            let most = self.ring.capacity + 2;
            let stopped = (0..most).try_fold(false, |stopped, _| {
                Ok::<_, anyhow::Error>(stopped || !matches!(self.try_send(seat)?, Event::Sent(_)))
            })?;
            ensure!(stopped, "the ring takes more than it has room for");
        }
        Ok(())
    }

    /// Takes all that is there, and hears all that there is to be told.
    fn drain(&mut self) -> Result<()> {
        let most = self.ring.capacity * self.ring.kind.senders() + 2;
        let (mut messages, mut endings) = (0, 0);
        loop {
            let event = match self.try_recv()? {
                Event::Empty => self.recv(JUST_ASK)?,
                event => event,
            };
            match event {
                Event::Received(_) => messages += 1,
                Event::Told(_, Ending::Died) => endings += 1,
                Event::Told(_, Ending::Closed | Ending::Timeout) => return Ok(()),
                other => bail!("received {other}"),
            }
            ensure!(messages <= most, "more messages than the ring holds");
            ensure!(endings <= MOST_ENDINGS, "the same deaths again and again");
        }
    }

    /// Waits on a full ring whose receiver is gone.
    fn ask_for_the_receiver(&mut self) -> Result<()> {
        for seat in self.seats_of_senders() {
            self.send(seat, JUST_ASK)?;
        }
        Ok(())
    }

    /// Waiting calls that have nothing to wait for.
    fn pass_to_and_fro(&mut self) -> Result<()> {
        for _ in 0..LAPS * self.ring.capacity {
            for seat in self.seats_of_senders() {
                let sent = self.send(seat, PATIENCE)?;
                ensure!(matches!(sent, Event::Sent(_)), "with room, it was {sent}");
                let received = self.recv(PATIENCE)?;
                ensure!(
                    matches!(received, Event::Received(_)),
                    "with a message there, it was {received}"
                );
            }
        }
        Ok(())
    }

    /// Whoever else comes is refused: the places of the dead were taken, and not more of them than there are.
    fn no_place_is_left(&mut self) -> Result<()> {
        let one_more = self.ring.creator::<crate::message::Words<N>, K>().sender();
        match one_more.map(drop) {
            Err(OpenError::RoleTaken { .. } | OpenError::TooManySenders { .. }) => Ok(()),
            Err(other) => Err(other).context("coming as one sender too many"),
            Ok(()) => bail!("one sender too many was let in"),
        }
    }

    fn end(&mut self) -> Result<()> {
        for seat in self.seats_of_senders() {
            self.leave(seat)?;
        }
        self.drain()?;
        self.leave(RECEIVER)?;
        let object = &self.ring.object;
        match remove_in(&object.namespace, &object.name) {
            Ok(()) if !self.ring.goes_when_idle => {}
            Err(RemoveError::NotFound { .. }) if self.ring.goes_when_idle => {}
            other => {
                other.context("removing the ring")?;
                bail!("a ring that goes when idle was still there");
            }
        }
        self.say(Event::Removed)?;
        self.leaks()
    }

    /// Compares what is open with what was open after the first recovery, which may have set up lasting things.
    fn leaks(&self) -> Result<()> {
        static BEFORE: Mutex<Option<usize>> = Mutex::new(None);

        let (descriptors, mappings) = leftover::count()?;
        let mut before = BEFORE.lock().expect("no holder panics");
        // Some things are open for a moment only.
        let known = descriptors.min(before.unwrap_or(descriptors));
        *before = Some(known);
        ensure!(
            (descriptors, mappings) == (known, 0),
            "{descriptors} descriptors and {mappings} mappings of rings are left open, instead of {known} and 0"
        );
        Ok(())
    }
}
