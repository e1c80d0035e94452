//! What may travel through a ring, and the check of what came out of one.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::num::NonZero;

use crate::schema::{Int, Scalar, Schema};

mod invalid;

pub use invalid::Invalid;

/// A type whose values travel through shared memory as their bytes.
///
/// Derive it; there is no other supported way to implement it, for [`Schema`] has no public constructor:
///
/// ```
/// use ipc_ring::{FixedStr, ShmMessage};
///
/// #[derive(ShmMessage)]
/// #[repr(C)]
/// struct Order {
///     price: f64,
///     quantity: u32,
///     side: Side,
///     symbol: FixedStr<9>,
/// }
///
/// #[derive(ShmMessage)]
/// #[repr(u8)]
/// enum Side {
///     Buy = 1,
///     Sell = 2,
/// }
/// ```
///
/// It is implemented for integers of fixed width, `f32`, `f64`, `bool`, `char`, [`NonZero`] integers and
/// [`Option`]s of them, for arrays, and for [`FixedStr`](crate::FixedStr) and [`FixedVec`](crate::FixedVec).
/// `usize` and `isize` are not among them, since they differ between machines. `u128` and `i128` are: they are
/// aligned to 16 bytes by every compiler since Rust 1.77 and by C, and a peer compiled before that is refused,
/// since the schema holds offsets and alignments.
///
/// # What deriving it means
///
/// Whoever can write the segment can put any combination of valid field values into a message. So don't derive
/// it for a type whose fields obey a rule between them that other code relies on for memory safety.
///
/// # Safety
///
/// For a type that implements this trait, once [`SCHEMA`](Self::SCHEMA) has been evaluated without an error,
///
/// - every byte of a value is initialised: there is no padding;
/// - `SCHEMA` describes the type's size, alignment and all of its bytes;
/// - a value has no drop glue, and a copy of its bytes is another value, whether the type is `Copy` or not;
/// - a value contains no reference, pointer or [`UnsafeCell`](std::cell::UnsafeCell);
/// - when [`check`](Self::check) has returned `Ok`, the candidate is a valid value; and it looks at the
///   candidate as bytes or integers only, never as a value that may be invalid.
///
/// Code that relies on this has to evaluate `SCHEMA` for the type in question (`const { T::SCHEMA }`), since
/// the padding of a generic struct is not known before its parameters are.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't travel through shared memory",
    label = "not a message",
    note = "derive it for a type of yours: `#[derive(ShmMessage)]` and `#[repr(C)]`, or `#[repr(u8)]` for an enum",
    note = "for text use `FixedStr<N>`, for lists `[T; N]` or `FixedVec<T, N>`, for `usize` an integer of fixed width"
)]
pub unsafe trait ShmMessage: Sized + Send + 'static {
    /// The layout of the type. Evaluating it makes padding, and a size or alignment beyond the limits, an error
    /// of compilation.
    const SCHEMA: Schema;

    /// Says whether the bytes of the candidate are a value of this type.
    ///
    /// # Errors
    ///
    /// The first field that holds no value of its type.
    ///
    /// # Safety
    ///
    /// All bytes of the candidate are initialised, and nobody changes them during the call.
    unsafe fn check(candidate: &MaybeUninit<Self>) -> Result<(), Invalid>;
}

macro_rules! any_bits {
    ($($type:ty: $scalar:expr;)*) => {$(
        // SAFETY: every pattern of this many bytes is a value, and there is no other byte in it.
        unsafe impl ShmMessage for $type {
            const SCHEMA: Schema = {
                assert!(size_of::<Self>() == $scalar.size() && align_of::<Self>() == $scalar.size());
                Schema::of_scalar($scalar)
            };

            #[inline]
            unsafe fn check(_: &MaybeUninit<Self>) -> Result<(), Invalid> {
                Ok(())
            }
        }
    )*};
}

any_bits! {
    f32: Scalar::F32;
    f64: Scalar::F64;
}

macro_rules! integers {
    ($($type:ty: $int:expr;)*) => {$(
        any_bits! {
            $type: Scalar::Int($int);
            // The size and the meaning of zero are promised by `NonZero`'s documentation.
            Option<NonZero<$type>>: Scalar::OptionNonZero($int);
        }

        // SAFETY: it is the integer, whose every value but zero is one of it.
        unsafe impl ShmMessage for NonZero<$type> {
            const SCHEMA: Schema = {
                assert!(size_of::<Self>() == $int.size && align_of::<Self>() == $int.size);
                Schema::of_scalar(Scalar::NonZero($int))
            };

            #[inline]
            unsafe fn check(candidate: &MaybeUninit<Self>) -> Result<(), Invalid> {
                // SAFETY: all bytes are initialised, and every pattern of them is an integer.
                match unsafe { candidate.as_ptr().cast::<$type>().read() } {
                    0 => Err(Invalid::zero(const { &Self::SCHEMA })),
                    _ => Ok(()),
                }
            }
        }
    )*};
}

