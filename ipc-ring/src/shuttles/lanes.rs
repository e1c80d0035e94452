//! A lane for each sender, taken over from the dead, and a receiver that sleeps.

use super::{History, Place, check, lead_lives, pick, places, survive, take_any};
use crate::ring::lanes::{Consumer, Producer};
use crate::ring::{Consume, Produce, TypedSlots};
use crate::segment::heap::HeapLanes;
use crate::segment::heap::traffic::{fill, read};
use crate::sync::Fault;
use crate::wait::{ALL, SLICE, Sleeper, Waker};
use shuttle::thread;
use std::sync::Arc;

/// One in so many steps of a sender is its last.
const SENDER_DIES: u32 = 10;
/// One in so many steps of the receiver is its last.
const RECEIVER_DIES: u32 = 40;

/// The last message of all.
const END: u64 = u64::MAX;

/// Lanes, and those who may take them.
struct World {
    heap: HeapLanes<u64>,
    places: Vec<Place>,
    history: History,
    /// With no more lanes than these, none is idle.
    eager: usize,
}

/// One holder of a lane.
struct Sender {
    producer: Producer<TypedSlots<u64>>,
    sleeper: Sleeper,
    waker: Waker,
    lane: usize,
    /// It has published and not yet called the receiver.
    owes: bool,
}

impl Sender {
    fn new(world: &World, lane: usize, session: u64) -> Self {
        Self {
            producer: world.heap.producer(lane),
            sleeper: Sleeper::new(session, None),
            waker: Waker::by_futex(),
            lane,
            owes: false,
        }
    }

    /// Sends one message, asleep while there is no room.
    fn send(
        &mut self,
        world: &World,
        message: u64,
        survive: impl Fn() -> Option<()>,
    ) -> Option<()> {
        let slot = loop {
            survive()?;
            if message != END {
                world.history.begin(message);
            }
            if let Some(slot) = self.producer.slot() {
                break slot;
            }
            self.sleeper
                .sleep(&mut self.producer, SLICE, |producer| producer.has_room());
        };
        self.sleeper.wake_up(&mut self.producer);
        survive()?;
        fill(*world.heap.lane(self.lane).ring().slots(), slot, message);
        survive()?;
        self.producer.publish();
        if message != END {
            world.history.end(message);
        }
        self.owes = true;
        survive()?;
        self.waker.notify(self.producer.call(), ALL);
        self.owes = false;
        Some(())
    }
}

impl World {
    /// Holds the lane from joining to leaving or dying.
    fn live(&self, lane: usize) {
        let place = &self.places[lane];
        let number = place.entry.next_number();
        let mut sender = Sender::new(self, lane, number);
        place.entry.join(number);
        let mut messages = 0..pick(&[1, 2, 3]);
        let left = messages.try_for_each(|_| {
            let message = self.history.message(lane);
            sender.send(self, message, || survive(SENDER_DIES))
        });
        if left.is_some() {
            place.entry.leave(number);
        }
        place.release();
        if sender.owes {
            // Nothing but the end of its slice need wake a receiver whom the dead one did not. It ends here only, so that
            // any other wake that is lost is a deadlock.
            sender.producer.call().futex.end_slices();
        }
    }

    /// Receives to the end, as one receiver after the other.
    fn receive(&self) -> Vec<u64> {
        let mut received = Vec::new();
        let mut sessions = 1..;
        while self
            .receive_some(sessions.next().unwrap(), &mut received)
            .is_none()
        {}
        received.retain(|&message| message != END);
        received
    }

    /// Receives until killed, or to the end.
    fn receive_some(&self, session: u64, received: &mut Vec<u64>) -> Option<()> {
        let lanes = 0..self.places.len();
        let rings = lanes.map(|lane| self.heap.lane(lane).ring());
        let mut consumer = Consumer::take_over(rings, self.heap.common(), session, self.eager);
        let mut sleeper = Sleeper::new(session, None);
        let mut wakers = vec![Waker::by_futex(); self.places.len()];
        loop {
            survive(RECEIVER_DIES)?;
            let Some(slot) = consumer.slot() else {
                // All lanes are empty, and nobody but us is left to send.
                if received.contains(&END) {
                    return Some(());
                }
                // So often looks who sleeps for two slices.
                let look = |consumer: &mut Consumer<_>| (0..6).any(|_| consumer.slot().is_some());
                sleeper.sleep(&mut consumer, SLICE, look);
                continue;
            };
            sleeper.wake_up(&mut consumer);
            survive(RECEIVER_DIES)?;
            let lane = consumer.current();
            let message = read(*self.heap.lane(lane).ring().slots(), slot);
            survive(RECEIVER_DIES)?;
            consumer.release(1);
            received.push(message);
            let Some(()) = survive(RECEIVER_DIES) else {
                // As above: the slice of the sender that the dead one did not wake.
                consumer.call().futex.end_slices();
                return None;
            };
            wakers[lane].notify(consumer.call(), ALL);
        }
    }
}

#[test]
fn lanes_that_are_taken_over_from_the_dead_lose_nothing_and_wake_whom_they_must() {
    const THREADS: usize = 4;
    const LIVES: usize = 2;
    let model = || {
        let lanes = pick(&[2, 3]);
        let world = Arc::new(World {
            heap: HeapLanes::new(lanes, pick(&[1, 2]), u64::MAX - 1),
            places: places(lanes),
            history: History::default(),
            eager: pick(&[0, 8]),
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
        let last = lanes - 1;
        let number = world.places[last].entry.next_number();
        let mut sender = Sender::new(&world, last, number);
        sender.send(&world, END, || Some(()));
        let received = receiver.join().unwrap();
        world.history.check(&received);
    };
    check(
        10_000,
        model,
        &[
            Fault::NoWake,
            Fault::OneLaneArmed,
            Fault::IdleWhileArmed,
            Fault::NoSecondLook,
            Fault::TakeOverAtHead,
        ],
    );
}
