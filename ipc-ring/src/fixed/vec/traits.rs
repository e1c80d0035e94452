//! What a [`FixedVec`] has in common with slices and [`Vec`].

use std::borrow::{Borrow, BorrowMut};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

use super::FixedVec;
use crate::fixed::CapacityError;
use crate::message::ShmMessage;

impl<T: ShmMessage, const N: usize> Default for FixedVec<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ShmMessage, const N: usize> Deref for FixedVec<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T: ShmMessage, const N: usize> DerefMut for FixedVec<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.as_mut_slice()
    }
}

impl<T: ShmMessage, const N: usize> AsRef<[T]> for FixedVec<T, N> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: ShmMessage, const N: usize> AsMut<[T]> for FixedVec<T, N> {
    fn as_mut(&mut self) -> &mut [T] {
        self
    }
}

impl<T: ShmMessage, const N: usize> Borrow<[T]> for FixedVec<T, N> {
    fn borrow(&self) -> &[T] {
        self
    }
}

impl<T: ShmMessage, const N: usize> BorrowMut<[T]> for FixedVec<T, N> {
    fn borrow_mut(&mut self) -> &mut [T] {
        self
    }
}

impl<T: ShmMessage + fmt::Debug, const N: usize> fmt::Debug for FixedVec<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_slice(), f)
    }
}

impl<T: ShmMessage, const N: usize> From<[T; N]> for FixedVec<T, N> {
    fn from(items: [T; N]) -> Self {
        let mut fixed = Self::new();
        for (place, item) in fixed.parts_mut().items.iter_mut().zip(items) {
            place.write(item);
        }
        fixed.set_len(N);
        fixed
    }
}

impl<T: ShmMessage + Clone, const N: usize> TryFrom<&[T]> for FixedVec<T, N> {
    type Error = CapacityError;

    fn try_from(items: &[T]) -> Result<Self, CapacityError> {
        Self::try_from_slice(items)
    }
}

/// Hands the vector back if it is too long.
impl<T: ShmMessage, const N: usize> TryFrom<Vec<T>> for FixedVec<T, N> {
    type Error = CapacityError<Vec<T>>;

    fn try_from(items: Vec<T>) -> Result<Self, CapacityError<Vec<T>>> {
        if items.len() > N {
            return Err(CapacityError::new(N, items));
        }
        let mut fixed = Self::new();
        let len = items.len();
        for (place, item) in fixed.parts_mut().items.iter_mut().zip(items) {
            place.write(item);
        }
        fixed.set_len(len);
        Ok(fixed)
    }
}

impl<T: ShmMessage, const N: usize> From<FixedVec<T, N>> for Vec<T> {
    fn from(items: FixedVec<T, N>) -> Self {
        items.into_iter().collect()
    }
}

impl<T: ShmMessage + PartialEq, const N: usize, const M: usize> PartialEq<FixedVec<T, M>>
    for FixedVec<T, N>
{
    fn eq(&self, other: &FixedVec<T, M>) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<T: ShmMessage + Eq, const N: usize> Eq for FixedVec<T, N> {}

impl<T: ShmMessage + PartialOrd, const N: usize, const M: usize> PartialOrd<FixedVec<T, M>>
    for FixedVec<T, N>
{
    fn partial_cmp(&self, other: &FixedVec<T, M>) -> Option<Ordering> {
        self.as_slice().partial_cmp(other.as_slice())
    }
}

impl<T: ShmMessage + Ord, const N: usize> Ord for FixedVec<T, N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl<T: ShmMessage + Hash, const N: usize> Hash for FixedVec<T, N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As a slice does, since it is borrowed as one.
        self.as_slice().hash(state);
    }
}

macro_rules! equal_to_list {
    ($([$($param:tt)*] $list:ty;)*) => {$(
        impl<T: ShmMessage + PartialEq, const N: usize, $($param)*> PartialEq<$list> for FixedVec<T, N> {
            fn eq(&self, other: &$list) -> bool {
                self.as_slice() == AsRef::<[T]>::as_ref(other)
            }
        }

        impl<T: ShmMessage + PartialEq, const N: usize, $($param)*> PartialEq<FixedVec<T, N>> for $list {
            fn eq(&self, other: &FixedVec<T, N>) -> bool {
                other == self
            }
        }
    )*};
}

equal_to_list! {
    [] [T];
    [] &[T];
    [] Vec<T>;
    [const M: usize] [T; M];
}

#[cfg(feature = "serde")]
impl<T: ShmMessage + serde::Serialize, const N: usize> serde::Serialize for FixedVec<T, N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

#[cfg(feature = "serde")]
impl<'de, T: ShmMessage + serde::Deserialize<'de>, const N: usize> serde::Deserialize<'de>
    for FixedVec<T, N>
{
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T, const N: usize>(std::marker::PhantomData<T>);

        impl<'de, T: ShmMessage + serde::Deserialize<'de>, const N: usize> serde::de::Visitor<'de>
            for Visitor<T, N>
        {
            type Value = FixedVec<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {N} elements")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut items: A,
            ) -> Result<FixedVec<T, N>, A::Error> {
                let mut fixed = FixedVec::new();
                while let Some(item) = items.next_element()? {
                    fixed
                        .try_push(item)
                        .map_err(|_| serde::de::Error::invalid_length(N + 1, &self))?;
                }
                Ok(fixed)
            }
        }

        deserializer.deserialize_seq(Visitor(std::marker::PhantomData))
    }
}
