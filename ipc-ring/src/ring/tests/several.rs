//! Several producers held against plain queues: in one order, where each may leave a claim behind, and in lanes.

use super::{capacity, origin};
use crate::ring::{Ahead, Consume, Look, Produce, Ring, Slots, lanes, look_past_the_dead, mpsc};
use crate::segment::heap::traffic::{fill, read, try_recv, try_send};
use crate::segment::heap::{Heap, HeapLanes};
use crate::wait::{ALL, Waker};
use proptest::prelude::*;
use std::collections::VecDeque;

const PRODUCERS: usize = 4;

/// What the producer with this number does, or the consumer.
#[derive(Clone, Debug)]
enum Operation {
    Send(usize),
    /// Has a slot, fills it and leaves it at that.
    Claim(usize),
    /// Publishes what it has claimed, if anything.
    Publish(usize),
    Abandon(usize),
    /// It is gone, without having given up anything. Another one comes when there is something to do.
    Die(usize),
    Recv,
    /// By asking who is dead.
    RecvPastTheDead,
    /// Gives back so many positions at once.
    Batch(u64),
    ReplaceReceiver,
    /// One producer, and it alone, sends for longer than a turn.
    Burst(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    let producer = || 0..PRODUCERS;
    prop_oneof![
        8 => producer().prop_map(Operation::Send),
        3 => producer().prop_map(Operation::Claim),
        2 => producer().prop_map(Operation::Publish),
        1 => producer().prop_map(Operation::Abandon),
        1 => producer().prop_map(Operation::Die),
        6 => Just(Operation::Recv),
        2 => Just(Operation::RecvPastTheDead),
        2 => (0..20_u64).prop_map(Operation::Batch),
        1 => Just(Operation::ReplaceReceiver),
        1 => producer().prop_map(Operation::Burst),
    ]
}

/// What a position is, until it is released.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Claimed(usize),
    Published(u64),
    Skipped,
}

/// The queue, the numbers of its first place and of the next message, and who is dead.
#[derive(Default)]
struct Model {
    places: VecDeque<Place>,
    first: u64,
    next: u64,
    is_dead: [bool; PRODUCERS],
}

impl Model {
    fn claim_of(&mut self, producer: usize) -> Option<&mut Place> {
        self.places
            .iter_mut()
            .find(|place| **place == Place::Claimed(producer))
    }

    fn give_up(&mut self, producer: usize) {
        if let Some(place) = self.claim_of(producer) {
            *place = Place::Skipped;
        }
    }

    fn release(&mut self, count: u64) {
        self.places.drain(..count as usize);
        self.first += count;
    }

    fn pass_over_skipped(&mut self) {
        while self.places.front() == Some(&Place::Skipped) {
            self.release(1);
        }
    }

    /// The message at the front.
    fn front(&mut self) -> Option<u64> {
        self.pass_over_skipped();
        match self.places.front() {
            Some(&Place::Published(value)) => Some(value),
            _ => None,
        }
    }

    /// The same, past claims of the dead.
    fn look(&mut self) -> Look {
        loop {
            self.pass_over_skipped();
            match self.places.front() {
                None => return Look::Nothing,
                Some(Place::Published(_)) => return Look::Ready,
                Some(&Place::Claimed(owner)) if self.is_dead[owner] => self.give_up(owner),
                Some(_) => return Look::Held,
            }
        }
    }

    fn recv(&mut self) -> Option<u64> {
        let front = self.front();
        if front.is_some() {
            self.release(1);
        }
        front
    }
}

/// A producer that lives, in place of a dead one if need be.
fn alive<'a, S: Slots + Clone>(
    producers: &'a mut [mpsc::Producer<S>],
    ring: Ring<S>,
    model: &mut Model,
    number: usize,
) -> &'a mut mpsc::Producer<S> {
    if model.is_dead[number] {
        mpsc::sweep(&ring, number as u32);
        model.give_up(number);
        model.is_dead[number] = false;
        producers[number] = mpsc::Producer::join(ring, number as u32);
    }
    &mut producers[number]
}

