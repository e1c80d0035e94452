//! A process that plays participants: it holds their handles and does with them what it is told.

mod sleepers;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ipc_ring::{
    Lanes, Locked, Mpsc, Receiver, RecvTimeoutError, RemoveError, SendTimeoutError, Sender, Spsc,
    TryRecvError, TrySendError, remove_in,
};

use crate::act::Act;
use crate::event::{Ending, Event, RECEIVER, Seat};
use crate::leftover::{Open, take_away};
use crate::message::{Tag, Words};
use crate::ring::{Carries, Kind, Ring};
use crate::troupe::sleepers::Sleeper;

/// How long a call may wait whose answer is there already. Long enough for a machine under load; whoever needs all of it is
/// reported.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Waiting calls ask the kernel about the other side before they give up, however short their time is.
pub(crate) const JUST_ASK: Duration = Duration::ZERO;

/// Serves acts on standard input, which is a socket, until the explorer hangs up.
pub(crate) fn serve() -> Result<()> {
    serve_while(|_| true)
}

/// The same, but ends at the first failure: a victim whose operation came to something wrong reaches no further marker.
pub(crate) fn serve_until_failure() -> Result<()> {
    serve_while(|outcome| outcome.is_ok())
}

fn serve_while(goes_on: impl Fn(&Result<()>) -> bool) -> Result<()> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    let log = Log(UnixStream::from(socket.try_clone()?));
    let mut lines = BufReader::new(UnixStream::from(socket)).lines();
    let mut troupe: Option<Box<dyn Troupe>> = None;
    while let Some(line) = lines.next().transpose()? {
        let act = line.parse()?;
        let outcome = match (act, &mut troupe) {
            (Act::Take(ring), troupe) => {
                if let Some(mut former) = troupe.take() {
                    former.vanish_all();
                }
                of(ring, &log).map(|new| *troupe = Some(new))
            }
            (act, Some(troupe)) => troupe.perform(&act),
            (act, None) => bail!("{act} in which ring?"),
        };
        match &outcome {
            Ok(()) => log.say(&Event::Done)?,
            Err(failure) => log.say(&Event::Failed(format!("{failure:#}")))?,
        }
        if !goes_on(&outcome) {
            return outcome;
        }
    }
    Ok(())
}

/// Where events go.
#[derive(Debug)]
pub(crate) struct Log(UnixStream);

impl Log {
    pub(crate) fn say(&self, event: &Event) -> Result<()> {
        let line = format!("{event}\n");
        (&self.0)
            .write_all(line.as_bytes())
            .context("the explorer has hung up")
    }

    fn again(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }
}

/// [`Handles`] of any kind and any messages.
trait Troupe {
    fn perform(&mut self, act: &Act) -> Result<()>;
    fn vanish_all(&mut self);
}

fn of(ring: Ring, log: &Log) -> Result<Box<dyn Troupe>> {
    let log = log.again()?;
    Ok(match (ring.kind, ring.words) {
        (Kind::Spsc, 1) => Box::new(Handles::<1, Spsc>::new(ring, log)),
        (Kind::Spsc, 7) => Box::new(Handles::<7, Spsc>::new(ring, log)),
        (Kind::Spsc, 25) => Box::new(Handles::<25, Spsc>::new(ring, log)),
        (Kind::Mpsc, 1) => Box::new(Handles::<1, Mpsc>::new(ring, log)),
        (Kind::Mpsc, 7) => Box::new(Handles::<7, Mpsc>::new(ring, log)),
        (Kind::Mpsc, 25) => Box::new(Handles::<25, Mpsc>::new(ring, log)),
        (Kind::Lanes, 1) => Box::new(Handles::<1, Lanes>::new(ring, log)),
        (Kind::Lanes, 7) => Box::new(Handles::<7, Lanes>::new(ring, log)),
        (Kind::Lanes, 25) => Box::new(Handles::<25, Lanes>::new(ring, log)),
        (Kind::Locked, 1) => Box::new(Handles::<1, Locked>::new(ring, log)),
        (Kind::Locked, 7) => Box::new(Handles::<7, Locked>::new(ring, log)),
        (Kind::Locked, 25) => Box::new(Handles::<25, Locked>::new(ring, log)),
        (_, words) => bail!("no message has {words} words"),
    })
}

