//! A crate that reaches ipc-ring through another one's re-export says so.

mod facade {
    pub mod messages {
        pub use ipc_ring::*;
    }
}

mod ipc_ring_is_elsewhere {
    use crate::facade::messages::ShmMessage;

    #[derive(ShmMessage)]
    #[repr(C)]
    #[shm(crate = "crate::facade::messages", name = "Tick")]
    pub struct Tock {
        pub price: f64,
    }
}

fn main() {
    use ipc_ring::ShmMessage as _;

    assert_eq!(ipc_ring_is_elsewhere::Tock::SCHEMA.name(), "Tick");
}
