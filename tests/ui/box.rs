use ipc_ring::ShmMessage;
use std::rc::Rc;

#[derive(ShmMessage)]
#[repr(C)]
struct Tree {
    left: Box<u64>,
    right: Rc<u64>,
}

fn main() {}
