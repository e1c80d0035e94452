//! Why the bytes of a message are no value of its type.

use std::fmt::{self, Write as _};

use crate::schema::{Schema, Shape, items_offset};

/// How many variants of an enum are listed before the rest is only counted.
const LISTED: usize = 8;

/// The bytes that a peer sent are no value of the message's type.
///
/// It names the field, what was found and what is expected:
///
/// ```
/// use std::mem::MaybeUninit;
/// use ipc_ring::ShmMessage;
///
/// let bytes = MaybeUninit::new([1_u8, 0, 2]);
/// // SAFETY: three bytes either way, all initialised.
/// let candidate: MaybeUninit<[bool; 3]> = unsafe { std::mem::transmute(bytes) };
/// // SAFETY: as just said.
/// let invalid = unsafe { <[bool; 3]>::check(&candidate) }.unwrap_err();
/// assert_eq!(invalid.to_string(), "`[2]` holds 2, but a bool is 0 or 1");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Invalid {
    /// Of the type that `offset` counts from. The path to the field is found in it when somebody wants to read
    /// it, so that the error stays small.
    schema: &'static Schema,
    offset: usize,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    Bool(u8),
    Char(u32),
    Zero,
    /// The discriminant's bits, sign-extended.
    Variant(u64),
    Length(usize),
    Utf8 {
        valid_up_to: usize,
    },
}

impl Invalid {
    const fn new(schema: &'static Schema, problem: Problem) -> Self {
        Self {
            schema,
            offset: 0,
            problem,
        }
    }

    #[cold]
    pub(super) const fn bool(schema: &'static Schema, found: u8) -> Self {
        Self::new(schema, Problem::Bool(found))
    }

    #[cold]
    pub(super) const fn char(schema: &'static Schema, found: u32) -> Self {
        Self::new(schema, Problem::Char(found))
    }

    #[cold]
    pub(super) const fn zero(schema: &'static Schema) -> Self {
        Self::new(schema, Problem::Zero)
    }

    #[cold]
    pub(super) const fn variant(schema: &'static Schema, bits: u64) -> Self {
        Self::new(schema, Problem::Variant(bits))
    }

    #[cold]
    pub(crate) const fn length(schema: &'static Schema, found: usize) -> Self {
        Self::new(schema, Problem::Length(found))
    }

    #[cold]
    pub(crate) const fn utf8(schema: &'static Schema, valid_up_to: usize) -> Self {
        Self::new(schema, Problem::Utf8 { valid_up_to })
    }

    /// The same as seen from a type that has the part concerned at `offset`.
    #[cold]
    pub(super) const fn within(self, schema: &'static Schema, offset: usize) -> Self {
        Self {
            schema,
            offset: offset + self.offset,
            problem: self.problem,
        }
    }

    /// Where the offending part begins, in bytes from the start of the message.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// The offending part as one would write it in Rust, `legs[2].side`; empty if it is the whole message.
    #[must_use]
    pub fn path(&self) -> String {
        self.locate().0
    }

    fn locate(&self) -> (String, &'static Schema) {
        let mut path = String::new();
        let mut schema = self.schema;
        let mut offset = self.offset;
        loop {
            let (item, begin) = match *schema.shape() {
                Shape::Struct { fields, .. } => {
                    let Some(field) = fields.iter().rfind(|field| field.offset <= offset) else {
                        return (path, schema);
                    };
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(field.name);
                    offset -= field.offset;
                    schema = field.schema;
                    continue;
                }
                Shape::Array { item, .. } => (item, 0),
                Shape::Vec { item, .. } if offset > 0 => (item, items_offset(item.align())),
                Shape::Vec { .. } | Shape::Scalar(_) | Shape::Str { .. } | Shape::Enum { .. } => {
                    return (path, schema);
                }
            };
            offset -= begin;
            // Writing to a string can't fail.
            let _ = write!(path, "[{}]", offset / item.size());
            offset %= item.size();
            schema = item;
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, schema) = self.locate();
        if path.is_empty() {
            f.write_str("the message")?;
        } else {
            write!(f, "`{path}`")?;
        }
        match (self.problem, *schema.shape()) {
            (Problem::Bool(found), _) => write!(f, " holds {found}, but a bool is 0 or 1"),
            (Problem::Char(found), _) => {
                write!(f, " holds {found:#x}, which is no Unicode scalar value")
            }
            (Problem::Zero, _) => f.write_str(" holds 0, but must not be zero"),
            (
                Problem::Variant(bits),
                Shape::Enum {
                    name,
                    repr,
                    variants,
                },
            ) => {
                if repr.signed {
                    write!(f, " holds {}", bits.cast_signed())?;
                } else {
                    write!(f, " holds {bits}")?;
                }
                write!(f, ", but {name} is ")?;
                for (i, variant) in variants.iter().take(LISTED).enumerate() {
                    let separator = match i {
                        0 => "",
                        _ if i + 1 == variants.len() => " or ",
                        _ => ", ",
                    };
                    write!(f, "{separator}{} ({})", variant.value, variant.name)?;
                }
                match variants.len().saturating_sub(LISTED) {
                    0 => Ok(()),
                    more => write!(f, " or one of {more} more"),
                }
            }
            (Problem::Variant(bits), _) => write!(f, " holds {bits}, which is no variant"),
            (Problem::Length(found), Shape::Str { capacity } | Shape::Vec { capacity, .. }) => {
                write!(f, " has a length of {found}, but room for {capacity}")
            }
            (Problem::Length(found), _) => write!(f, " has a length of {found}, which is too long"),
            (Problem::Utf8 { valid_up_to }, _) => {
                write!(f, " is not UTF-8 from byte {valid_up_to} on")
            }
        }
    }
}

impl fmt::Debug for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalid")
            .field("path", &self.path())
            .field("offset", &self.offset)
            .field("problem", &self.problem)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Invalid {}
