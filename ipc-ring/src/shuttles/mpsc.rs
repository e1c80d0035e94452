//! Many senders in one ring.

use super::{History, Place, check, lead_lives, pick, places, survive, take_any};
use crate::ring::mpsc::{Consumer, Producer, sweep};
use crate::ring::{Consume, Look, Produce, TypedSlots, look_past_the_dead};
use crate::segment::heap::Heap;
use crate::segment::heap::traffic::{fill, read, try_recv, try_send};
use crate::sync::Fault;
use shuttle::sync::atomic::AtomicBool;
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[test]
fn many_senders_of_one_ring_lose_and_repeat_and_reorder_nothing() {
    const EACH: usize = 3;
    let model = || {
        let senders = pick(&[4, 5, 6]);
        let heap = Arc::new(Heap::<u64>::new(pick(&[1, 2, 4]), u64::MAX - 4));
        let history = Arc::new(History::default());
        let mut consumer = Consumer::take_over(heap.ring());
        let send = |owner| {
            let (heap, history) = (heap.clone(), history.clone());
            move || {
                let mut producer = Producer::join(heap.ring(), owner);
                for _ in 0..EACH {
                    let message = history.message(0);
                    history.begin(message);
                    while !try_send(&mut producer, *heap.ring().slots(), message) {
                        thread::yield_now();
                        history.begin(message);
                    }
                    history.end(message);
                }
            }
        };
        let threads = Vec::from_iter((0..senders).map(|owner| thread::spawn(send(owner))));
        let mut received = Vec::new();
        while received.len() < senders as usize * EACH {
            match try_recv(&mut consumer, *heap.ring().slots()) {
                Some(message) => received.push(message),
                None => thread::yield_now(),
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(consumer.slot(), None);
        history.check(&received);
    };
    check(
        10_000,
        model,
        &[
            Fault::ClaimByStore,
            Fault::ClaimUnread,
            Fault::PublishEarly,
            Fault::ReleaseEarly,
        ],
    );
}

/// A ring and those who may take part.
struct World {
    heap: Heap<u64>,
    places: Vec<Place>,
    history: History,
    /// Nobody will send any more.
    is_over: AtomicBool,
}

/// One in so many steps of a sender is its last.
const SENDER_DIES: u32 = 10;
/// One in so many steps of the receiver is its last.
const RECEIVER_DIES: u32 = 30;

impl World {
    /// Holds the index from joining to leaving or dying.
    fn live(&self, index: usize) {
        let (place, owner) = (&self.places[index], index as u32);
        let number = place.entry.next_number();
        if place.entry.is_dirty() {
            sweep(&self.heap.ring(), owner);
        }
        let mut producer = Producer::join(self.heap.ring(), owner);
        place.entry.join(number);
        if self.send_some(&mut producer).is_some() {
            producer.abandon();
            place.entry.leave(number);
        }
        place.release();
    }

    /// Sends until killed, or to the end.
    fn send_some(&self, producer: &mut Producer<TypedSlots<u64>>) -> Option<()> {
        for _ in 0..pick(&[1, 2, 3]) {
            let message = self.history.message(0);
            let slot = loop {
                survive(SENDER_DIES)?;
                self.history.begin(message);
                if let Some(slot) = producer.slot() {
                    break slot;
                }
                thread::yield_now();
            };
            survive(SENDER_DIES)?;
            fill(*self.heap.ring().slots(), slot, message);
            survive(SENDER_DIES)?;
            // Now and then a reservation is forgotten.
            if pick(&[false, false, false, true]) {
                continue;
            }
            producer.publish();
            self.history.end(message);
            survive(SENDER_DIES)?;
        }
        Some(())
    }

    /// Receives to the end, as one receiver after the other.
    fn receive(&self) -> Vec<u64> {
        let mut received = Vec::new();
        while self.receive_some(&mut received).is_none() {}
        received
    }

    /// Receives until killed, or to the end.
    fn receive_some(&self, received: &mut Vec<u64>) -> Option<()> {
        let mut consumer = Consumer::take_over(self.heap.ring());
        loop {
            survive(RECEIVER_DIES)?;
            let is_over = self.is_over.load(Ordering::Acquire);
            let is_dead = |owner: u32| !self.places[owner as usize].is_held();
            match look_past_the_dead(&mut consumer, is_dead) {
                Look::Ready => {
                    let slot = consumer.slot().unwrap();
                    survive(RECEIVER_DIES)?;
                    let message = read(*self.heap.ring().slots(), slot);
                    survive(RECEIVER_DIES)?;
                    consumer.release(1);
                    received.push(message);
                }
                Look::Nothing if is_over => return Some(()),
                Look::Nothing | Look::Held => thread::yield_now(),
                Look::Stuck => unreachable!("no mutex"),
            }
        }
    }
}

#[test]
fn senders_that_die_and_are_replaced_lose_nothing() {
    const THREADS: usize = 5;
    const LIVES: usize = 2;
    let model = || {
        let world = Arc::new(World {
            heap: Heap::new(pick(&[1, 2, 4]), u64::MAX - 4),
            places: places(pick(&[2, 3])),
            history: History::default(),
            is_over: AtomicBool::new(false),
        });
        let receiver = thread::spawn({
            let world = world.clone();
            move || world.receive()
        });
        let life = {
            let world = world.clone();
            move || world.live(take_any(&world.places))
        };
        lead_lives(THREADS, LIVES, life);
        // The last holders stay: what the dead have left can't be told from theirs, but for the sweep.
        for (owner, place) in world.places.iter().enumerate() {
            assert!(place.try_take());
            if place.entry.is_dirty() {
                sweep(&world.heap.ring(), owner as u32);
            }
        }
        world.is_over.store(true, Ordering::Release);
        let received = receiver.join().unwrap();
        let consumer = Consumer::take_over(world.heap.ring());
        assert_eq!(consumer.len(), 0);
        world.history.check(&received);
    };
    check(
        10_000,
        model,
        &[
            Fault::NoSweep,
            Fault::SkipUnasked,
            Fault::SkipByStore,
            Fault::ClaimByStore,
            Fault::ClaimForgotten,
        ],
    );
}
