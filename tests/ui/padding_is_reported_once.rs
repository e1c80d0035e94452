use ipc_ring::{FixedVec, ShmMessage};

#[derive(ShmMessage)]
#[repr(C)]
struct Leg {
    side: bool,
    price: f32,
}

#[derive(ShmMessage)]
#[repr(C)]
struct Order {
    first: Leg,
    legs: [Leg; 2],
    others: FixedVec<Leg, 4>,
}

fn main() {
    let _ = Order::SCHEMA.fingerprint();
}
