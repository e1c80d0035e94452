//! Messages whose every word tells where it came from.
//!
//! A payload that only carried a sequence number in its first word would hide a torn copy. Here each word holds
//! the sender, the sequence, its own place in the message and a checksum over the three, so a word of another
//! message, of another place or of no message at all is recognised by itself.

use std::fmt;

use ipc_ring::ShmMessage;

/// A message of `N` words, all of them derived from its [`Tag`].
#[derive(Clone, Copy, ShmMessage)]
#[repr(C)]
pub(crate) struct Words<const N: usize> {
    words: [u64; N],
}

/// Who sent a message, and as which of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) sender: u8,
    pub(crate) sequence: u16,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sender, self.sequence)
    }
}

impl Tag {
    /// Parses what `Display` printed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (sender, sequence) = text.split_once(':')?;
        Some(Self {
            sender: sender.parse().ok()?,
            sequence: sequence.parse().ok()?,
        })
    }

    /// The word at `place` of the message with this tag.
    pub(crate) fn word(self, place: u8) -> u64 {
        let low = u32::from_le_bytes([
            self.sequence.to_le_bytes()[0],
            self.sequence.to_le_bytes()[1],
            place,
            self.sender,
        ]);
        (u64::from(checksum(low)) << 32) | u64::from(low)
    }

    /// The tag and the place that `word` was derived from, if it was derived at all.
    pub(crate) fn of_word(word: u64) -> Option<(Self, u8)> {
        let low = word as u32;
        let [sequence_low, sequence_high, place, sender] = low.to_le_bytes();
        let tag = Self {
            sender,
            sequence: u16::from_le_bytes([sequence_low, sequence_high]),
        };
        (checksum(low) == (word >> 32) as u32).then_some((tag, place))
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
fn checksum(low: u32) -> u32 {
    // The constant keeps an all-zero word from being its own checksum.
    let mut mixed = u64::from(low) ^ 0x9e37_79b9_7f4a_7c15;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) as u32
}

impl<const N: usize> Words<N> {
    pub(crate) fn new(tag: Tag) -> Self {
        Self {
            words: std::array::from_fn(|place| tag.word(place as u8)),
        }
    }

    /// The tag that all words agree on, or what they say instead.
    pub(crate) fn tag(&self) -> Result<Tag, String> {
        let torn = || {
            let parts = self.words.iter().map(|&word| match Tag::of_word(word) {
                Some((tag, place)) => format!("{tag}@{place}"),
                None => format!("{word:#x}"),
            });
            parts.collect::<Vec<_>>().join(" ")
        };
        let (tag, _) = Tag::of_word(self.words[0]).ok_or_else(torn)?;
        let whole = (0..)
            .zip(&self.words)
            .all(|(place, &word)| word == tag.word(place));
        if whole { Ok(tag) } else { Err(torn()) }
    }
}
