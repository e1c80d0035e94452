use ipc_ring::ShmMessage;
use std::cell::Cell;
use std::marker::PhantomData;
use std::time::Duration;

#[derive(ShmMessage)]
#[repr(C)]
struct Odd {
    pair: (u32, u32),
    unit: (),
    callback: fn(u32) -> u32,
    option: Option<u32>,
    cell: Cell<u32>,
    timeout: Duration,
    marker: PhantomData<u32>,
}

#[derive(ShmMessage)]
#[repr(C)]
struct Slice {
    length: u64,
    items: [u64],
}

#[derive(ShmMessage)]
#[repr(C)]
struct Dyn {
    length: u64,
    item: dyn Send,
}

fn main() {}
