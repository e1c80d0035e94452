//! Writing a message where the receiver will read it.
#![allow(unsafe_code, reason = "messages are written into slots")]

use super::sender::Sender;
use super::{Kind, Spsc};
use crate::message::ShmMessage;
use std::fmt;
use std::mem::MaybeUninit;

/// The place of the next message. Write it, then publish. Dropped or forgotten, it sends nothing.
///
/// In [`mpsc`](crate::mpsc), places have the order in which they are reserved: what others send meanwhile waits for this
/// one, so hold it no longer than writing takes. A forgotten one holds them up until its sender sends or reserves again, or
/// is dropped.
#[must_use = "a reservation that is dropped sends nothing"]
pub struct Reservation<'a, T: ShmMessage, K: Kind = Spsc> {
    open: Open<'a, T, K>,
    index: usize,
}

/// Gives the place up when dropped, unless it was published.
struct Open<'a, T: ShmMessage, K: Kind> {
    sender: &'a mut Sender<T, K>,
}

impl<T: ShmMessage, K: Kind> Drop for Open<'_, T, K> {
    fn drop(&mut self) {
        if self.sender.is_current() {
            self.sender.abandon();
        }
    }
}

impl<'a, T: ShmMessage, K: Kind> Reservation<'a, T, K> {
    pub(super) fn new(sender: &'a mut Sender<T, K>, index: usize) -> Self {
        Self {
            open: Open { sender },
            index,
        }
    }

    /// Writes the message. It is sent by [`Written::publish`].
    pub fn write(mut self, message: T) -> Written<'a, T, K> {
        if self.open.sender.is_current() {
            self.as_uninit().write(message);
        }
        Written { open: self.open }
    }

    /// The memory itself, to be filled field by field. A peer that breaks the rules may change it at any time.
    ///
    /// # Panics
    ///
    /// In a forked child, where there is no such memory.
    pub fn as_uninit(&mut self) -> &mut MaybeUninit<T> {
        assert!(
            self.open.sender.is_current(),
            "a reservation of the parent process used in a forked child"
        );
        let place = self.open.sender.place(self.index);
        // SAFETY: the slot is ours until it is published; any bytes are a `MaybeUninit`.
        unsafe { &mut *place }
    }

    /// Says that the memory has been filled.
    ///
    /// # Safety
    ///
    /// All of [`as_uninit`](Self::as_uninit) must hold a value of `T`.
    pub unsafe fn assume_written(self) -> Written<'a, T, K> {
        Written { open: self.open }
    }
}

impl<T: ShmMessage, K: Kind> fmt::Debug for Reservation<'_, T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").finish_non_exhaustive()
    }
}

/// A message that is in place and not sent yet. Dropped, it is not sent.
#[must_use = "a message is sent by `publish`"]
pub struct Written<'a, T: ShmMessage, K: Kind = Spsc> {
    open: Open<'a, T, K>,
}

impl<T: ShmMessage, K: Kind> Written<'_, T, K> {
    /// Sends the message. (In a forked child that inherited it, nothing.)
    #[inline]
    pub fn publish(self) {
        if self.open.sender.is_current() {
            self.open.sender.publish();
        }
    }
}

impl<T: ShmMessage, K: Kind> fmt::Debug for Written<'_, T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").finish_non_exhaustive()
    }
}
