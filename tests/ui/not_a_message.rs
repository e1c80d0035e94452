use ipc_ring::ShmMessage;
use std::net::Ipv4Addr;

struct Leg {
    price: f64,
}

#[derive(ShmMessage)]
#[repr(C)]
struct Order {
    leg: Leg,
    from: Ipv4Addr,
}

fn main() {}
