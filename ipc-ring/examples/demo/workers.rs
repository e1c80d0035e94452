//! Runs this program as several other processes.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::de::DeserializeOwned;

use crate::gate::{Gate, READY};
use crate::report;
use crate::rings::Rings;
use crate::stop::Stop;

/// The first argument of a worker: its role, its namespace and more follow.
pub(crate) const AS: &str = "--as";

/// How long the others may take to end after one has failed: the ring tells them.
const PATIENCE_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Descriptors of this process besides one for each worker.
const OTHER_DESCRIPTORS: u64 = 64;

/// The user asked the demo to end.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// A process to start.
pub(crate) struct Worker {
    role: &'static str,
    arguments: Vec<OsString>,
}

impl Worker {
    pub(crate) fn new(role: &'static str, rings: &Rings) -> Self {
        Self {
            role,
            arguments: vec![AS.into(), role.into(), rings.namespace().into()],
        }
    }

    pub(crate) fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Starts the process and a thread that passes on what it prints, as events of this `index`.
    fn start(self, index: usize, gate: &Gate, events: Sender<Event>) -> anyhow::Result<Running> {
        let program = env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new(program)
            .args(self.arguments)
            .stdin(gate.stdin().context("cannot hand on a pipe")?)
            .stdout(Stdio::piped())
            // Ctrl-C goes to the demo alone, which ends its workers.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start the {}", self.role))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event = match line.strip_prefix(report::PREFIX) {
                    Some(report) => Event::Report(index, report.to_owned()),
                    None if line == READY => Event::Ready,
                    None => Event::Line(line),
                };
                let _ = events.send(event);
            }
            // Its standard output ends with the process. Nobody listens if the demo is ending.
            let _ = events.send(Event::End(index));
        });
        Ok(Running {
            role: self.role,
            child,
            status: None,
            report: None,
        })
    }
}

enum Event {
    /// A worker has come to the gate.
    Ready,
    Report(usize, String),
    Line(String),
    End(usize),
}

/// A started process.
struct Running {
    role: &'static str,
    child: Child,
    /// How it ended, once it has.
    status: Option<ExitStatus>,
    /// What it reported, as JSON.
    report: Option<String>,
}

impl Running {
    /// How it went wrong, if it has ended.
    fn failure(&self) -> Option<String> {
        let role = self.role;
        let status = self.status.filter(|status| !status.success())?;
        Some(match status.signal() {
            Some(signal) => format!("the {role} was killed by signal {signal}"),
            None => format!("the {role} failed"),
        })
    }

    fn parse<R: DeserializeOwned>(&self) -> anyhow::Result<R> {
        let report = self.report.as_ref();
        let report = report.with_context(|| format!("the {} has reported nothing", self.role))?;
        serde_json::from_str(report).with_context(|| format!("bad report of the {}", self.role))
    }
}

/// Processes that work together; they do not outlive this.
struct Crew {
    workers: Vec<Running>,
    /// Until all workers have come to it.
    gate: Option<Gate>,
    events: Receiver<Event>,
}

impl Crew {
    fn start(workers: impl Iterator<Item = Worker>, stop: &Stop) -> anyhow::Result<Self> {
        let (events_tx, events) = mpsc::channel();
        let gate = Gate::new().context("cannot make a pipe")?;
        let mut crew = Self {
            workers: Vec::new(),
            gate: None,
            events,
        };
        for (index, worker) in workers.enumerate() {
            if stop.asked() {
                return Err(Interrupted.into());
            }
            let started = worker.start(index, &gate, events_tx.clone())?;
            crew.workers.push(started);
        }
        crew.gate = Some(gate);
        Ok(crew)
    }

