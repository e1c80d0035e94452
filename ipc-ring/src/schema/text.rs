//! Reading the text form of a schema, as a peer left it in a segment.
//!
//! The text is not trusted. Its length, the depth of its types and every number in it are bounded, the offsets and
//! sizes have to fit together, and names hold nothing that would upset a terminal. So whoever decodes messages by
//! what is returned here has no arithmetic of the peer's to fear.

use std::fmt;

use super::{Int, MAX_NAME, Scalar, Schema, items_offset};

/// A type as described by a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Type<'a> {
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) kind: Kind<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    Scalar(Scalar),
    Array {
        item: Box<Type<'a>>,
        len: usize,
    },
    Str {
        capacity: usize,
    },
    Vec {
        item: Box<Type<'a>>,
        capacity: usize,
    },
    Struct {
        name: &'a str,
        fields: Vec<Field<'a>>,
    },
    Enum {
        name: &'a str,
        repr: Int,
        variants: Vec<Variant<'a>>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) name: &'a str,
    pub(crate) ty: Type<'a>,
    pub(crate) offset: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: i128,
}

/// Why a text is no description of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParseError {
    at: usize,
    expected: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at byte {}", self.expected, self.at)
    }
}

impl<'a> Type<'a> {
    /// Reads a whole text.
    pub(crate) fn parse(text: &'a str) -> Result<Self, ParseError> {
        let mut parser = Parser { text, at: 0 };
        if text.len() > Schema::MAX_TEXT {
            return parser.fail("a shorter text");
        }
        let ty = parser.ty(Schema::MAX_DEPTH)?;
        if parser.rest().is_empty() {
            Ok(ty)
        } else {
            parser.fail("the end")
        }
    }
}

