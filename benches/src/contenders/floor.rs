//! The floor of the round trip: cache lines that move, and nothing else.

#![allow(unsafe_code)]

use std::{
    marker::PhantomData,
    ptr::NonNull,
    sync::atomic::Ordering::{Acquire, Release},
};

use anyhow::Result;

use crate::{
    contender::{Channel, Receive, Send},
    idle::Idle,
    machine::{Line, Region},
    message::Message,
};

/// In which order the lines of a message are written; they are polled from the first one on.
pub(crate) trait Order: 'static {
    fn nth(n: usize, lines: usize) -> usize;
}

/// The line that is polled first is written first: the receiver is already at work while the rest is written.
#[derive(Debug)]
pub(crate) struct FirstLineFirst;

impl Order for FirstLineFirst {
    #[inline(always)]
    fn nth(n: usize, _: usize) -> usize {
        n
    }
}

/// The line that is polled first is written last: the receiver finds all others complete.
#[derive(Debug)]
pub(crate) struct FirstLineLast;

impl Order for FirstLineLast {
    #[inline(always)]
    fn nth(n: usize, lines: usize) -> usize {
        lines - 1 - n
    }
}

/// One flag on each of `LINES` lines, and no payload: what a message of that many lines costs at the very least.
///
/// There is no ring: the next message may be sent once the answer is here.
#[derive(Debug)]
pub(crate) struct Flags<const LINES: usize, O, I> {
    region: Region,
    how: PhantomData<fn() -> (O, I)>,
}

/// One end of [`Flags`].
#[derive(Debug)]
pub(crate) struct FlagsEnd<'a, const LINES: usize, O, I> {
    lines: &'a [Line; LINES],
    /// What the lines showed when this end looked last.
    seen: u64,
    how: PhantomData<fn() -> (O, I)>,
}

impl<const LINES: usize, O: Order, I: Idle> Flags<LINES, O, I> {
    fn end(&self) -> Result<FlagsEnd<'_, LINES, O, I>> {
        Ok(FlagsEnd {
            lines: self.region[..].try_into()?,
            seen: 0,
            how: PhantomData,
        })
    }
}

impl<const LINES: usize, O: Order, I: Idle> Channel for Flags<LINES, O, I> {
    type Sender<'a> = FlagsEnd<'a, LINES, O, I>;
    type Receiver<'a> = FlagsEnd<'a, LINES, O, I>;

    fn prepare() -> Result<Self> {
        Ok(Self {
            region: Region::new(LINES)?,
            how: PhantomData,
        })
    }

    fn sender(&self) -> Result<Self::Sender<'_>> {
        self.end()
    }

    fn receiver(&self) -> Result<Self::Receiver<'_>> {
        self.end()
    }
}

impl<const LINES: usize, O: Order, I: Idle> Send<1> for FlagsEnd<'_, LINES, O, I> {
    #[inline(always)]
    fn send(&mut self, message: Message<1>) {
        // Zero means "nothing yet", so number 0 is shown as 1.
        let flag = message.number().wrapping_add(1);
        for n in 0..LINES {
            // Release: pairs with the Acquire in `receive`.
            self.lines[O::nth(n, LINES)].0[0].store(flag, Release);
        }
    }
}

impl<const LINES: usize, O: Order, I: Idle> Receive<1> for FlagsEnd<'_, LINES, O, I> {
    #[inline(always)]
    fn receive(&mut self) -> Message<1> {
        let (mut flag, mut idle) = (self.seen, I::default());
        for line in self.lines {
            loop {
                // Acquire: pairs with the Release in `send`.
                flag = line.0[0].load(Acquire);
                if flag != self.seen {
                    break;
                }
                idle.idle();
            }
        }
        self.seen = flag;
        Message::numbered(flag.wrapping_sub(1))
    }
}

/// A flag and the payload behind it, filled and read: what is left to a ring is its book-keeping.
#[derive(Debug)]
pub(crate) struct Slot<const WORDS: usize, I> {
    region: Region,
    how: PhantomData<fn() -> I>,
}

/// One end of [`Slot`].
#[derive(Debug)]
pub(crate) struct SlotEnd<'a, const WORDS: usize, I> {
    flag: &'a Line,
    payload: NonNull<Message<WORDS>>,
    position: u64,
    how: PhantomData<fn() -> I>,
}

impl<const WORDS: usize, I: Idle> Slot<WORDS, I> {
    fn end(&self) -> SlotEnd<'_, WORDS, I> {
        SlotEnd {
            flag: &self.region[0],
            // SAFETY: `prepare` made room for the flag and the payload.
            payload: unsafe { self.region.as_ptr().cast::<u64>().add(1) }.cast(),
            position: 0,
            how: PhantomData,
        }
    }
}

impl<const WORDS: usize, I: Idle> Channel for Slot<WORDS, I> {
    type Sender<'a> = SlotEnd<'a, WORDS, I>;
    type Receiver<'a> = SlotEnd<'a, WORDS, I>;

    fn prepare() -> Result<Self> {
        Ok(Self {
            region: Region::new((8 + Message::<WORDS>::BYTES).div_ceil(Line::BYTES))?,
            how: PhantomData,
        })
    }

    fn sender(&self) -> Result<Self::Sender<'_>> {
        Ok(self.end())
    }

    fn receiver(&self) -> Result<Self::Receiver<'_>> {
        Ok(self.end())
    }
}

impl<const WORDS: usize, I: Idle> Send<WORDS> for SlotEnd<'_, WORDS, I> {
    #[inline(always)]
    fn send(&mut self, message: Message<WORDS>) {
        // SAFETY: in bounds and aligned; the receiver has answered the previous message, so it reads no more.
        unsafe { self.payload.write(message) };
        self.position += 1;
        // Release: pairs with the Acquire in `receive`.
        self.flag.0[0].store(self.position, Release);
    }
}

impl<const WORDS: usize, I: Idle> Receive<WORDS> for SlotEnd<'_, WORDS, I> {
    #[inline(always)]
    fn receive(&mut self) -> Message<WORDS> {
        self.position += 1;
        let mut idle = I::default();
        // Acquire: pairs with the Release in `send`.
        while self.flag.0[0].load(Acquire) != self.position {
            idle.idle();
        }
        // SAFETY: in bounds and aligned; the sender writes no more before it has an answer.
        unsafe { self.payload.read() }
    }
}
