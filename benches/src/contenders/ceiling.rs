//! The ceiling of the throughput: blocks of many messages, each block handed over with one flag.
//!
//! Every message carries the 8 bytes of a stamp as well, written and read like the payload, and messages lie without
//! a gap: the lines that move are those that a ring with a stamp per message has to move at the least.
//!
//! How much lies between the two sides matters as well: where a core's own cache overflows into one that both share,
//! the other core is faster to fetch from there. So blocks come in several sizes and numbers.

#![allow(unsafe_code)]

use std::{
    ptr::NonNull,
    sync::atomic::Ordering::{Acquire, Release},
};

use anyhow::Result;

use crate::{
    contender::{Channel, Consume, Produce},
    machine::{Line, Region},
    message::{Message, Numbers},
};

/// The lines of the flags, each on a line pair of its own; the blocks start on the next page.
const TAIL: usize = 0;
const HEAD: usize = 2;
const FIRST_BLOCK: usize = 64;

#[derive(Clone, Copy)]
#[repr(C)]
struct Stamped<const WORDS: usize> {
    stamp: u64,
    message: Message<WORDS>,
}

/// `BLOCKS` blocks of `BLOCK` bytes of messages of `WORDS` words.
#[derive(Debug)]
pub(crate) struct Blocks<const WORDS: usize, const BLOCK: usize, const BLOCKS: u64>(Region);

/// One end of [`Blocks`].
#[derive(Debug)]
pub(crate) struct BlocksEnd<'a, const WORDS: usize, const BLOCK: usize, const BLOCKS: u64> {
    region: &'a Region,
    /// Blocks that this end has handed over.
    position: u64,
}

impl<const WORDS: usize, const BLOCK: usize, const BLOCKS: u64> Blocks<WORDS, BLOCK, BLOCKS> {
    const PER_BLOCK: u64 = (BLOCK / size_of::<Stamped<WORDS>>()) as u64;
}

impl<const WORDS: usize, const BLOCK: usize, const BLOCKS: u64> Channel
    for Blocks<WORDS, BLOCK, BLOCKS>
{
    type Sender<'a> = Producer<'a, WORDS, BLOCK, BLOCKS>;
    type Receiver<'a> = Consumer<'a, WORDS, BLOCK, BLOCKS>;

    fn prepare() -> Result<Self> {
        Region::new(FIRST_BLOCK + BLOCKS as usize * BLOCK / Line::BYTES).map(Self)
    }

    fn sender(&self) -> Result<Self::Sender<'_>> {
        self.0.populate();
        Ok(Producer(BlocksEnd {
            region: &self.0,
            position: 0,
        }))
    }

    fn receiver(&self) -> Result<Self::Receiver<'_>> {
        self.0.populate();
        Ok(Consumer(BlocksEnd {
            region: &self.0,
            position: 0,
        }))
    }
}

/// The end that fills blocks.
#[derive(Debug)]
pub(crate) struct Producer<'a, const WORDS: usize, const BLOCK: usize, const BLOCKS: u64>(
    BlocksEnd<'a, WORDS, BLOCK, BLOCKS>,
);

/// The end that reads blocks.
#[derive(Debug)]
pub(crate) struct Consumer<'a, const WORDS: usize, const BLOCK: usize, const BLOCKS: u64>(
    BlocksEnd<'a, WORDS, BLOCK, BLOCKS>,
);

impl<const WORDS: usize, const BLOCK: usize, const BLOCKS: u64>
    BlocksEnd<'_, WORDS, BLOCK, BLOCKS>
{
    /// Takes the numbers of the next block off `numbers`; the last block of a stream may be a part of one.
    fn take(numbers: &mut Numbers) -> Option<Numbers> {
        let block = numbers.start
            ..numbers
                .end
                .min(numbers.start + Blocks::<WORDS, BLOCK, BLOCKS>::PER_BLOCK);
        numbers.start = block.end;
        (!block.is_empty()).then_some(block)
    }

    /// The messages of the block at the own position.
    fn block(&self) -> NonNull<Stamped<WORDS>> {
        let line = FIRST_BLOCK + (self.position % BLOCKS) as usize * BLOCK / Line::BYTES;
        // SAFETY: `prepare` made room for `BLOCKS` blocks.
        unsafe { self.region.as_ptr().add(line) }.cast()
    }

    /// Hands the block over to the other end, which knows this one's position from `flag`.
    fn hand_over(&mut self, flag: usize) {
        self.position += 1;
        // Release: pairs with the Acquire in `wait_until`.
        self.region[flag].0[0].store(self.position, Release);
    }

    /// Waits until the other end's position, shown by `flag`, has come to `position`.
    fn wait_until(&self, flag: usize, position: u64) {
        // Acquire: pairs with the Release in `hand_over`.
        while self.region[flag].0[0].load(Acquire) < position {
            std::hint::spin_loop();
        }
    }
}

impl<const WORDS: usize, const BLOCK: usize, const BLOCKS: u64> Produce<WORDS>
    for Producer<'_, WORDS, BLOCK, BLOCKS>
{
    #[inline(always)]
    fn produce(&mut self, mut numbers: Numbers) {
        while let Some(block) = BlocksEnd::<WORDS, BLOCK, BLOCKS>::take(&mut numbers) {
            self.0
                .wait_until(HEAD, (self.0.position + 1).saturating_sub(BLOCKS));
            let mut slot = self.0.block();
            for number in block {
                let message = Message::numbered(number);
                // SAFETY: at most PER_BLOCK messages lie in a block, and the consumer has handed it back.
                unsafe {
                    slot.write(Stamped {
                        stamp: number,
                        message,
                    })
                };
                // SAFETY: at most one past the end of the block.
                slot = unsafe { slot.add(1) };
            }
            self.0.hand_over(TAIL);
        }
    }
}

impl<const WORDS: usize, const BLOCK: usize, const BLOCKS: u64> Consume<WORDS>
    for Consumer<'_, WORDS, BLOCK, BLOCKS>
{
    #[inline(always)]
    fn consume(&mut self, mut numbers: Numbers) -> u64 {
        let mut difference = 0;
        while let Some(block) = BlocksEnd::<WORDS, BLOCK, BLOCKS>::take(&mut numbers) {
            self.0.wait_until(TAIL, self.0.position + 1);
            let mut slot = self.0.block();
            for number in block {
                // SAFETY: the producer wrote as many messages before it handed the block over.
                let stamped = unsafe { slot.read() };
                difference |= (stamped.stamp ^ number) | stamped.message.difference(number);
                // SAFETY: at most one past the end of the block.
                slot = unsafe { slot.add(1) };
            }
            self.0.hand_over(HEAD);
        }
        difference
    }
}
