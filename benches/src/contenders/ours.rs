//! This project's own rings.

use std::{
    marker::PhantomData,
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use anyhow::Result;
use ipc_ring::{Builder, Receiver, Sender, ShmMessage, TryRecvError, TrySendError, Wait};

use crate::{
    contender::{Channel, Receive, Send},
    idle::Idle,
    message::Message,
};

/// What the segments of this program are called first.
const NAMESPACE: &str = "benches";

/// A kind of ring, as every side states it.
pub(crate) trait Kind: 'static {
    type Kind: ipc_ring::Kind;

    fn ring<T: ShmMessage>(name: &str) -> Builder<T, Self::Kind>;
}

/// For one sender.
#[derive(Debug)]
pub(crate) struct Spsc;

/// For so many senders, with one order of all messages.
#[derive(Debug)]
pub(crate) struct Mpsc<const SENDERS: usize>;

/// With so many lanes.
#[derive(Debug)]
pub(crate) struct Lanes<const LANES: usize>;

/// For so many senders, under a mutex.
#[derive(Debug)]
pub(crate) struct Locked<const SENDERS: usize>;

impl<const SENDERS: usize> Kind for Locked<SENDERS> {
    type Kind = ipc_ring::Locked;

    fn ring<T: ShmMessage>(name: &str) -> Builder<T, Self::Kind> {
        ipc_ring::locked(name).max_senders(SENDERS as u32)
    }
}

impl Kind for Spsc {
    type Kind = ipc_ring::Spsc;

    fn ring<T: ShmMessage>(name: &str) -> Builder<T, Self::Kind> {
        ipc_ring::spsc(name)
    }
}

impl<const SENDERS: usize> Kind for Mpsc<SENDERS> {
    type Kind = ipc_ring::Mpsc;

    fn ring<T: ShmMessage>(name: &str) -> Builder<T, Self::Kind> {
        ipc_ring::mpsc(name).max_senders(SENDERS as u32)
    }
}

impl<const LANES: usize> Kind for Lanes<LANES> {
    type Kind = ipc_ring::Lanes;

    fn ring<T: ShmMessage>(name: &str) -> Builder<T, Self::Kind> {
        ipc_ring::lanes(name).max_senders(LANES as u32)
    }
}

/// By which calls a ring is used, and how it was told to wait.
pub(crate) trait Calls: 'static {
    const WAIT: Wait;
    /// How long to poll before sleeping, if not as long as unless said.
    const POLL: Option<Duration> = None;
}

/// `send` and `recv`, waiting in this way.
#[derive(Debug)]
pub(crate) struct Calling<W>(PhantomData<W>);

