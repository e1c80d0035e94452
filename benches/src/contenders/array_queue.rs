//! crossbeam's `ArrayQueue`: the bounded queue for several threads that most programs would take.

use std::marker::PhantomData;

use anyhow::Result;
use crossbeam_queue::ArrayQueue;

use crate::{
    contender::{Channel, Receive, Send},
    idle::Idle,
    message::Message,
};

/// One queue, shared by the threads of one process.
#[derive(Debug)]
pub(crate) struct Queue<const WORDS: usize, const CAPACITY: usize, I> {
    queue: ArrayQueue<Message<WORDS>>,
    how: PhantomData<fn() -> I>,
}

/// Either end.
#[derive(Debug)]
pub(crate) struct End<'a, const WORDS: usize, I>(
    &'a ArrayQueue<Message<WORDS>>,
    PhantomData<fn() -> I>,
);

impl<const WORDS: usize, const CAPACITY: usize, I: Idle> Channel for Queue<WORDS, CAPACITY, I> {
    type Sender<'a> = End<'a, WORDS, I>;
    type Receiver<'a> = End<'a, WORDS, I>;

    fn prepare() -> Result<Self> {
        Ok(Self {
            queue: ArrayQueue::new(CAPACITY),
            how: PhantomData,
        })
    }

    fn sender(&self) -> Result<Self::Sender<'_>> {
        Ok(End(&self.queue, PhantomData))
    }

    fn receiver(&self) -> Result<Self::Receiver<'_>> {
        Ok(End(&self.queue, PhantomData))
    }
}

impl<const WORDS: usize, I: Idle> Send<WORDS> for End<'_, WORDS, I> {
    #[inline(always)]
    fn send(&mut self, mut message: Message<WORDS>) {
        let mut idle = I::default();
        while let Err(returned) = self.0.push(message) {
            message = returned;
            idle.idle();
        }
    }
}

impl<const WORDS: usize, I: Idle> Receive<WORDS> for End<'_, WORDS, I> {
    #[inline(always)]
    fn receive(&mut self) -> Message<WORDS> {
        let mut idle = I::default();
        loop {
            match self.0.pop() {
                Some(message) => return message,
                None => idle.idle(),
            }
        }
    }
}
