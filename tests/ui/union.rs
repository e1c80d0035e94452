use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(C)]
union Number {
    integer: u64,
    float: f64,
}

fn main() {}
