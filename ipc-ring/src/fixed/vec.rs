//! [`FixedVec`]: a list in place.

#![allow(unsafe_code)]

use std::mem::{ManuallyDrop, MaybeUninit};
use std::slice;

use super::{CapacityError, MAX_CAPACITY};
use crate::message::{Invalid, ShmMessage, check_items};
use crate::schema::{Schema, items_offset};

mod iter;
mod traits;

pub use iter::FixedVecIntoIter;

/// A list of at most `N` elements, kept in place.
///
/// It reads as a slice and grows like a [`Vec`], except that growing can fail:
///
/// ```
/// use ipc_ring::FixedVec;
///
/// let mut levels: FixedVec<f64, 4> = FixedVec::try_from_slice(&[1.5, 2.5, 0.5])?;
/// levels.try_push(4.5)?;
/// levels.sort_by(f64::total_cmp);
/// assert_eq!(levels, [0.5, 1.5, 2.5, 4.5]);
/// assert_eq!(levels.try_push(9.0).unwrap_err().into_value(), 9.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Layout
///
/// The length in two bytes, zeros up to the first place where an element may be, and room for `N` elements. It is
/// aligned as an element is, and there is no padding, whatever the parameters. Bytes behind the last element are
/// zero.
///
/// ```c
/// struct fixed_vec {
///     unsigned char len[2]; // a uint16_t in the machine's byte order, as aligned as the whole
///     unsigned char zero[alignof(T) > 2 ? alignof(T) - 2 : 0];
///     T items[N];
/// };
/// ```
///
/// `N` is at most 65,535, or compilation fails; as a message it is at least 1, and the whole at most 65,536 bytes.
#[repr(transparent)]
pub struct FixedVec<T, const N: usize> {
    cells: Cells<T, N>,
}

/// The bytes of a vector: the parts, and a view that covers the gap between them.
///
/// A gap in a struct would be padding, which a move may lose. Moving a union keeps each byte that belongs to any of
/// its fields, and the gap, being smaller than an element, belongs to `gap`. It is zero from `new` on and never
/// written again.
#[repr(C)]
union Cells<T, const N: usize> {
    parts: ManuallyDrop<Parts<T, N>>,
    gap: ManuallyDrop<[MaybeUninit<T>; N]>,
}

/// Valid whatever its bytes are, as long as they are initialised.
#[repr(C)]
struct Parts<T, const N: usize> {
    /// At most `N`.
    len: [u8; 2],
    /// Values up to `len`, and zeros from there on if it was written here. A peer may have left anything behind
    /// them.
    items: [MaybeUninit<T>; N],
}

impl<T: ShmMessage, const N: usize> FixedVec<T, N> {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        const {
            assert!(
                N <= MAX_CAPACITY,
                "a FixedVec has room for at most 65535 elements"
            );
            // Refuses elements with padding or drop glue.
            _ = T::SCHEMA;
        }
        // SAFETY: a length of zero and elements that may be uninitialised.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }

    /// The elements of the slice.
    ///
    /// # Errors
    ///
    /// If there is no room for all of them.
    pub fn try_from_slice(items: &[T]) -> Result<Self, CapacityError>
    where
        T: Clone,
    {
        let mut fixed = Self::new();
        fixed.try_extend_from_slice(items)?;
        Ok(fixed)
    }

    /// Collects elements.
    ///
    /// # Errors
    ///
    /// The first element that there was no room for.
    pub fn try_from_iter<I: IntoIterator<Item = T>>(items: I) -> Result<Self, CapacityError<T>> {
        let mut fixed = Self::new();
        fixed.try_extend(items)?;
        Ok(fixed)
    }

