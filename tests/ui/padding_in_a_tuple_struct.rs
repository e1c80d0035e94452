use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(C)]
struct Pair(u8, u16);

fn main() {}
