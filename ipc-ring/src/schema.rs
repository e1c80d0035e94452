//! What a message looks like in memory, as a constant: names, kinds, offsets, sizes, alignments.

// The models of the rings attach to no segment, and so compare no schemas.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

use std::fmt;

mod build;
mod difference;
mod refusal;
mod sink;
pub(crate) mod text;

pub(crate) use build::items_offset;
use sink::Sink;

pub use build::{Field, StructSchema, Variant, enum_schema, refused};
pub(crate) use difference::first_difference;

/// The longest name of a struct, an enum, a field or a variant, in bytes.
pub(crate) const MAX_NAME: usize = 128;

/// What a message looks like in memory: names, kinds, offsets, sizes and alignments.
///
/// A schema is made by `#[derive(ShmMessage)]` and read as [`ShmMessage::SCHEMA`](crate::ShmMessage::SCHEMA).
/// Its text form ([`Display`](fmt::Display)) holds everything that is needed to decode a message without its
/// Rust source, and its [`fingerprint`](Self::fingerprint) is the hash of that text.
///
/// ```
/// use ipc_ring::{Schema, ShmMessage};
///
/// #[derive(ShmMessage)]
/// #[repr(C)]
/// struct Tick {
///     price: f64,
///     quantity: u32,
///     venue: u32,
/// }
///
/// const SCHEMA: Schema = Tick::SCHEMA;
/// assert_eq!(
///     SCHEMA.to_string(),
///     "struct Tick (size 16, align 8) { price: f64 at 0, quantity: u32 at 8, venue: u32 at 12 }",
/// );
/// ```
///
/// # The text form
///
/// [`Display`](fmt::Display) writes one line of UTF-8 that holds everything needed to decode a
/// message without its Rust source. It is stored in the segment, compared when a ring is opened, and read by
/// programs that know the message only from there. Its grammar, in which a space is one U+0020, nothing is
/// optional and numbers are decimal without leading zeros:
///
/// ```text
/// type    = scalar | array | string | vector | struct | enum
/// scalar  = int | "f32" | "f64" | "bool" | "char" | "NonZero<" int ">" | "Option<NonZero<" int ">>"
/// int     = "u8" | "u16" | "u32" | "u64" | "u128" | "i8" | "i16" | "i32" | "i64" | "i128"
/// array   = "[" type "; " count "]"
/// string  = "FixedStr<" count ">"
/// vector  = "FixedVec<" type ", " count ">"
/// struct  = "struct " name " (size " count ", align " count ") { " field { ", " field } " }"
/// field   = name ": " type " at " count
/// enum    = "enum " name ": " int " { " variant { ", " variant } " }"
/// variant = name " = " [ "-" ] count
/// name    = 1 to 128 bytes: a Rust identifier without `r#`, or the index of a tuple's field
/// ```
///
/// For example:
///
/// ```text
/// struct Order (size 24, align 8) { price: f64 at 0, quantity: u32 at 8, side: enum Side: u8 { Buy = 1, Sell = 2 } at 12, symbol: FixedStr<9> at 13 }
/// ```
///
/// Offsets count bytes from the start of the enclosing struct. Scalars are in the byte order of the machine
/// and as large as their name says; a `bool` is one byte, 0 or 1; a `char` four bytes, a Unicode scalar value;
/// the `None` of an `Option<NonZero<_>>` is 0; an enum is its integer. A scalar is aligned to its size. A
/// `FixedStr<N>` is two bytes of length and N bytes of UTF-8, aligned to 1. A `FixedVec<T, N>` is a length of
/// two bytes, zeros up to the larger of 2 and T's alignment, and N elements; it is aligned as T is. There is no
/// padding anywhere, so the fields of a struct follow each other without gaps.
///
/// A text takes at most [`Schema::MAX_TEXT`] bytes, and types are nested at most [`Schema::MAX_DEPTH`] deep.
///
/// # The fingerprint
///
/// The 64-bit FNV-1a hash of the text form ([Fowler, Noll, Vo][fnv]; offset basis 0xcbf29ce484222325, prime
/// 0x100000001b3). It depends on the text alone: not on the crate, the module path or the compiler. It tells
/// layouts apart by accident, not against an adversary: whoever must be sure compares the texts.
///
/// [fnv]: https://datatracker.ietf.org/doc/html/draft-eastlake-fnv
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    size: usize,
    align: usize,
    /// Levels of types below this one.
    depth: usize,
    /// Whether every bit pattern is a value, so that nothing need be checked.
    any_bits: bool,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Scalar(Scalar),
    Array {
        item: &'static Schema,
        len: usize,
    },
    Str {
        capacity: usize,
    },
    Vec {
        item: &'static Schema,
        capacity: usize,
    },
    Struct {
        name: &'static str,
        fields: &'static [Field],
    },
    Enum {
        name: &'static str,
        repr: Int,
        variants: &'static [Variant],
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Int(Int),
    F32,
    F64,
    Bool,
    Char,
    NonZero(Int),
    OptionNonZero(Int),
}

