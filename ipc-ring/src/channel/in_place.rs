//! Writing a message where the receiver will read it.
#![allow(unsafe_code, reason = "messages are written into slots")]

use super::sender::Sender;
use crate::message::ShmMessage;
use std::fmt;
use std::mem::MaybeUninit;

/// The place of the next message. Write it, then publish. Dropped or forgotten, it sends nothing.
#[must_use = "a reservation that is dropped sends nothing"]
pub struct Reservation<'a, T: ShmMessage> {
    sender: &'a mut Sender<T>,
    index: usize,
}

impl<'a, T: ShmMessage> Reservation<'a, T> {
    pub(super) fn new(sender: &'a mut Sender<T>, index: usize) -> Self {
        Self { sender, index }
    }

    /// Writes the message. It is sent by [`Written::publish`].
    pub fn write(mut self, message: T) -> Written<'a, T> {
        if self.sender.is_current() {
            self.as_uninit().write(message);
        }
        Written {
            sender: self.sender,
        }
    }

    /// The memory itself, to be filled field by field. A peer that breaks the rules may change it at any time.
    ///
    /// # Panics
    ///
    /// In a forked child, where there is no such memory.
    pub fn as_uninit(&mut self) -> &mut MaybeUninit<T> {
        assert!(
            self.sender.is_current(),
            "a reservation of the parent process used in a forked child"
        );
        let place = self.sender.place(self.index);
        // SAFETY: the slot is ours until it is published; any bytes are a `MaybeUninit`.
        unsafe { &mut *place }
    }

    /// Says that the memory has been filled.
    ///
    /// # Safety
    ///
    /// All of [`as_uninit`](Self::as_uninit) must hold a value of `T`.
    pub unsafe fn assume_written(self) -> Written<'a, T> {
        Written {
            sender: self.sender,
        }
    }
}

impl<T: ShmMessage> fmt::Debug for Reservation<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").finish_non_exhaustive()
    }
}

/// A message that is in place and not sent yet. Dropped, it is not sent.
#[must_use = "a message is sent by `publish`"]
pub struct Written<'a, T: ShmMessage> {
    sender: &'a mut Sender<T>,
}

impl<T: ShmMessage> Written<'_, T> {
    /// Sends the message. (In a forked child that inherited it, nothing.)
    #[inline]
    pub fn publish(self) {
        if self.sender.is_current() {
            self.sender.publish();
        }
    }
}

impl<T: ShmMessage> fmt::Debug for Written<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").finish_non_exhaustive()
    }
}
