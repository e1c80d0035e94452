use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
enum Side {
    Buy,
    Sell,
}

#[derive(ShmMessage)]
#[repr(C)]
enum Kind {
    Limit,
    Market,
}

fn main() {}