fn one_order_behaves_like_a_queue<S: Slots + Clone>(
    capacity: u64,
    origin: u64,
    operations: &[Operation],
    view: fn(&Heap<u64>) -> Ring<S>,
) -> Result<(), TestCaseError> {
    let heap = Heap::<u64>::new(capacity, origin);
    let typed = *heap.ring().slots();
    let join = |number| mpsc::Producer::join(view(&heap), number as u32);
    let mut producers: Vec<_> = (0..PRODUCERS).map(join).collect();
    let mut consumer = mpsc::Consumer::take_over(view(&heap));
    let observer = mpsc::Observer::new(view(&heap));
    let mut model = Model::default();
    for operation in operations {
        match *operation {
            Operation::Send(number) | Operation::Claim(number) => {
                let producer = alive(&mut producers, view(&heap), &mut model, number);
                model.give_up(number);
                let room = (model.places.len() as u64) < capacity;
                prop_assert!(producer.has_room() || !room);
                let value = model.next;
                if matches!(operation, Operation::Send(_)) {
                    prop_assert_eq!(try_send(producer, typed, value), room);
                } else {
                    let slot = producer.slot();
                    prop_assert_eq!(slot.is_some(), room);
                    prop_assert_eq!(producer.is_open(), room);
                    if let Some(index) = slot {
                        fill(typed, index, value);
                    }
                }
                if room {
                    model.places.push_back(match operation {
                        Operation::Send(_) => Place::Published(value),
                        _ => Place::Claimed(number),
                    });
                    model.next += 1;
                }
            }
            Operation::Publish(number) => {
                let producer = alive(&mut producers, view(&heap), &mut model, number);
                let first = model.first;
                let claimed = model
                    .places
                    .iter()
                    .position(|&place| place == Place::Claimed(number));
                prop_assert_eq!(producer.is_open(), claimed.is_some());
                if let Some(ahead) = claimed {
                    producer.publish();
                    // Each place has taken a number, in order.
                    model.places[ahead] = Place::Published(first + ahead as u64);
                }
            }
            Operation::Abandon(number) => {
                let producer = alive(&mut producers, view(&heap), &mut model, number);
                let claimed = model.claim_of(number).is_some();
                prop_assert_eq!(producer.abandon(), claimed);
                model.give_up(number);
            }
            Operation::Die(number) => model.is_dead[number] = true,
            Operation::Recv => prop_assert_eq!(try_recv(&mut consumer, typed), model.recv()),
            Operation::RecvPastTheDead => {
                let is_dead = model.is_dead;
                let look = look_past_the_dead(&mut consumer, |owner| is_dead[owner as usize]);
                prop_assert_eq!(look, model.look());
                prop_assert_eq!(try_recv(&mut consumer, typed), model.recv());
            }
            Operation::Batch(most) => {
                let there = model.front().is_some();
                prop_assert_eq!(consumer.slot().is_some(), there);
                let mut count = 0;
                while there && count < most.min(capacity) {
                    let place = model.places.get(count as usize);
                    match (consumer.ahead(count), place) {
                        (Ahead::Message(index), Some(&Place::Published(value))) => {
                            prop_assert_eq!(read(typed, index), value);
                        }
                        (Ahead::Skipped, Some(Place::Skipped)) => {}
                        (Ahead::Nothing, None | Some(Place::Claimed(_))) => break,
                        other => prop_assert!(false, "{:?} at {}", other, count),
                    }
                    count += 1;
                }
                consumer.release(count);
                model.release(count);
            }
            Operation::ReplaceReceiver => consumer = mpsc::Consumer::take_over(view(&heap)),
            Operation::Burst(number) => {
                for _ in 0..2 * capacity {
                    let producer = alive(&mut producers, view(&heap), &mut model, number);
                    model.give_up(number);
                    let room = (model.places.len() as u64) < capacity;
                    prop_assert_eq!(try_send(producer, typed, model.next), room);
                    if room {
                        model.places.push_back(Place::Published(model.next));
                        model.next += 1;
                    }
                    prop_assert_eq!(try_recv(&mut consumer, typed), model.recv());
                }
            }
        }
        prop_assert_eq!(consumer.len(), model.places.len() as u64);
        prop_assert_eq!(producers[0].len(), model.places.len() as u64);
        prop_assert_eq!(consumer.is_full(), model.places.len() as u64 == capacity);
        for (ahead, &place) in model.places.iter().enumerate() {
            let position = origin.wrapping_add(model.first + ahead as u64);
            let seen = observer.read(position, |index| read(typed, index));
            let there = match place {
                Place::Published(value) => Some(value),
                Place::Claimed(_) | Place::Skipped => None,
            };
            prop_assert_eq!(seen, there);
        }
    }
    Ok(())
}

