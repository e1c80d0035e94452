use ipc_ring::ShmMessage;

struct Leg {
    price: f64,
}

#[derive(ShmMessage)]
#[repr(C)]
struct Pair<T> {
    left: T,
    right: T,
}

fn ring<T: ShmMessage>() {}

fn main() {
    ring::<Pair<Leg>>();
}
