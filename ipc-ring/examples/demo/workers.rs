//! Runs this program as two other processes.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use crate::report;
use crate::rings::Rings;
use crate::stop::Stop;

/// The first argument of a worker: its role, its namespace and more follow.
pub(crate) const AS: &str = "--as";

/// How long the one may take to end after the other has failed: the ring tells it.
const PATIENCE_AFTER_FAILURE: Duration = Duration::from_secs(5);

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
    fn start(self, index: usize, events: Sender<Event>) -> anyhow::Result<Running> {
        let program = env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new(program)
            .args(self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ctrl-C goes to the demo alone, which ends its workers.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start the {}", self.role))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = events.send(Event::Line(index, line));
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
    Line(usize, String),
    End(usize),
}

/// A started process; it does not outlive this.
struct Running {
    role: &'static str,
    child: Child,
    /// How it ended, once it has.
    status: Option<ExitStatus>,
    /// What it reported, as JSON.
    report: Option<String>,
}

impl Running {
    /// What went wrong, unless it ended well.
    fn failure(&self) -> Option<String> {
        let role = self.role;
        match self.status {
            Some(status) if status.success() => None,
            Some(status) => Some(match status.signal() {
                Some(signal) => format!("the {role} was killed by signal {signal}"),
                None => format!("the {role} failed"),
            }),
            None => Some(format!("the {role} did not end")),
        }
    }

    fn parse<R: DeserializeOwned>(&self) -> anyhow::Result<R> {
        let report = self.report.as_ref();
        let report = report.with_context(|| format!("the {} has reported nothing", self.role))?;
        serde_json::from_str(report).with_context(|| format!("bad report of the {}", self.role))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_none() {
            // It may have ended by itself just now: either way, it has when `wait` returns, and
            // with it its part in the ring.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs the two until both have ended, prints what they print, and returns what they reported.
///
/// Both are killed if they take longer than `limit`, or if this process is asked to stop.
pub(crate) fn run<S: DeserializeOwned, R: DeserializeOwned>(
    sender: Worker,
    receiver: Worker,
    limit: Duration,
    stop: &Stop,
) -> anyhow::Result<(S, R)> {
    let (events_tx, events) = mpsc::channel();
    let mut workers = [
        sender.start(0, events_tx.clone())?,
        receiver.start(1, events_tx)?,
    ];
    let mut deadline = Instant::now() + limit;
    while workers.iter().any(|worker| worker.status.is_none()) {
        if stop.asked() {
            // Both before either is waited for: the second need not report the death of the first.
            for worker in &mut workers {
                let _ = worker.child.kill();
            }
            return Err(Interrupted.into());
        }
        if Instant::now() > deadline {
            break;
        }
        match events.recv_timeout(Duration::from_millis(50)) {
            Ok(Event::Line(index, line)) => match line.strip_prefix(report::PREFIX) {
                Some(report) => workers[index].report = Some(report.to_owned()),
                None => writeln!(io::stdout(), "{line}").context("cannot print")?,
            },
            Ok(Event::End(index)) => {
                let worker = &mut workers[index];
                worker.status = Some(worker.child.wait().context("cannot wait for a worker")?);
                if worker.failure().is_some() {
                    deadline = deadline.min(Instant::now() + PATIENCE_AFTER_FAILURE);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => unreachable!("each thread says that it ends"),
        }
    }
    let failures: Vec<String> = workers.iter().filter_map(Running::failure).collect();
    if !failures.is_empty() {
        bail!(failures.join(", "));
    }
    Ok((workers[0].parse()?, workers[1].parse()?))
}