integers! {
    u8: Int::new(1, false);
    u16: Int::new(2, false);
    u32: Int::new(4, false);
    u64: Int::new(8, false);
    u128: Int::new(16, false);
    i8: Int::new(1, true);
    i16: Int::new(2, true);
    i32: Int::new(4, true);
    i64: Int::new(8, true);
    i128: Int::new(16, true);
}

// SAFETY: one byte, 0 or 1.
unsafe impl ShmMessage for bool {
    const SCHEMA: Schema = Schema::of_scalar(Scalar::Bool);

    #[inline]
    unsafe fn check(candidate: &MaybeUninit<Self>) -> Result<(), Invalid> {
        // SAFETY: the byte is initialised, and every pattern of it is a `u8`.
        match unsafe { candidate.as_ptr().cast::<u8>().read() } {
            0 | 1 => Ok(()),
            found => Err(Invalid::bool(const { &Self::SCHEMA }, found)),
        }
    }
}

// SAFETY: four bytes, a `u32` that is a Unicode scalar value.
unsafe impl ShmMessage for char {
    const SCHEMA: Schema = Schema::of_scalar(Scalar::Char);

    #[inline]
    unsafe fn check(candidate: &MaybeUninit<Self>) -> Result<(), Invalid> {
        // SAFETY: all bytes are initialised, and every pattern of them is a `u32`.
        let found = unsafe { candidate.as_ptr().cast::<u32>().read() };
        match char::from_u32(found) {
            Some(_) => Ok(()),
            None => Err(Invalid::char(const { &Self::SCHEMA }, found)),
        }
    }
}

// SAFETY: elements follow each other without gaps, and each of them upholds the contract.
unsafe impl<T: ShmMessage, const N: usize> ShmMessage for [T; N] {
    const SCHEMA: Schema = Schema::of_array(const { &T::SCHEMA }, N);

    #[inline]
    unsafe fn check(candidate: &MaybeUninit<Self>) -> Result<(), Invalid> {
        if const { T::SCHEMA.any_bits() } {
            return Ok(());
        }
        // SAFETY: an array of possibly invalid elements lies where a possibly invalid array does.
        let items = unsafe { &*candidate.as_ptr().cast::<[MaybeUninit<T>; N]>() };
        // SAFETY: the elements are as initialised as the array.
        unsafe { check_items(items, 0, const { &Self::SCHEMA }) }
    }
}

/// Checks elements that begin `offset` bytes into the type that `schema` describes.
///
/// # Safety
///
/// As for `check`, for each element.
#[inline]
pub(crate) unsafe fn check_items<T: ShmMessage>(
    items: &[MaybeUninit<T>],
    offset: usize,
    schema: &'static Schema,
) -> Result<(), Invalid> {
    for (i, item) in items.iter().enumerate() {
        // SAFETY: the caller vouches for the element.
        if let Err(invalid) = unsafe { T::check(item) } {
            return Err(invalid.within(schema, offset + i * size_of::<T>()));
        }
    }
    Ok(())
}

/// What the output of `#[derive(ShmMessage)]` calls.
#[allow(
    unreachable_pub,
    reason = "re-exported where the derive's output finds it"
)]
pub mod derive {
    use std::mem::MaybeUninit;

    pub use super::{Invalid, ShmMessage};
    pub use crate::schema::{Field, Schema, StructSchema, Variant, enum_schema, refused};

