use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(C)]
struct Quote {
    symbol: &'static str,
    levels: &'static [f64],
    last: &'static f64,
}

fn main() {}