/// The text form without what is inside of structs and enums: enough to tell a field by.
impl fmt::Display for Type<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Scalar(scalar) => f.write_str(scalar.name()),
            Kind::Array { item, len } => write!(f, "[{item}; {len}]"),
            Kind::Str { capacity } => write!(f, "FixedStr<{capacity}>"),
            Kind::Vec { item, capacity } => write!(f, "FixedVec<{item}, {capacity}>"),
            Kind::Struct { name, .. } => write!(f, "struct {name}"),
            Kind::Enum { name, repr, .. } => {
                write!(f, "enum {name}: {}", Scalar::Int(*repr).name())
            }
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    /// A boundary of characters.
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn fail<T>(&self, expected: &'static str) -> Result<T, ParseError> {
        Err(ParseError {
            at: self.at,
            expected,
        })
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &'static str) -> Result<(), ParseError> {
        if self.eat(token) {
            Ok(())
        } else {
            self.fail(match token {
                " }" => "` }`",
                _ => token,
            })
        }
    }

    /// A type in which others are nested at most `depth` deep.
    fn ty(&mut self, depth: usize) -> Result<Type<'a>, ParseError> {
        let begin = self.at;
        let ty = if self.eat("[") {
            self.array(self.inner(depth)?)?
        } else if self.eat("FixedStr<") {
            self.string()?
        } else if self.eat("FixedVec<") {
            self.vector(self.inner(depth)?)?
        } else if self.eat("struct ") {
            self.structure(self.inner(depth)?)?
        } else if self.eat("enum ") {
            self.enumeration()?
        } else {
            let scalar = self.scalar()?;
            Type {
                size: scalar.size(),
                align: scalar.size(),
                kind: Kind::Scalar(scalar),
            }
        };
        if (1..=Schema::MAX_SIZE).contains(&ty.size) && ty.align <= Schema::MAX_ALIGN {
            Ok(ty)
        } else {
            self.at = begin;
            self.fail("a type of 1 to 65536 bytes, aligned to at most 64")
        }
    }

    fn inner(&self, depth: usize) -> Result<usize, ParseError> {
        match depth.checked_sub(1) {
            Some(inner) => Ok(inner),
            None => self.fail("types that are nested less deep"),
        }
    }

    fn scalar(&mut self) -> Result<Scalar, ParseError> {
        match Scalar::ALL
            .into_iter()
            .find(|scalar| self.eat(scalar.name()))
        {
            Some(scalar) => Ok(scalar),
            None => self.fail("a type"),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Type<'a>, ParseError> {
        let item = Box::new(self.ty(depth)?);
        self.expect("; ")?;
        let len = self.count()?;
        self.expect("]")?;
        Ok(Type {
            size: item.size * len,
            align: item.align,
            kind: Kind::Array { item, len },
        })
    }

    fn string(&mut self) -> Result<Type<'a>, ParseError> {
        let capacity = self.count()?;
        self.expect(">")?;
        Ok(Type {
            size: 2 + capacity,
            align: 1,
            kind: Kind::Str { capacity },
        })
    }

    fn vector(&mut self, depth: usize) -> Result<Type<'a>, ParseError> {
        let item = Box::new(self.ty(depth)?);
        self.expect(", ")?;
        let capacity = self.count()?;
        if capacity == 0 {
            return self.fail("a capacity of at least 1 before this");
        }
        self.expect(">")?;
        Ok(Type {
            size: items_offset(item.align) + item.size * capacity,
            align: item.align,
            kind: Kind::Vec { item, capacity },
        })
    }

    fn structure(&mut self, depth: usize) -> Result<Type<'a>, ParseError> {
        let name = self.name()?;
        self.expect(" (size ")?;
        let size = self.count()?;
        self.expect(", align ")?;
        let align = self.count()?;
        if !align.is_power_of_two() || !size.is_multiple_of(align) {
            return self
                .fail("a size that is a multiple of the alignment, a power of two, before this");
        }
        self.expect(") { ")?;
        let mut fields = Vec::new();
        let mut end = 0;
        loop {
            let name = self.name()?;
            self.expect(": ")?;
            let ty = self.ty(depth)?;
            self.expect(" at ")?;
            let offset = self.count()?;
            if offset != end || !offset.is_multiple_of(ty.align) || ty.align > align {
                return self
                    .fail("an offset without a gap and aligned as the field is before this");
            }
            // At most as many terms as the text has bytes, each of them at most 65536.
            end += ty.size;
            fields.push(Field { name, ty, offset });
            if !self.eat(", ") {
                break;
            }
        }
        self.expect(" }")?;
        if end != size {
            return self.fail("fields that fill the struct before this");
        }
        Ok(Type {
            size,
            align,
            kind: Kind::Struct { name, fields },
        })
    }

    fn enumeration(&mut self) -> Result<Type<'a>, ParseError> {
        let name = self.name()?;
        self.expect(": ")?;
        let Scalar::Int(repr) = self.scalar()? else {
            return self.fail("an integer before this");
        };
        self.expect(" { ")?;
        let mut variants = Vec::new();
        loop {
            let name = self.name()?;
            self.expect(" = ")?;
            let value = self.value(repr)?;
            variants.push(Variant { name, value });
            if !self.eat(", ") {
                break;
            }
        }
        self.expect(" }")?;
        Ok(Type {
            size: repr.size,
            align: repr.size,
            kind: Kind::Enum {
                name,
                repr,
                variants,
            },
        })
    }

    fn name(&mut self) -> Result<&'a str, ParseError> {
        let rest = self.rest();
        let len = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
        if !(1..=MAX_NAME).contains(&len) {
            return self.fail("a name of 1 to 128 bytes");
        }
        self.at += len;
        Ok(&rest[..len])
    }

    /// A size, an offset or a count: at most the size of a message.
    fn count(&mut self) -> Result<usize, ParseError> {
        match usize::try_from(self.number()?) {
            Ok(count) if count <= Schema::MAX_SIZE => Ok(count),
            _ => self.fail("a number of at most 65536 before this"),
        }
    }

    /// A discriminant, within the range of its integer.
    fn value(&mut self, repr: Int) -> Result<i128, ParseError> {
        let negative = self.eat("-");
        let magnitude = i128::from(self.number()?);
        let value = if negative { -magnitude } else { magnitude };
        let bits = 8 * repr.size.min(8);
        let range = if repr.signed {
            -(1 << (bits - 1))..1 << (bits - 1)
        } else {
            0..1_i128 << bits
        };
        if range.contains(&value) && !(negative && value == 0) {
            Ok(value)
        } else {
            self.fail("a value of the enum's integer before this")
        }
    }

    fn number(&mut self) -> Result<u64, ParseError> {
        let rest = self.rest();
        let len = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let digits = &rest[..len];
        match digits.parse() {
            Ok(number) if digits == "0" || !digits.starts_with('0') => {
                self.at += len;
                Ok(number)
            }
            _ => self.fail("a number without leading zeros"),
        }
    }
}

