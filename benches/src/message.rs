//! The message that every contender carries.

use std::{array, ops::Range};

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

/// Where the number of a message has its sender's.
const SENDER_SHIFT: u32 = 56;

/// The numbers of one of several senders: no two of them have one in common.
pub(crate) fn numbers_of(sender: usize, numbers: Numbers) -> Numbers {
    let first = (sender as u64) << SENDER_SHIFT;
    first + numbers.start..first + numbers.end
}

/// What is to come next from each of `SENDERS` senders, whose messages may be mixed.
#[derive(Debug)]
pub(crate) struct Expected<const SENDERS: usize>([u64; SENDERS]);

impl<const SENDERS: usize> Expected<SENDERS> {
    /// The beginning of `numbers` from each.
    #[inline(always)]
    pub(crate) fn beginning(numbers: &Numbers) -> Self {
        let start = numbers.start;
        Self(array::from_fn(|sender| {
            numbers_of(sender, start..start).start
        }))
    }

    /// Answers zero if this is the next message of its sender, intact, and expects the one behind it. No branch.
    #[inline(always)]
    pub(crate) fn difference<const WORDS: usize>(&mut self, message: &Message<WORDS>) -> u64 {
        const { assert!(SENDERS.is_power_of_two(), "a remainder has to be cheap") };
        // Whoever a torn message names is one of them, and has sent no such thing.
        let sender = (message.number() >> SENDER_SHIFT) as usize % SENDERS;
        let number = self.0[sender];
        self.0[sender] = number.wrapping_add(1);
        message.difference(number)
    }

    /// Answers zero if all `numbers` have come from each, and no more.
    #[inline(always)]
    pub(crate) fn difference_from_end(&self, numbers: &Numbers) -> u64 {
        let ended = Self::beginning(&(numbers.end..numbers.end));
        let pairs = self.0.iter().zip(ended.0);
        pairs.fold(0, |difference, (is, should_be)| {
            difference | (is ^ should_be)
        })
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
    /// What is found if these messages come, each given by its sender and its number there, of two senders with two each.
    fn found(messages: [(usize, u64); 4]) -> u64 {
        let numbers = 5..7;
        let mut expected = Expected::<2>::beginning(&numbers);
        let difference = messages.iter().fold(0, |difference, &(sender, number)| {
            let number = numbers_of(sender, number..number).start;
            difference | expected.difference(&Message::<7>::numbered(number))
        });
        difference | expected.difference_from_end(&numbers)
    }

    #[test]
    fn senders_may_be_mixed() {
        assert_eq!(found([(0, 5), (0, 6), (1, 5), (1, 6)]), 0);
        assert_eq!(found([(1, 5), (0, 5), (1, 6), (0, 6)]), 0);
    }

    #[test]
    fn what_is_lost_doubled_or_reordered_shows_whoever_sent_it() {
        assert_ne!(found([(0, 5), (0, 6), (1, 5), (1, 7)]), 0, "lost");
        assert_ne!(found([(0, 5), (0, 6), (0, 7), (1, 5)]), 0, "too many");
        assert_ne!(found([(0, 5), (0, 5), (1, 5), (1, 6)]), 0, "doubled");
        assert_ne!(found([(0, 6), (0, 5), (1, 5), (1, 6)]), 0, "reordered");
        assert_ne!(found([(0, 5), (0, 6), (1, 5), (2, 6)]), 0, "of nobody");
    }
}