/// The handles of one ring.
pub(crate) struct Handles<const N: usize, K: Carries> {
    pub(crate) ring: Ring,
    pub(crate) log: Log,
    pub(crate) receiver: Option<Receiver<Words<N>, K>>,
    pub(crate) senders: BTreeMap<Seat, Sender<Words<N>, K>>,
    sleepers: BTreeMap<Seat, Sleeper<N, K>>,
    /// What each handle has opened.
    opened: BTreeMap<Seat, Open>,
    /// How many messages each sender has sent or tried to send while waiting.
    sequences: BTreeMap<Seat, u16>,
}

/// A participant's handle.
pub(crate) enum Handle<const N: usize, K: Carries> {
    Receiver(Receiver<Words<N>, K>),
    Sender(Sender<Words<N>, K>),
}

impl<const N: usize, K: Carries> Troupe for Handles<N, K> {
    fn perform(&mut self, act: &Act) -> Result<()> {
        match act {
            Act::Take(_) => bail!("taken by whom?"),
            Act::Join(seat) => self.join(*seat),
            Act::Send(seat) => self.try_send(*seat).map(drop),
            Act::Reserve(seat) => self.reserve(*seat),
            Act::Receive => self.try_recv().map(drop),
            Act::Sleep(seat) => self.sleep(*seat),
            Act::Leave(seat) => self.leave(*seat),
            Act::Vanish(seat) => self.vanish(*seat),
            Act::Remove => {
                let object = &self.ring.object;
                let removed = remove_in(&object.namespace, &object.name);
                self.tell_removed(removed)
            }
            Act::Return => {
                self.leave(RECEIVER)?;
                self.join(RECEIVER)
            }
            Act::Lap => self.lap(),
            Act::Operate(operation, seat) => self.operate(*operation, *seat),
            Act::Recover(order) => self.recover(*order),
        }
    }

    fn vanish_all(&mut self) {
        let seats = self.opened.keys().copied().collect::<Vec<_>>();
        for seat in seats {
            // Who sleeps can't be made to vanish. There is none when a ring is done with.
            let _ = self.vanish(seat);
        }
    }
}

impl<const N: usize, K: Carries> Handles<N, K> {
    fn new(ring: Ring, log: Log) -> Self {
        Self {
            ring,
            log,
            receiver: None,
            senders: BTreeMap::new(),
            sleepers: BTreeMap::new(),
            opened: BTreeMap::new(),
            sequences: BTreeMap::new(),
        }
    }

    pub(crate) fn say(&self, event: Event) -> Result<()> {
        self.log.say(&event)
    }

    pub(crate) fn receiver(&mut self) -> Result<&mut Receiver<Words<N>, K>> {
        self.receiver.as_mut().context("no receiver is attached")
    }

    pub(crate) fn sender(&mut self, seat: Seat) -> Result<&mut Sender<Words<N>, K>> {
        let sender = self.senders.get_mut(&seat);
        sender.with_context(|| format!("no sender {seat} is attached"))
    }

    pub(crate) fn next_tag(&mut self, seat: Seat) -> Tag {
        let sequence = self.sequences.entry(seat).or_default();
        *sequence += 1;
        Tag {
            sender: seat,
            sequence: *sequence,
        }
    }

    /// The last message was not sent: the next one has its tag.
    pub(crate) fn not_sent(&mut self, seat: Seat) {
        if let Some(sequence) = self.sequences.get_mut(&seat) {
            *sequence -= 1;
        }
    }

