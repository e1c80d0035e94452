//! Phase 1: what the examples `sampler` and `monitor` do, for a few seconds.

use std::time::{Duration, Instant};

use anyhow::bail;
use ipc_ring::RecvError;
use serde::{Deserialize, Serialize};

use crate::dashboard::{Dashboard, Screen};
use crate::processes;
use crate::report::{Received, Sent};
use crate::rings;
use crate::sample::{Sample, now_ns};
use crate::sampling::{Outcome, Sampler};
use crate::stop::Stop;

pub(crate) const DURATION: Duration = Duration::from_secs(3);
pub(crate) const ROUNDS_PER_SECOND: u32 = 5;

/// Have every frame shown, in place.
pub(crate) const LIVE: &str = "live";
/// Have the last frame shown.
pub(crate) const LAST: &str = "last";

const RING: &str = "samples";

#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) received: Received,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
}

pub(crate) fn send(namespace: &str) -> anyhow::Result<Sent> {
    let ring = ipc_ring::spsc::<Sample>(RING)
        .namespace(namespace)
        .capacity(4096);
    let mut sampler = Sampler::new(rings::sender(rings::made(ring))?);
    let stop = Stop::on_signals()?;
    let mut round = Vec::new();
    let started_ns = now_ns();
    let mut next = Instant::now();
    let end = next + DURATION;
    while next < end && !stop.asked() {
        processes::read_round(&mut round)?;
        match sampler.send_round(&round, &stop)? {
            Outcome::Sent => {}
            Outcome::Unwatched => bail!("the monitor has gone"),
            Outcome::Stopped => break,
        }
        next += Duration::from_secs(1) / ROUNDS_PER_SECOND;
        stop.pause_until(next)?;
    }
    Ok(Sent {
        messages: sampler.sent,
        started_ns,
    })
}

pub(crate) fn receive(namespace: &str, live: bool) -> anyhow::Result<Report> {
    let mut rx = rings::receiver(ipc_ring::spsc::<Sample>(RING).namespace(namespace))?;
    let mut dashboard = Dashboard::new(10);
    let mut screen = Screen::new(live);
    loop {
        match rx.recv() {
            Ok(sample) => {
                if dashboard.take(&sample) && live {
                    screen.show(&dashboard)?;
                }
            }
            Err(RecvError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if !live {
        screen.show(&dashboard)?;
    }
    Ok(Report {
        received: Received::new(&dashboard.sequence),
        p50_ns: dashboard.latency.value_at_quantile(0.5),
        p99_ns: dashboard.latency.value_at_quantile(0.99),
        max_ns: dashboard.latency.max(),
    })
}
