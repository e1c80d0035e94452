//! Nothing in scope at the derive is taken for what the derive means.
#![allow(dead_code, non_camel_case_types, non_snake_case)]

mod core {}
mod std {}
mod ipc_ring {}

struct Result;
struct Ok;
struct Err;
struct MaybeUninit;
struct Schema;
struct Invalid;
struct u64;
struct i128;

trait ShmMessage {
    const SCHEMA: u8 = 0;
    fn check(&self) {}
}

impl<T> ShmMessage for T {}

#[derive(::ipc_ring::ShmMessage)]
#[repr(C)]
struct Order {
    candidate: f64,
    base: [Side; 7],
    field: bool,
}

impl Order {
    const SCHEMA: () = ();
    fn check() {}
}

#[derive(::ipc_ring::ShmMessage)]
#[repr(u8)]
enum Side {
    SCHEMA,
    found,
    Ok,
    Err,
}

fn main() {
    assert_eq!(<Order as ::ipc_ring::ShmMessage>::SCHEMA.size(), 16);
}
