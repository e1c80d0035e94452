//! Messages arrive whole, once and in order: with wrap, full and empty.

use super::check;
use crate::ring::spsc::{Consumer, Producer};
use crate::ring::{Consume, Produce, Ring, Slots, TypedSlots};
use crate::segment::heap::Heap;
use crate::segment::heap::traffic::{fill, try_recv, try_send};
use crate::sync::Fault;
use loom::sync::Arc;
use loom::thread;

const FAULTS: [Fault; 6] = [
    Fault::PublishRelaxed,
    Fault::StampRelaxed,
    Fault::ReleaseRelaxed,
    Fault::HeadRelaxed,
    Fault::PublishEarly,
    Fault::ReleaseEarly,
];

/// Sends 0, 1, 2… through the ring that `view` makes of a heap, and receives them.
fn exchange<S: Slots + Send + 'static>(
    capacity: u64,
    messages: u64,
    origin: u64,
    view: fn(&Heap<u64>) -> Ring<S>,
) {
    let heap = Arc::new(Heap::<u64>::new(capacity, origin));
    let mut producer = Producer::take_over(view(&heap));
    let mut consumer = Consumer::take_over(view(&heap));
    let typed = *heap.ring().slots();
    let sender = thread::spawn(move || {
        for value in 0..messages {
            while !try_send(&mut producer, typed, value) {
                thread::yield_now();
            }
        }
    });
    receive(&mut consumer, typed, 0..messages);
    sender.join().unwrap();
}

/// Receives exactly `expected`.
fn receive(
    consumer: &mut Consumer<impl Slots>,
    typed: TypedSlots<u64>,
    expected: impl IntoIterator<Item = u64>,
) {
    for expected in expected {
        let value = loop {
            match try_recv(consumer, typed) {
                Some(value) => break value,
                None => thread::yield_now(),
            }
        };
        assert_eq!(value, expected);
    }
    assert!(consumer.slot().is_none());
}

#[test]
fn messages_arrive_whole_once_and_in_order_with_one_slot() {
    check(|| exchange(1, 3, 0, Heap::ring), &FAULTS);
}

#[test]
fn messages_arrive_whole_once_and_in_order_across_the_wrap() {
    check(|| exchange(2, 4, u64::MAX - 1, Heap::ring), &FAULTS);
}

#[test]
fn the_untyped_view_runs_the_same_protocol() {
    check(|| exchange(2, 3, u64::MAX, Heap::untyped_ring), &FAULTS);
}

#[test]
fn a_forgotten_reservation_is_never_seen() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(2, 0));
        let mut producer = Producer::take_over(heap.ring());
        let mut consumer = Consumer::take_over(heap.ring());
        let typed = *heap.ring().slots();
        let sender = thread::spawn(move || {
            for value in [1, 2] {
                let index = producer.slot().unwrap();
                // Written, and neither published nor given back.
                fill(typed, index, 99);
                assert_eq!(producer.slot(), Some(index));
                assert!(try_send(&mut producer, typed, value));
            }
        });
        receive(&mut consumer, typed, [1, 2]);
        sender.join().unwrap();
    };
    check(model, &[Fault::PublishEarly, Fault::PublishRelaxed]);
}