    /// Goes along until all have ended, and prints what they print.
    fn follow(&mut self, limit: Duration, stop: &Stop) -> anyhow::Result<()> {
        let mut deadline = Instant::now() + limit;
        let mut not_ready = self.workers.len();
        while self.workers.iter().any(|worker| worker.status.is_none()) {
            if stop.asked() {
                return Err(Interrupted.into());
            }
            if Instant::now() > deadline {
                break;
            }
            match self.events.recv_timeout(Duration::from_millis(50)) {
                Ok(Event::Ready) => {
                    not_ready -= 1;
                    if not_ready == 0 {
                        self.gate = None;
                    }
                }
                Ok(Event::Report(index, report)) => self.workers[index].report = Some(report),
                Ok(Event::Line(line)) => {
                    writeln!(io::stdout(), "{line}").context("cannot print")?
                }
                Ok(Event::End(index)) => {
                    let worker = &mut self.workers[index];
                    worker.status = Some(worker.child.wait().context("cannot wait for a worker")?);
                    if worker.failure().is_some() {
                        if self.gate.is_some() {
                            // The others would stay there.
                            break;
                        }
                        deadline = deadline.min(Instant::now() + PATIENCE_AFTER_FAILURE);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    unreachable!("each thread says that it ends")
                }
            }
        }
        self.all_well()
    }

    fn all_well(&self) -> anyhow::Result<()> {
        let mut failures: Vec<String> = self.workers.iter().filter_map(Running::failure).collect();
        // Who was still at the gate when another failed is not to blame.
        if self.gate.is_none() || failures.is_empty() {
            let left = self.workers.iter().filter(|worker| worker.status.is_none());
            failures.extend(left.map(|worker| format!("the {} did not end", worker.role)));
        }
        if !failures.is_empty() {
            bail!(counted(&failures));
        }
        Ok(())
    }
}

/// What there is among `failures`, each with how often, if that is more than once.
fn counted(failures: &[String]) -> String {
    let mut times = BTreeMap::new();
    for failure in failures {
        *times.entry(failure.as_str()).or_insert(0) += 1;
    }
    let counted = times.into_iter().map(|(failure, times)| match times {
        1 => failure.to_owned(),
        _ => format!("{failure} ({times} times)"),
    });
    counted.collect::<Vec<_>>().join(", ")
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.workers.retain(|worker| worker.status.is_none());
        // All before any is waited for: none need report the death of another.
        for worker in &mut self.workers {
            let _ = worker.child.kill();
        }
        for worker in &mut self.workers {
            // When this returns it has ended, and with it its part in the ring.
            let _ = worker.child.wait();
        }
    }
}

/// Runs senders and their receiver until all have ended, prints what they print, and returns what
/// they reported.
///
/// All are killed if they take longer than `limit`, or if this process is asked to stop.
pub(crate) fn run<S: DeserializeOwned, R: DeserializeOwned>(
    senders: Vec<Worker>,
    receiver: Worker,
    limit: Duration,
    stop: &Stop,
) -> anyhow::Result<(Vec<S>, R)> {
    allow_descriptors(senders.len() as u64 + 1)?;
    // The receiver first: where it makes the ring, all others wait for it.
    let workers = std::iter::once(receiver).chain(senders);
    let mut crew = Crew::start(workers, stop)?;
    crew.follow(limit, stop)?;
    let [receiver, senders @ ..] = crew.workers.as_slice() else {
        unreachable!("the receiver is always there");
    };
    let sent = senders.iter().map(Running::parse).collect::<Result<_, _>>();
    Ok((sent?, receiver.parse()?))
}

/// Runs one sender and its receiver.
pub(crate) fn run_pair<S: DeserializeOwned, R: DeserializeOwned>(
    sender: Worker,
    receiver: Worker,
    limit: Duration,
    stop: &Stop,
) -> anyhow::Result<(S, R)> {
    let (mut sent, received) = run(vec![sender], receiver, limit, stop)?;
    Ok((sent.remove(0), received))
}

/// What this many workers print takes a descriptor for each, and the usual limit is 1,024.
fn allow_descriptors(workers: u64) -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = workers + OTHER_DESCRIPTORS;
    if needed > hard {
        bail!("{workers} workers take {needed} descriptors, and the limit is {hard} (ulimit -Hn)");
    }
    if needed > soft {
        setrlimit(Resource::RLIMIT_NOFILE, needed, hard).context("cannot raise ulimit -n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_many_is_told_once() {
        let failures = ["it failed", "it hangs", "it failed"].map(str::to_owned);
        assert_eq!(counted(&failures), "it failed (2 times), it hangs");
    }
}
