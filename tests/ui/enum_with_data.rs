use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(u8)]
enum Event {
    Start,
    Price(f64),
    Trade { price: f64 },
}

fn main() {}
