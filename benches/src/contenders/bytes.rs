//! Whole messages over channels that carry bytes.

use std::io::{ErrorKind, Read, Write};

use crate::{
    contender::{Receive, Send},
    message::Message,
};

/// What an end does when it cannot go on.
pub(crate) trait Mode: 'static {
    const SPINS: bool;
}

/// It tries again.
#[derive(Debug)]
pub(crate) struct Spinning;

/// It sleeps in the kernel.
#[derive(Debug)]
pub(crate) struct Blocking;

impl Mode for Spinning {
    const SPINS: bool = true;
}

impl Mode for Blocking {
    const SPINS: bool = false;
}

/// An end that writes and reads messages as a whole, in one call unless the kernel splits them.
#[derive(Debug)]
pub(crate) struct Whole<F>(pub(crate) F);

impl<const WORDS: usize, F: Write> Send<WORDS> for Whole<F> {
    #[inline(always)]
    fn send(&mut self, message: Message<WORDS>) {
        let mut rest = message.as_bytes();
        while !rest.is_empty() {
            match self.0.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("cannot write: {error}"),
            }
        }
    }
}

impl<const WORDS: usize, F: Read> Receive<WORDS> for Whole<F> {
    #[inline(always)]
    fn receive(&mut self) -> Message<WORDS> {
        let mut message = Message::zeroed();
        let mut rest = message.as_bytes_mut();
        while !rest.is_empty() {
            match self.0.read(rest) {
                Ok(0) => panic!("the other side has gone"),
                Ok(read) => rest = &mut rest[read..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("cannot read: {error}"),
            }
        }
        message
    }
}
