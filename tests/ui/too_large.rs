use ipc_ring::{FixedStr, ShmMessage};

#[derive(ShmMessage)]
#[repr(C)]
struct Frame {
    number: u64,
    pixels: [u64; 8192],
}

#[derive(ShmMessage)]
#[repr(C)]
struct Page {
    text: FixedStr<65535>,
}

fn main() {}
