//! The explorer's end of the survivor process: asks it to recover from an image and watches over it.

use std::fmt;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Error, Result};

use crate::event::Event;
use crate::image::Object;

/// In which order the roles are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    /// A receiver drains what is there and is told about the sender's end; then a new sender comes.
    ReceiverFirst,
    /// A new sender fills the ring behind what is there; then a receiver comes.
    SenderFirst,
    /// Nothing, for ever. A negative control of the watchdog.
    Stall,
}

impl Order {
    /// The orders in which every image is recovered.
    pub(crate) const RECOVERIES: [Self; 2] = [Self::ReceiverFirst, Self::SenderFirst];

    fn name(self) -> &'static str {
        match self {
            Self::ReceiverFirst => "receiver-first",
            Self::SenderFirst => "sender-first",
            Self::Stall => "stall",
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the survivors are told: nothing about what must be in the ring.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) object: Object,
    pub(crate) words: usize,
    pub(crate) capacity: usize,
    pub(crate) order: Order,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Object { namespace, name } = &self.object;
        let Self {
            words,
            capacity,
            order,
            ..
        } = self;
        write!(f, "{namespace} {name} {words} {capacity} {order}")
    }
}

impl FromStr for Request {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut parts = line.split(' ');
        let mut part = || parts.next().context("the request is too short");
        Ok(Self {
            object: Object {
                namespace: part()?.to_owned(),
                name: part()?.to_owned(),
            },
            words: part()?.parse()?,
            capacity: part()?.parse()?,
            order: match part()? {
                "receiver-first" => Order::ReceiverFirst,
                "sender-first" => Order::SenderFirst,
                _ => Order::Stall,
            },
        })
    }
}

/// A running survivor process. One that hung or crashed is replaced at the next request.
pub(crate) struct Survivor {
    command: Command,
    running: Option<(Child, BufReader<UnixStream>)>,
}

impl Survivor {
    /// Will run `command` when there is something to recover.
    pub(crate) fn new(command: Command) -> Self {
        Self {
            command,
            running: None,
        }
    }

    /// Everything that the survivors report about one recovery. If they say nothing for `watchdog`, they are killed
    /// and the report ends with that.
    pub(crate) fn recover(&mut self, request: &Request, watchdog: Duration) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        match self.converse(request, watchdog, &mut events) {
            Ok(()) => {}
            Err(Silence::Hung) => {
                self.end();
                events.push(Event::Failed(format!(
                    "survivors hung: nothing for {watchdog:?}"
                )));
            }
            Err(Silence::Crashed) => {
                let how = self.end();
                events.push(Event::Failed(format!("survivors crashed: {how}")));
            }
            Err(Silence::Unavailable(error)) => return Err(error),
        }
        Ok(events)
    }

    fn converse(
        &mut self,
        request: &Request,
        watchdog: Duration,
        events: &mut Vec<Event>,
    ) -> Result<(), Silence> {
        let stream = self.stream().map_err(Silence::Unavailable)?;
        let limited = stream.get_ref().set_read_timeout(Some(watchdog));
        limited.map_err(|error| Silence::Unavailable(error.into()))?;
        writeln!(stream.get_mut(), "{request}").map_err(|_| Silence::Crashed)?;
        let mut line = String::new();
        loop {
            line.clear();
            match stream.read_line(&mut line) {
                Ok(0) => return Err(Silence::Crashed),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(Silence::Hung),
                Err(_) => return Err(Silence::Crashed),
            }
            let event = Event::parse(line.trim_end());
            let is_last = event.is_last();
            events.push(event);
            if is_last {
                return Ok(());
            }
        }
    }

    fn stream(&mut self) -> Result<&mut BufReader<UnixStream>> {
        if self.running.is_none() {
            let (ours, theirs) = UnixStream::pair()?;
            let child = self
                .command
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .spawn();
            // `Command` keeps the descriptor it was given. As long as it is open here, the socket never reports
            // that the survivor is gone.
            self.command.stdin(Stdio::null());
            self.running = Some((
                child.context("starting the survivor")?,
                BufReader::new(ours),
            ));
        }
        let (_, stream) = self.running.as_mut().context("no survivor is running")?;
        Ok(stream)
    }

    /// Kills the process; how it had ended if it was gone already.
    fn end(&mut self) -> String {
        let Some((mut child, stream)) = self.running.take() else {
            return "was not running".to_owned();
        };
        // A survivor that is gone reads as end of file before it can be waited for, so kill first and ask then.
        let _ = child.kill();
        drop(stream);
        match child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Survivor {
    fn drop(&mut self) {
        self.end();
    }
}

/// Why there is no complete report.
enum Silence {
    Hung,
    Crashed,
    Unavailable(Error),
}
