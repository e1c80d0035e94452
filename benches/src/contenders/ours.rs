//! This project's own ring, both sides told to spin.

use std::{
    marker::PhantomData,
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::Result;
use ipc_ring::{Builder, Receiver, Sender, Spsc, TryRecvError, TrySendError, Wait};

use super::{Idle, Pause};
use crate::{
    contender::{Channel, Receive, Send},
    message::Message,
};

/// What the segments of this program are called first.
const NAMESPACE: &str = "benches";

/// A ring that exists from the first opening until this is dropped.
#[derive(Debug)]
pub(crate) struct Ring<const WORDS: usize, const CAPACITY: usize, C> {
    name: String,
    how: PhantomData<fn() -> C>,
}

impl<const WORDS: usize, const CAPACITY: usize, C> Ring<WORDS, CAPACITY, C> {
    fn builder(&self) -> Builder<Message<WORDS>, Spsc> {
        ipc_ring::spsc(&self.name)
            .namespace(NAMESPACE)
            .capacity(CAPACITY)
            .wait(Wait::Spin)
    }
}

impl<const WORDS: usize, const CAPACITY: usize, C: 'static> Channel for Ring<WORDS, CAPACITY, C> {
    type Sender<'a> = End<Sender<Message<WORDS>, Spsc>, C>;
    type Receiver<'a> = End<Receiver<Message<WORDS>, Spsc>, C>;

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

impl<const WORDS: usize, const CAPACITY: usize, C> Drop for Ring<WORDS, CAPACITY, C> {
    fn drop(&mut self) {
        // Fails if neither side came to open it, and then there is nothing to remove.
        let _ = ipc_ring::remove_in(NAMESPACE, &self.name);
    }
}

/// A handle, and by which calls it is used.
#[derive(Debug)]
pub(crate) struct End<H, C>(H, PhantomData<C>);

/// `send` and `recv`: the ring decides how to wait.
#[derive(Debug)]
pub(crate) struct Waiting;

/// `try_send` and `try_recv`, again and again, with a pause in between: what rivals without waiting calls are given.
#[derive(Debug)]
pub(crate) struct Trying;

impl<const WORDS: usize> Send<WORDS> for End<Sender<Message<WORDS>, Spsc>, Waiting> {
    #[inline(always)]
    fn send(&mut self, message: Message<WORDS>) {
        if let Err(error) = self.0.send(message) {
            panic!("cannot send: {error}");
        }
    }
}

impl<const WORDS: usize> Receive<WORDS> for End<Receiver<Message<WORDS>, Spsc>, Waiting> {
    #[inline(always)]
    fn receive(&mut self) -> Message<WORDS> {
        match self.0.recv() {
            Ok(message) => message,
            Err(error) => panic!("cannot receive: {error}"),
        }
    }
}

impl<const WORDS: usize> Send<WORDS> for End<Sender<Message<WORDS>, Spsc>, Trying> {
    #[inline(always)]
    fn send(&mut self, mut message: Message<WORDS>) {
        loop {
            match self.0.try_send(message) {
                Ok(()) => return,
                Err(TrySendError::Full(returned)) => message = returned,
                Err(error) => panic!("cannot send: {error}"),
            }
            Pause::idle();
        }
    }
}

impl<const WORDS: usize> Receive<WORDS> for End<Receiver<Message<WORDS>, Spsc>, Trying> {
    #[inline(always)]
    fn receive(&mut self) -> Message<WORDS> {
        loop {
            match self.0.try_recv() {
                Ok(message) => return message,
                Err(TryRecvError::Empty) => Pause::idle(),
                Err(error) => panic!("cannot receive: {error}"),
            }
        }
    }
}
