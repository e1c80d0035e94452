//! Many who sleep until there is room. No slice ever ends here: a wake that is lost is a deadlock.

use super::{History, check, pick};
use crate::ring::mpsc::{Consumer, Producer};
use crate::ring::{Ahead, Consume, End, Produce};
use crate::segment::heap::Heap;
use crate::segment::heap::traffic::{read, try_send};
use crate::sync::Fault;
use crate::wait::{ALL, SLICE, Sleeper, Waker};
use shuttle::thread;
use std::sync::Arc;

const SENDERS: u32 = 4;
const EACH: usize = 3;

/// Sends some messages, asleep while there is no room.
fn send(heap: &Heap<u64>, history: &History, owner: u32) {
    let mut producer = Producer::join(heap.ring(), owner);
    let mut sleeper = Sleeper::new(0, None);
    let mut waker = Waker::by_futex();
    for _ in 0..EACH {
        let message = history.message(0);
        history.begin(message);
        while !try_send(&mut producer, *heap.ring().slots(), message) {
            sleeper.sleep(&mut producer, SLICE, |producer| producer.has_room());
            history.begin(message);
        }
        history.end(message);
        sleeper.wake_up(&mut producer);
        waker.notify(producer.call(), ALL);
    }
}

/// Receives all, asleep between them, and wakes one sender for each slot that it gives back.
fn receive(heap: &Heap<u64>) -> Vec<u64> {
    let mut consumer = Consumer::take_over(heap.ring());
    let mut sleeper = Sleeper::new(0, None);
    let mut waker = Waker::by_futex();
    let mut received = Vec::new();
    while received.len() < SENDERS as usize * EACH {
        let Some(first) = consumer.slot() else {
            sleeper.sleep(&mut consumer, SLICE, |consumer| consumer.slot().is_some());
            continue;
        };
        sleeper.wake_up(&mut consumer);
        let mut slots = vec![first];
        let room = consumer.ring().capacity().min(pick(&[1, 1, 2]));
        for ahead in 1..room {
            if let Ahead::Message(slot) = consumer.ahead(ahead) {
                slots.push(slot);
            }
        }
        received.extend(slots.iter().map(|&slot| read(*heap.ring().slots(), slot)));
        consumer.release(slots.len() as u64);
        waker.notify(consumer.call(), slots.len() as u64);
    }
    received
}

#[test]
fn of_senders_that_sleep_at_a_full_ring_each_slot_wakes_one_and_none_is_forgotten() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(pick(&[1, 2]), u64::MAX - 4));
        let history = Arc::new(History::default());
        let sender = |owner| {
            let (heap, history) = (heap.clone(), history.clone());
            thread::spawn(move || send(&heap, &history, owner))
        };
        let senders = Vec::from_iter((0..SENDERS).map(sender));
        let received = receive(&heap);
        for sender in senders {
            sender.join().unwrap();
        }
        history.check(&received);
    };
    check(
        10_000,
        model,
        &[
            Fault::NoWake,
            Fault::RoomNotBehind,
            Fault::NoSecondLook,
            Fault::AnsweredTooSoon,
            Fault::DisarmedForAll,
            Fault::NumberShared,
        ],
    );
}
