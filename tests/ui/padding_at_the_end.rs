use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(C)]
struct Order {
    price: f64,
    quantity: u32,
}

#[derive(ShmMessage)]
#[repr(C, align(64))]
struct Line {
    price: f64,
    _pad: [u8; 55],
}

fn main() {}
