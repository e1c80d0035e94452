//! thingbuf: a queue whose slots are filled and read in place, by which it spares itself copies.

use std::marker::PhantomData;

use anyhow::Result;
use thingbuf::{Recycle, ThingBuf};

use crate::{
    contender::{Channel, Receive, Send},
    idle::Idle,
    message::Message,
};

type Slots<const WORDS: usize> = ThingBuf<Message<WORDS>, Overwritten>;

/// Messages are written as a whole: nothing needs to be cleared before.
#[derive(Debug)]
pub(crate) struct Overwritten;

impl<const WORDS: usize> Recycle<Message<WORDS>> for Overwritten {
    #[inline(always)]
    fn new_element(&self) -> Message<WORDS> {
        Message::zeroed()
    }

    #[inline(always)]
    fn recycle(&self, _: &mut Message<WORDS>) {}
}

/// One queue, shared by the threads of one process.
#[derive(Debug)]
pub(crate) struct Queue<const WORDS: usize, const CAPACITY: usize, I> {
    slots: Slots<WORDS>,
    how: PhantomData<fn() -> I>,
}

/// Either end.
#[derive(Debug)]
pub(crate) struct End<'a, const WORDS: usize, I>(&'a Slots<WORDS>, PhantomData<fn() -> I>);

impl<const WORDS: usize, const CAPACITY: usize, I: Idle> Channel for Queue<WORDS, CAPACITY, I> {
    type Sender<'a> = End<'a, WORDS, I>;
    type Receiver<'a> = End<'a, WORDS, I>;

    fn prepare() -> Result<Self> {
        Ok(Self {
            slots: ThingBuf::with_recycle(CAPACITY, Overwritten),
            how: PhantomData,
        })
    }

    fn sender(&self) -> Result<Self::Sender<'_>> {
        Ok(End(&self.slots, PhantomData))
    }

    fn receiver(&self) -> Result<Self::Receiver<'_>> {
        Ok(End(&self.slots, PhantomData))
    }
}

impl<const WORDS: usize, I: Idle> Send<WORDS> for End<'_, WORDS, I> {
    #[inline(always)]
    fn send(&mut self, message: Message<WORDS>) {
        let mut idle = I::default();
        loop {
            match self.0.push_ref() {
                Ok(mut slot) => {
                    *slot = message;
                    return;
                }
                Err(_) => idle.idle(),
            }
        }
    }
}

impl<const WORDS: usize, I: Idle> Receive<WORDS> for End<'_, WORDS, I> {
    #[inline(always)]
    fn receive(&mut self) -> Message<WORDS> {
        let mut idle = I::default();
        loop {
            match self.0.pop_ref() {
                Some(slot) => return *slot,
                None => idle.idle(),
            }
        }
    }
}
