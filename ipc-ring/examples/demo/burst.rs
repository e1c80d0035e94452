//! Phase 2: how many samples a second the ring carries.

use std::time::{Duration, Instant};

use ipc_ring::{Kind, RecvError, Sender};

use crate::processes;
use crate::report::{Received, Sent};
use crate::rings;
use crate::sample::{Sample, now_ns};
use crate::sequence::Sequence;

pub(crate) const DURATION: Duration = Duration::from_secs(1);

const RING: &str = "burst";

pub(crate) fn send(namespace: &str) -> anyhow::Result<Sent> {
    let mut round = Vec::new();
    processes::read_round(&mut round)?;
    let ring = ipc_ring::spsc(RING).namespace(namespace).capacity(4096);
    let mut tx = rings::sender(rings::made(ring))?;
    send_over_and_over(&mut tx, &round)
}

/// Sends `round` as often as the time allows, and once at least.
///
/// Each message is a sample with a number of its own, but without a time of sending: that would
/// tell how full the ring was, and reading the clock costs about as much as sending.
pub(crate) fn send_over_and_over<K: Kind>(
    tx: &mut Sender<Sample, K>,
    round: &[Sample],
) -> anyhow::Result<Sent> {
    let mut messages = 0;
    let started_ns = now_ns();
    let end = Instant::now() + DURATION;
    loop {
        for sample in round {
            tx.send(Sample {
                sequence: messages,
                ..*sample
            })?;
            messages += 1;
        }
        if Instant::now() >= end {
            return Ok(Sent {
                messages,
                started_ns,
            });
        }
    }
}

pub(crate) fn receive(namespace: &str) -> anyhow::Result<Received> {
    let mut rx = rings::receiver(ipc_ring::spsc::<Sample>(RING).namespace(namespace))?;
    let mut sequence = Sequence::default();
    loop {
        match rx.recv() {
            Ok(sample) => sequence.observe(sample.sequence),
            Err(RecvError::Closed) => return Ok(Received::new(&sequence)),
            Err(error) => return Err(error.into()),
        }
    }
}
