//! [`FixedStr`]: text in place.

#![allow(unsafe_code)]

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::str::FromStr;

use super::{CapacityError, MAX_CAPACITY};
use crate::message::{Invalid, ShmMessage};
use crate::schema::Schema;

/// Text of at most `N` bytes of UTF-8, kept in place.
///
/// It reads as a `&str` and grows like a [`String`], except that growing can fail:
///
/// ```
/// use ipc_ring::FixedStr;
///
/// let mut symbol: FixedStr<6> = "ACME".parse()?;
/// symbol.try_push_str(".X")?;
/// assert_eq!(symbol, "ACME.X");
/// assert!(symbol.try_push('!').is_err());
/// # Ok::<(), ipc_ring::CapacityError>(())
/// ```
///
/// # Layout
///
/// `N + 2` bytes, aligned to 1, without padding. Bytes behind the text are zero.
///
/// ```c
/// struct fixed_str {
///     unsigned char len[2]; // a uint16_t in the machine's byte order, not necessarily aligned
///     char bytes[N];
/// };
/// ```
///
/// `N` is at most 65,535, or compilation fails; as a message it is at most 65,534.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FixedStr<const N: usize> {
    /// At most `N`.
    len: [u8; 2],
    /// UTF-8 up to `len`, and zeros from there on if it was written here. A peer may have left anything behind
    /// the text.
    bytes: [u8; N],
}

impl<const N: usize> FixedStr<N> {
    /// Empty text.
    #[must_use]
    pub const fn new() -> Self {
        const {
            assert!(
                N <= MAX_CAPACITY,
                "a FixedStr has room for at most 65535 bytes"
            );
        }
        Self {
            len: [0; 2],
            bytes: [0; N],
        }
    }

    /// As much of the beginning of `text` as there is room for, cut between two characters.
    ///
    /// ```
    /// # use ipc_ring::FixedStr;
    /// assert_eq!(FixedStr::<4>::truncated("año 2"), "año");
    /// ```
    #[must_use]
    pub fn truncated(text: &str) -> Self {
        let mut fixed = Self::new();
        fixed.append(&text[..text.floor_char_boundary(N)]);
        fixed
    }

    /// The bytes of text.
    #[must_use]
    pub const fn len(&self) -> usize {
        u16::from_ne_bytes(self.len) as usize
    }

    /// Whether there is no text.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes there is room for: `N`.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        N
    }

    /// The text.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        let (text, _) = self.bytes.split_at(self.len());
        // SAFETY: `len` bytes are UTF-8: `append` and `truncate` keep it so, and `check` demands it of a peer.
        unsafe { str::from_utf8_unchecked(text) }
    }

    /// Appends a character.
    ///
    /// # Errors
    ///
    /// The character, if there is no room for it; the text is as before.
    pub fn try_push(&mut self, character: char) -> Result<(), CapacityError<char>> {
        self.try_push_str(character.encode_utf8(&mut [0; 4]))
            .map_err(|_| CapacityError::new(N, character))
    }

    /// Appends text.
    ///
    /// # Errors
    ///
    /// If there is no room for all of it; the text is as before.
    pub fn try_push_str(&mut self, text: &str) -> Result<(), CapacityError> {
        if text.len() > N - self.len() {
            return Err(CapacityError::new(N, ()));
        }
        self.append(text);
        Ok(())
    }

    /// Appends characters for as long as there is room.
    ///
    /// # Errors
    ///
    /// The first character that there was no room for; those before it have been appended.
    pub fn try_extend<I: IntoIterator<Item = char>>(
        &mut self,
        characters: I,
    ) -> Result<(), CapacityError<char>> {
        characters
            .into_iter()
            .try_for_each(|character| self.try_push(character))
    }

    /// Collects characters.
    ///
    /// # Errors
    ///
    /// The first character that there was no room for.
    pub fn try_from_iter<I: IntoIterator<Item = char>>(
        characters: I,
    ) -> Result<Self, CapacityError<char>> {
        let mut fixed = Self::new();
        fixed.try_extend(characters)?;
        Ok(fixed)
    }

    /// Removes the last character and returns it.
    pub fn pop(&mut self) -> Option<char> {
        let last = self.chars().next_back()?;
        self.truncate(self.len() - last.len_utf8());
        Some(last)
    }

    /// Shortens the text to `len` bytes; longer than the text has no effect.
    ///
    /// # Panics
    ///
    /// If `len` is inside of a character.
    pub fn truncate(&mut self, len: usize) {
        let old = self.len();
        if len < old {
            assert!(
                self.is_char_boundary(len),
                "byte {len} is inside of a character"
            );
            self.bytes[len..old].fill(0);
            self.set_len(len);
        }
    }

    /// Removes all text.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// The caller has made sure of the room.
    fn append(&mut self, text: &str) {
        let len = self.len();
        let new = len + text.len();
        self.bytes[len..new].copy_from_slice(text.as_bytes());
        self.set_len(new);
    }

    fn set_len(&mut self, len: usize) {
        debug_assert!(len <= N);
        // Not more than N, which `new` limits to what two bytes can say.
        self.len = (len as u16).to_ne_bytes();
    }
}