    /// The number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        u16::from_ne_bytes(self.parts().len) as usize
    }

    /// Whether there is no element.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no room for another element.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len() == N
    }

    /// The elements there is room for: `N`.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        N
    }

    /// The elements.
    #[must_use]
    pub const fn as_slice(&self) -> &[T] {
        let items = self.parts().items.as_ptr().cast::<T>();
        // SAFETY: `len` elements are values: the methods keep it so, and `check` demands it of a peer.
        unsafe { slice::from_raw_parts(items, self.len()) }
    }

    /// The elements, to be changed.
    #[must_use]
    pub const fn as_mut_slice(&mut self) -> &mut [T] {
        let len = self.len();
        let items = self.parts_mut().items.as_mut_ptr().cast::<T>();
        // SAFETY: `len` elements are values: the methods keep it so, and `check` demands it of a peer.
        unsafe { slice::from_raw_parts_mut(items, len) }
    }

    /// Appends an element.
    ///
    /// # Errors
    ///
    /// The element, if there is no room for it.
    pub fn try_push(&mut self, item: T) -> Result<(), CapacityError<T>> {
        let len = self.len();
        match self.parts_mut().items.get_mut(len) {
            Some(place) => {
                place.write(item);
                self.set_len(len + 1);
                Ok(())
            }
            None => Err(CapacityError::new(N, item)),
        }
    }

    /// Inserts an element before the one at `index`.
    ///
    /// # Errors
    ///
    /// The element, if there is no room for it.
    ///
    /// # Panics
    ///
    /// If `index` is greater than the length.
    pub fn try_insert(&mut self, index: usize, item: T) -> Result<(), CapacityError<T>> {
        assert!(
            index <= self.len(),
            "index {index} of a list of {}",
            self.len()
        );
        self.try_push(item)?;
        self[index..].rotate_right(1);
        Ok(())
    }

    /// Appends clones of all elements of the slice.
    ///
    /// # Errors
    ///
    /// If there is no room for all of them; none has been appended.
    pub fn try_extend_from_slice(&mut self, items: &[T]) -> Result<(), CapacityError>
    where
        T: Clone,
    {
        if items.len() > N - self.len() {
            return Err(CapacityError::new(N, ()));
        }
        self.try_extend(items.iter().cloned())
            .map_err(|_| CapacityError::new(N, ()))
    }

    /// Appends elements for as long as there is room.
    ///
    /// # Errors
    ///
    /// The first element that there was no room for; those before it have been appended.
    pub fn try_extend<I: IntoIterator<Item = T>>(
        &mut self,
        items: I,
    ) -> Result<(), CapacityError<T>> {
        items.into_iter().try_for_each(|item| self.try_push(item))
    }

    /// Removes the last element and returns it.
    pub fn pop(&mut self) -> Option<T> {
        let last = self.len().checked_sub(1)?;
        // SAFETY: the element is a value, and `truncate` forgets it.
        let item = unsafe { self.parts().items[last].assume_init_read() };
        self.truncate(last);
        Some(item)
    }

    /// Removes the element at `index` and returns it; those behind it move up.
    ///
    /// # Panics
    ///
    /// If there is no such element.
    pub fn remove(&mut self, index: usize) -> T {
        self[index..].rotate_left(1);
        self.pop().expect("`index` is that of an element")
    }

    /// Removes the element at `index` and returns it; the last one takes its place.
    ///
    /// # Panics
    ///
    /// If there is no such element.
    pub fn swap_remove(&mut self, index: usize) -> T {
        let last = self.len().saturating_sub(1);
        self.swap(index, last);
        self.pop().expect("`index` is that of an element")
    }

    /// Keeps the elements for which `keep` returns `true`, in their order.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut kept = 0;
        for i in 0..self.len() {
            if keep(&self[i]) {
                self.swap(kept, i);
                kept += 1;
            }
        }
        self.truncate(kept);
    }

    /// Keeps the first `len` elements; more than there are has no effect.
    pub fn truncate(&mut self, len: usize) {
        let old = self.len();
        if len < old {
            self.set_len(len);
            self.parts_mut().items[len..old].fill_with(MaybeUninit::zeroed);
        }
    }

    /// Removes all elements.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    const fn parts(&self) -> &Parts<T, N> {
        let parts = (&raw const self.cells.parts).cast();
        // SAFETY: all bytes are initialised, and so the parts are valid whatever they are.
        unsafe { &*parts }
    }

    const fn parts_mut(&mut self) -> &mut Parts<T, N> {
        let parts = (&raw mut self.cells.parts).cast();
        // SAFETY: all bytes are initialised, and so the parts are valid whatever they are.
        unsafe { &mut *parts }
    }

    /// The caller has made sure that so many elements are values.
    fn set_len(&mut self, len: usize) {
        debug_assert!(len <= N);
        // Not more than N, which `new` limits to what two bytes can say.
        self.parts_mut().len = (len as u16).to_ne_bytes();
    }
}

