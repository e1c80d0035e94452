use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
enum Never {}

fn main() {}
