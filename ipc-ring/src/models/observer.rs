//! An observer against a sender that overwrites: it is never handed a torn message.
//!
//! It races by design, so these slots' messages are two atomic words, which must agree.

use super::check;
use crate::ring::spsc::{Consumer, Observer, Producer, Sighting};
use crate::ring::{Consume, Produce, Slots};
use crate::segment::heap::Heap;
use crate::sync::{AtomicU64, Fault, Ordering};
use loom::sync::Arc;
use loom::thread;

/// One slot is the hardest case: the next message goes over the last one.
const CAPACITY: u64 = 1;

/// Slots that may be read while they are written.
#[derive(Clone)]
pub(super) struct Words(Arc<[(AtomicU64, AtomicU64, AtomicU64); CAPACITY as usize]>);

impl Words {
    pub(super) fn new(origin: u64) -> Self {
        Self(Arc::new(std::array::from_fn(|index| {
            let first =
                crate::ring::initial(origin.wrapping_sub(CAPACITY).wrapping_add(index as u64));
            (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0))
        })))
    }

    pub(super) fn write(&self, index: usize, value: u64) {
        self.0[index].1.store(value, Ordering::Relaxed);
        self.0[index].2.store(value, Ordering::Relaxed);
    }

    pub(super) fn read(&self, index: usize) -> (u64, u64) {
        let (_, one, two) = &self.0[index];
        (one.load(Ordering::Relaxed), two.load(Ordering::Relaxed))
    }
}

impl Slots for Words {
    fn stamp(&self, index: usize) -> &AtomicU64 {
        &self.0[index].0
    }
}

/// Sends `messages` while one thread receives and another one observes the position of the first message. The message
/// at the n-th position is n + 1.
fn observe(messages: u64, origin: u64) {
    let heap = Arc::new(Heap::<u64>::new(CAPACITY, origin));
    let words = Words::new(origin);
    let mut consumer = Consumer::take_over(heap.ring_of(words.clone()));
    let mut producer = Producer::take_over(heap.ring_of(words.clone()));
    let receiver = thread::spawn({
        let heap = heap.clone();
        move || {
            let _heap = heap;
            // Enough room for the sender to come round.
            for _ in 0..messages - CAPACITY {
                while consumer.slot().is_none() {
                    thread::yield_now();
                }
                consumer.release(1);
            }
        }
    });
    let onlooker = thread::spawn({
        let (heap, words) = (heap.clone(), words.clone());
        move || {
            let observer = Observer::new(heap.ring_of(words.clone()));
            if let Sighting::Whole(copy) = observer.read(origin, |index| words.read(index)) {
                assert_eq!(copy, (1, 1), "torn, or another message");
            }
        }
    });
    for value in 1..=messages {
        let index = loop {
            match producer.slot() {
                Some(index) => break index,
                None => thread::yield_now(),
            }
        };
        words.write(index, value);
        producer.publish();
    }
    receiver.join().unwrap();
    onlooker.join().unwrap();
}

#[test]
fn an_observer_is_never_handed_a_torn_message() {
    check(
        || observe(CAPACITY + 1, u64::MAX),
        &[
            Fault::NoAnnouncement,
            Fault::AnnounceUnfenced,
            Fault::ObserveStampOnly,
        ],
    );
}

#[test]
fn an_observer_sees_what_nobody_overwrites() {
    loom::model(|| {
        let heap = Heap::<u64>::new(CAPACITY, 0);
        let words = Words::new(0);
        let mut producer = Producer::take_over(heap.ring_of(words.clone()));
        let observer = Observer::new(heap.ring_of(words.clone()));
        for value in 1..=CAPACITY {
            let index = producer.slot().unwrap();
            words.write(index, value);
            producer.publish();
        }
        for position in 0..CAPACITY {
            let seen = observer.read(position, |index| words.read(index));
            assert_eq!(seen, Sighting::Whole((position + 1, position + 1)));
        }
        assert_eq!(observer.read(CAPACITY, |_| ()), Sighting::Absent);
    });
}
