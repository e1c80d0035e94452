//! The sending half: numbers, stamps and sends rounds of samples.

use std::time::Duration;

use anyhow::Context;
use ipc_ring::{SendTimeoutError, Sender, Spsc};

use crate::sample::{Sample, now_ns};
use crate::stop::Stop;

/// How long a full ring may keep a sampler from noticing that it was asked to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// A ring's sender and the number of the next sample.
pub(crate) struct Sampler {
    pub(crate) tx: Sender<Sample, Spsc>,
    /// How many samples have been sent.
    pub(crate) sent: u64,
}

/// What became of a round.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Sent,
    /// The receiver has left or died: nobody is there to take the rest.
    Unwatched,
    /// This process was asked to stop while it waited for room.
    Stopped,
}

impl Sampler {
    pub(crate) fn new(tx: Sender<Sample, Spsc>) -> Self {
        Self { tx, sent: 0 }
    }

    /// Sends the samples of `round` one by one, waiting for room where the ring is full.
    pub(crate) fn send_round(&mut self, round: &[Sample], stop: &Stop) -> anyhow::Result<Outcome> {
        for sample in round {
            let mut message = Sample {
                sequence: self.sent,
                sent_ns: now_ns(),
                ..*sample
            };
            while let Err(error) = self.tx.send_timeout(message, PATIENCE) {
                match error {
                    SendTimeoutError::Timeout(_) if stop.asked() => return Ok(Outcome::Stopped),
                    SendTimeoutError::Timeout(unsent) => message = unsent,
                    SendTimeoutError::Closed(_) | SendTimeoutError::ReceiverDied(_) => {
                        return Ok(Outcome::Unwatched);
                    }
                    error => return Err(error).context("cannot send"),
                }
            }
            self.sent += 1;
        }
        Ok(Outcome::Sent)
    }
}
