//! The process that lives on: it takes over both roles of a ring found as a crash left it, and goes on.
//!
//! One process recovers from many images, since starting a process per image would dominate the run. Every
//! recovery is fresh nonetheless: both handles are built for it and dropped after it, and what it may have left
//! open is counted.

use std::fs;
use std::io::{BufRead as _, BufReader, Write};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ipc_ring::{
    Builder, Receiver, RecvTimeoutError, SendTimeoutError, Sender, Spsc, TryRecvError,
    TrySendError, remove_in, spsc,
};

use crate::event::{Ending, Event, Role};
use crate::message::{Tag, Words};
use crate::oracle::LAPS;
use crate::recover::{Order, Request};
use crate::scenario::SURVIVOR;
use crate::with_words;

/// How long a call may wait whose answer is there already. Long enough for a machine under load; whoever needs all
/// of it is reported.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waiting calls ask the kernel about the other side before they give up, however short their time is.
const JUST_ASK: Duration = Duration::ZERO;

/// Serves requests on standard input, which is a socket, until the explorer hangs up.
pub(crate) fn serve() -> Result<()> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut output = UnixStream::from(socket.try_clone()?);
    let mut lines = BufReader::new(UnixStream::from(socket)).lines();
    let mut opened = None;
    while let Some(line) = lines.next().transpose()? {
        let request: Request = line.parse()?;
        let mut log = |event: Event| output.write_all(format!("{event}\n").as_bytes()).is_ok();
        let outcome =
            with_words!(request.words, N => Survivors::<N>::new(&request, &mut log).recover());
        let last = match outcome {
            Ok(()) => leaks(&mut opened)?,
            Err(failure) => Event::Failed(format!("{failure:#}")),
        };
        writeln!(output, "{last}")?;
    }
    Ok(())
}

/// Compares what is open with what was open after the first recovery, which may have set up lasting things.
fn leaks(before: &mut Option<(usize, usize)>) -> Result<Event> {
    let descriptors = fs::read_dir("/proc/self/fd")?.count();
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mappings = maps
        .lines()
        .filter(|line| line.contains("ipc-ring."))
        .count();
    let (known, mapped) = *before.get_or_insert((descriptors, 0));
    if (descriptors, mappings) == (known, mapped) {
        Ok(Event::Finished)
    } else {
        Ok(Event::Failed(format!(
            "{descriptors} descriptors and {mappings} mappings of segments are left open, instead of {known} and {mapped}"
        )))
    }
}

struct Survivors<'a, const N: usize> {
    request: &'a Request,
    log: &'a mut dyn FnMut(Event) -> bool,
    next: u16,
}

impl<'a, const N: usize> Survivors<'a, N> {
    fn new(request: &'a Request, log: &'a mut dyn FnMut(Event) -> bool) -> Self {
        Self {
            request,
            log,
            next: 0,
        }
    }

    fn recover(&mut self) -> Result<()> {
        let (mut sender, mut receiver) = match self.request.order {
            Order::ReceiverFirst => {
                let mut receiver = self.join_receiver()?;
                self.empty(&mut receiver)?;
                self.ask_for_the_sender(&mut receiver)?;
                (self.join_sender()?, receiver)
            }
            Order::SenderFirst => {
                let mut sender = self.join_sender()?;
                self.fill(&mut sender)?;
                self.ask_for_the_receiver(&mut sender)?;
                let mut receiver = self.join_receiver()?;
                self.empty(&mut receiver)?;
                (sender, receiver)
            }
            Order::Stall => loop {
                std::thread::park();
            },
        };
        for _ in 0..LAPS {
            self.fill(&mut sender)?;
            self.empty(&mut receiver)?;
        }
        for _ in 0..LAPS * self.request.capacity {
            let tag = self.next_tag();
            let sent = sender.send_timeout(Words::new(tag), PATIENCE);
            sent.map_err(|error| {
                anyhow::anyhow!("send_timeout with room: {}", name_of_send_error(&error))
            })?;
            self.say(Event::Sent(tag))?;
            let received = receiver
                .recv_timeout(PATIENCE)
                .context("recv_timeout with a message there")?;
            self.received(&received)?;
        }
        drop(sender);
        self.ask_for_the_sender(&mut receiver)?;
        drop(receiver);
        remove_in(&self.request.object.namespace, &self.request.object.name)
            .context("removing the ring")
    }

