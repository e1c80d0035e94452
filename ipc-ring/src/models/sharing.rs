//! Several sleepers that share one attention word, and several wakers. A wake that is lost is a deadlock here, since a
//! model's sleep has no slices.

use super::{check, check_within};
use crate::ring::mpsc::{Consumer, Producer};
use crate::ring::{Consume, Produce, TypedSlots};
use crate::segment::heap::Heap;
use crate::segment::heap::traffic::{try_recv, try_send};
use crate::sync::Fault;
use crate::wait::{ALL, SLICE, Sleeper, Waker};
use loom::sync::Arc;
use loom::thread;

type Sender = Producer<TypedSlots<u64>>;

/// Sends `value`, asleep while there is no room.
fn send(heap: &Heap<u64>, producer: &mut Sender, value: u64) {
    let mut sleeper = Sleeper::new(0, None);
    while !try_send(producer, *heap.ring().slots(), value) {
        sleeper.sleep(producer, SLICE, |producer| producer.has_room());
    }
    sleeper.wake_up(producer);
}

/// A full ring of `capacity`, two senders that sleep, and a receiver that gives slots back one by one.
fn two_senders_sleep(capacity: u64) {
    let heap = Arc::new(Heap::<u64>::new(capacity, 0));
    let mut consumer = Consumer::take_over(heap.ring());
    let mut one = Producer::join(heap.ring(), 1);
    let two = Producer::join(heap.ring(), 2);
    for value in 0..capacity {
        assert!(try_send(&mut one, *heap.ring().slots(), value));
    }
    let senders = [(one, 10), (two, 20)].map(|(mut producer, value)| {
        let heap = heap.clone();
        thread::spawn(move || send(&heap, &mut producer, value))
    });
    let mut waker = Waker::by_futex();
    for _ in 0..capacity {
        assert!(try_recv(&mut consumer, *heap.ring().slots()).is_some());
        waker.notify(consumer.call(), 1);
    }
    for sender in senders {
        sender.join().unwrap();
    }
}

#[test]
fn senders_that_share_a_word_are_woken_one_by_one() {
    check_within(
        2,
        || two_senders_sleep(2),
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

#[test]
fn a_sleeping_receiver_is_woken_by_either_of_two_senders() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(2, 0));
        let mut consumer = Consumer::take_over(heap.ring());
        let senders = [1, 2].map(|owner| {
            let mut producer = Producer::join(heap.ring(), owner);
            let heap = heap.clone();
            thread::spawn(move || {
                assert!(try_send(&mut producer, *heap.ring().slots(), owner.into()));
                Waker::by_futex().notify(producer.call(), ALL);
            })
        });
        let mut sleeper = Sleeper::new(0, None);
        for _ in 0..2 {
            while try_recv(&mut consumer, *heap.ring().slots()).is_none() {
                sleeper.sleep(&mut consumer, SLICE, |consumer| consumer.slot().is_some());
            }
            sleeper.wake_up(&mut consumer);
        }
        for sender in senders {
            sender.join().unwrap();
        }
    };
    check_within(
        2,
        model,
        &[
            Fault::NoLightBarrier,
            Fault::NoHeavyBarrier,
            Fault::NoSecondLook,
            Fault::NoWake,
        ],
    );
}

/// Who gives a claim up lets the receiver go on to what was sent behind it.
#[test]
fn giving_up_a_claim_wakes_who_waits_behind_it() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(2, 0));
        let mut consumer = Consumer::take_over(heap.ring());
        let mut one = Producer::join(heap.ring(), 1);
        let mut two = Producer::join(heap.ring(), 2);
        assert!(one.slot().is_some());
        assert!(try_send(&mut two, *heap.ring().slots(), 20));
        let sender = thread::spawn({
            let heap = heap.clone();
            move || {
                let _heap = heap;
                if one.abandon() {
                    Waker::by_futex().notify(one.call(), ALL);
                }
            }
        });
        let mut sleeper = Sleeper::new(0, None);
        while try_recv(&mut consumer, *heap.ring().slots()) != Some(20) {
            sleeper.sleep(&mut consumer, SLICE, |consumer| consumer.slot().is_some());
        }
        sender.join().unwrap();
    };
    check(
        model,
        &[
            Fault::NoWake,
            Fault::NoSecondLook,
            Fault::NoHeavyBarrier,
            Fault::ClaimForgotten,
        ],
    );
}
