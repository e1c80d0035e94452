//! The library as a user meets it: two programs, a message in common, and the shortest way between them.

use ipc_ring::{FixedStr, ShmMessage};
use ipc_ring_tests::{Parent, stage};

/// The message that both programs share.
#[derive(ShmMessage, Clone, PartialEq, Debug)]
#[repr(C)]
struct Tick {
    price: f64,
    quantity: u32,
    side: Side,
    symbol: FixedStr<9>,
}

#[derive(ShmMessage, Clone, Copy, PartialEq, Debug)]
#[repr(u8)]
enum Side {
    Buy = 1,
    Sell = 2,
}

fn tick(number: u32) -> Tick {
    Tick {
        price: f64::from(number) / 4.0,
        quantity: number,
        side: if number.is_multiple_of(2) {
            Side::Buy
        } else {
            Side::Sell
        },
        symbol: FixedStr::try_from("ACME").unwrap(),
    }
}

/// The first program. Arguments: ring.
fn sender(parent: &mut Parent) {
    let mut tx = ipc_ring::spsc::<Tick>(parent.argument(0))
        .capacity(4096)
        .sender()
        .unwrap();
    for number in 0..10_000 {
        tx.send(tick(number)).unwrap();
    }
}

/// The second program.
fn receiver(parent: &mut Parent) {
    let mut rx = ipc_ring::spsc::<Tick>(parent.argument(0))
        .receiver()
        .unwrap();
    let mut expected = 0;
    for received in &mut rx {
        assert_eq!(received, tick(expected));
        expected += 1;
    }
    assert_eq!(expected, 10_000);
}

#[test]
fn two_programs_exchange_derived_messages_whichever_starts_first() {
    let stage = stage!(sender, receiver);
    for order in [["sender", "receiver"], ["receiver", "sender"]] {
        let ring = stage.ring();
        for child in order.map(|role| stage.start(role, &[&ring])) {
            child.finish();
        }
    }
}
