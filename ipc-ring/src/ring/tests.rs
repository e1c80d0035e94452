//! The ring held against `VecDeque`, over random operations, with positions that wrap.

mod interrupted;
mod locked;
mod several;

use super::spsc::{Consumer, Observer, Producer, Sighting};
use super::{Consume, Produce, Ring, Slots, initial, published};
use crate::segment::heap::Heap;
use crate::segment::heap::traffic::{fill, read, try_recv, try_send};
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Debug)]
enum Operation {
    Send,
    /// Fills the slot and leaves it at that.
    Reserve,
    Recv,
    RecvLatest,
    /// Gives back this many slots at once.
    Batch(u64),
    /// The sender is gone; another one goes on.
    ReplaceSender,
    /// The receiver is gone; another one goes on.
    ReplaceReceiver,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => Just(Operation::Send),
        1 => Just(Operation::Reserve),
        4 => Just(Operation::Recv),
        1 => Just(Operation::RecvLatest),
        1 => (0..20_u64).prop_map(Operation::Batch),
        1 => Just(Operation::ReplaceSender),
        1 => Just(Operation::ReplaceReceiver),
    ]
}

fn capacity() -> impl Strategy<Value = u64> {
    (0..6_u32).prop_map(|shift| 1 << shift)
}

/// Positions around which words or stamps wrap.
fn origin() -> impl Strategy<Value = u64> {
    let near = |wrap: u64| (0..80_u64).prop_map(move |before| wrap.wrapping_sub(before));
    prop_oneof![near(0), near(1 << 52), near(1 << 32), any::<u64>()]
}

fn behaves_like_a_queue<S: Slots>(
    capacity: u64,
    origin: u64,
    operations: &[Operation],
    view: fn(&Heap<u64>) -> Ring<S>,
) -> Result<(), TestCaseError> {
    let heap = Heap::<u64>::new(capacity, origin);
    let typed = *heap.ring().slots();
    let mut producer = Producer::take_over(view(&heap));
    let mut consumer = Consumer::take_over(view(&heap));
    let observer = Observer::new(view(&heap));
    let mut model = VecDeque::new();
    let mut sent = 0;
    for operation in operations {
        match *operation {
            Operation::Send => {
                let room = (model.len() as u64) < capacity;
                prop_assert_eq!(producer.has_room(), room);
                prop_assert_eq!(try_send(&mut producer, typed, sent), room);
                if room {
                    model.push_back(sent);
                    sent += 1;
                }
            }
            Operation::Reserve => {
                if let Some(index) = producer.slot() {
                    fill(typed, index, u64::MAX);
                    prop_assert_eq!(producer.slot(), Some(index));
                }
            }
            Operation::Recv => prop_assert_eq!(try_recv(&mut consumer, typed), model.pop_front()),
            Operation::RecvLatest => {
                let count = consumer.len();
                let newest = count
                    .checked_sub(1)
                    .and_then(|older| consumer.slot_ahead(older));
                prop_assert_eq!(
                    newest.map(|index| read(typed, index)),
                    model.back().copied()
                );
                consumer.release(count);
                model.clear();
            }
            Operation::Batch(most) => {
                let count = most.min(consumer.len());
                for ahead in 0..count {
                    let index = consumer.slot_ahead(ahead).unwrap();
                    prop_assert_eq!(Some(read(typed, index)), model.pop_front());
                }
                consumer.release(count);
            }
            Operation::ReplaceSender => producer = Producer::take_over(view(&heap)),
            Operation::ReplaceReceiver => consumer = Consumer::take_over(view(&heap)),
        }
        prop_assert_eq!(producer.len(), model.len() as u64);
        prop_assert_eq!(consumer.len(), model.len() as u64);
        // What is in the ring, an observer sees, too: nothing can be written over it.
        for (back, &value) in model.iter().rev().enumerate() {
            let position = origin.wrapping_add(sent).wrapping_sub(1 + back as u64);
            let seen = observer.read(position, |index| read(typed, index));
            prop_assert_eq!(seen, Sighting::Whole(value));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_typed_ring_behaves_like_a_queue(
        capacity in capacity(),
        origin in origin(),
        operations in prop::collection::vec(operation(), 1..200),
    ) {
        behaves_like_a_queue(capacity, origin, &operations, Heap::ring)?;
    }

    #[test]
    fn the_untyped_ring_behaves_like_a_queue(
        capacity in capacity(),
        origin in origin(),
        operations in prop::collection::vec(operation(), 1..200),
    ) {
        behaves_like_a_queue(capacity, origin, &operations, Heap::untyped_ring)?;
    }

    #[test]
    fn no_first_stamp_publishes_a_position_to_come(
        capacity in capacity(),
        origin in origin(),
    ) {
        let heap = Heap::<u64>::new(capacity, origin);
        for ahead in 0..capacity {
            let position = origin.wrapping_add(ahead);
            let stamp = heap.ring().stamp(position).load(crate::sync::Ordering::Relaxed);
            prop_assert_eq!(stamp, initial(position.wrapping_sub(capacity)));
            prop_assert_ne!(stamp, published(position));
        }
    }
}
