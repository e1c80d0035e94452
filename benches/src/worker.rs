//! The sides of a run: processes, or threads of one where a contender cannot do better.
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

use crate::machine::{Meeting, Moment, pin_to};

/// In milliseconds. A run takes far less; whoever takes longer has lost its peer.
const PATIENCE: u16 = 60_000;

/// How the sides are separated.
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
    /// Meets the other sides, then times `work`, which returns the difference it found.
    pub(crate) fn time(meeting: &Meeting, own: usize, work: impl FnOnce() -> u64) -> Result<Self> {
        let before = preemptions()?;
        meeting.meet(own);
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

/// What one side does. Boxed: it is called once a run, and the loops in it are functions of their own.
pub(crate) struct Side<'a>(Box<dyn FnOnce() -> Result<Leg> + Send + 'a>);

impl<'a> Side<'a> {
    /// Does `work`, pinned to `core`.
    pub(crate) fn new(core: usize, work: impl FnOnce() -> Result<Leg> + Send + 'a) -> Self {
        Self(Box::new(move || pin_to(core).and_then(|()| work())))
    }
}

/// Runs all sides and returns what they measured.
pub(crate) fn run<'a>(separation: Separation, sides: Vec<Side<'a>>) -> Result<Vec<Leg>> {
    match separation {
        Separation::Processes => {
            let workers = sides.into_iter().map(|side| Worker::start(side.0));
            gather(workers.collect::<Result<_>>()?)
        }
        Separation::Threads => {
            let all = move || {
                thread::scope(|scope| {
                    let start = |side: Side<'a>| scope.spawn(move || or_abort(side.0));
                    let threads: Vec<_> = sides.into_iter().map(start).collect();
                    let legs = threads
                        .into_iter()
                        .map(|thread| thread.join().expect("it aborts rather than panics"));
                    Ok(legs.collect::<Vec<_>>())
                })
            };
            let outcomes: Vec<Vec<Leg>> = gather(vec![Worker::start(all)?])?;
            Ok(outcomes.into_iter().flatten().collect())
        }
    }
}

/// A thread that fails takes its process along: the others would spin for ever.
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
fn gather<T: DeserializeOwned>(mut workers: Vec<Worker>) -> Result<Vec<T>> {
    let mut outcomes: Vec<Option<T>> = workers.iter().map(|_| None).collect();
    loop {
        let pending: Vec<usize> = (0..workers.len())
            .filter(|&idx| outcomes[idx].is_none())
            .collect();
        if pending.is_empty() {
            return Ok(outcomes.into_iter().flatten().collect());
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_processes_report() {
        let outcomes: Vec<u8> = gather(vec![
            Worker::start(|| Ok(1)).unwrap(),
            Worker::start(|| Ok(2)).unwrap(),
        ])
        .unwrap();
        assert_eq!(outcomes, [1, 2]);
    }

    #[test]
    fn a_failing_worker_ends_the_run_though_the_other_waits_for_ever() {
        let gathered: Result<Vec<u8>> = gather(vec![
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
        let gathered: Result<Vec<u8>> =
            gather(vec![Worker::start::<u8>(|| process::abort()).unwrap()]);
        assert!(gathered.is_err());
    }
}
