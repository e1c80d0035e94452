use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
struct Tick {
    price: f64,
}

#[derive(ShmMessage)]
#[repr(align(16))]
struct Aligned([u64; 2]);

fn main() {}
