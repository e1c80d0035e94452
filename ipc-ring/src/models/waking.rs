//! Sleeping against waking. A wake that is lost is a deadlock here, since a model's sleep has no slices.

use super::check;
use crate::ring::spsc::{Consumer, Producer};
use crate::ring::{Consume, Produce, TypedSlots};
use crate::segment::heap::Heap;
use crate::segment::heap::traffic::{try_recv, try_send};
use crate::sync::Fault;
use crate::wait::{ALL, SLICE, Sleeper, Waker};
use loom::sync::Arc;
use loom::thread;

/// Receives `expected` in order, asleep between them.
fn receive(
    heap: &Heap<u64>,
    mut consumer: Consumer<TypedSlots<u64>>,
    expected: impl IntoIterator<Item = u64>,
) {
    let mut sleeper = Sleeper::new(0, None);
    let mut waker = Waker::by_futex();
    for expected in expected {
        let value = loop {
            if let Some(value) = try_recv(&mut consumer, *heap.ring().slots()) {
                break value;
            }
            sleeper.sleep(&mut consumer, SLICE, |consumer| consumer.slot().is_some());
        };
        sleeper.wake_up(&mut consumer);
        waker.notify(consumer.call(), ALL);
        assert_eq!(value, expected);
    }
}

/// Sends `values`, asleep while there is no room.
fn send(
    heap: &Heap<u64>,
    mut producer: Producer<TypedSlots<u64>>,
    values: impl IntoIterator<Item = u64>,
) {
    let mut sleeper = Sleeper::new(0, None);
    let mut waker = Waker::by_futex();
    for value in values {
        while !try_send(&mut producer, *heap.ring().slots(), value) {
            sleeper.sleep(&mut producer, SLICE, |producer| producer.has_room());
        }
        sleeper.wake_up(&mut producer);
        waker.notify(producer.call(), ALL);
    }
}

#[test]
fn a_receiver_that_goes_to_sleep_is_woken_by_the_next_message() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(2, 0));
        let (producer, consumer) = (
            Producer::take_over(heap.ring()),
            Consumer::take_over(heap.ring()),
        );
        let sender = thread::spawn({
            let heap = heap.clone();
            move || send(&heap, producer, 0..2)
        });
        receive(&heap, consumer, 0..2);
        sender.join().unwrap();
    };
    check(
        model,
        &[
            Fault::NoLightBarrier,
            Fault::NoHeavyBarrier,
            Fault::NoSecondLook,
            Fault::NoWake,
            Fault::NumberReused,
            Fault::StayArmed,
        ],
    );
}

#[test]
fn a_sender_that_goes_to_sleep_is_woken_by_room() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(1, 0));
        let (producer, consumer) = (
            Producer::take_over(heap.ring()),
            Consumer::take_over(heap.ring()),
        );
        let sender = thread::spawn({
            let heap = heap.clone();
            move || send(&heap, producer, 0..2)
        });
        receive(&heap, consumer, 0..2);
        sender.join().unwrap();
    };
    check(
        model,
        &[
            Fault::NoLightBarrier,
            Fault::NoHeavyBarrier,
            Fault::NoSecondLook,
            Fault::NoWake,
        ],
    );
}

/// A sender dies between publishing and waking; its successor's message wakes the receiver, which gets both.
#[test]
fn a_wake_that_a_killed_sender_owed_is_paid_by_its_successor() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(2, 0));
        let mut killed = Producer::take_over(heap.ring());
        let consumer = Consumer::take_over(heap.ring());
        let senders = thread::spawn({
            let heap = heap.clone();
            move || {
                assert!(try_send(&mut killed, *heap.ring().slots(), 0));
                let successor = Producer::take_over(heap.ring());
                thread::yield_now();
                send(&heap, successor, 1..2);
            }
        });
        receive(&heap, consumer, 0..2);
        senders.join().unwrap();
    };
    check(model, &[Fault::NoLightBarrier, Fault::NoWake]);
}