// SAFETY: two arrays of bytes after each other; `check` demands what `as_str` relies on.
unsafe impl<const N: usize> ShmMessage for FixedStr<N> {
    const SCHEMA: Schema = {
        let schema = Schema::of_str(N);
        assert!(size_of::<Self>() == schema.size() && align_of::<Self>() == schema.align());
        schema
    };

    #[inline]
    unsafe fn check(candidate: &MaybeUninit<Self>) -> Result<(), Invalid> {
        // SAFETY: all bytes are initialised, and as bytes they are valid whatever they are.
        let candidate = unsafe { candidate.assume_init_ref() };
        let Some(text) = candidate.bytes.get(..candidate.len()) else {
            return Err(Invalid::length(const { &Self::SCHEMA }, candidate.len()));
        };
        match str::from_utf8(text) {
            Ok(_) => Ok(()),
            Err(error) => Err(Invalid::utf8(const { &Self::SCHEMA }, error.valid_up_to())),
        }
    }
}

impl<const N: usize> Default for FixedStr<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Deref for FixedStr<N> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> AsRef<str> for FixedStr<N> {
    fn as_ref(&self) -> &str {
        self
    }
}

impl<const N: usize> AsRef<[u8]> for FixedStr<N> {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<const N: usize> Borrow<str> for FixedStr<N> {
    fn borrow(&self) -> &str {
        self
    }
}

impl<const N: usize> fmt::Debug for FixedStr<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> fmt::Display for FixedStr<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

/// Fails when a piece doesn't fit; the pieces before it have been written.
impl<const N: usize> fmt::Write for FixedStr<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.try_push_str(text).map_err(|_| fmt::Error)
    }
}

impl<const N: usize> FromStr for FixedStr<N> {
    type Err = CapacityError;

    fn from_str(text: &str) -> Result<Self, CapacityError> {
        let mut fixed = Self::new();
        fixed.try_push_str(text)?;
        Ok(fixed)
    }
}

impl<const N: usize> TryFrom<&str> for FixedStr<N> {
    type Error = CapacityError;

    fn try_from(text: &str) -> Result<Self, CapacityError> {
        text.parse()
    }
}

impl<const N: usize> From<FixedStr<N>> for String {
    fn from(fixed: FixedStr<N>) -> Self {
        fixed.as_str().to_owned()
    }
}

impl<const N: usize, const M: usize> PartialEq<FixedStr<M>> for FixedStr<N> {
    fn eq(&self, other: &FixedStr<M>) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<const N: usize> Eq for FixedStr<N> {}

impl<const N: usize, const M: usize> PartialOrd<FixedStr<M>> for FixedStr<N> {
    fn partial_cmp(&self, other: &FixedStr<M>) -> Option<Ordering> {
        Some(self.as_str().cmp(other.as_str()))
    }
}

impl<const N: usize> Ord for FixedStr<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl<const N: usize> Hash for FixedStr<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As a `str` does, since it is borrowed as one.
        self.as_str().hash(state);
    }
}

