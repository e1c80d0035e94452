use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(C)]
struct Order {
    quantity: u32,
    price: f64,
    venue: u32,
}

#[derive(ShmMessage)]
#[repr(C)]
struct Short {
    quantity: u32,
    price: f64,
}

fn main() {}
