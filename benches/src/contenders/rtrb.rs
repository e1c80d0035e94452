//! rtrb: the ring to beat. It lives on the heap, so its two sides are threads of one process.

use std::{marker::PhantomData, sync::Mutex};

use anyhow::{Context, Result};
use rtrb::{Consumer, PopError, Producer, PushError, RingBuffer};

use crate::{
    contender::{Channel, Receive, Send},
    idle::Idle,
    message::Message,
};

/// One ring; each end is taken by its thread.
#[derive(Debug)]
pub(crate) struct Ring<const WORDS: usize, const CAPACITY: usize, I> {
    producer: Mutex<Option<Producer<Message<WORDS>>>>,
    consumer: Mutex<Option<Consumer<Message<WORDS>>>>,
    how: PhantomData<fn() -> I>,
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct Sender<const WORDS: usize, I>(Producer<Message<WORDS>>, PhantomData<I>);

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Receiver<const WORDS: usize, I>(Consumer<Message<WORDS>>, PhantomData<I>);

impl<const WORDS: usize, const CAPACITY: usize, I: Idle> Channel for Ring<WORDS, CAPACITY, I> {
    type Sender<'a> = Sender<WORDS, I>;
    type Receiver<'a> = Receiver<WORDS, I>;

    fn prepare() -> Result<Self> {
        let (producer, consumer) = RingBuffer::new(CAPACITY);
        Ok(Self {
            producer: Mutex::new(Some(producer)),
            consumer: Mutex::new(Some(consumer)),
            how: PhantomData,
        })
    }

    fn sender(&self) -> Result<Self::Sender<'_>> {
        let producer = self.producer.lock().expect("nobody panics with it").take();
        Ok(Sender(producer.context("one sender only")?, PhantomData))
    }

    fn receiver(&self) -> Result<Self::Receiver<'_>> {
        let consumer = self.consumer.lock().expect("nobody panics with it").take();
        Ok(Receiver(
            consumer.context("one receiver only")?,
            PhantomData,
        ))
    }
}

impl<const WORDS: usize, I: Idle> Send<WORDS> for Sender<WORDS, I> {
    #[inline(always)]
    fn send(&mut self, mut message: Message<WORDS>) {
        let mut idle = I::default();
        while let Err(PushError::Full(returned)) = self.0.push(message) {
            message = returned;
            idle.idle();
        }
    }
}

impl<const WORDS: usize, I: Idle> Receive<WORDS> for Receiver<WORDS, I> {
    #[inline(always)]
    fn receive(&mut self) -> Message<WORDS> {
        let mut idle = I::default();
        loop {
            match self.0.pop() {
                Ok(message) => return message,
                Err(PopError::Empty) => idle.idle(),
            }
        }
    }
}
