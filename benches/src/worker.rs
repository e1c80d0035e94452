//! The two sides of a run: two processes, or two threads of one where a contender cannot do better.
//!
//! Workers are forked anew for every run. A fork has the same code at the same addresses, so the layout of code
//! stays what the plan says, while buffers land on other physical pages each time, which belongs into the interval
//! and not into the result.

#![allow(unsafe_code)]

use std::{
    io::{self, PipeReader, Read, Write},
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    process, thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::{
        prctl,
        resource::{UsageWho, getrusage},
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::machine::{Cores, Meeting, Moment, Side, pin_to};

/// In milliseconds. A run takes far less; whoever takes longer has lost its peer.
const PATIENCE: u16 = 60_000;

/// How the two sides are separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Separation {
    Processes,
    Threads,
}

/// What one side measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Leg {
    pub(crate) began: Moment,
    pub(crate) ended: Moment,
    /// Bits in which any message differed from what it should have been.
    pub(crate) difference: u64,
    /// How often the core was taken away meanwhile.
    pub(crate) preemptions: u64,
}

impl Leg {
    /// Meets the other side, then times `work`, which returns the difference it found.
    pub(crate) fn time(meeting: &Meeting, side: Side, work: impl FnOnce() -> u64) -> Result<Self> {
        let before = preemptions()?;
        meeting.meet(side);
        let began = Moment::now();
        let difference = work();
        let ended = Moment::now();
        Ok(Self {
            began,
            ended,
            difference,
            preemptions: preemptions()? - before,
        })
    }
}

fn preemptions() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).context("cannot count preemptions")?;
    Ok(usage.involuntary_context_switches().unsigned_abs())
}

/// Runs both sides, each pinned to its core, and returns what they measured.
pub(crate) fn run(
    separation: Separation,
    cores: Cores,
    first: impl FnOnce() -> Result<Leg> + Send,
    second: impl FnOnce() -> Result<Leg> + Send,
) -> Result<[Leg; 2]> {
    let first = move || pin_to(cores.0).and_then(|()| first());
    let second = move || pin_to(cores.1).and_then(|()| second());
    match separation {
        Separation::Processes => gather([Worker::start(first)?, Worker::start(second)?]),
        Separation::Threads => {
            let both = move || {
                thread::scope(|scope| {
                    let sides = [
                        scope.spawn(|| or_abort(first)),
                        scope.spawn(|| or_abort(second)),
                    ];
                    Ok(sides.map(|side| side.join().expect("it aborts rather than panics")))
                })
            };
            let [legs] = gather([Worker::start(both)?])?;
            Ok(legs)
        }
    }
}

/// A thread that fails takes its process along: the other one would spin for ever.
fn or_abort<T>(work: impl FnOnce() -> Result<T>) -> T {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => {
            eprintln!("{error:#}");
            process::abort()
        }
        Err(_) => process::abort(),
    }
}

/// A forked process that will report one value; killed when dropped before that.
#[derive(Debug)]
struct Worker {
    pid: Pid,
    report: PipeReader,
}

impl Worker {
    /// Forks a process that does `work` and reports the outcome.
    fn start<T: Serialize>(work: impl FnOnce() -> Result<T>) -> Result<Self> {
        let (report, mut reporter) = io::pipe()?;
        // SAFETY: this process has a single thread, so the child finds every lock free. (Tests have more, but what the
        // child then needs is the allocator, which the C library keeps usable across a fork.)
        match unsafe { fork() }.context("cannot fork a worker")? {
            ForkResult::Parent { child } => Ok(Self { pid: child, report }),
            ForkResult::Child => {
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    // A worker spins: it must not outlive a coordinator that was killed.
                    prctl::set_pdeathsig(Signal::SIGKILL)?;
                    work()
                }))
                .unwrap_or_else(|_| Err(anyhow!("a worker panicked")))
                .map_err(|error| format!("{error:#}"));
                let told = serde_json::to_vec(&outcome)
                    .is_ok_and(|text| reporter.write_all(&text).is_ok());
                // SAFETY: always sound. Destructors and exit handlers belong to the parent.
                unsafe { libc::_exit(i32::from(!told)) }
            }
        }
    }

    /// Reads the report, which is there or about to end.
    fn outcome<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut text = Vec::new();
        self.report.read_to_end(&mut text)?;
        serde_json::from_slice::<Result<T, String>>(&text)
            .context("a worker died without a report")?
            .map_err(|error| anyhow!(error))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Not reaped yet, so the pid is still its own; one that has finished does not mind.
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}

/// Takes the reports as they come: if one worker fails, the others wait for it in vain and are killed.
fn gather<T: DeserializeOwned, const N: usize>(mut workers: [Worker; N]) -> Result<[T; N]> {
    let mut outcomes = [const { None }; N];
    while let Some(next) = outcomes.iter().position(Option::is_none) {
        let pending: Vec<usize> = (next..N).filter(|&idx| outcomes[idx].is_none()).collect();
        let mut polled: Vec<PollFd<'_>> = pending
            .iter()
            .map(|&idx| PollFd::new(workers[idx].report.as_fd(), PollFlags::POLLIN))
            .collect();
        ensure!(
            poll(&mut polled, PATIENCE)? > 0,
            "no word from a worker for {PATIENCE} ms"
        );
        let ready: Vec<usize> = pending
            .into_iter()
            .zip(&polled)
            .filter(|(_, fd)| fd.any() == Some(true))
            .map(|(idx, _)| idx)
            .collect();
        for idx in ready {
            outcomes[idx] = Some(workers[idx].outcome()?);
        }
    }
    Ok(outcomes.map(|outcome| outcome.expect("none is left")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_processes_report() {
        let [first, second] = gather([
            Worker::start(|| Ok(1)).unwrap(),
            Worker::start(|| Ok(2)).unwrap(),
        ])
        .unwrap();
        assert_eq!((first, second), (1, 2));
    }

    #[test]
    fn a_failing_worker_ends_the_run_though_the_other_waits_for_ever() {
        let gathered: Result<[u8; 2]> = gather([
            Worker::start::<u8>(|| {
                loop {
                    thread::park();
                }
            })
            .unwrap(),
            Worker::start::<u8>(|| Err(anyhow!("no luck"))).unwrap(),
        ]);
        assert_eq!(gathered.unwrap_err().to_string(), "no luck");
    }

    #[test]
    fn a_worker_that_dies_is_noticed() {
        let gathered: Result<[u8; 1]> = gather([Worker::start::<u8>(|| process::abort()).unwrap()]);
        assert!(gathered.is_err());
    }
}
