use ipc_ring::{Invalid, Schema, ShmMessage};
use std::mem::MaybeUninit;

struct Text(String);

impl ShmMessage for Text {
    const SCHEMA: Schema = <[u64; 3]>::SCHEMA;

    unsafe fn check(_: &MaybeUninit<Self>) -> Result<(), Invalid> {
        Ok(())
    }
}

fn main() {}
