//! Text and lists of bounded length that live in the message itself.

use std::fmt;

mod str;
mod vec;

pub use self::str::FixedStr;
pub use self::vec::{FixedVec, FixedVecIntoIter};

/// The greatest capacity: the length takes two bytes.
const MAX_CAPACITY: usize = u16::MAX as usize;

/// There is no room for another value; it is handed back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CapacityError<T = ()> {
    capacity: usize,
    value: T,
}

impl<T> CapacityError<T> {
    const fn new(capacity: usize, value: T) -> Self {
        Self { capacity, value }
    }

    /// What there was no room for.
    #[must_use]
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> fmt::Display for CapacityError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is room for {} only", self.capacity)
    }
}

impl<T> fmt::Debug for CapacityError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapacityError")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl<T> std::error::Error for CapacityError<T> {}
