//! Rings that nobody uses.

use ipc_ring::spsc;

/// Makes a ring with so many messages, numbered from 0, that nobody uses.
///
/// # Panics
///
/// If it can't be made, or has no room for them.
pub fn idle(ring: &str, capacity: usize, messages: u64) {
    let mut tx = spsc::<u64>(ring).capacity(capacity).sender().unwrap();
    for number in 0..messages {
        tx.send(number).unwrap();
    }
}
