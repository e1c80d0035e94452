//! A crate that has given ipc-ring another name in its `Cargo.toml`, and has no prelude either: what the derive
//! emits compiles all the same, without being told.

#![no_implicit_prelude]

use ::ring_of_messages::{FixedStr, FixedVec, ShmMessage};

/// A message with something of each kind.
#[derive(ShmMessage)]
#[repr(C)]
pub struct Order<T> {
    /// A field whose type is a parameter.
    pub price: T,
    /// A list.
    pub sides: FixedVec<Side, 4>,
    /// Text.
    pub r#type: FixedStr<6>,
    /// A bit.
    pub live: [bool; 2],
}

/// A message that is an integer.
#[derive(ShmMessage)]
#[repr(u8)]
pub enum Side {
    /// Gives money.
    Buy = 1,
    /// Takes money.
    Sell = 2,
}

#[cfg(test)]
mod tests {
    use ::ring_of_messages::ShmMessage as _;
    use ::std::string::ToString as _;

    #[test]
    fn the_schema_is_the_one_that_the_crate_has_under_its_own_name() {
        ::std::assert_eq!(
            super::Order::<u64>::SCHEMA.to_string(),
            "struct Order (size 24, align 8) { price: u64 at 0, sides: FixedVec<enum Side: u8 { Buy = 1, Sell = 2 }, 4> \
             at 8, type: FixedStr<6> at 14, live: [bool; 2] at 22 }",
        );
    }
}
