use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(C)]
struct Person {
    name: String,
    home: std::path::PathBuf,
}

fn main() {}
