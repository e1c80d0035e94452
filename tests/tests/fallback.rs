//! What a ring says that stands in for another kind where there are no atomics of 64 bits, and to whom.

use ipc_ring_tests::{RingName, says};
use std::fs;

/// Where the header says the kind.
const KIND: usize = 16;
const LOCKED: u32 = 4;

fn kind(name: &RingName) -> u32 {
    let bytes = fs::read(name.path()).unwrap();
    u32::from_ne_bytes(*bytes[KIND..].first_chunk().unwrap())
}

#[test]
fn spsc_and_mpsc_are_locked_rings_and_say_so() {
    let (one, several) = (RingName::of("one"), RingName::of("several"));
    let _one = ipc_ring_fallback::spsc::<u64>(&one)
        .capacity(4)
        .sender()
        .unwrap();
    let _several = ipc_ring_fallback::mpsc::<u64>(&several)
        .capacity(4)
        .sender()
        .unwrap();
    assert_eq!((kind(&one), kind(&several)), (LOCKED, LOCKED));
    // A program that was built otherwise hears of it.
    says(
        ipc_ring::spsc::<u64>(&one).receiver().unwrap_err(),
        &["kind spsc here, locked in the segment"],
    );
    says(
        ipc_ring::mpsc::<u64>(&several).receiver().unwrap_err(),
        &["kind mpsc here, locked in the segment"],
    );
}

#[test]
fn a_locked_ring_is_for_both_builds() {
    let name = RingName::of("both_builds");
    let mut tx = ipc_ring_fallback::locked::<u64>(&name)
        .capacity(4)
        .sender()
        .unwrap();
    tx.send(7).unwrap();
    let mut rx = ipc_ring::locked::<u64>(&name).receiver().unwrap();
    assert_eq!(rx.recv(), Ok(7));
}