    pub(crate) fn seats_of_senders(&self) -> Vec<Seat> {
        self.senders.keys().copied().collect()
    }

    pub(crate) fn sleeping(&self) -> Vec<Seat> {
        self.sleepers.keys().copied().collect()
    }

    pub(crate) fn join(&mut self, seat: Seat) -> Result<()> {
        let before = Open::now(&self.ring.object)?;
        if seat == RECEIVER {
            let receiver = self.ring.creator().receiver();
            self.receiver = Some(receiver.context("joining as the receiver")?);
        } else {
            let sender = self.ring.creator().sender();
            let sender = sender.context("joining as a sender")?;
            self.senders.insert(seat, sender);
        }
        self.has_opened(seat, &before)?;
        self.say(Event::Joined(seat))
    }

    /// Notes what was opened by who has just joined.
    fn has_opened(&mut self, seat: Seat, before: &Open) -> Result<()> {
        let opened = Open::now(&self.ring.object)?.since(before);
        self.opened.insert(seat, opened);
        Ok(())
    }

    /// The event; `Full` if there is no room.
    pub(crate) fn try_send(&mut self, seat: Seat) -> Result<Event> {
        let tag = self.next_tag(seat);
        let sent = self.sender(seat)?.try_send(Words::new(tag));
        let event = match sent {
            Ok(()) => Event::Sent(tag),
            Err(error) => {
                self.not_sent(seat);
                let (event, back) = match error {
                    TrySendError::Full(back) => (Event::Full(seat), back),
                    TrySendError::Closed(back) => (Event::Told(seat, Ending::Closed), back),
                    other => bail!("try_send: {}", other.map(drop)),
                };
                ensure!(
                    back.tag() == Ok(tag),
                    "{event} gave back another message: {:?}",
                    back.tag()
                );
                event
            }
        };
        self.say(event.clone())?;
        Ok(event)
    }

    pub(crate) fn reserve(&mut self, seat: Seat) -> Result<()> {
        let reserved = self.sender(seat)?.try_reserve();
        std::mem::forget(reserved.context("reserving")?);
        self.say(Event::Reserved(seat))
    }

    /// The event; `Empty` if there is no message.
    pub(crate) fn try_recv(&mut self) -> Result<Event> {
        let event = match self.receiver()?.try_recv() {
            Ok(message) => Event::Received(whole(&message)?),
            Err(TryRecvError::Empty) => Event::Empty,
            Err(TryRecvError::Closed) => Event::Told(RECEIVER, Ending::Closed),
            Err(TryRecvError::SenderDied { .. }) => Event::Told(RECEIVER, Ending::Died),
            Err(other) => return Err(other).context("try_recv"),
        };
        self.say(event.clone())?;
        Ok(event)
    }

    /// Receives, waiting for `timeout`; the event.
    pub(crate) fn recv(&mut self, timeout: Duration) -> Result<Event> {
        let event = received(self.receiver()?.recv_timeout(timeout))?;
        self.say(event.clone())?;
        Ok(event)
    }

    /// Sends the next message, waiting for `timeout`; the event.
    pub(crate) fn send(&mut self, seat: Seat, timeout: Duration) -> Result<Event> {
        let tag = self.next_tag(seat);
        let event = sent(
            tag,
            self.sender(seat)?.send_timeout(Words::new(tag), timeout),
        )?;
        if event != Event::Sent(tag) {
            self.not_sent(seat);
        }
        self.say(event.clone())?;
        Ok(event)
    }

    pub(crate) fn leave(&mut self, seat: Seat) -> Result<()> {
        if seat == RECEIVER {
            drop(self.receiver.take().context("no receiver is attached")?);
        } else {
            let sender = self.senders.remove(&seat);
            drop(sender.context("no such sender is attached")?);
        }
        self.opened.remove(&seat);
        self.say(Event::Left(seat))
    }