    /// A field of the candidate for a struct, as the candidate for a value of its own type.
    ///
    /// # Safety
    ///
    /// `field` points to a field of the candidate, which is initialised.
    #[inline]
    #[must_use]
    pub const unsafe fn field<S, T>(
        _candidate: &'_ MaybeUninit<S>,
        field: *const T,
    ) -> &'_ MaybeUninit<T> {
        // SAFETY: the caller vouches for the pointer, and a `MaybeUninit` may hold anything.
        unsafe { &*field.cast() }
    }

    /// What was found wrong in the field at `offset`, with the path from the struct.
    #[cold]
    #[must_use]
    pub const fn within<S: ShmMessage>(invalid: Invalid, offset: usize) -> Invalid {
        invalid.within(const { &S::SCHEMA }, offset)
    }

    /// The candidate for an enum whose discriminant is an `R`, as that integer.
    ///
    /// # Safety
    ///
    /// The candidate is initialised; `R` is an integer of the size and alignment of `E`.
    #[inline]
    pub const unsafe fn discriminant<E, R: Copy>(candidate: &MaybeUninit<E>) -> R {
        // SAFETY: the caller vouches for size, alignment and initialisation; an integer has no invalid patterns.
        unsafe { candidate.as_ptr().cast::<R>().read() }
    }

    /// The error for a discriminant that no variant has; `bits` are sign-extended.
    #[cold]
    #[must_use]
    pub const fn no_such_variant<E: ShmMessage>(bits: u64) -> Invalid {
        Invalid::variant(const { &E::SCHEMA }, bits)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::text::{Kind, Type};
    use crate::{FixedStr, FixedVec};

    #[derive(Clone, Copy, Debug, PartialEq, crate::ShmMessage)]
    #[repr(C)]
    struct Order {
        price: f64,
        id: NonZero<u32>,
        parent: Option<NonZero<u32>>,
        letter: char,
        legs: FixedVec<Leg, 3>,
        sides: [Side; 2],
        live: bool,
        symbol: FixedStr<9>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, crate::ShmMessage)]
    #[repr(C)]
    struct Leg(Level, i16);

    #[derive(Clone, Copy, Debug, PartialEq, crate::ShmMessage)]
    #[repr(u8)]
    enum Side {
        Buy = b'B',
        Sell = b'S',
    }

    #[derive(Clone, Copy, Debug, PartialEq, crate::ShmMessage)]
    #[repr(i16)]
    enum Level {
        Low = -300,
        High = 300,
    }

    const SIZE: usize = size_of::<Order>();

    fn order() -> Order {
        Order {
            price: 1.5,
            id: NonZero::new(7).unwrap(),
            parent: None,
            letter: 'é',
            legs: FixedVec::try_from_slice(&[Leg(Level::Low, 1), Leg(Level::High, -1)]).unwrap(),
            sides: [Side::Buy, Side::Sell],
            live: true,
            symbol: FixedStr::truncated("abc"),
        }
    }

    fn bytes(order: Order) -> [u8; SIZE] {
        // SAFETY: a message is that many initialised bytes.
        unsafe { std::mem::transmute(order) }
    }

    fn check(bytes: [u8; SIZE]) -> Result<Order, Invalid> {
        // SAFETY: as many bytes.
        let candidate: MaybeUninit<Order> = unsafe { std::mem::transmute(bytes) };
        // SAFETY: all of them are initialised.
        unsafe { Order::check(&candidate) }?;
        // SAFETY: checked.
        Ok(unsafe { candidate.assume_init() })
    }

    /// Changes some bytes of a valid message and says what is found wrong.
    fn refusal(change: impl FnOnce(&mut [u8; SIZE])) -> String {
        let mut bytes = bytes(order());
        change(&mut bytes);
        check(bytes).unwrap_err().to_string()
    }

    /// Decides by the text form alone whether bytes are a message, as a program without its Rust source would.
    fn decodes(ty: &Type<'_>, bytes: &[u8]) -> bool {
        let mut word = [0; 8];
        match &ty.kind {
            Kind::Scalar(scalar) => {
                word[..ty.size].copy_from_slice(bytes);
                let value = u64::from_le_bytes(word);
                match scalar {
                    Scalar::Int(_) | Scalar::F32 | Scalar::F64 | Scalar::OptionNonZero(_) => true,
                    Scalar::Bool => value < 2,
                    Scalar::Char => char::from_u32(value as u32).is_some(),
                    Scalar::NonZero(_) => value != 0,
                }
            }
            Kind::Array { item, .. } => bytes.chunks(item.size).all(|bytes| decodes(item, bytes)),
            Kind::Str { capacity } => {
                let len = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
                len <= *capacity && str::from_utf8(&bytes[2..2 + len]).is_ok()
            }
            Kind::Vec { item, capacity } => {
                let len = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
                let items = bytes[item.align.max(2)..].chunks(item.size);
                len <= *capacity && items.take(len).all(|bytes| decodes(item, bytes))
            }
            Kind::Struct { fields, .. } => fields.iter().all(|field| {
                let end = field.offset + field.ty.size;
                decodes(&field.ty, &bytes[field.offset..end])
            }),
            Kind::Enum { repr, variants, .. } => {
                word[..ty.size].copy_from_slice(bytes);
                let shift = 64 - 8 * ty.size as u32;
                let value = if repr.signed {
                    i128::from(i64::from_le_bytes(word) << shift >> shift)
                } else {
                    i128::from(u64::from_le_bytes(word))
                };
                variants.iter().any(|variant| variant.value == value)
            }
        }
    }

    proptest! {
        #[cfg(target_endian = "little")]
        #[test]
        fn the_check_and_the_text_agree_on_whatever_a_peer_wrote(
            changes in prop::collection::vec((0..SIZE, prop_oneof![0..4_u8, any::<u8>()]), 0..4),
        ) {
            let mut bytes = bytes(order());
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            let text = Order::SCHEMA.to_string();
            let ty = Type::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let checked = check(bytes);
            prop_assert_eq!(checked.is_ok(), decodes(&ty, &bytes), "{:?}", checked);
            if let Ok(order) = checked {
                prop_assert_eq!(super::tests::bytes(order), bytes);
            }
        }

        #[test]
        fn bytes_without_any_sense_are_refused_without_a_panic(bytes: [u8; SIZE]) {
            if let Err(invalid) = check(bytes) {
                prop_assert!(!invalid.path().is_empty());
                prop_assert!(invalid.offset() < SIZE);
            }
        }
    }

    #[test]
    fn a_message_passes_and_comes_back_as_it_was() {
        assert_eq!(check(bytes(order())), Ok(order()));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        let offset = std::mem::offset_of!(Order, legs);
        assert_eq!(
            refusal(|bytes| bytes[8..12].fill(0)),
            "`id` holds 0, but must not be zero"
        );
        assert_eq!(
            refusal(|bytes| bytes[16..20].copy_from_slice(&0xd800_u32.to_ne_bytes())),
            "`letter` holds 0xd800, which is no Unicode scalar value"
        );
        assert_eq!(
            refusal(|bytes| bytes[offset..offset + 2].copy_from_slice(&4_u16.to_ne_bytes())),
            "`legs` has a length of 4, but room for 3"
        );
        assert_eq!(
            refusal(|bytes| bytes[offset + 6..offset + 8].copy_from_slice(&(-7_i16).to_ne_bytes())),
            "`legs[1].0` holds -7, but Level is -300 (Low) or 300 (High)"
        );
        assert_eq!(
            refusal(|bytes| bytes[std::mem::offset_of!(Order, sides) + 1] = 3),
            "`sides[1]` holds 3, but Side is 66 (Buy) or 83 (Sell)"
        );
        assert_eq!(
            refusal(|bytes| bytes[std::mem::offset_of!(Order, live)] = 2),
            "`live` holds 2, but a bool is 0 or 1"
        );
        assert_eq!(
            refusal(|bytes| bytes[std::mem::offset_of!(Order, symbol) + 3] = 0xff),
            "`symbol` is not UTF-8 from byte 1 on"
        );
    }

    #[test]
    fn of_many_variants_the_first_are_listed() {
        #[derive(crate::ShmMessage)]
        #[repr(u8)]
        enum Many {
            A,
            B,
            C,
            D,
            E,
            F,
            G,
            H,
            I,
            J,
        }

        // SAFETY: one byte, and it is initialised.
        let candidate: MaybeUninit<Many> = unsafe { std::mem::transmute(99_u8) };
        // SAFETY: it is initialised.
        let invalid = unsafe { Many::check(&candidate) }.unwrap_err();
        assert_eq!(
            invalid.to_string(),
            "the message holds 99, but Many is 0 (A), 1 (B), 2 (C), 3 (D), 4 (E), 5 (F), 6 (G), 7 (H) or one of 2 more"
        );
    }

    #[test]
    fn the_layout_of_scalars_is_as_the_text_promises() {
        fn layout<T: ShmMessage>() -> (String, usize, usize) {
            let schema = const { T::SCHEMA };
            assert_eq!(
                (schema.size(), schema.align()),
                (size_of::<T>(), align_of::<T>())
            );
            (schema.to_string(), schema.size(), schema.align())
        }

        assert_eq!(layout::<u128>(), ("u128".to_owned(), 16, 16));
        assert_eq!(layout::<i8>(), ("i8".to_owned(), 1, 1));
        assert_eq!(layout::<char>(), ("char".to_owned(), 4, 4));
        assert_eq!(layout::<NonZero<i64>>(), ("NonZero<i64>".to_owned(), 8, 8));
        assert_eq!(
            layout::<Option<NonZero<i128>>>(),
            ("Option<NonZero<i128>>".to_owned(), 16, 16)
        );
        assert_eq!(
            layout::<[[u16; 2]; 3]>(),
            ("[[u16; 2]; 3]".to_owned(), 12, 2)
        );
    }
}
