//! What to tell somebody whose messages are laid out differently from those in the segment.

use std::fmt::Display;

use super::Schema;
use super::text::{Kind, Type};

/// The first difference between our layout and the one that a text describes, with both views; `None` if there is
/// none.
///
/// The text comes from a segment and may be anything. It is compared in its order: the name of the type, then field
/// by field, into each field's type before the next one.
pub(crate) fn first_difference(here: &Schema, there: &str) -> Option<String> {
    let here = here.to_string();
    if here == there {
        return None;
    }
    // Our own text is read as the other one is, so that both are put into words by the same code.
    let difference = match (Type::parse(&here), Type::parse(there)) {
        (Ok(here), Ok(there)) if here.to_string() != there.to_string() => {
            Some(both("the message", Some(here), Some(there)))
        }
        (Ok(here), Ok(there)) => below("", &here, &there),
        (_, Err(error)) => Some(format!(
            "the description in the segment can't be read: {error}"
        )),
        (Err(_), _) => None,
    };
    Some(difference.unwrap_or_else(|| both("the message", Some(here.as_str()), Some(there))))
}

/// The first difference inside of two types that look the same from outside.
fn below(path: &str, here: &Type<'_>, there: &Type<'_>) -> Option<String> {
    match (&here.kind, &there.kind) {
        (
            Kind::Array { item: a, .. } | Kind::Vec { item: a, .. },
            Kind::Array { item: b, .. } | Kind::Vec { item: b, .. },
        ) => below(&format!("{path}[]"), a, b),
        (Kind::Struct { name, fields: a }, Kind::Struct { fields: b, .. }) => {
            let (place, prefix) = if path.is_empty() {
                (String::new(), String::new())
            } else {
                (format!(" of struct {name}"), format!("{path}."))
            };
            for i in 0..a.len().max(b.len()) {
                let [a, b] = [a.get(i), b.get(i)];
                let [shown_a, shown_b] = [a, b].map(|field| {
                    field.map(|field| {
                        format!("{prefix}{}: {} at {}", field.name, field.ty, field.offset)
                    })
                });
                if shown_a != shown_b {
                    return Some(both(&format!("field #{}{place}", i + 1), shown_a, shown_b));
                }
                if let (Some(a), Some(b)) = (a, b)
                    && let Some(difference) = below(&format!("{prefix}{}", a.name), &a.ty, &b.ty)
                {
                    return Some(difference);
                }
            }
            let [shown_a, shown_b] =
                [here, there].map(|ty| Some(format!("size {}, align {}", ty.size, ty.align)));
            (shown_a != shown_b).then(|| both(&format!("struct {name}"), shown_a, shown_b))
        }
        (
            Kind::Enum {
                name, variants: a, ..
            },
            Kind::Enum { variants: b, .. },
        ) => {
            let place = if path.is_empty() {
                format!(" of enum {name}")
            } else {
                format!(" of {path}")
            };
            (0..a.len().max(b.len())).find_map(|i| {
                let [shown_a, shown_b] = [a.get(i), b.get(i)].map(|variant| {
                    variant.map(|variant| format!("{} = {}", variant.name, variant.value))
                });
                (shown_a != shown_b)
                    .then(|| both(&format!("variant #{}{place}", i + 1), shown_a, shown_b))
            })
        }
        _ => None,
    }
}

