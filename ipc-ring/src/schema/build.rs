//! Making schemas in constants, and refusing there what can't travel.
//!
//! What the derive calls is `#[track_caller]`, so that the compiler points at the user's struct or field.

use std::marker::PhantomData;
use std::mem::needs_drop;

use super::refusal::Refusal;
use super::sink::Sink;
use super::{Int, MAX_NAME, Scalar, Schema, Shape};

/// A field of a struct's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub(crate) name: &'static str,
    pub(crate) offset: usize,
    pub(crate) schema: &'static Schema,
}

/// A variant of an enum's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    pub(crate) name: &'static str,
    pub(crate) value: i128,
}

impl Field {
    /// A field, its offset as `offset_of!` gives it.
    #[must_use]
    #[track_caller]
    pub const fn new(name: &'static str, offset: usize, schema: &'static Schema) -> Self {
        check_name(name);
        Self {
            name,
            offset,
            schema,
        }
    }
}

impl Variant {
    /// A variant and its discriminant.
    #[must_use]
    #[track_caller]
    pub const fn new(name: &'static str, value: i128) -> Self {
        check_name(name);
        Self { name, value }
    }
}

/// The schema of the struct `S` while the bytes between its fields are being checked.
#[derive(Clone, Copy, Debug)]
pub struct StructSchema<S> {
    name: &'static str,
    fields: &'static [Field],
    /// The fields at the front that are known to be followed by no padding.
    checked: usize,
    of: PhantomData<fn() -> S>,
}

impl<S> StructSchema<S> {
    /// Begins with all fields of `S` in the order of their declaration.
    #[must_use]
    #[track_caller]
    pub const fn new(name: &'static str, fields: &'static [Field]) -> Self {
        check_name(name);
        if needs_drop::<S>() {
            Refusal::of_struct(name)
                .str("it implements Drop, but a message is copied as bytes and never dropped: remove the Drop impl")
                .refuse();
        }
        if fields.is_empty() {
            Refusal::of_struct(name)
                .str("it has no fields, so there is nothing to send: add a field")
                .refuse();
        }
        if fields[0].offset != 0 {
            Refusal::of_struct(name)
                .str("its fields are not in the order of their declaration: write `#[repr(C)]`")
                .refuse();
        }
        Self {
            name,
            fields,
            checked: 0,
            of: PhantomData,
        }
    }

    /// Refuses padding between the next field and what follows it; `pad` is a name that no field has, or empty
    /// for a tuple struct.
    #[must_use]
    #[track_caller]
    pub const fn no_padding_after_next(mut self, pad: &str) -> Self {
        let field = &self.fields[self.checked];
        let end = field.offset + field.schema.size;
        self.checked += 1;
        let follower = if self.checked < self.fields.len() {
            Some(&self.fields[self.checked])
        } else {
            None
        };
        let next = match follower {
            Some(follower) => follower.offset,
            None => size_of::<S>(),
        };
        if end == next {
            return self;
        }
        let message = Refusal::of_struct(self.name);
        if end > next {
            message
                .str("its fields are not in the order of their declaration: write `#[repr(C)]`")
                .refuse();
        }
        let gap = next - end;
        let message = message
            .bytes(gap)
            .str(" of padding after `")
            .str(field.name)
            .str("`: add ");
        let message = if pad.is_empty() {
            message.str("a field `[u8; ").number(gap).str("]`")
        } else {
            message
                .str("`")
                .str(pad)
                .str(": [u8; ")
                .number(gap)
                .str("]`")
        };
        let Some(follower) = follower else {
            message.str(" at the end").refuse();
        };
        let message = message.str(" or move `").str(follower.name).str("` first");
        let left = self.left_at_the_end();
        if left == 0 {
            message.refuse();
        }
        message
            .str(" (which leaves ")
            .bytes(left)
            .str(" to add at the end)")
            .refuse();
    }

    /// The padding after the last field if the fields were ordered by falling alignment, which leaves none
    /// between them.
    const fn left_at_the_end(&self) -> usize {
        let mut sum = 0;
        let mut i = 0;
        while i < self.fields.len() {
            sum += self.fields[i].schema.size;
            i += 1;
        }
        sum.next_multiple_of(align_of::<S>()) - sum
    }

    /// The schema, after [`no_padding_after_next`](Self::no_padding_after_next) has been called for each field.
    #[must_use]
    #[track_caller]
    pub const fn schema(self) -> Schema {
        assert!(self.checked == self.fields.len());
        let mut depth = 0;
        let mut any_bits = true;
        let mut i = 0;
        while i < self.fields.len() {
            let field = self.fields[i].schema;
            if field.depth > depth {
                depth = field.depth;
            }
            any_bits &= field.any_bits;
            i += 1;
        }
        Schema {
            size: size_of::<S>(),
            align: align_of::<S>(),
            depth: depth + 1,
            any_bits,
            shape: Shape::Struct {
                name: self.name,
                fields: self.fields,
            },
        }
        .within_limits()
    }
}

