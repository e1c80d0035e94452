use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(C)]
struct Guard {
    handle: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {}
}

fn main() {}