fn both(place: &str, here: Option<impl Display>, there: Option<impl Display>) -> String {
    let [here, there] = [
        here.map(|here| format!("\"{here}\"")),
        there.map(|there| format!("\"{there}\"")),
    ]
    .map(|shown| shown.unwrap_or_else(|| "nothing".to_owned()));
    format!("{place}: {here} here, {there} in the segment")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{FixedVec, ShmMessage};

    #[derive(crate::ShmMessage)]
    #[repr(C)]
    struct Order {
        time: u64,
        price: f64,
        legs: [Leg; 2],
        others: FixedVec<Leg, 1>,
        sides: [Side; 4],
    }

    #[derive(crate::ShmMessage)]
    #[repr(C)]
    struct Leg {
        price: f32,
        count: u32,
    }

    #[derive(crate::ShmMessage)]
    #[repr(u8)]
    enum Side {
        Buy = 1,
        Sell = 2,
    }

    /// What is said when the text in the segment differs from ours by the replacements.
    fn difference(replacements: &[(&str, &str)]) -> String {
        let here = Order::SCHEMA.to_string();
        let there = replacements.iter().fold(here.clone(), |text, (from, to)| {
            assert!(text.contains(from), "no {from:?} in {text}");
            text.replacen(from, to, 1)
        });
        first_difference(&Order::SCHEMA, &there).expect("they differ")
    }

    #[test]
    fn equal_layouts_do_not_differ() {
        assert_eq!(
            first_difference(&Order::SCHEMA, &Order::SCHEMA.to_string()),
            None
        );
    }

    #[test]
    fn a_field_is_named_with_both_views() {
        assert_eq!(
            difference(&[("price: f64 at 8", "price: i64 at 8")]),
            r#"field #2: "price: f64 at 8" here, "price: i64 at 8" in the segment"#
        );
        assert_eq!(
            difference(&[("time: u64", "clock: u64")]),
            r#"field #1: "time: u64 at 0" here, "clock: u64 at 0" in the segment"#
        );
        assert_eq!(
            difference(&[(
                "time: u64 at 0, price: f64 at 8",
                "price: f64 at 0, time: u64 at 8"
            )]),
            r#"field #1: "time: u64 at 0" here, "price: f64 at 0" in the segment"#
        );
    }

    #[test]
    fn a_field_of_a_nested_struct_is_named_by_its_path() {
        assert_eq!(
            difference(&[("price: f32 at 0", "price: u32 at 0")]),
            r#"field #1 of struct Leg: "legs[].price: f32 at 0" here, "legs[].price: u32 at 0" in the segment"#
        );
        // The types of the fields come before their sizes, which follow from them.
        assert_eq!(
            difference(&[
                (
                    "(size 8, align 4) { price: f32 at 0, count: u32 at 4 }",
                    "(size 4, align 4) { price: f32 at 0 }"
                ),
                ("(size 48, align 8)", "(size 40, align 8)"),
                ("at 32", "at 24"),
                ("at 44", "at 36"),
            ]),
            r#"field #2 of struct Leg: "legs[].count: u32 at 4" here, nothing in the segment"#
        );
    }

    #[test]
    fn a_field_that_one_side_lacks_is_named() {
        assert_eq!(
            difference(&[
                ("(size 48,", "(size 56,"),
                (" at 44 }", " at 44, flags: u64 at 48 }")
            ]),
            r#"field #6: nothing here, "flags: u64 at 48" in the segment"#
        );
        assert_eq!(
            first_difference(
                &Leg::SCHEMA,
                "struct Leg (size 4, align 4) { price: f32 at 0 }"
            )
            .unwrap(),
            r#"field #2: "count: u32 at 4" here, nothing in the segment"#
        );
    }

    #[test]
    fn types_variants_and_alignment_are_named() {
        assert_eq!(
            difference(&[("struct Order", "struct Trade")]),
            r#"the message: "struct Order" here, "struct Trade" in the segment"#
        );
        assert_eq!(
            difference(&[("Sell = 2", "Sell = 3")]),
            r#"variant #2 of sides[]: "Sell = 2" here, "Sell = 3" in the segment"#
        );
        assert_eq!(
            first_difference(&Side::SCHEMA, "enum Side: u8 { Buy = 1 }").unwrap(),
            r#"variant #2 of enum Side: "Sell = 2" here, nothing in the segment"#
        );
        assert_eq!(
            difference(&[("(size 48, align 8)", "(size 48, align 16)")]),
            r#"struct Order: "size 48, align 8" here, "size 48, align 16" in the segment"#
        );
        assert_eq!(
            first_difference(&<[u32; 2]>::SCHEMA, "[u32; 3]").unwrap(),
            r#"the message: "[u32; 2]" here, "[u32; 3]" in the segment"#
        );
    }

    #[test]
    fn a_text_that_is_no_description_is_said_to_be_none() {
        assert_eq!(
            first_difference(&<u32>::SCHEMA, "\x1b[2J").unwrap(),
            "the description in the segment can't be read: expected a type at byte 0"
        );
    }
}
