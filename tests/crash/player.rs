//! The explorer's end of a process that plays participants: tells it what to do and watches over it.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::act::Act;
use crate::event::Event;

/// How long a process may be silent.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(20);

/// Acts go one way and events the other.
pub(crate) struct Line(BufReader<UnixStream>);

/// Why there is no complete answer.
#[derive(Debug)]
pub(crate) enum Silence {
    Hung,
    Ended,
}

impl Line {
    /// Starts a process at the other end of a new line.
    pub(crate) fn to(command: &mut Command) -> Result<(Child, Self)> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn();
        // `Command` keeps the descriptor it was given. As long as it is open here, the socket never reports that the other
        // end is gone.
        command.stdin(Stdio::null());
        Ok((
            child.context("starting a process")?,
            Self(BufReader::new(ours)),
        ))
    }

    pub(crate) fn say(&mut self, act: &Act) -> Result<(), Silence> {
        writeln!(self.0.get_mut(), "{act}").map_err(|_| Silence::Ended)
    }

    /// Adds what is said until an answer is complete.
    pub(crate) fn hear(
        &mut self,
        watchdog: Duration,
        events: &mut Vec<Event>,
    ) -> Result<(), Silence> {
        let limited = self.0.get_ref().set_read_timeout(Some(watchdog));
        limited.map_err(|_| Silence::Ended)?;
        let mut line = String::new();
        loop {
            line.clear();
            match self.0.read_line(&mut line) {
                Ok(0) => return Err(Silence::Ended),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(Silence::Hung),
                Err(_) => return Err(Silence::Ended),
            }
            match Event::parse(line.trim_end()) {
                Event::Done => return Ok(()),
                event => {
                    let is_last = event.is_last();
                    events.push(event);
                    if is_last {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// A running process. One that hung or crashed is replaced when it is asked for the next act.
pub(crate) struct Player {
    command: Command,
    running: Option<(Child, Line)>,
}

impl Player {
    /// Will run `command` when there is something to play.
    pub(crate) fn new(command: Command) -> Self {
        Self {
            command,
            running: None,
        }
    }

    /// Everything that the process reports about an act. If it says nothing for `watchdog`, it is killed and the report ends
    /// with that.
    pub(crate) fn perform(&mut self, act: &Act, watchdog: Duration) -> Result<Vec<Event>> {
        let line = self.line()?;
        let mut events = Vec::new();
        let answered = line
            .say(act)
            .and_then(|()| line.hear(watchdog, &mut events));
        match answered {
            Ok(()) => {}
            Err(Silence::Hung) => {
                self.end();
                events.push(Event::Failed(format!(
                    "survivors hung: nothing for {watchdog:?}"
                )));
            }
            Err(Silence::Ended) => {
                let how = self.end();
                events.push(Event::Failed(format!("survivors crashed: {how}")));
            }
        }
        Ok(events)
    }

    /// The same for an act that cannot fail unless something is broken that is not under test.
    pub(crate) fn stage(&mut self, act: &Act) -> Result<Vec<Event>> {
        let events = self.perform(act, WATCHDOG)?;
        match events.last() {
            Some(Event::Failed(text)) => bail!("staging {act}: {text}"),
            _ => Ok(events),
        }
    }

    /// Has the process stand still (SIGSTOP), all its threads.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let pid = self.pid()?;
        kill(pid, Signal::SIGSTOP).context("stopping a process")?;
        let stopped = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(pid), stopped).context("waiting for a process to stop")?;
        Ok(())
    }

    /// Lets it go on.
    pub(crate) fn go_on(&mut self) -> Result<()> {
        kill(self.pid()?, Signal::SIGCONT).context("letting a process go on")
    }

    /// Its process id.
    pub(crate) fn pid(&mut self) -> Result<Pid> {
        self.line()?;
        let running = self.running.as_ref().context("nobody plays")?;
        Ok(Pid::from_raw(running.0.id().cast_signed()))
    }

    fn line(&mut self) -> Result<&mut Line> {
        if self.running.is_none() {
            self.running = Some(Line::to(&mut self.command)?);
        }
        let (_, line) = self.running.as_mut().context("nobody plays")?;
        Ok(line)
    }

    /// Kills the process; how it had ended if it was gone already.
    pub(crate) fn end(&mut self) -> String {
        let Some((mut child, line)) = self.running.take() else {
            return "was not running".to_owned();
        };
        // One that is gone reads as end of file before it can be waited for, so kill first and ask then.
        let _ = child.kill();
        drop(line);
        match child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.end();
    }
}
