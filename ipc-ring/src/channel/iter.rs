//! Iterators over what arrives.

use super::receiver::{Copied, Receiver};
use super::{Kind, Spsc};
use crate::message::ShmMessage;
use std::fmt;
use std::iter::FusedIterator;

/// Receives until there is an ending to tell. See [`Receiver::iter`].
pub struct Iter<'a, T: ShmMessage, K: Kind = Spsc> {
    receiver: &'a mut Receiver<T, K>,
}

/// Receives what is there. See [`Receiver::try_iter`].
pub struct TryIter<'a, T: ShmMessage, K: Kind = Spsc> {
    receiver: &'a mut Receiver<T, K>,
}

/// Receives what was there, as one unit. See [`Receiver::drain`].
pub struct Drain<'a, T: ShmMessage, K: Kind = Spsc> {
    receiver: &'a mut Receiver<T, K>,
    taken: u64,
    /// Of those, how many were no messages, and how many were corrupt.
    skipped: u64,
    corrupt: u64,
    end: u64,
}

impl<'a, T: ShmMessage, K: Kind> Iter<'a, T, K> {
    pub(super) fn new(receiver: &'a mut Receiver<T, K>) -> Self {
        Self { receiver }
    }
}

impl<'a, T: ShmMessage, K: Kind> TryIter<'a, T, K> {
    pub(super) fn new(receiver: &'a mut Receiver<T, K>) -> Self {
        Self { receiver }
    }
}

impl<'a, T: ShmMessage, K: Kind> Drain<'a, T, K> {
    pub(super) fn new(receiver: &'a mut Receiver<T, K>, count: u64) -> Self {
        Self {
            receiver,
            taken: 0,
            skipped: 0,
            corrupt: 0,
            end: count,
        }
    }
}

impl<T: ShmMessage, K: Kind> Iterator for Iter<'_, T, K> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.next_message(true)
    }
}

impl<T: ShmMessage, K: Kind> Iterator for TryIter<'_, T, K> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.next_message(false)
    }
}

impl<T: ShmMessage, K: Kind> Iterator for Drain<'_, T, K> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        while self.taken < self.end && self.receiver.is_current() {
            self.taken += 1;
            match self.receiver.copy_ahead(self.taken - 1) {
                Copied::Message(message) => return Some(message),
                Copied::Corrupt => self.corrupt += 1,
                Copied::Skipped => self.skipped += 1,
                Copied::Nothing => {
                    self.taken -= 1;
                    self.end = self.taken;
                }
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some((self.end - self.taken) as usize))
    }
}

impl<T: ShmMessage, K: Kind> FusedIterator for Drain<'_, T, K> {}

impl<T: ShmMessage, K: Kind> Drop for Drain<'_, T, K> {
    fn drop(&mut self) {
        if self.taken > 0 && self.receiver.is_current() {
            let (skipped, corrupt) = (self.skipped, self.corrupt);
            self.receiver.release_batch(self.taken, skipped, corrupt);
        }
    }
}

macro_rules! opaque_debug {
    ($($name:ident)*) => {
        $(impl<T: ShmMessage, K: Kind> fmt::Debug for $name<'_, T, K> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        })*
    };
}

opaque_debug!(Iter TryIter Drain);
