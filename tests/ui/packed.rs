use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(C, packed)]
struct Tick {
    venue: u8,
    price: f64,
}

#[derive(ShmMessage)]
#[repr(C, packed(2))]
struct Half(u8, f64);

fn main() {}
