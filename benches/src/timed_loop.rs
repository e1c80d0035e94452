//! The loops that are timed, and where their code lies.
//!
//! Alignment alone can move a tight loop by a factor of two, and every change of the code moves all loops after it.
//! So each loop exists in several copies, each shifted by another number of bytes from the start of a cache line;
//! runs draw their copies at random, and the figures of all copies are pooled. What a contender does inline shifts
//! along; a function that it calls stays where the linker put it.

#![allow(unsafe_code)]

use std::arch::asm;

use crate::{
    contender::{Consume, Produce, Receive, Send},
    message::{Message, Numbers},
};

/// Which copy of its loop a side runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout(u8);

/// Calls the copy of a loop that a layout stands for. Compilers align loops to 16 bytes, so less is no shift.
macro_rules! in_layout {
    ($layout:expr, $timed_loop:ident::<$($parameter:ident),*>($($argument:expr),*)) => {
        match $layout.0 {
            0 => $timed_loop::<$($parameter,)* 0>($($argument),*),
            1 => $timed_loop::<$($parameter,)* 16>($($argument),*),
            2 => $timed_loop::<$($parameter,)* 32>($($argument),*),
            _ => $timed_loop::<$($parameter,)* 48>($($argument),*),
        }
    };
}

impl Layout {
    /// Any of them.
    pub(crate) fn random(rng: &mut fastrand::Rng) -> Self {
        Self(rng.u8(..4))
    }

    /// Sends messages and awaits each one's return; says in which bits they differed then.
    pub(crate) fn ask<const WORDS: usize>(
        self,
        sender: &mut impl Send<WORDS>,
        receiver: &mut impl Receive<WORDS>,
        numbers: Numbers,
    ) -> u64 {
        in_layout!(self, ask::<WORDS>(sender, receiver, numbers))
    }

    /// Sends every message back.
    pub(crate) fn answer<const WORDS: usize>(
        self,
        sender: &mut impl Send<WORDS>,
        receiver: &mut impl Receive<WORDS>,
        numbers: Numbers,
    ) {
        in_layout!(self, answer::<WORDS>(sender, receiver, numbers));
    }

    /// Produces a stream.
    pub(crate) fn produce<const WORDS: usize>(
        self,
        sender: &mut impl Produce<WORDS>,
        numbers: Numbers,
    ) {
        in_layout!(self, produce::<WORDS>(sender, numbers));
    }

    /// Consumes the streams of all senders; says in which bits it differed.
    pub(crate) fn consume<const WORDS: usize, const SENDERS: usize>(
        self,
        receiver: &mut impl Consume<WORDS, SENDERS>,
        numbers: Numbers,
    ) -> u64 {
        in_layout!(self, consume::<WORDS, SENDERS>(receiver, numbers))
    }
}

#[inline(never)]
fn ask<const WORDS: usize, const SHIFT: usize>(
    sender: &mut impl Send<WORDS>,
    receiver: &mut impl Receive<WORDS>,
    numbers: Numbers,
) -> u64 {
    shift::<SHIFT>();
    let mut difference = 0;
    for number in numbers {
        sender.send(Message::numbered(number));
        difference |= receiver.receive().difference(number);
    }
    difference
}

#[inline(never)]
fn answer<const WORDS: usize, const SHIFT: usize>(
    sender: &mut impl Send<WORDS>,
    receiver: &mut impl Receive<WORDS>,
    numbers: Numbers,
) {
    shift::<SHIFT>();
    for _ in numbers {
        sender.send(receiver.receive());
    }
}

#[inline(never)]
fn produce<const WORDS: usize, const SHIFT: usize>(
    sender: &mut impl Produce<WORDS>,
    numbers: Numbers,
) {
    shift::<SHIFT>();
    sender.produce(numbers);
}

#[inline(never)]
fn consume<const WORDS: usize, const SENDERS: usize, const SHIFT: usize>(
    receiver: &mut impl Consume<WORDS, SENDERS>,
    numbers: Numbers,
) -> u64 {
    shift::<SHIFT>();
    receiver.consume(numbers)
}

/// Places the code that follows `BYTES` after the start of a cache line. Runs once, before the loop.
#[inline(always)]
fn shift<const BYTES: usize>() {
    // SAFETY: instructions that do nothing.
    unsafe {
        asm!(
            ".p2align 6",
            ".rept {count}",
            "nop",
            ".endr",
            count = const BYTES / if cfg!(target_arch = "x86_64") { 1 } else { 4 },
            options(nomem, nostack, preserves_flags),
        );
    }
}
