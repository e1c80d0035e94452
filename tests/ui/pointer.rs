use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(C)]
struct Node {
    next: *const Node,
    value: *mut u8,
}

fn main() {}