/// Whether a name may hold the character: all that identifiers do, and nothing that ends a name, moves the cursor or
/// turns the direction of writing.
fn is_of_name(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_alphanumeric() || c == '_'
    } else {
        !c.is_control()
            && !c.is_whitespace()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The whole text form.
    fn full(ty: &Type<'_>) -> String {
        match &ty.kind {
            Kind::Scalar(_) | Kind::Str { .. } => ty.to_string(),
            Kind::Array { item, len } => format!("[{}; {len}]", full(item)),
            Kind::Vec { item, capacity } => format!("FixedVec<{}, {capacity}>", full(item)),
            Kind::Struct { name, fields } => {
                let fields: Vec<_> = fields
                    .iter()
                    .map(|field| format!("{}: {} at {}", field.name, full(&field.ty), field.offset))
                    .collect();
                let (size, align) = (ty.size, ty.align);
                format!(
                    "struct {name} (size {size}, align {align}) {{ {} }}",
                    fields.join(", ")
                )
            }
            Kind::Enum { variants, .. } => {
                let variants: Vec<_> = variants
                    .iter()
                    .map(|variant| format!("{} = {}", variant.name, variant.value))
                    .collect();
                format!("{ty} {{ {} }}", variants.join(", "))
            }
        }
    }

    fn scalar() -> impl Strategy<Value = Type<'static>> {
        prop::sample::select(&Scalar::ALL[..]).prop_map(|scalar| Type {
            size: scalar.size(),
            align: scalar.size(),
            kind: Kind::Scalar(scalar),
        })
    }

    fn name() -> impl Strategy<Value = &'static str> {
        prop::sample::select(&["a", "_pad", "Größe", "名前", "0", "at", "struct", "क्षेत्र"][..])
    }

    fn enumeration() -> impl Strategy<Value = Type<'static>> {
        let variants = prop::collection::vec((name(), any::<i16>()), 1..4);
        (name(), variants).prop_map(|(name, variants)| Type {
            size: 2,
            align: 2,
            kind: Kind::Enum {
                name,
                repr: Int::new(2, true),
                variants: variants
                    .into_iter()
                    .map(|(name, value)| Variant {
                        name,
                        value: value.into(),
                    })
                    .collect(),
            },
        })
    }

    fn structure(name: &'static str, names: &[&'static str], ty: &Type<'static>) -> Type<'static> {
        let fields: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(i, name)| Field {
                name,
                ty: ty.clone(),
                offset: i * ty.size,
            })
            .collect();
        Type {
            size: fields.len() * ty.size,
            align: ty.align,
            kind: Kind::Struct { name, fields },
        }
    }

    /// Any type without padding; the fields of a struct are all of one type.
    fn ty() -> impl Strategy<Value = Type<'static>> {
        let string = (0..20_usize).prop_map(|capacity| Type {
            size: 2 + capacity,
            align: 1,
            kind: Kind::Str { capacity },
        });
        prop_oneof![scalar(), enumeration(), string].prop_recursive(5, 20, 3, |inner| {
            let inner = || inner.clone().prop_map(Box::new);
            prop_oneof![
                (inner(), 1..4_usize).prop_map(|(item, len)| Type {
                    size: item.size * len,
                    align: item.align,
                    kind: Kind::Array { item, len },
                }),
                (inner(), 1..4_usize)
                    .prop_map(|(item, capacity)| Type {
                        size: items_offset(item.align) + item.size * capacity,
                        align: item.align,
                        kind: Kind::Vec { item, capacity },
                    })
                    .prop_filter("no whole number of elements", |ty| ty
                        .size
                        .is_multiple_of(ty.align)),
                (name(), prop::collection::vec(name(), 1..4), inner())
                    .prop_map(|(name, names, ty)| structure(name, &names, &ty)),
            ]
        })
    }

    fn error(text: &str) -> String {
        Type::parse(text).unwrap_err().to_string()
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(ty in ty()) {
            let text = full(&ty);
            prop_assert_eq!(Type::parse(&text), Ok(ty));
        }

        #[test]
        fn a_changed_text_is_refused_or_says_something_else(
            ty in ty(),
            at in any::<prop::sample::Index>(),
            with in prop_oneof![any::<char>(), prop::sample::select(&[' ', '0', '9', '}', ',', 'u', '-'][..])],
            removed in 0..3_usize,
        ) {
            let text = full(&ty);
            let mut chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            let end = chars.len().min(at + removed);
            chars.splice(at..end, [with]);
            let changed: String = chars.into_iter().collect();
            if let Ok(read) = Type::parse(&changed) {
                prop_assert_eq!(full(&read), changed);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            if let Ok(read) = Type::parse(&text) {
                prop_assert_eq!(full(&read), text);
            }
        }
    }

    #[test]
    fn the_depth_is_bounded() {
        let nested = |depth| format!("{}u8{}", "[".repeat(depth), "; 1]".repeat(depth));
        assert!(Type::parse(&nested(Schema::MAX_DEPTH)).is_ok());
        assert_eq!(
            error(&nested(Schema::MAX_DEPTH + 1)),
            "expected types that are nested less deep at byte 33"
        );
        assert!(error(&"[".repeat(Schema::MAX_TEXT)).contains("nested less deep"));
        assert!(
            error(&"struct a (size 1, align 1) { a: ".repeat(2000)).contains("nested less deep")
        );
    }

    #[test]
    fn the_length_is_bounded() {
        assert_eq!(
            error(&"[".repeat(Schema::MAX_TEXT + 1)),
            "expected a shorter text at byte 0"
        );
    }

    #[test]
    fn numbers_are_bounded_and_have_one_form() {
        for text in [
            "[u8; 65537]",
            "[u16; 65536]",
            "[[u8; 65536]; 65536]",
            "[u8; 18446744073709551616]",
            "[u8; 0]",
            "[u8; 01]",
            "[u8; +1]",
            "[u8; -1]",
            "[u8; ]",
            "FixedStr<65535>",
            "FixedVec<u8, 0>",
            "FixedVec<u8, 65535>",
            "enum E: u8 { A = 256 }",
            "enum E: u8 { A = -1 }",
            "enum E: i8 { A = -129 }",
            "enum E: i8 { A = -0 }",
            "enum E: u64 { A = 18446744073709551616 }",
            "enum E: bool { A = 1 }",
        ] {
            assert!(Type::parse(text).is_err(), "{text}");
        }
        for text in [
            "[u8; 65536]",
            "FixedStr<65534>",
            "FixedVec<u8, 65534>",
            "enum E: i8 { A = -128 }",
            "enum E: u64 { A = 18446744073709551615 }",
            "enum E: i64 { A = -9223372036854775808 }",
        ] {
            assert!(Type::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_layout_that_does_not_fit_together_is_refused() {
        for text in [
            "struct S (size 8, align 4) { a: u32 at 4 }",
            "struct S (size 8, align 4) { a: u32 at 0 }",
            "struct S (size 4, align 4) { a: u32 at 0, b: u32 at 4 }",
            "struct S (size 8, align 4) { a: u32 at 0, b: u32 at 0 }",
            "struct S (size 5, align 1) { a: u32 at 0, b: u8 at 4 }",
            "struct S (size 6, align 4) { a: u32 at 0, b: u16 at 4 }",
            "struct S (size 5, align 4) { a: u8 at 0, b: u32 at 1 }",
            "struct S (size 4, align 0) { a: u32 at 0 }",
            "struct S (size 12, align 3) { a: [u8; 12] at 0 }",
            "struct S (size 128, align 128) { a: [u8; 128] at 0 }",
            "struct S (size 0, align 1) {  }",
        ] {
            assert!(Type::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_hold_nothing_that_upsets_a_terminal() {
        let text = |name: &str| format!("struct {name} (size 1, align 1) {{ a: u8 at 0 }}");
        assert!(Type::parse(&text(&"n".repeat(MAX_NAME))).is_ok());
        for name in [
            "",
            "a b",
            "a\x1b[2J",
            "a\u{9b}2J",
            "a\u{202e}b",
            "a\u{200b}",
            "a\n",
            "a\"",
            &"n".repeat(MAX_NAME + 1),
        ] {
            assert!(Type::parse(&text(name)).is_err(), "{name:?}");
        }
    }
}
