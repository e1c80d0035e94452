//! The queue under a mutex. Nobody dies with the mutex held here: that is what the tests of the ring are for.

use super::{check, check_within};
use crate::ring::locked::{Consumer, Producer, sweep};
use crate::ring::{Consume, End, Look, Produce, TypedSlots};
use crate::segment::heap::HeapLocked;
use crate::segment::heap::traffic::{fill, read, try_recv, try_send};
use crate::sync::{AtomicU64, Fault, Ordering};
use crate::wait::{SLICE, Sleeper, Waker};
use loom::sync::Arc;
use loom::thread;
use std::iter;

type Sender = Producer<TypedSlots<u64>>;
type Receiver = Consumer<TypedSlots<u64>>;

const SENDERS: u32 = 3;

fn queue(capacity: u64) -> Arc<HeapLocked<u64>> {
    Arc::new(HeapLocked::new(capacity, 0, SENDERS))
}

fn receive_all(heap: &HeapLocked<u64>, receiver: &mut Receiver) -> Vec<u64> {
    iter::from_fn(|| try_recv(receiver, heap.slots())).collect()
}

#[test]
fn each_message_goes_to_one_receiver_once() {
    let model = || {
        let heap = queue(2);
        let (mut one, mut two) = (heap.producer(0), heap.producer(1));
        let (mut first, mut second) = (heap.consumer(SENDERS), heap.consumer(SENDERS + 1));
        let sender = thread::spawn({
            let heap = heap.clone();
            move || assert!(try_send(&mut one, heap.slots(), 10))
        });
        let receiver = thread::spawn({
            let heap = heap.clone();
            move || try_recv(&mut first, heap.slots())
        });
        assert!(try_send(&mut two, heap.slots(), 20));
        let mut received = receive_all(&heap, &mut second);
        sender.join().unwrap();
        received.extend(receiver.join().unwrap());
        received.extend(receive_all(&heap, &mut second));
        received.sort_unstable();
        assert_eq!(received, [10, 20]);
    };
    check_within(
        2,
        model,
        &[Fault::MutexNotLocked, Fault::PublishEarly, Fault::NotQueued],
    );
}

/// Who looks past the dead goes on with what others have handed on, before they do.
#[test]
fn what_is_handed_on_was_written_and_read_before() {
    let filled = || {
        let heap = queue(1);
        let (mut producer, mut consumer) = (heap.producer(0), heap.consumer(SENDERS));
        let sender = thread::spawn({
            let heap = heap.clone();
            move || assert!(try_send(&mut producer, heap.slots(), 10))
        });
        while consumer.look(|_| false) != Look::Ready {
            thread::yield_now();
        }
        assert_eq!(try_recv(&mut consumer, heap.slots()), Some(10));
        sender.join().unwrap();
    };
    check(filled, &[Fault::HandedOnRelaxed, Fault::PublishEarly]);
    let finished = || {
        let heap = queue(1);
        let (mut producer, mut consumer) = (heap.producer(0), heap.consumer(SENDERS));
        assert!(try_send(&mut producer, heap.slots(), 10));
        let receiver = thread::spawn({
            let heap = heap.clone();
            move || {
                assert_eq!(try_recv(&mut consumer, heap.slots()), Some(10));
                consumer
            }
        });
        while producer.look(|_| false) != Look::Ready {
            thread::yield_now();
        }
        assert!(try_send(&mut producer, heap.slots(), 20));
        let mut consumer = receiver.join().unwrap();
        assert_eq!(try_recv(&mut consumer, heap.slots()), Some(20));
    };
    check(finished, &[Fault::HandedOnRelaxed, Fault::ReleaseEarly]);
}

#[test]
fn what_the_dead_had_borrowed_goes_to_one_of_those_who_look() {
    let model = || {
        let heap = queue(2);
        let mut producer = heap.producer(0);
        let mut dead = heap.consumer(SENDERS + 2);
        assert!(try_send(&mut producer, heap.slots(), 10));
        assert!(dead.slot().is_some());
        let receivers = [SENDERS, SENDERS + 1].map(|owner| {
            let (heap, mut consumer) = (heap.clone(), heap.consumer(owner));
            thread::spawn(move || match consumer.look(|owner| owner == SENDERS + 2) {
                Look::Ready => try_recv(&mut consumer, heap.slots()),
                _ => None,
            })
        });
        let received = receivers.map(|receiver| receiver.join().unwrap());
        assert_eq!(received.iter().flatten().count(), 1);
    };
    check(model, &[Fault::MutexNotLocked]);
}