/// An integer of fixed width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Int {
    /// In bytes: 1, 2, 4, 8 or 16.
    pub(crate) size: usize,
    pub(crate) signed: bool,
}

impl Schema {
    /// The largest message, in bytes.
    pub const MAX_SIZE: usize = 65_536;

    /// The strictest alignment of a message, in bytes: a cache line.
    pub const MAX_ALIGN: usize = 64;

    /// The longest text form, in bytes.
    pub const MAX_TEXT: usize = 65_536;

    /// How deep types may be nested in one another.
    pub const MAX_DEPTH: usize = 32;

    /// The size of the message in bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The alignment of the message in bytes.
    #[must_use]
    pub const fn align(&self) -> usize {
        self.align
    }

    /// The name of the struct or enum, or what the text form calls another type: `u32`, `FixedStr`; an array is
    /// called `array`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.shape {
            Shape::Scalar(scalar) => scalar.name(),
            Shape::Array { .. } => "array",
            Shape::Str { .. } => "FixedStr",
            Shape::Vec { .. } => "FixedVec",
            Shape::Struct { name, .. } | Shape::Enum { name, .. } => name,
        }
    }

    /// The 64-bit FNV-1a hash of the text form.
    ///
    /// Two schemas differ in it, collisions of a 64-bit hash aside, when the name of the type, or any field's
    /// name, order, kind, offset or size differs. It depends neither on the crate nor on the module path.
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        let mut sink = Sink::new(&mut []);
        sink.schema(self);
        sink.hash
    }

    /// The length of the text form in bytes.
    #[must_use]
    pub const fn text_len(&self) -> usize {
        let mut sink = Sink::new(&mut []);
        sink.schema(self);
        sink.len
    }

    pub(crate) const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Whether every bit pattern is a value of the type, so that a message needs no check.
    pub(crate) const fn any_bits(&self) -> bool {
        self.any_bits
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = vec![0; self.text_len()];
        Sink::new(&mut text).schema(self);
        f.pad(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({self})")
    }
}

impl Int {
    /// The integer of so many bytes.
    pub(crate) const fn new(size: usize, signed: bool) -> Self {
        Self { size, signed }
    }