// SAFETY: the length, the gap and the elements are all the bytes there are, as `SCHEMA` asserts; the gap and what is
// behind the last element are initialised by `new` or by a peer. `check` demands what the methods rely on.
unsafe impl<T: ShmMessage, const N: usize> ShmMessage for FixedVec<T, N> {
    const SCHEMA: Schema = {
        assert!(
            N > 0,
            "a `FixedVec` in a message has room for at least one element"
        );
        let schema = Schema::of_vec(const { &T::SCHEMA }, N);
        assert!(size_of::<Self>() == schema.size() && align_of::<Self>() == schema.align());
        assert!(std::mem::offset_of!(Parts<T, N>, items) == items_offset(align_of::<T>()));
        schema
    };

    #[inline]
    unsafe fn check(candidate: &MaybeUninit<Self>) -> Result<(), Invalid> {
        // SAFETY: all bytes are initialised, and it takes no more than that to be borrowed as a vector; the elements
        // are looked at below only.
        let candidate = unsafe { candidate.assume_init_ref() };
        let Some(items) = candidate.parts().items.get(..candidate.len()) else {
            return Err(Invalid::length(const { &Self::SCHEMA }, candidate.len()));
        };
        if const { T::SCHEMA.any_bits() } {
            return Ok(());
        }
        let offset = const { items_offset(align_of::<T>()) };
        // SAFETY: the elements are as initialised as the list.
        unsafe { check_items(items, offset, const { &Self::SCHEMA }) }
    }
}

impl<T: Copy, const N: usize> Copy for Parts<T, N> {}

impl<T: Copy, const N: usize> Clone for Parts<T, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Copy, const N: usize> Copy for Cells<T, N> {}

impl<T: Copy, const N: usize> Clone for Cells<T, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ShmMessage + Copy, const N: usize> Copy for FixedVec<T, N> {}

