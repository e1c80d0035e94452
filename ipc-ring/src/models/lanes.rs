//! A lane for each sender: nothing is stranded in one, whoever dies and whatever the ready words say.

use super::{check, check_within};
use crate::ring::lanes::{Consumer, Producer, TURN};
use crate::ring::{Consume, End, Produce, TypedSlots};
use crate::segment::heap::HeapLanes;
use crate::segment::heap::traffic::{fill, read};
use crate::sync::Fault;
use crate::wait::{ALL, SLICE, Sleeper, Waker};
use loom::sync::Arc;
use loom::thread;

/// All lanes are looked at each time.
const EAGER: usize = 2;

fn try_send(producer: &mut Producer<TypedSlots<u64>>, value: u64) -> bool {
    let Some(index) = producer.slot() else {
        return false;
    };
    fill(*producer.ring().slots(), index, value);
    producer.publish();
    true
}

fn try_recv(consumer: &mut Consumer<TypedSlots<u64>>) -> Option<u64> {
    let index = consumer.slot()?;
    let value = read(*consumer.ring().slots(), index);
    consumer.release(1);
    Some(value)
}

/// Receives `count` messages, asleep between them.
fn receive(consumer: &mut Consumer<TypedSlots<u64>>, count: usize) -> Vec<u64> {
    let mut sleeper = Sleeper::new(0, None);
    let mut received = Vec::new();
    while received.len() < count {
        match try_recv(consumer) {
            Some(value) => received.push(value),
            None => {
                sleeper.sleep(consumer, SLICE, |consumer| consumer.slot().is_some());
                sleeper.wake_up(consumer);
            }
        }
    }
    received
}

#[test]
fn messages_of_two_lanes_arrive_and_wake_the_receiver() {
    let model = || {
        let heap = Arc::new(HeapLanes::<u64>::new(2, 1, u64::MAX));
        let mut consumer = heap.consumer(EAGER);
        let senders = [0, 1].map(|lane| {
            let mut producer = heap.producer(lane);
            let heap = heap.clone();
            thread::spawn(move || {
                let _heap = heap;
                assert!(try_send(&mut producer, lane as u64));
                Waker::by_futex().notify(producer.call(), ALL);
            })
        });
        let mut received = receive(&mut consumer, 2);
        received.sort_unstable();
        assert_eq!(received, [0, 1]);
        for sender in senders {
            sender.join().unwrap();
        }
    };
    check_within(
        2,
        model,
        &[
            Fault::OneLaneArmed,
            Fault::NoLightBarrier,
            Fault::NoHeavyBarrier,
            Fault::NoSecondLook,
            Fault::NoWake,
            Fault::PublishRelaxed,
            Fault::StampRelaxed,
        ],
    );
}

/// A sender dies between its publish and its ready word; the lane counts as idle. Its message is found when the receiver
/// looks for anything at all.
#[test]
fn a_message_whose_sender_died_before_it_said_ready_is_found() {
    let model = || {
        let heap = Arc::new(HeapLanes::<u64>::new(2, 1, 0));
        let mut consumer = heap.consumer(0);
        // Both lanes are empty for long enough to be idle.
        for _ in 0..5 {
            assert_eq!(try_recv(&mut consumer), None);
        }
        // The receiver has lane 0 before its eyes.
        let mut victim = heap.producer(1);
        let mut other = heap.producer(0);
        let senders = [
            thread::spawn(move || assert!(try_send(&mut victim, 1))),
            thread::spawn(move || {
                assert!(try_send(&mut other, 2));
                Waker::by_futex().notify(other.call(), ALL);
            }),
        ];
        for sender in senders {
            sender.join().unwrap();
        }
        let mut received = [try_recv(&mut consumer), try_recv(&mut consumer)];
        received.sort_unstable();
        assert_eq!(received, [Some(1), Some(2)]);
    };
    check(model, &[Fault::ReadyIsTrusted]);
}

/// A sender that is idle says so when it is not any more, and is not woken for.
#[test]
fn an_idle_lane_that_calls_is_looked_at() {
    loom::model(|| {
        let heap = HeapLanes::<u64>::new(2, 1, 0);
        let mut consumer = heap.consumer(0);
        for _ in 0..5 {
            assert_eq!(try_recv(&mut consumer), None);
        }
        let mut producer = heap.producer(1);
        assert!(try_send(&mut producer, 7));
        let rang = Waker::by_futex().notify(producer.call(), ALL);
        assert!(!rang, "nobody sleeps");
        assert_eq!(try_recv(&mut consumer), Some(7));
    });
}

#[test]
fn a_lane_is_taken_over_with_what_is_in_it() {
    let model = || {
        let heap = Arc::new(HeapLanes::<u64>::new(1, 2, u64::MAX));
        let mut consumer = heap.consumer(EAGER);
        let mut killed = heap.producer(0);
        let senders = thread::spawn({
            let heap = heap.clone();
            move || {
                assert!(try_send(&mut killed, 1));
                let mut successor = heap.producer(0);
                thread::yield_now();
                assert!(try_send(&mut successor, 2));
                Waker::by_futex().notify(successor.call(), ALL);
            }
        });
        assert_eq!(receive(&mut consumer, 2), [1, 2]);
        senders.join().unwrap();
    };
    check(model, &[Fault::TakeOverAtHead, Fault::NoWake]);
}

/// A lane that always has messages does not keep another one waiting.
#[test]
fn each_lane_has_its_turn() {
    loom::model(|| {
        let heap = HeapLanes::<u64>::new(2, 2, 0);
        let mut consumer = heap.consumer(0);
        let (mut flood, mut slow) = (heap.producer(0), heap.producer(1));
        while try_send(&mut flood, 0) {}
        for _ in 0..5 {
            try_recv(&mut consumer);
            while try_send(&mut flood, 0) {}
        }
        assert!(try_send(&mut slow, 1));
        let mut messages = 0;
        while try_recv(&mut consumer) != Some(1) {
            while try_send(&mut flood, 0) {}
            messages += 1;
            assert!(messages <= TURN);
        }
    });
}
