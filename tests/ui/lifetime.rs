use ipc_ring::ShmMessage;

#[derive(ShmMessage)]
#[repr(C)]
struct View<'a> {
    text: &'a str,
}

fn main() {}
