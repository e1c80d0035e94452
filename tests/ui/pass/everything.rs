#![deny(warnings, unused_qualifications, unsafe_op_in_unsafe_fn)]
#![forbid(unsafe_code)]

use ipc_ring::{FixedStr, FixedVec, ShmMessage};
use std::num::NonZero;

#[derive(Clone, Copy, Debug, PartialEq, ShmMessage)]
#[repr(C)]
struct Named {
    price: f64,
    id: NonZero<u64>,
    r#type: Kind,
    parent: Option<NonZero<u32>>,
    letter: char,
    legs: FixedVec<Leg, 2>,
    wide: [u16; 3],
    live: bool,
    side: Side,
    symbol: FixedStr<2>,
}

#[derive(Clone, Copy, Debug, PartialEq, ShmMessage)]
#[repr(C)]
struct Leg(f32, i8, [u8; 3]);

#[derive(Clone, Copy, Debug, PartialEq, ShmMessage)]
#[repr(u8)]
enum Side {
    Buy = b'B',
    Sell = b'S',
}

#[derive(Clone, Copy, Debug, PartialEq, ShmMessage)]
#[repr(i64)]
enum Kind {
    Low = i64::MIN,
    r#Mid,
    High = i64::MAX,
}

#[derive(ShmMessage)]
#[repr(C)]
struct Generic<T: Copy, U, const N: usize>
where
    U: Default,
{
    left: [T; N],
    right: [U; N],
    both: FixedVec<Pair<T, U>, N>,
}

#[derive(ShmMessage)]
#[repr(C)]
struct Pair<T, U = T> {
    left: T,
    right: U,
}

#[derive(ShmMessage)]
#[repr(transparent)]
#[shm(name = "Nanoseconds")]
struct Time {
    since: u64,
}

#[derive(ShmMessage)]
#[repr(C, align(64))]
struct Line {
    head: u64,
    _pad: [u8; 56],
}

macro_rules! message {
    ($name:ident { $($field:ident: $ty:ty),* $(,)? }) => {
        #[derive(ShmMessage)]
        #[repr(C)]
        struct $name {
            $($field: $ty),*
        }
    };
}

message!(FromMacro {
    a: [Option<NonZero<u8>>; 4],
    b: Pair<u8>,
});

fn text<T: ShmMessage>() -> String {
    const { T::SCHEMA }.to_string()
}

fn main() {
    assert_eq!(
        text::<Leg>(),
        "struct Leg (size 8, align 4) { 0: f32 at 0, 1: i8 at 4, 2: [u8; 3] at 5 }"
    );
    assert_eq!(
        text::<Kind>(),
        "enum Kind: i64 { Low = -9223372036854775808, Mid = -9223372036854775807, High = 9223372036854775807 }"
    );
    assert_eq!(
        text::<Generic<u8, i8, 2>>(),
        "struct Generic (size 10, align 1) { left: [u8; 2] at 0, right: [i8; 2] at 2, both: FixedVec<struct Pair (size \
         2, align 1) { left: u8 at 0, right: i8 at 1 }, 2> at 4 }"
    );
    assert_eq!(
        text::<Time>(),
        "struct Nanoseconds (size 8, align 8) { since: u64 at 0 }"
    );
    assert_eq!(
        text::<Line>(),
        "struct Line (size 64, align 64) { head: u64 at 0, _pad: [u8; 56] at 8 }"
    );
    assert_eq!(
        text::<FromMacro>(),
        "struct FromMacro (size 6, align 1) { a: [Option<NonZero<u8>>; 4] at 0, b: struct Pair (size 2, align 1) { left: \
         u8 at 0, right: u8 at 1 } at 4 }"
    );
    let text = text::<Named>();
    assert!(text.contains("type: enum Kind: i64"), "{text}");
}