macro_rules! equal_to_text {
    ($($text:ty),*) => {$(
        impl<const N: usize> PartialEq<$text> for FixedStr<N> {
            fn eq(&self, other: &$text) -> bool {
                self.as_str() == AsRef::<str>::as_ref(other)
            }
        }

        impl<const N: usize> PartialEq<FixedStr<N>> for $text {
            fn eq(&self, other: &FixedStr<N>) -> bool {
                other == self
            }
        }
    )*};
}

equal_to_text!(str, &str, String);

#[cfg(feature = "serde")]
impl<const N: usize> serde::Serialize for FixedStr<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de, const N: usize> serde::Deserialize<'de> for FixedStr<N> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<const N: usize>;

        impl<const N: usize> serde::de::Visitor<'_> for Visitor<N> {
            type Value = FixedStr<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "text of at most {N} bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<FixedStr<N>, E> {
                text.parse()
                    .map_err(|_| E::invalid_length(text.len(), &self))
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    const CAPACITY: usize = 12;

    type Text = FixedStr<CAPACITY>;

    #[derive(Clone, Debug)]
    enum Step {
        Push(char),
        PushStr(String),
        Extend(String),
        Pop,
        Truncate(usize),
        Clear,
        Write(u16),
        Replace(String),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any::<char>().prop_map(Step::Push),
            4 => "[a-zé€𝄞]{0,6}".prop_map(Step::PushStr),
            2 => "[a-zé€𝄞]{0,8}".prop_map(Step::Extend),
            4 => Just(Step::Pop),
            2 => (0..CAPACITY + 2).prop_map(Step::Truncate),
            1 => Just(Step::Clear),
            2 => any::<u16>().prop_map(Step::Write),
            1 => "[a-zé€𝄞]{0,9}".prop_map(Step::Replace),
        ]
    }

    fn apply(step: Step, fixed: &mut Text, model: &mut String) -> Result<(), TestCaseError> {
        let room = CAPACITY - model.len();
        match step {
            Step::Push(c) => {
                let fits = c.len_utf8() <= room;
                prop_assert_eq!(
                    fixed.try_push(c).map_err(CapacityError::into_value),
                    if fits { Ok(()) } else { Err(c) }
                );
                if fits {
                    model.push(c);
                }
            }
            Step::PushStr(text) => {
                prop_assert_eq!(fixed.try_push_str(&text).is_ok(), text.len() <= room);
                if text.len() <= room {
                    model.push_str(&text);
                }
            }
            Step::Extend(text) => {
                let fitting = &text[..text.floor_char_boundary(room)];
                let over = text[fitting.len()..].chars().next();
                let result = fixed.try_extend(text.chars());
                prop_assert_eq!(result.err().map(CapacityError::into_value), over);
                model.push_str(fitting);
            }
            Step::Pop => prop_assert_eq!(fixed.pop(), model.pop()),
            Step::Truncate(len) => {
                let len = model.floor_char_boundary(len);
                fixed.truncate(len);
                model.truncate(len);
            }
            Step::Clear => {
                fixed.clear();
                model.clear();
            }
            Step::Write(number) => {
                let text = number.to_string();
                prop_assert_eq!(write!(fixed, "{number}").is_ok(), text.len() <= room);
                if text.len() <= room {
                    model.push_str(&text);
                }
            }
            Step::Replace(text) => {
                *fixed = Text::truncated(&text);
                *model = text[..text.floor_char_boundary(CAPACITY)].to_owned();
            }
        }
        Ok(())
    }

    fn check<T: ShmMessage>(candidate: &MaybeUninit<T>) -> Result<(), Invalid> {
        // SAFETY: every byte of the candidates here is initialised.
        unsafe { T::check(candidate) }
    }

    fn bytes(fixed: &Text) -> [u8; CAPACITY + 2] {
        // SAFETY: a `FixedStr` is that many initialised bytes.
        unsafe { std::mem::transmute(*fixed) }
    }

    fn candidate(len: u16, text: &[u8]) -> MaybeUninit<Text> {
        let mut fixed = Text::new();
        fixed.len = len.to_ne_bytes();
        fixed.bytes[..text.len()].copy_from_slice(text);
        MaybeUninit::new(fixed)
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_bounded_string(steps in prop::collection::vec(step(), 0..64)) {
            let mut fixed = Text::new();
            let mut model = String::new();
            for step in steps {
                apply(step, &mut fixed, &mut model)?;
                prop_assert_eq!(fixed.as_str(), model.as_str());
                prop_assert_eq!(fixed.len(), model.len());
                let bytes = bytes(&fixed);
                prop_assert!(bytes[2 + model.len()..].iter().all(|byte| *byte == 0), "tail: {:?}", bytes);
                prop_assert_eq!(check(&MaybeUninit::new(fixed)), Ok(()));
                prop_assert_eq!(Text::try_from(model.as_str()), Ok(fixed));
                prop_assert_eq!(fixed.to_string(), model.clone());
                prop_assert_eq!(format!("{fixed:?}"), format!("{model:?}"));
            }
        }

        #[test]
        fn it_is_ordered_and_hashed_as_a_string(a in "[a-cé]{0,6}", b in "[a-cé]{0,6}") {
            use std::hash::BuildHasher as _;

            let (fixed_a, fixed_b) = (Text::truncated(&a), FixedStr::<16>::truncated(&b));
            prop_assert_eq!(fixed_a == fixed_b, a == b);
            prop_assert_eq!(fixed_a.partial_cmp(&fixed_b), a.partial_cmp(&b));
            let hasher = std::hash::RandomState::new();
            prop_assert_eq!(hasher.hash_one(fixed_a), hasher.hash_one(&a));
        }

        #[test]
        fn whatever_a_peer_wrote_is_either_text_or_refused(bytes: [u8; CAPACITY + 2]) {
            // SAFETY: as many bytes, all initialised.
            let candidate: MaybeUninit<Text> = unsafe { std::mem::transmute(bytes) };
            let len = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
            let text = bytes[2..].get(..len).and_then(|text| str::from_utf8(text).ok());
            prop_assert_eq!(check(&candidate).is_ok(), text.is_some());
        }
    }

    #[test]
    fn a_length_beyond_the_capacity_is_refused() {
        let invalid = check(&candidate(13, b"")).unwrap_err();
        assert_eq!(
            invalid.to_string(),
            "the message has a length of 13, but room for 12"
        );
    }

    #[test]
    fn what_is_not_utf8_is_refused_and_what_lies_behind_the_text_is_not_looked_at() {
        let invalid = check(&candidate(3, b"ab\xff")).unwrap_err();
        assert_eq!(
            invalid.to_string(),
            "the message is not UTF-8 from byte 2 on"
        );
        assert_eq!(check(&candidate(2, b"ab\xff")), Ok(()));
    }

    #[test]
    fn its_layout_has_no_padding_whatever_the_capacity() {
        assert_eq!(FixedStr::<0>::SCHEMA.size(), 2);
        assert_eq!(FixedStr::<1>::SCHEMA.size(), 3);
        assert_eq!(FixedStr::<65_534>::SCHEMA.size(), 65_536);
        assert_eq!(FixedStr::<9>::SCHEMA.align(), 1);
    }

    #[test]
    #[should_panic(expected = "byte 1 is inside of a character")]
    fn truncating_inside_of_a_character_panics() {
        Text::truncated("é").truncate(1);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn serde_sees_a_string_and_refuses_a_longer_one() {
        let fixed: FixedStr<3> = serde_json::from_str("\"abc\"").unwrap();
        assert_eq!(serde_json::to_string(&fixed).unwrap(), "\"abc\"");
        let error = serde_json::from_str::<FixedStr<3>>("\"abcd\"").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("invalid length 4, expected text of at most 3 bytes"),
            "{error}"
        );
    }
}