    fn join_sender(&mut self) -> Result<Sender<Words<N>, Spsc>> {
        let sender = self.builder().capacity(self.request.capacity).sender();
        let sender = sender.context("the sender was refused")?;
        self.say(Event::Joined(Role::Sender))?;
        Ok(sender)
    }

    fn join_receiver(&mut self) -> Result<Receiver<Words<N>, Spsc>> {
        let receiver = self.builder().open_timeout(PATIENCE).receiver();
        let receiver = receiver.context("the receiver was refused")?;
        self.say(Event::Joined(Role::Receiver))?;
        Ok(receiver)
    }

    fn builder(&self) -> Builder<Words<N>, Spsc> {
        spsc::<Words<N>>(&self.request.object.name).namespace(&self.request.object.namespace)
    }

    /// Sends until the ring is full, or says that its receiver left.
    fn fill(&mut self, sender: &mut Sender<Words<N>, Spsc>) -> Result<()> {
        // One more than can fit. Which of them may fit is for the oracle to say.
        for _ in 0..=self.request.capacity {
            let tag = self.next_tag();
            match sender.try_send(Words::new(tag)) {
                Ok(()) => self.say(Event::Sent(tag))?,
                Err(TrySendError::Full(_)) => return self.say(Event::Full),
                Err(TrySendError::Closed(_)) => {
                    return self.say(Event::Told(Role::Sender, Ending::Closed));
                }
                Err(_) => anyhow::bail!("try_send failed as it should not"),
            }
        }
        anyhow::bail!(
            "the ring took {} messages and is not full",
            self.request.capacity + 1
        )
    }

    /// Receives until the ring is empty.
    fn empty(&mut self, receiver: &mut Receiver<Words<N>, Spsc>) -> Result<()> {
        for _ in 0..=self.request.capacity {
            match receiver.try_recv() {
                Ok(message) => self.received(&message)?,
                Err(TryRecvError::Empty) => return self.say(Event::Empty),
                Err(TryRecvError::Closed) => {
                    return self.say(Event::Told(Role::Receiver, Ending::Closed));
                }
                Err(error) => return Err(error).context("try_recv"),
            }
        }
        anyhow::bail!(
            "{} messages came and the ring is not empty",
            self.request.capacity + 1
        )
    }

    /// Waits on an empty ring whose sender is gone.
    fn ask_for_the_sender(&mut self, receiver: &mut Receiver<Words<N>, Spsc>) -> Result<()> {
        let ending = match receiver.recv_timeout(JUST_ASK) {
            Ok(message) => return self.received(&message),
            Err(RecvTimeoutError::SenderDied { .. }) => Ending::Died,
            Err(RecvTimeoutError::Closed) => Ending::Closed,
            Err(RecvTimeoutError::Timeout) => Ending::Timeout,
            Err(error) => return Err(error).context("recv_timeout"),
        };
        self.say(Event::Told(Role::Receiver, ending))
    }

    /// Waits on a full ring whose receiver is gone.
    fn ask_for_the_receiver(&mut self, sender: &mut Sender<Words<N>, Spsc>) -> Result<()> {
        let tag = self.next_tag();
        let ending = match sender.send_timeout(Words::new(tag), JUST_ASK) {
            Ok(()) => return self.say(Event::Sent(tag)),
            Err(SendTimeoutError::ReceiverDied(_)) => Ending::Died,
            Err(SendTimeoutError::Closed(_)) => Ending::Closed,
            Err(SendTimeoutError::Timeout(_)) => Ending::Timeout,
            Err(error) => anyhow::bail!("send_timeout: {}", name_of_send_error(&error)),
        };
        self.say(Event::Told(Role::Sender, ending))
    }

    fn received(&mut self, message: &Words<N>) -> Result<()> {
        match message.tag() {
            Ok(tag) => self.say(Event::Received(tag)),
            Err(words) => anyhow::bail!("torn message: {words}"),
        }
    }

    fn next_tag(&mut self) -> Tag {
        self.next += 1;
        Tag {
            sender: SURVIVOR,
            sequence: self.next,
        }
    }

    fn say(&mut self, event: Event) -> Result<()> {
        anyhow::ensure!((self.log)(event), "the explorer has hung up");
        Ok(())
    }
}

fn name_of_send_error<T>(error: &SendTimeoutError<T>) -> &'static str {
    match error {
        SendTimeoutError::Closed(_) => "Closed",
        SendTimeoutError::ReceiverDied(_) => "ReceiverDied",
        SendTimeoutError::NameLost(_) => "NameLost",
        SendTimeoutError::Timeout(_) => "Timeout",
        _ => "another error",
    }
}
