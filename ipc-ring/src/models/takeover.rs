//! A side is killed after every step; its successor goes on.
//!
//! The kernel's word orders all that the dead did before all that a successor does, so both run in one thread.

use super::check;
use crate::ring::spsc::{Consumer, Producer};
use crate::segment::heap::Heap;
use crate::segment::heap::traffic::{try_recv, try_send};
use crate::sync::Fault;
use loom::sync::Arc;
use loom::thread;

/// Steps of a send, counted in shared stores and what lies between them.
const SEND_STEPS: usize = 3;
/// Steps of a receive.
const RECV_STEPS: usize = 3;

mod steps {
    use super::*;
    use crate::ring::{Consume, Produce, TypedSlots};
    use crate::segment::heap::traffic::{fill, read};
    use crate::sync::planted;

    /// Sends `value` until killed after `steps` steps. True if the call came to its end.
    pub(super) fn send(
        producer: &mut Producer<TypedSlots<u64>>,
        typed: TypedSlots<u64>,
        value: u64,
        steps: usize,
    ) -> bool {
        if steps == 0 {
            return false;
        }
        let index = producer.slot().expect("room");
        if steps == 1 {
            return false;
        }
        if planted(Fault::PublishEarly) {
            producer.publish();
            return false;
        }
        fill(typed, index, value);
        if steps == 2 {
            return false;
        }
        producer.publish();
        true
    }

    /// Receives until killed after `steps` steps. The message, if the call came to its end.
    pub(super) fn recv(
        consumer: &mut Consumer<TypedSlots<u64>>,
        typed: TypedSlots<u64>,
        steps: usize,
    ) -> Option<u64> {
        if steps == 0 {
            return None;
        }
        let index = consumer.slot()?;
        if planted(Fault::ReleaseEarly) {
            consumer.release(1);
        }
        if steps == 1 {
            return None;
        }
        let value = read(typed, index);
        if steps == 2 {
            return None;
        }
        if !planted(Fault::ReleaseEarly) {
            consumer.release(1);
        }
        Some(value)
    }
}

/// One message is sent, a second one until killed after `steps`; the successor sends the value 10.
fn sender_killed(steps: usize) {
    let heap = Arc::new(Heap::<u64>::new(4, u64::MAX));
    let mut victim = Producer::take_over(heap.ring());
    let mut consumer = Consumer::take_over(heap.ring());
    let senders = thread::spawn({
        let heap = heap.clone();
        move || {
            let typed = *heap.ring().slots();
            assert!(try_send(&mut victim, typed, 0));
            let sent = steps::send(&mut victim, typed, 1, steps);
            let mut successor = Producer::take_over(heap.ring());
            thread::yield_now();
            assert!(try_send(&mut successor, typed, 10));
            sent
        }
    });
    let mut received = Vec::new();
    while received.last() != Some(&10) {
        match try_recv(&mut consumer, *heap.ring().slots()) {
            Some(value) => received.push(value),
            None => thread::yield_now(),
        }
    }
    let sent = senders.join().unwrap();
    // Every send that came to its end arrives; the one that did not has left nothing behind.
    let expected = if sent { vec![0, 1, 10] } else { vec![0, 10] };
    assert_eq!(received, expected);
}

#[test]
fn a_sender_killed_at_every_step_is_taken_over_from() {
    for steps in 0..=SEND_STEPS {
        check(move || sender_killed(steps), &[]);
    }
    // What was published is lost if the successor does not look for it...
    check(move || sender_killed(SEND_STEPS), &[Fault::TakeOverAtHead]);
    // ...and what was not written is found if it was published first.
    check(move || sender_killed(2), &[Fault::PublishEarly]);
}

/// Three messages are sent; a receiver is killed after `steps` of receiving the first one.
fn receiver_killed(steps: usize) {
    let heap = Arc::new(Heap::<u64>::new(2, u64::MAX));
    let mut producer = Producer::take_over(heap.ring());
    let mut victim = Consumer::take_over(heap.ring());
    let sender = thread::spawn({
        let heap = heap.clone();
        move || {
            for value in 0..3 {
                while !try_send(&mut producer, *heap.ring().slots(), value) {
                    thread::yield_now();
                }
            }
        }
    });
    let mut received = Vec::from_iter(steps::recv(&mut victim, *heap.ring().slots(), steps));
    let mut successor = Consumer::take_over(heap.ring());
    while received.last() != Some(&2) {
        match try_recv(&mut successor, *heap.ring().slots()) {
            Some(value) => received.push(value),
            None => thread::yield_now(),
        }
    }
    sender.join().unwrap();
    assert_eq!(received, [0, 1, 2]);
}

#[test]
fn a_receiver_killed_at_every_step_is_taken_over_from() {
    for steps in 0..=RECV_STEPS {
        check(move || receiver_killed(steps), &[]);
    }
    check(move || receiver_killed(1), &[Fault::ReleaseEarly]);
    check(
        move || receiver_killed(RECV_STEPS),
        &[Fault::ReleaseRelaxed],
    );
}
