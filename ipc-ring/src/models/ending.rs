//! Closing against sending: whoever hears that the sender has left has received all that it sent.

use super::check;
use crate::layout::{Entry, attention};
use crate::participant::{Session, at_one_moment, end_unless, sessions};
use crate::ring::spsc::{Consumer, Producer};
use crate::ring::{Consume, Produce, TypedSlots};
use crate::segment::heap::Heap;
use crate::segment::heap::traffic::{try_recv, try_send};
use crate::sync::{Fault, Ordering};
use crate::wait::{SLICE, Sleeper, Waker};
use loom::sync::Arc;
use loom::thread;

/// Sends `messages`, then leaves as an endpoint does. Without the barrier of a notify in between, which in production
/// orders nothing for the processor.
fn send_and_leave(heap: &Heap<u64>, mut producer: Producer<TypedSlots<u64>>, messages: u64) {
    heap.sender_entry.join(1);
    let waker = Waker::by_futex();
    for value in 0..messages {
        assert!(try_send(&mut producer, *heap.ring().slots(), value));
    }
    heap.senders()
        .attention
        .0
        .store(attention::LEFT, Ordering::Release);
    heap.sender_entry.leave(1);
    waker.notify_surely(producer.call());
}

fn left(heap: &Heap<u64>) -> Option<()> {
    matches!(heap.sender_entry.session(), Session::Left(_)).then_some(())
}

#[test]
fn closed_is_said_only_after_the_last_message() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(2, 0));
        let producer = Producer::take_over(heap.ring());
        let mut consumer = Consumer::take_over(heap.ring());
        let sender = thread::spawn({
            let heap = heap.clone();
            move || send_and_leave(&heap, producer, 2)
        });
        let mut received = 0;
        loop {
            let mut there = || consumer.slot().map(|_| ());
            let look = there()
                .ok_or(None)
                .or_else(|_: Option<()>| end_unless(|| left(&heap), there));
            match look {
                Ok(()) => {
                    let value = try_recv(&mut consumer, *heap.ring().slots());
                    assert_eq!(value, Some(received));
                    received += 1;
                }
                Err(Some(())) => break,
                Err(None) => thread::yield_now(),
            }
        }
        assert_eq!(received, 2);
        sender.join().unwrap();
    };
    check(model, &[Fault::LeaveRelaxed, Fault::NoLookAfterEnding]);
}

/// Two places of senders, one after the other used by somebody, so that at every moment somebody is there.
#[test]
fn senders_that_take_turns_are_never_taken_for_gone() {
    let model = || {
        let places = Arc::new([Entry::new(), Entry::new()]);
        places[0].join(1);
        places[0].leave(1);
        places[1].join(1);
        let senders = thread::spawn({
            let places = places.clone();
            move || {
                places[0].join(2);
                places[1].leave(1);
            }
        });
        let has_left = |place: &Entry| matches!(place.session(), Session::Left(_));
        let is_nobody_there = || places.iter().all(has_left);
        let seen = at_one_moment(|| sessions(places.iter()), is_nobody_there);
        assert_ne!(seen, Some(true));
        senders.join().unwrap();
    };
    check(model, &[Fault::TornLook, Fault::LeaveRelaxed]);
}

#[test]
fn a_sleeping_receiver_hears_that_the_sender_leaves() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(2, 0));
        let producer = Producer::take_over(heap.ring());
        let mut consumer = Consumer::take_over(heap.ring());
        let sender = thread::spawn({
            let heap = heap.clone();
            move || send_and_leave(&heap, producer, 1)
        });
        let mut sleeper = Sleeper::new(0, None);
        let mut received = 0;
        loop {
            let ready =
                |consumer: &mut Consumer<_>| consumer.slot().is_some() || left(&heap).is_some();
            if !ready(&mut consumer) {
                sleeper.sleep(&mut consumer, SLICE, ready);
            }
            if try_recv(&mut consumer, *heap.ring().slots()).is_some() {
                received += 1;
            } else if left(&heap).is_some() && consumer.slot().is_none() {
                break;
            }
        }
        assert_eq!(received, 1);
        sender.join().unwrap();
    };
    check(model, &[Fault::NoRingOnLeave]);
}
