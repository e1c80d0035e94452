use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(C)]
struct Book {
    bids: Vec<f64>,
    asks: std::vec::Vec<f64>,
    orders: std::collections::HashMap<u64, u64>,
}

fn main() {}