    const fn pick(self, names: [&'static str; 10]) -> &'static str {
        let width = match self.size {
            1 => 0,
            2 => 1,
            4 => 2,
            8 => 3,
            _ => 4,
        };
        names[if self.signed { 5 + width } else { width }]
    }
}

impl Scalar {
    /// All of them.
    pub(crate) const ALL: [Self; 34] = {
        let mut all = [Self::F32; 34];
        all[1] = Self::F64;
        all[2] = Self::Bool;
        all[3] = Self::Char;
        let mut i = 0;
        while i < 10 {
            let int = Int::new(1 << (i % 5), i >= 5);
            all[4 + i] = Self::Int(int);
            all[14 + i] = Self::NonZero(int);
            all[24 + i] = Self::OptionNonZero(int);
            i += 1;
        }
        all
    };

    pub(crate) const fn size(self) -> usize {
        match self {
            Self::Int(int) | Self::NonZero(int) | Self::OptionNonZero(int) => int.size,
            Self::F32 | Self::Char => 4,
            Self::F64 => 8,
            Self::Bool => 1,
        }
    }

    const fn any_bits(self) -> bool {
        matches!(
            self,
            Self::Int(_) | Self::F32 | Self::F64 | Self::OptionNonZero(_)
        )
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Int(int) => int.pick([
                "u8", "u16", "u32", "u64", "u128", "i8", "i16", "i32", "i64", "i128",
            ]),
            Self::NonZero(int) => int.pick([
                "NonZero<u8>",
                "NonZero<u16>",
                "NonZero<u32>",
                "NonZero<u64>",
                "NonZero<u128>",
                "NonZero<i8>",
                "NonZero<i16>",
                "NonZero<i32>",
                "NonZero<i64>",
                "NonZero<i128>",
            ]),
            Self::OptionNonZero(int) => int.pick([
                "Option<NonZero<u8>>",
                "Option<NonZero<u16>>",
                "Option<NonZero<u32>>",
                "Option<NonZero<u64>>",
                "Option<NonZero<u128>>",
                "Option<NonZero<i8>>",
                "Option<NonZero<i16>>",
                "Option<NonZero<i32>>",
                "Option<NonZero<i64>>",
                "Option<NonZero<i128>>",
            ]),
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Bool => "bool",
            Self::Char => "char",
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::num::NonZero;

    use crate::{FixedStr, FixedVec, ShmMessage};

    mod one {
        #[derive(crate::ShmMessage)]
        #[repr(C)]
        pub(super) struct Tick {
            bid: u32,
            ask: u32,
        }
    }

    mod other {
        #[derive(crate::ShmMessage)]
        #[repr(C)]
        pub(super) struct Tick {
            bid: u32,
            ask: u32,
        }

        #[derive(crate::ShmMessage)]
        #[repr(C)]
        #[shm(name = "Tick")]
        pub(super) struct Renamed {
            bid: u32,
            ask: u32,
        }
    }

    /// Each is `Tick` but for one difference.
    mod changed {
        macro_rules! tick {
            ($module:ident: $($field:ident: $ty:ty),*) => {
                pub(in super::super) mod $module {
                    #[derive(crate::ShmMessage)]
                    #[repr(C)]
                    pub(in super::super::super) struct Tick {
                        $($field: $ty),*
                    }
                }
            };
        }

        tick!(order: ask: u32, bid: u32);
        tick!(field: bid: u32, asks: u32);
        tick!(kind: bid: u32, ask: f32);
        tick!(sign: bid: u32, ask: i32);
        tick!(size: bid: u32, ask: [u16; 2]);
        tick!(offset: bid: u16, _pad: [u8; 2], ask: u32);
        tick!(missing: bid: u32);
        tick!(more: bid: u32, ask: u32, last: u32);
        tick!(inner: bid: u32, ask: super::super::one::Tick);
        tick!(inner_order: bid: u32, ask: super::order::Tick);

        #[derive(crate::ShmMessage)]
        #[repr(C)]
        pub(super) struct Tock {
            bid: u32,
            ask: u32,
        }

        #[derive(crate::ShmMessage)]
        #[repr(C, align(8))]
        #[shm(name = "Tick")]
        pub(super) struct Aligned {
            bid: u32,
            ask: u32,
        }
    }

    #[derive(crate::ShmMessage)]
    #[repr(i8)]
    enum Level {
        Low = -3,
        r#Type,
        High = 7,
    }

    #[derive(crate::ShmMessage)]
    #[repr(C)]
    struct Everything {
        wide: u128,
        list: FixedVec<one::Tick, 2>,
        letter: char,
        id: NonZero<i16>,
        parent: Option<NonZero<u16>>,
        levels: [[Level; 2]; 2],
        r#fn: bool,
        text: FixedStr<13>,
    }

    fn fnv1a(text: &str) -> u64 {
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    }

    #[test]
    fn the_text_holds_all_there_is_to_know() {
        assert_eq!(
            Everything::SCHEMA.to_string(),
            "struct Everything (size 64, align 16) { wide: u128 at 0, list: FixedVec<struct Tick (size 8, align 4) { \
             bid: u32 at 0, ask: u32 at 4 }, 2> at 16, letter: char at 36, id: NonZero<i16> at 40, parent: \
             Option<NonZero<u16>> at 42, levels: [[enum Level: i8 { Low = -3, Type = -2, High = 7 }; 2]; 2] at 44, fn: \
             bool at 48, text: FixedStr<13> at 49 }"
        );
    }

    #[test]
    fn the_fingerprint_is_the_published_hash_of_the_text_and_known_at_compile_time() {
        const FINGERPRINT: u64 = Everything::SCHEMA.fingerprint();

        assert_eq!(FINGERPRINT, fnv1a(&Everything::SCHEMA.to_string()));
        assert_eq!(<u8>::SCHEMA.fingerprint(), fnv1a("u8"));
        // The vectors of the authors' test suite.
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_fingerprint_depends_neither_on_the_module_nor_on_the_rust_name() {
        let here = one::Tick::SCHEMA.fingerprint();
        assert_eq!(here, other::Tick::SCHEMA.fingerprint());
        assert_eq!(here, other::Renamed::SCHEMA.fingerprint());
    }

    #[test]
    fn the_fingerprint_differs_when_anything_differs() {
        let all = [
            one::Tick::SCHEMA,
            changed::order::Tick::SCHEMA,
            changed::field::Tick::SCHEMA,
            changed::kind::Tick::SCHEMA,
            changed::sign::Tick::SCHEMA,
            changed::size::Tick::SCHEMA,
            changed::offset::Tick::SCHEMA,
            changed::missing::Tick::SCHEMA,
            changed::more::Tick::SCHEMA,
            changed::inner::Tick::SCHEMA,
            changed::inner_order::Tick::SCHEMA,
            changed::Tock::SCHEMA,
            changed::Aligned::SCHEMA,
        ];
        for (i, schema) in all.iter().enumerate() {
            for other in &all[i + 1..] {
                assert_ne!(
                    schema.fingerprint(),
                    other.fingerprint(),
                    "{schema}\n{other}"
                );
            }
        }
    }

    #[test]
    fn a_schema_is_shown_padded_like_any_text() {
        assert_eq!(format!("{:>6}", <u32>::SCHEMA), "   u32");
        assert_eq!(<u32>::SCHEMA.text_len(), 3);
        assert_eq!(format!("{:?}", <[bool; 2]>::SCHEMA), "Schema([bool; 2])");
    }
}
