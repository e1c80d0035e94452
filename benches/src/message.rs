//! The message that every contender carries.

use std::ops::Range;

use bytemuck::{cast_slice, cast_slice_mut};
use ipc_ring::ShmMessage;

/// A message of `WORDS` words of 8 bytes: its number, and words that follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ShmMessage)]
#[repr(C)]
pub(crate) struct Message<const WORDS: usize>([u64; WORDS]);

/// The numbers of the messages of one leg of a run.
pub(crate) type Numbers = Range<u64>;

impl<const WORDS: usize> Message<WORDS> {
    /// Size in bytes.
    pub(crate) const BYTES: usize = WORDS * 8;

    /// Fills a message: every word is written.
    #[inline(always)]
    pub(crate) fn numbered(number: u64) -> Self {
        let mut words = [0; WORDS];
        for (word, offset) in words.iter_mut().zip(0..) {
            *word = number.wrapping_add(offset);
        }
        Self(words)
    }

    /// Reads every word and answers zero if this is the message `number`, intact.
    ///
    /// The answer is a set of bits to be collected over a run, so that checking costs no branch.
    #[inline(always)]
    pub(crate) fn difference(&self, number: u64) -> u64 {
        let mut difference = 0;
        for (word, offset) in self.0.iter().zip(0..) {
            difference |= word ^ number.wrapping_add(offset);
        }
        difference
    }

    /// The number that it was filled with.
    #[inline(always)]
    pub(crate) fn number(&self) -> u64 {
        self.0[0]
    }

    /// All words zero.
    #[inline(always)]
    pub(crate) fn zeroed() -> Self {
        Self([0; WORDS])
    }

    /// The bytes, for channels that know nothing else.
    #[inline(always)]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        cast_slice(&self.0)
    }

    /// The bytes, to be filled by channels that know nothing else.
    #[inline(always)]
    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        cast_slice_mut(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intact_message_differs_in_no_bit() {
        assert_eq!(Message::<7>::numbered(u64::MAX).difference(u64::MAX), 0);
    }

    #[test]
    fn a_wrong_number_shows() {
        assert_ne!(Message::<1>::numbered(4).difference(5), 0);
    }

    #[test]
    fn every_changed_byte_shows() {
        for byte in 0..Message::<32>::BYTES {
            let mut message = Message::<32>::numbered(9);
            message.as_bytes_mut()[byte] ^= 1;
            assert_ne!(message.difference(9), 0, "byte {byte}");
        }
    }
}