    fn vanish(&mut self, seat: Seat) -> Result<()> {
        let opened = self.opened.remove(&seat);
        let opened = opened.with_context(|| format!("{seat} has not joined"))?;
        if seat == RECEIVER {
            std::mem::forget(self.receiver.take());
        } else {
            std::mem::forget(self.senders.remove(&seat));
        }
        ensure!(
            !self.sleepers.contains_key(&seat),
            "who sleeps does not vanish"
        );
        take_away(&opened);
        self.say(Event::Vanished(seat))
    }

    pub(crate) fn tell_removed(&self, removed: Result<(), RemoveError>) -> Result<()> {
        self.say(match removed {
            Ok(()) => Event::Removed,
            Err(RemoveError::InUse { .. }) => Event::Refused,
            Err(other) => return Err(other).context("removing the ring"),
        })
    }

    /// Everybody here goes round the ring, as far as the one who stands still lets them.
    fn lap(&mut self) -> Result<()> {
        const ROUNDS: usize = 3;

        for _ in 0..ROUNDS {
            for seat in self.seats_of_senders() {
                for _ in 0..=self.ring.capacity {
                    if !matches!(self.try_send(seat)?, Event::Sent(_)) {
                        break;
                    }
                }
            }
            if self.receiver.is_some() {
                while let Event::Received(_) = self.recv(JUST_ASK)? {}
            }
        }
        Ok(())
    }

    /// Takes what an operation has made.
    pub(crate) fn has_joined(&mut self, seat: Seat, handle: Handle<N, K>) -> Result<()> {
        self.hold(seat, handle);
        self.say(Event::Joined(seat))
    }

    fn hold(&mut self, seat: Seat, handle: Handle<N, K>) {
        match handle {
            Handle::Receiver(receiver) => self.receiver = Some(receiver),
            Handle::Sender(sender) => {
                self.senders.insert(seat, sender);
            }
        }
    }

    /// Senders that are attached, asleep ones among them.
    pub(crate) fn senders_attached(&self) -> usize {
        let asleep = self.sleepers.keys().filter(|&&seat| seat != RECEIVER);
        self.senders.len() + asleep.count()
    }

    pub(crate) fn is_receiver_attached(&self) -> bool {
        self.receiver.is_some() || self.sleepers.contains_key(&RECEIVER)
    }
}

/// The tag of a message that is not torn.
pub(crate) fn whole<const N: usize>(message: &Words<N>) -> Result<Tag> {
    match message.tag() {
        Ok(tag) => Ok(tag),
        Err(words) => bail!("torn message: {words}"),
    }
}

pub(crate) fn received<const N: usize>(
    result: Result<Words<N>, RecvTimeoutError>,
) -> Result<Event> {
    Ok(match result {
        Ok(message) => Event::Received(whole(&message)?),
        Err(RecvTimeoutError::SenderDied { .. }) => Event::Told(RECEIVER, Ending::Died),
        Err(RecvTimeoutError::Closed) => Event::Told(RECEIVER, Ending::Closed),
        Err(RecvTimeoutError::Timeout) => Event::Told(RECEIVER, Ending::Timeout),
        Err(other) => return Err(other).context("recv_timeout"),
    })
}

pub(crate) fn sent<const N: usize>(
    tag: Tag,
    result: Result<(), SendTimeoutError<Words<N>>>,
) -> Result<Event> {
    let (ending, back) = match result {
        Ok(()) => return Ok(Event::Sent(tag)),
        Err(SendTimeoutError::ReceiverDied(back)) => (Ending::Died, back),
        Err(SendTimeoutError::Closed(back)) => (Ending::Closed, back),
        Err(SendTimeoutError::Timeout(back)) => (Ending::Timeout, back),
        Err(other) => bail!("send_timeout: {}", other.map(drop)),
    };
    ensure!(
        back.tag() == Ok(tag),
        "another message came back: {:?}",
        back.tag()
    );
    Ok(Event::Told(tag.sender, ending))
}
