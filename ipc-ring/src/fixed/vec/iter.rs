//! Going through a [`FixedVec`].

#![allow(unsafe_code)]

use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;
use std::slice;

use super::FixedVec;
use crate::message::ShmMessage;

/// The elements of a [`FixedVec`], by value.
pub struct FixedVecIntoIter<T, const N: usize> {
    items: FixedVec<T, N>,
    left: Range<usize>,
}

impl<T: ShmMessage, const N: usize> FixedVecIntoIter<T, N> {
    /// The elements that are still to come.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.items[self.left.clone()]
    }

    fn read(&self, index: usize) -> T {
        // SAFETY: it is within the length, and each index is taken once.
        unsafe { self.items.parts().items[index].assume_init_read() }
    }
}

impl<T: ShmMessage, const N: usize> Iterator for FixedVecIntoIter<T, N> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let index = self.left.next()?;
        Some(self.read(index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl<T: ShmMessage, const N: usize> DoubleEndedIterator for FixedVecIntoIter<T, N> {
    fn next_back(&mut self) -> Option<T> {
        let index = self.left.next_back()?;
        Some(self.read(index))
    }
}

impl<T: ShmMessage, const N: usize> ExactSizeIterator for FixedVecIntoIter<T, N> {}

impl<T: ShmMessage, const N: usize> FusedIterator for FixedVecIntoIter<T, N> {}

impl<T: ShmMessage + fmt::Debug, const N: usize> fmt::Debug for FixedVecIntoIter<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FixedVecIntoIter")
            .field(&self.as_slice())
            .finish()
    }
}

impl<T: ShmMessage, const N: usize> IntoIterator for FixedVec<T, N> {
    type Item = T;
    type IntoIter = FixedVecIntoIter<T, N>;

    fn into_iter(self) -> FixedVecIntoIter<T, N> {
        let left = 0..self.len();
        FixedVecIntoIter { items: self, left }
    }
}

impl<'a, T: ShmMessage, const N: usize> IntoIterator for &'a FixedVec<T, N> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> slice::Iter<'a, T> {
        self.iter()
    }
}

impl<'a, T: ShmMessage, const N: usize> IntoIterator for &'a mut FixedVec<T, N> {
    type Item = &'a mut T;
    type IntoIter = slice::IterMut<'a, T>;

    fn into_iter(self) -> slice::IterMut<'a, T> {
        self.iter_mut()
    }
}