impl<T: ShmMessage + Clone, const N: usize> Clone for FixedVec<T, N> {
    fn clone(&self) -> Self {
        let mut clone = Self::new();
        for (place, item) in clone.parts_mut().items.iter_mut().zip(self.as_slice()) {
            place.write(item.clone());
        }
        clone.set_len(self.len());
        clone
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPACITY: usize = 6;

    /// Aligned to 8, so that there is a gap behind the length.
    type List = FixedVec<u64, CAPACITY>;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u64),
        Insert(usize, u64),
        Extend(Vec<u64>),
        ExtendFromSlice(Vec<u64>),
        Pop,
        Remove(usize),
        SwapRemove(usize),
        Retain(u64),
        Truncate(usize),
        Clear,
        Sort,
        Clone,
        Replace(Vec<u64>),
    }

    fn items() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(1..u64::MAX, 0..CAPACITY)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1..u64::MAX).prop_map(Step::Push),
            4 => (0..CAPACITY, 1..u64::MAX).prop_map(|(i, item)| Step::Insert(i, item)),
            2 => items().prop_map(Step::Extend),
            2 => items().prop_map(Step::ExtendFromSlice),
            3 => Just(Step::Pop),
            2 => (0..CAPACITY).prop_map(Step::Remove),
            2 => (0..CAPACITY).prop_map(Step::SwapRemove),
            2 => (2..5_u64).prop_map(Step::Retain),
            2 => (0..CAPACITY + 2).prop_map(Step::Truncate),
            1 => Just(Step::Clear),
            1 => Just(Step::Sort),
            1 => Just(Step::Clone),
            1 => items().prop_map(Step::Replace),
        ]
    }

    fn apply(step: Step, fixed: &mut List, model: &mut Vec<u64>) -> Result<(), TestCaseError> {
        let room = CAPACITY - model.len();
        match step {
            Step::Push(item) => {
                let over = fixed.try_push(item).err().map(CapacityError::into_value);
                prop_assert_eq!(over, (room == 0).then_some(item));
                if room > 0 {
                    model.push(item);
                }
            }
            Step::Insert(index, item) => {
                let index = index.min(model.len());
                prop_assert_eq!(fixed.try_insert(index, item).is_ok(), room > 0);
                if room > 0 {
                    model.insert(index, item);
                }
            }
            Step::Extend(items) => {
                let over = fixed.try_extend(items.iter().copied()).err();
                prop_assert_eq!(
                    over.map(CapacityError::into_value),
                    items.get(room).copied()
                );
                model.extend(items.into_iter().take(room));
            }
            Step::ExtendFromSlice(items) => {
                prop_assert_eq!(
                    fixed.try_extend_from_slice(&items).is_ok(),
                    items.len() <= room
                );
                if items.len() <= room {
                    model.extend_from_slice(&items);
                }
            }
            Step::Pop => prop_assert_eq!(fixed.pop(), model.pop()),
            Step::Remove(index) if index < model.len() => {
                prop_assert_eq!(fixed.remove(index), model.remove(index));
            }
            Step::SwapRemove(index) if index < model.len() => {
                prop_assert_eq!(fixed.swap_remove(index), model.swap_remove(index));
            }
            Step::Remove(_) | Step::SwapRemove(_) => {}
            Step::Retain(divisor) => {
                fixed.retain(|item| item % divisor != 0);
                model.retain(|item| item % divisor != 0);
            }
            Step::Truncate(len) => {
                fixed.truncate(len);
                model.truncate(len);
            }
            Step::Clear => {
                fixed.clear();
                model.clear();
            }
            Step::Sort => {
                fixed.sort_unstable();
                model.sort_unstable();
            }
            #[expect(clippy::clone_on_copy, reason = "it is `clone` that is tested")]
            Step::Clone => *fixed = fixed.clone(),
            Step::Replace(items) => {
                *fixed = List::try_from(items.clone()).expect("fewer than there is room for");
                *model = items;
            }
        }
        Ok(())
    }

    fn check<T: ShmMessage>(candidate: &MaybeUninit<T>) -> Result<(), Invalid> {
        // SAFETY: every byte of the candidates here is initialised.
        unsafe { T::check(candidate) }
    }

    fn bytes(fixed: &List) -> [u8; 56] {
        // SAFETY: as many bytes, and the test is that all of them are initialised.
        unsafe { std::mem::transmute(*fixed) }
    }

    fn candidate<T: Copy, const B: usize>(bytes: [u8; B]) -> MaybeUninit<T> {
        assert_eq!(size_of::<T>(), B);
        // SAFETY: as many bytes, all initialised, whatever the alignment of the array.
        unsafe {
            std::ptr::from_ref(&bytes)
                .cast::<MaybeUninit<T>>()
                .read_unaligned()
        }
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_bounded_vec(steps in prop::collection::vec(step(), 0..64)) {
            let mut fixed = List::new();
            let mut model = Vec::new();
            for step in steps {
                apply(step, &mut fixed, &mut model)?;
                prop_assert_eq!(fixed.as_slice(), model.as_slice());
                prop_assert_eq!(fixed.is_full(), model.len() == CAPACITY);
                let bytes = bytes(&fixed);
                prop_assert!(bytes[2..8].iter().all(|byte| *byte == 0), "gap: {:?}", bytes);
                prop_assert!(bytes[8 + 8 * model.len()..].iter().all(|byte| *byte == 0), "tail: {:?}", bytes);
                prop_assert_eq!(check(&MaybeUninit::new(fixed)), Ok(()));
                prop_assert_eq!(Vec::from(fixed), model.clone());
                prop_assert_eq!(fixed.into_iter().rev().collect::<Vec<_>>(), model.iter().rev().copied().collect::<Vec<_>>());
                prop_assert_eq!(format!("{fixed:?}"), format!("{model:?}"));
            }
        }

        #[test]
        fn it_is_ordered_and_hashed_as_a_slice(a in items(), b in items()) {
            use std::hash::BuildHasher as _;

            let fixed_a = List::try_from(a.clone()).unwrap();
            let fixed_b = FixedVec::<u64, 9>::try_from(b.clone()).unwrap();
            prop_assert_eq!(fixed_a == fixed_b, a == b);
            prop_assert_eq!(fixed_a.partial_cmp(&fixed_b), a.partial_cmp(&b));
            let hasher = std::hash::RandomState::new();
            prop_assert_eq!(hasher.hash_one(fixed_a), hasher.hash_one(&a));
        }

        #[test]
        fn whatever_a_peer_wrote_is_either_a_list_or_refused(bytes: [u8; 6]) {
            let candidate: MaybeUninit<FixedVec<bool, 4>> = candidate(bytes);
            let len = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
            let valid = bytes[2..].get(..len).is_some_and(|items| items.iter().all(|item| *item < 2));
            prop_assert_eq!(check(&candidate).is_ok(), valid);
        }
    }

    #[test]
    fn only_elements_within_the_length_are_looked_at() {
        let [low, high] = 2_u16.to_ne_bytes();
        let good: MaybeUninit<FixedVec<bool, 4>> = candidate([low, high, 0, 1, 7, 7]);
        assert_eq!(check(&good), Ok(()));
        let bad: MaybeUninit<FixedVec<bool, 4>> = candidate([low, high, 0, 7, 7, 7]);
        assert_eq!(
            check(&bad).unwrap_err().to_string(),
            "`[1]` holds 7, but a bool is 0 or 1"
        );
    }

    #[test]
    fn a_length_beyond_the_capacity_is_refused() {
        let bytes = [0xff_u8; 6];
        let invalid = check(&candidate::<FixedVec<u8, 4>, 6>(bytes)).unwrap_err();
        assert_eq!(
            invalid.to_string(),
            "the message has a length of 65535, but room for 4"
        );
    }

    #[test]
    fn its_layout_has_no_padding_whatever_the_element() {
        fn layout<T: ShmMessage, const N: usize>() -> (usize, usize) {
            let schema = FixedVec::<T, N>::SCHEMA;
            (schema.size(), schema.align())
        }

        assert_eq!(layout::<u8, 1>(), (3, 1));
        assert_eq!(layout::<u8, 65_534>(), (65_536, 1));
        assert_eq!(layout::<u16, 3>(), (8, 2));
        assert_eq!(layout::<u32, 3>(), (16, 4));
        assert_eq!(layout::<[u8; 5], 3>(), (17, 1));
        assert_eq!(layout::<u128, 1>(), (32, 16));
        assert_eq!(layout::<FixedVec<f64, 2>, 2>(), (56, 8));
    }

    #[test]
    fn no_byte_of_a_full_list_of_aligned_elements_is_lost_in_a_move() {
        #[derive(Clone, Copy, Debug, PartialEq, crate::ShmMessage)]
        #[repr(C, align(64))]
        struct Line([u8; 64]);

        let list = FixedVec::from([Line([7; 64]); 2]);
        let moved = std::hint::black_box(Box::new(list));
        let copy = *moved;
        // SAFETY: as many bytes, and the test is that all of them are initialised.
        let bytes: [u8; 192] = unsafe { std::mem::transmute(copy) };
        assert_eq!(bytes[..2], 2_u16.to_ne_bytes());
        assert_eq!(bytes[2..64], [0; 62]);
        assert_eq!(bytes[64..], [7; 128]);
    }

    #[test]
    fn an_iterator_by_value_goes_from_both_ends() {
        let mut items = FixedVec::from([1, 2, 3_u8]).into_iter();
        assert_eq!((items.next(), items.next_back()), (Some(1), Some(3)));
        assert_eq!(items.as_slice(), [2]);
        assert_eq!(
            (items.len(), items.next(), items.next(), items.next_back()),
            (1, Some(2), None, None)
        );
    }

    #[cfg(feature = "serde")]
    #[test]
    fn serde_sees_a_list_and_refuses_a_longer_one() {
        let fixed: FixedVec<u8, 3> = serde_json::from_str("[1,2]").unwrap();
        assert_eq!(serde_json::to_string(&fixed).unwrap(), "[1,2]");
        let error = serde_json::from_str::<FixedVec<u8, 3>>("[1,2,3,4]").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("invalid length 4, expected a list of at most 3 elements"),
            "{error}"
        );
    }
}