fn lanes_behave_like_queues(
    eager: usize,
    capacity: u64,
    origin: u64,
    operations: &[Operation],
) -> Result<(), TestCaseError> {
    let heap = HeapLanes::<u64>::new(PRODUCERS, capacity, origin);
    let typed: Vec<_> = (0..PRODUCERS)
        .map(|lane| *heap.lane(lane).ring().slots())
        .collect();
    let mut producers: Vec<_> = (0..PRODUCERS).map(|lane| heap.producer(lane)).collect();
    let mut wakers = vec![Waker::by_futex(); PRODUCERS];
    // Each session has numbers of its own.
    let mut session = 0;
    let mut take_over = || {
        session += 1;
        let rings = (0..PRODUCERS).map(|lane| heap.lane(lane).ring());
        lanes::Consumer::take_over(rings, heap.common(), session, eager)
    };
    let mut consumer = take_over();
    let mut model = vec![VecDeque::new(); PRODUCERS];
    let mut next = 0;
    // Messages of one lane in a row, while another one had some.
    let mut run = (0, 0);
    let send = |producers: &mut Vec<lanes::Producer<_>>,
                wakers: &mut Vec<Waker>,
                model: &mut Vec<VecDeque<u64>>,
                next: &mut u64,
                lane: usize| {
        let producer = &mut producers[lane];
        let room = (model[lane].len() as u64) < capacity;
        prop_assert_eq!(producer.has_room(), room);
        prop_assert_eq!(try_send(producer, typed[lane], *next), room);
        if room {
            wakers[lane].notify(producer.call(), ALL);
            model[lane].push_back(*next);
            *next += 1;
        }
        Ok(())
    };
    let recv = |consumer: &mut lanes::Consumer<_>,
                model: &mut Vec<VecDeque<u64>>,
                run: &mut (usize, u64),
                most: u64| {
        let all: usize = model.iter().map(VecDeque::len).sum();
        prop_assert_eq!(consumer.len(), all as u64);
        prop_assert_eq!(consumer.is_empty(), all == 0);
        let slot = consumer.slot();
        prop_assert_eq!(slot.is_some(), all > 0);
        if slot.is_none() {
            return Ok(());
        }
        let lane = consumer.current();
        let count = most.min(consumer.turn()).min(model[lane].len() as u64);
        for ahead in 0..count {
            let Ahead::Message(index) = consumer.ahead(ahead) else {
                return Err(TestCaseError::fail("a message is missing"));
            };
            prop_assert_eq!(Some(read(typed[lane], index)), model[lane].pop_front());
        }
        consumer.release(count);
        let others = all - model[lane].len() - count as usize > 0;
        *run = match others {
            true if run.0 == lane => (lane, run.1 + count),
            true => (lane, count),
            false => (lane, 0),
        };
        prop_assert!(run.1 <= lanes::TURN, "{} of lane {}", run.1, lane);
        Ok(())
    };
    for operation in operations {
        match *operation {
            Operation::Send(lane) => {
                send(&mut producers, &mut wakers, &mut model, &mut next, lane)?
            }
            Operation::Claim(lane) => {
                if let Some(index) = producers[lane].slot() {
                    fill(typed[lane], index, u64::MAX);
                    prop_assert_eq!(producers[lane].slot(), Some(index));
                }
            }
            Operation::Publish(_) | Operation::RecvPastTheDead => {}
            Operation::Abandon(lane) => prop_assert!(!producers[lane].abandon()),
            Operation::Die(lane) => {
                producers[lane] = heap.producer(lane);
                wakers[lane] = Waker::by_futex();
            }
            Operation::Recv => recv(&mut consumer, &mut model, &mut run, 1)?,
            Operation::Batch(most) => recv(&mut consumer, &mut model, &mut run, most)?,
            Operation::ReplaceReceiver => {
                consumer = take_over();
                run = (0, 0);
            }
            Operation::Burst(lane) => {
                for _ in 0..2 * lanes::TURN {
                    send(&mut producers, &mut wakers, &mut model, &mut next, lane)?;
                    recv(&mut consumer, &mut model, &mut run, 1)?;
                }
            }
        }
        let is_full = |lane: &VecDeque<u64>| lane.len() as u64 == capacity;
        prop_assert_eq!(consumer.is_full(), model.iter().any(is_full));
        for (producer, lane) in producers.iter().zip(&model) {
            prop_assert_eq!(producer.len(), lane.len() as u64);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn several_producers_of_the_typed_ring_fill_one_queue(
        capacity in capacity(),
        origin in origin(),
        operations in prop::collection::vec(operation(), 1..200),
    ) {
        one_order_behaves_like_a_queue(capacity, origin, &operations, Heap::ring)?;
    }

    #[test]
    fn several_producers_of_the_untyped_ring_fill_one_queue(
        capacity in capacity(),
        origin in origin(),
        operations in prop::collection::vec(operation(), 1..200),
    ) {
        one_order_behaves_like_a_queue(capacity, origin, &operations, Heap::untyped_ring)?;
    }

    #[test]
    fn each_lane_behaves_like_a_queue_and_none_waits_for_more_than_a_turn(
        eager in prop_oneof![Just(0), Just(PRODUCERS)],
        capacity in (0..8_u32).prop_map(|shift| 1 << shift),
        origin in origin(),
        operations in prop::collection::vec(operation(), 1..200),
    ) {
        lanes_behave_like_queues(eager, capacity, origin, &operations)?;
    }
}
