#![no_implicit_prelude]

#[derive(::ipc_ring::ShmMessage)]
#[repr(C)]
struct Order<T> {
    price: T,
    side: [Side; 4],
    live: [bool; 4],
}

#[derive(::ipc_ring::ShmMessage)]
#[repr(u8)]
enum Side {
    Buy,
    Sell,
}

fn main() {
    let _ = (Side::Buy, Side::Sell);
    ::std::assert_eq!(
        <Order<f64> as ::ipc_ring::ShmMessage>::SCHEMA.fingerprint(),
        <Order<f64> as ::ipc_ring::ShmMessage>::SCHEMA.fingerprint(),
    );
}
