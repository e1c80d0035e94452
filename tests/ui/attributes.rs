use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(C)]
#[shm(rename = "Tick")]
struct Unknown(u64);

#[derive(ShmMessage)]
#[repr(C)]
#[shm(name = "Tick", name = "Tock")]
struct Twice(u64);

#[derive(ShmMessage)]
#[repr(C)]
#[shm(name = "a tick")]
struct Spaces(u64);

#[derive(ShmMessage)]
#[repr(C)]
struct Inside {
    #[shm(name = "price")]
    cost: u64,
}

#[derive(ShmMessage)]
#[repr(u8)]
enum Side {
    #[shm(name = "Buy")]
    Bid,
}

fn main() {}
