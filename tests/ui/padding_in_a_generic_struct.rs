use ipc_ring::{Schema, ShmMessage};

#[derive(ShmMessage)]
#[repr(C)]
struct Pair<A, B> {
    left: A,
    right: B,
}

const GOOD: Schema = Pair::<u32, f32>::SCHEMA;
const BAD: Schema = Pair::<u32, f64>::SCHEMA;

fn main() {
    let _ = (GOOD, BAD);
}
