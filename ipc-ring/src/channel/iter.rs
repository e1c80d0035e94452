//! Iterators over what arrives.

use super::receiver::Receiver;
use crate::message::ShmMessage;
use std::fmt;
use std::iter::FusedIterator;

/// Receives until the sender has left or died. See [`Receiver::iter`].
pub struct Iter<'a, T: ShmMessage> {
    receiver: &'a mut Receiver<T>,
}

/// Receives what is there. See [`Receiver::try_iter`].
pub struct TryIter<'a, T: ShmMessage> {
    receiver: &'a mut Receiver<T>,
}

/// Receives what was there, as one unit. See [`Receiver::drain`].
pub struct Drain<'a, T: ShmMessage> {
    receiver: &'a mut Receiver<T>,
    taken: u64,
    end: u64,
}

impl<'a, T: ShmMessage> Iter<'a, T> {
    pub(super) fn new(receiver: &'a mut Receiver<T>) -> Self {
        Self { receiver }
    }
}

impl<'a, T: ShmMessage> TryIter<'a, T> {
    pub(super) fn new(receiver: &'a mut Receiver<T>) -> Self {
        Self { receiver }
    }
}

impl<'a, T: ShmMessage> Drain<'a, T> {
    pub(super) fn new(receiver: &'a mut Receiver<T>, count: u64) -> Self {
        Self {
            receiver,
            taken: 0,
            end: count,
        }
    }
}

impl<T: ShmMessage> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.next_message(true)
    }
}

impl<T: ShmMessage> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.next_message(false)
    }
}

impl<T: ShmMessage> Iterator for Drain<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        while self.taken < self.end && self.receiver.is_current() {
            let message = self.receiver.copy_ahead(self.taken);
            self.taken += 1;
            if message.is_some() {
                return message;
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some((self.end - self.taken) as usize))
    }
}

impl<T: ShmMessage> FusedIterator for Drain<'_, T> {}

impl<T: ShmMessage> Drop for Drain<'_, T> {
    fn drop(&mut self) {
        if self.taken > 0 && self.receiver.is_current() {
            self.receiver.release(self.taken);
        }
    }
}

macro_rules! opaque_debug {
    ($($name:ident)*) => {
        $(impl<T: ShmMessage> fmt::Debug for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        })*
    };
}

opaque_debug!(Iter TryIter Drain);
