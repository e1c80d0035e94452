use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(C)]
struct Unit;

#[derive(ShmMessage)]
#[repr(C)]
struct Empty {}

#[derive(ShmMessage)]
#[repr(C)]
struct Tuple();

#[derive(ShmMessage)]
#[repr(C)]
struct Nothing {
    nothing: [u8; 0],
}

fn main() {}
