use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(usize)]
enum Side {
    Buy,
    Sell,
}

#[derive(ShmMessage)]
#[repr(i128)]
enum Wide {
    One,
}

fn main() {}