/// The schema of the fieldless enum `E` whose `#[repr]` is the integer that `repr` describes.
#[must_use]
#[track_caller]
pub const fn enum_schema<E>(
    name: &'static str,
    repr: &Schema,
    variants: &'static [Variant],
) -> Schema {
    check_name(name);
    let Shape::Scalar(Scalar::Int(int)) = repr.shape else {
        panic!("the repr of an enum is an integer");
    };
    assert!(size_of::<E>() == repr.size && align_of::<E>() == repr.align);
    if needs_drop::<E>() {
        Refusal::new()
            .str("enum `")
            .str(name)
            .str("`: it implements Drop, but a message is copied as bytes and never dropped: remove the Drop impl")
            .refuse();
    }
    Schema {
        size: repr.size,
        align: repr.align,
        depth: 0,
        any_bits: false,
        shape: Shape::Enum {
            name,
            repr: int,
            variants,
        },
    }
    .within_limits()
}

/// What stands in for the schema of a type that the derive has refused. The program doesn't compile; this spares the
/// types around the refused one a second message.
#[must_use]
pub const fn refused<T>() -> Schema {
    Schema {
        size: size_of::<T>(),
        align: align_of::<T>(),
        depth: 0,
        any_bits: true,
        shape: Shape::Scalar(Scalar::Int(Int::new(1, false))),
    }
}

impl Schema {
    pub(crate) const fn of_scalar(scalar: Scalar) -> Self {
        Self {
            size: scalar.size(),
            align: scalar.size(),
            depth: 0,
            any_bits: scalar.any_bits(),
            shape: Shape::Scalar(scalar),
        }
    }

    /// Of `[item; len]`.
    #[track_caller]
    pub(crate) const fn of_array(item: &'static Self, len: usize) -> Self {
        Self {
            size: item.size.saturating_mul(len),
            align: item.align,
            depth: item.depth + 1,
            any_bits: item.any_bits,
            shape: Shape::Array { item, len },
        }
        .within_limits()
    }

    /// Of `FixedStr<capacity>`.
    #[track_caller]
    pub(crate) const fn of_str(capacity: usize) -> Self {
        Self {
            size: capacity.saturating_add(2),
            align: 1,
            depth: 0,
            any_bits: false,
            shape: Shape::Str { capacity },
        }
        .within_limits()
    }

    /// Of `FixedVec<item, capacity>`.
    #[track_caller]
    pub(crate) const fn of_vec(item: &'static Self, capacity: usize) -> Self {
        Self {
            size: item
                .size
                .saturating_mul(capacity)
                .saturating_add(items_offset(item.align)),
            align: item.align,
            depth: item.depth + 1,
            any_bits: false,
            shape: Shape::Vec { item, capacity },
        }
        .within_limits()
    }

    #[track_caller]
    const fn within_limits(self) -> Self {
        let mut sink = Sink::new(&mut []);
        sink.schema(&self);
        if self.size == 0 {
            self.refusal()
                .str("it has no bytes, but a message has at least one")
                .refuse();
        }
        if self.size > Self::MAX_SIZE {
            self.refusal()
                .str("it has ")
                .bytes(self.size)
                .str(", but a message has at most ")
                .number(Self::MAX_SIZE)
                .str(": send it in pieces")
                .refuse();
        }
        if self.align > Self::MAX_ALIGN {
            self.refusal()
                .str("it is aligned to ")
                .bytes(self.align)
                .str(", but a message is aligned to at most ")
                .number(Self::MAX_ALIGN)
                .refuse();
        }
        if self.depth > Self::MAX_DEPTH {
            self.refusal()
                .str("types are nested at most ")
                .number(Self::MAX_DEPTH)
                .str(" deep in a message")
                .refuse();
        }
        if sink.len > Self::MAX_TEXT {
            self.refusal()
                .str("its description takes ")
                .bytes(sink.len)
                .str(", but has room for ")
                .number(Self::MAX_TEXT)
                .str(": use shorter names or fewer of them")
                .refuse();
        }
        self
    }

    const fn refusal(&self) -> Refusal {
        let message = Refusal::new();
        match self.shape {
            Shape::Struct { name, .. } => message.str("struct `").str(name).str("`: "),
            Shape::Enum { name, .. } => message.str("enum `").str(name).str("`: "),
            Shape::Array { item, len } => message
                .str("array of ")
                .number(len)
                .str(" `")
                .str(item.name())
                .str("`: "),
            Shape::Str { capacity } => message.str("`FixedStr<").number(capacity).str(">`: "),
            Shape::Vec { item, capacity } => message
                .str("`FixedVec` of ")
                .number(capacity)
                .str(" `")
                .str(item.name())
                .str("`: "),
            Shape::Scalar(scalar) => message.str("`").str(scalar.name()).str("`: "),
        }
    }
}

/// Where the elements of a `FixedVec` begin, behind its length.
pub(crate) const fn items_offset(align: usize) -> usize {
    if align > 2 { align } else { 2 }
}

#[track_caller]
const fn check_name(name: &str) {
    if name.is_empty() || name.len() > MAX_NAME {
        Refusal::new()
            .str("a name in a message has 1 to ")
            .number(MAX_NAME)
            .str(" bytes, this one has ")
            .number(name.len())
            .refuse();
    }
}
