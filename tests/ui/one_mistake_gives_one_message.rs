use ipc_ring::{FixedVec, ShmMessage};

#[derive(ShmMessage)]
#[repr(C)]
struct Leg {
    next: *const u8,
}

#[derive(ShmMessage)]
#[repr(C)]
struct Order {
    first: Leg,
    legs: FixedVec<Leg, 4>,
}

fn send<T: ShmMessage>(_: T) -> u64 {
    const { T::SCHEMA.fingerprint() }
}

fn use_it(leg: Leg, order: Order) {
    send(leg);
    send(order);
}

fn main() {}
