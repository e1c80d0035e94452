use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(C, align(128))]
struct Line([u8; 128]);

fn main() {}
