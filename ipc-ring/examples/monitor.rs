//! Shows the busiest processes of this machine, from what `sampler` sends: see there.
//!
//! On a terminal the table is live; elsewhere each frame is printed below the last.

#[path = "common/dashboard.rs"]
mod dashboard;
#[path = "common/sample.rs"]
mod sample;
#[path = "common/sequence.rs"]
mod sequence;
#[path = "common/stop.rs"]
mod stop;
#[path = "common/table.rs"]
mod table;

use std::io::{self, ErrorKind, IsTerminal};
use std::time::Duration;

use anyhow::{Context, bail};
use ipc_ring::RecvTimeoutError;

use crate::dashboard::{Dashboard, Screen};
use crate::sample::Sample;
use crate::stop::Stop;

const USAGE: &str = "usage: monitor [RING [ROWS]]   (default: processes 15)";

/// How long to wait for a sample before looking whether to stop.
const PATIENCE: Duration = Duration::from_millis(100);

fn main() -> anyhow::Result<()> {
    let (name, rows) = arguments()?;
    eprintln!("monitor: looking for ring {name:?}; Ctrl-C ends");
    // No capacity stated: waits until a sampler has made the ring.
    let mut rx = ipc_ring::spsc::<Sample>(&name).receiver()?;
    // From here on Ctrl-C leaves the ring in good order, so that the sampler is told.
    let stop = Stop::on_signals()?;

    let mut dashboard = Dashboard::new(rows);
    let mut screen = Screen::new(io::stdout().is_terminal());
    while !stop.asked() {
        match rx.recv_timeout(PATIENCE) {
            Ok(sample) => {
                if dashboard.take(&sample)
                    && let Err(error) = screen.show(&dashboard)
                {
                    return match error.kind() {
                        // As in `monitor | head`: whoever read has seen enough.
                        ErrorKind::BrokenPipe => Ok(()),
                        _ => Err(error).context("cannot print"),
                    };
                }
            }
            // Nothing new: look whether we were asked to stop.
            Err(RecvTimeoutError::Timeout) => {}
            // Not the end: another sampler may continue in the same ring, counting from 0.
            Err(RecvTimeoutError::SenderDied { pid, program }) => {
                eprintln!("monitor: {program} (pid {pid}) died; waiting for another sampler");
                dashboard = Dashboard::new(rows);
            }
            Err(RecvTimeoutError::Closed) => {
                eprintln!("monitor: the sampler has left");
                break;
            }
            // That message only: the next one may be whole.
            Err(RecvTimeoutError::Corrupt(why)) => eprintln!("monitor: skipped a sample: {why}"),
            Err(error) => return Err(error).context("cannot receive"),
        }
    }
    Ok(())
}

/// The ring's name and the number of processes to show.
fn arguments() -> anyhow::Result<(String, usize)> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "processes".to_owned());
    let rows = match arguments.next() {
        Some(rows) => rows
            .parse()
            .with_context(|| format!("{rows:?} is no number\n{USAGE}"))?,
        None => 15,
    };
    if name.starts_with('-') || arguments.next().is_some() {
        bail!(USAGE);
    }
    Ok((name, rows))
}