macro_rules! ways {
    ($($(#[$doc:meta])* $name:ident = $wait:ident, $poll:expr;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub(crate) struct $name;

            impl Calls for Calling<$name> {
                const WAIT: Wait = Wait::$wait;
                const POLL: Option<Duration> = $poll;
            }
        )+
    };
}

ways! {
    /// Never asleep.
    Spinning = Spin, None;
    /// Asleep after a while.
    Patient = Futex, None;
    /// Asleep at once.
    ByFutex = Futex, Some(Duration::ZERO);
    /// Likewise.
    ByCondvar = Condvar, Some(Duration::ZERO);
    /// Likewise.
    BySemaphore = Semaphore, Some(Duration::ZERO);
    /// Likewise.
    ByQueue = MessageQueue, Some(Duration::ZERO);
}

/// `send` and `recv`, on a ring that spins.
pub(crate) type Waiting = Calling<Spinning>;

/// `send` and `recv`, on a ring whose sides sleep after a while.
pub(crate) type Sleeping = Calling<Patient>;

/// `try_send` and `try_recv`, again and again, and idle in between: what rivals without waiting calls are given.
#[derive(Debug)]
pub(crate) struct Trying<I>(PhantomData<I>);

impl<I: Idle> Calls for Trying<I> {
    const WAIT: Wait = Wait::Spin;
}

/// A ring that exists from the first opening until this is dropped.
#[derive(Debug)]
pub(crate) struct Ring<const WORDS: usize, const CAPACITY: usize, K, C> {
    name: String,
    how: PhantomData<fn() -> (K, C)>,
}

impl<const WORDS: usize, const CAPACITY: usize, K: Kind, C: Calls> Ring<WORDS, CAPACITY, K, C> {
    fn builder(&self) -> Builder<Message<WORDS>, K::Kind> {
        let builder = K::ring(&self.name)
            .namespace(NAMESPACE)
            .capacity(CAPACITY)
            .wait(C::WAIT);
        match C::POLL {
            None => builder,
            Some(time) => builder.poll_before_sleep(time),
        }
    }
}

impl<const WORDS: usize, const CAPACITY: usize, K: Kind, C: Calls> Channel
    for Ring<WORDS, CAPACITY, K, C>
{
    type Sender<'a> = End<Sender<Message<WORDS>, K::Kind>, C>;
    type Receiver<'a> = End<Receiver<Message<WORDS>, K::Kind>, C>;

    fn prepare() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Ok(Self {
            name: format!("{}.{}", process::id(), NEXT.fetch_add(1, Relaxed)),
            how: PhantomData,
        })
    }

    fn sender(&self) -> Result<Self::Sender<'_>> {
        Ok(End(self.builder().sender()?, PhantomData))
    }

    fn receiver(&self) -> Result<Self::Receiver<'_>> {
        Ok(End(self.builder().receiver()?, PhantomData))
    }
}

impl<const WORDS: usize, const CAPACITY: usize, K, C> Drop for Ring<WORDS, CAPACITY, K, C> {
    fn drop(&mut self) {
        // Fails if no side came to open it, and then there is nothing to remove.
        let _ = ipc_ring::remove_in(NAMESPACE, &self.name);
    }
}

/// A handle, and by which calls it is used.
#[derive(Debug)]
pub(crate) struct End<H, C>(H, PhantomData<C>);

impl<const WORDS: usize, W, K: ipc_ring::Kind> Send<WORDS>
    for End<Sender<Message<WORDS>, K>, Calling<W>>
{
    #[inline(always)]
    fn send(&mut self, message: Message<WORDS>) {
        if let Err(error) = self.0.send(message) {
            panic!("cannot send: {error}");
        }
    }
}

impl<const WORDS: usize, W, K: ipc_ring::Kind> Receive<WORDS>
    for End<Receiver<Message<WORDS>, K>, Calling<W>>
{
    #[inline(always)]
    fn receive(&mut self) -> Message<WORDS> {
        match self.0.recv() {
            Ok(message) => message,
            Err(error) => panic!("cannot receive: {error}"),
        }
    }
}

impl<const WORDS: usize, K: ipc_ring::Kind, I: Idle> Send<WORDS>
    for End<Sender<Message<WORDS>, K>, Trying<I>>
{
    #[inline(always)]
    fn send(&mut self, mut message: Message<WORDS>) {
        let mut idle = I::default();
        loop {
            match self.0.try_send(message) {
                Ok(()) => return,
                Err(TrySendError::Full(returned)) => message = returned,
                Err(error) => panic!("cannot send: {error}"),
            }
            idle.idle();
        }
    }
}

impl<const WORDS: usize, K: ipc_ring::Kind, I: Idle> Receive<WORDS>
    for End<Receiver<Message<WORDS>, K>, Trying<I>>
{
    #[inline(always)]
    fn receive(&mut self) -> Message<WORDS> {
        let mut idle = I::default();
        loop {
            match self.0.try_recv() {
                Ok(message) => return message,
                Err(TryRecvError::Empty) => idle.idle(),
                Err(error) => panic!("cannot receive: {error}"),
            }
        }
    }
}
