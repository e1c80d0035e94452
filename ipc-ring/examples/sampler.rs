//! Sends what every process of this machine is doing, several times a second, for `monitor` to
//! show:
//!
//! ```sh
//! cargo run --release --example sampler           # in one terminal
//! cargo run --release --example monitor           # in another
//! ```
//!
//! Start them in either order. The sampler waits for the next monitor; the monitor ends when the sampler leaves, and
//! waits for the next one if it was killed. The ring goes when both have left.

#[path = "common/processes.rs"]
mod processes;
#[path = "common/sample.rs"]
mod sample;
#[path = "common/sampling.rs"]
mod sampling;
#[path = "common/stop.rs"]
mod stop;

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ipc_ring::Peer;

use crate::sample::Sample;
use crate::sampling::Sampler;
use crate::stop::Stop;

const USAGE: &str = "usage: sampler [RING [ROUNDS_PER_SECOND]]   (default: processes 5)";

fn main() -> anyhow::Result<()> {
    let (name, interval) = arguments()?;
    // Room for several rounds of a busy machine.
    let tx = ipc_ring::spsc::<Sample>(&name)
        .capacity(4096)
        .remove_when_idle()
        .sender()?;
    // From here on Ctrl-C leaves the ring in good order, so that a monitor is told.
    let stop = Stop::on_signals()?;
    eprintln!("sampler: ring {name:?} is ready; Ctrl-C ends");

    let mut sampler = Sampler::new(tx);
    let mut round = Vec::new();
    let mut watched = false;
    while !stop.asked() {
        let next = Instant::now() + interval;
        // While nobody watches, nothing is read, and a monitor that comes gets no stale samples.
        match sampler.tx.peer() {
            Peer::Alive { pid, program } => {
                if !watched {
                    eprintln!("sampler: watched by {program} (pid {pid})");
                    watched = true;
                }
                processes::read_round(&mut round)?;
                // If the monitor goes during the round, the next look at the peer says how.
                sampler.send_round(&round, &stop)?;
            }
            gone => {
                if watched {
                    let how = if matches!(gone, Peer::Died { .. }) {
                        "died"
                    } else {
                        "left"
                    };
                    eprintln!("sampler: the monitor {how}; waiting for another");
                    watched = false;
                }
            }
        }
        stop.pause_until(next)?;
    }
    eprintln!("sampler: {} samples sent", sampler.sent);
    Ok(())
}

/// The ring's name and the time from round to round.
fn arguments() -> anyhow::Result<(String, Duration)> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "processes".to_owned());
    let rate: f64 = match arguments.next() {
        Some(rate) => rate
            .parse()
            .with_context(|| format!("{rate:?} is no number\n{USAGE}"))?,
        None => 5.0,
    };
    if name.starts_with('-') || arguments.next().is_some() {
        bail!(USAGE);
    }
    // One round takes milliseconds to read; NaN fails here as well.
    if !(0.01..=100.0).contains(&rate) {
        bail!("{rate} rounds per second is out of range: take 0.01 to 100\n{USAGE}");
    }
    Ok((name, Duration::from_secs_f64(1.0 / rate)))
}
