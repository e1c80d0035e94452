use ipc_ring::{FixedVec, ShmMessage};

#[derive(ShmMessage)]
#[repr(C)]
struct Counts {
    total: usize,
    change: isize,
    array: [usize; 4],
    list: FixedVec<usize, 4>,
}

fn main() {}