/// A sender has died with the only slot. One that waits for room finds that out, while another one comes in the dead one's place.
#[test]
fn a_newcomer_is_not_taken_for_the_dead_one_whose_place_it_has() {
    let model = || {
        let heap = queue(1);
        let (dead, mut waiting) = (2, heap.producer(0));
        assert!(heap.producer(dead).slot().is_some());
        let is_alive = Arc::new(AtomicU64::new(0));
        let newcomer = thread::spawn({
            let (heap, is_alive) = (heap.clone(), is_alive.clone());
            move || {
                // The lock of its byte; the kernel orders it.
                is_alive.store(1, Ordering::SeqCst);
                sweep(&heap.locked(), dead);
                let mut producer = heap.producer(dead);
                match producer.slot() {
                    // It takes its time to write the message.
                    Some(slot) => {
                        fill(heap.slots(), slot, 20);
                        producer.publish();
                        true
                    }
                    None => false,
                }
            }
        });
        let look = waiting.look(|owner| owner == dead && is_alive.load(Ordering::SeqCst) == 0);
        let sent = look == Look::Ready && try_send(&mut waiting, heap.slots(), 10);
        let newcomer_sent = newcomer.join().unwrap();
        assert!(sent || newcomer_sent, "the slot is lost");
        let mut consumer = heap.consumer(SENDERS);
        let slot = consumer.slot().unwrap();
        assert_eq!(read(heap.slots(), slot), if sent { 10 } else { 20 });
        assert!(!(sent && newcomer_sent), "one slot for two");
    };
    check(model, &[Fault::AskedUnlocked, Fault::NoSweep]);
}

/// Receives a message, asleep while there is none.
fn receive(heap: &HeapLocked<u64>, consumer: &mut Receiver) -> u64 {
    let mut sleeper = Sleeper::new(0, None);
    loop {
        if let Some(message) = try_recv(consumer, heap.slots()) {
            sleeper.wake_up(consumer);
            return message;
        }
        sleeper.sleep(consumer, SLICE, |consumer| consumer.slot().is_some());
    }
}

#[test]
fn each_message_wakes_one_of_the_receivers_that_sleep() {
    let model = || {
        let heap = queue(2);
        let mut producer = heap.producer(0);
        let receivers = [SENDERS, SENDERS + 1].map(|owner| {
            let (heap, mut consumer) = (heap.clone(), heap.consumer(owner));
            thread::spawn(move || receive(&heap, &mut consumer))
        });
        let mut waker = Waker::by_futex();
        for value in [10, 20] {
            assert!(try_send(&mut producer, heap.slots(), value));
            waker.notify(producer.call(), 1);
        }
        let received: u64 = receivers
            .map(|receiver| receiver.join().unwrap())
            .iter()
            .sum();
        assert_eq!(received, 30);
    };
    check_within(
        2,
        model,
        &[
            Fault::NoWake,
            Fault::NoHeavyBarrier,
            Fault::NoLightBarrier,
            Fault::NoSecondLook,
            Fault::AnsweredTooSoon,
            Fault::DisarmedForAll,
        ],
    );
}

/// Sends `value`, asleep while there is no room.
fn send(heap: &HeapLocked<u64>, producer: &mut Sender, value: u64) {
    let mut sleeper = Sleeper::new(0, None);
    while !try_send(producer, heap.slots(), value) {
        sleeper.sleep(producer, SLICE, |producer| producer.has_room());
    }
    sleeper.wake_up(producer);
}

#[test]
fn room_that_a_receiver_makes_wakes_a_sender_that_sleeps() {
    let model = || {
        let heap = queue(1);
        let (mut producer, mut consumer) = (heap.producer(0), heap.consumer(SENDERS));
        assert!(try_send(&mut producer, heap.slots(), 10));
        let sender = thread::spawn({
            let heap = heap.clone();
            move || send(&heap, &mut producer, 20)
        });
        assert_eq!(try_recv(&mut consumer, heap.slots()), Some(10));
        Waker::by_futex().notify(consumer.call(), 1);
        sender.join().unwrap();
    };
    let faults = [
        Fault::NoWake,
        Fault::NoHeavyBarrier,
        Fault::NoLightBarrier,
        Fault::NoSecondLook,
    ];
    check(model, &faults);
}

#[test]
fn what_is_given_up_wakes_those_of_the_same_side() {
    let room = || {
        let heap = queue(1);
        let (mut one, mut two) = (heap.producer(0), heap.producer(1));
        assert!(one.slot().is_some());
        let sender = thread::spawn({
            let heap = heap.clone();
            move || send(&heap, &mut two, 20)
        });
        if one.abandon() {
            Waker::by_futex().notify_surely(one.ring().to_senders());
        }
        sender.join().unwrap();
    };
    let faults = [
        Fault::NoWake,
        Fault::NoHeavyBarrier,
        Fault::NoSecondLook,
        Fault::ClaimForgotten,
    ];
    check(room, &faults);
    let message = || {
        let heap = queue(1);
        let mut producer = heap.producer(0);
        let (mut one, mut two) = (heap.consumer(SENDERS), heap.consumer(SENDERS + 1));
        assert!(try_send(&mut producer, heap.slots(), 10));
        assert!(one.slot().is_some());
        let receiver = thread::spawn({
            let heap = heap.clone();
            move || receive(&heap, &mut two)
        });
        if one.abandon() {
            Waker::by_futex().notify_surely(one.ring().to_receivers());
        }
        assert_eq!(receiver.join().unwrap(), 10);
    };
    check(message, &faults[..3]);
}
