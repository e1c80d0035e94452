//! Sleepers that have alarms, of each device. A ring that is lost is a deadlock here, since a model's sleep has no slices.

use super::{check, check_within};
use crate::layout::Alarm;
use crate::ring::{Consume, Produce, mpsc, spsc};
use crate::segment::heap::Heap;
use crate::segment::heap::traffic::{try_recv, try_send};
use crate::sync::Fault;
use crate::sys::doorbell::{Doorbell, Queue};
use crate::wait::alarm::{Device, Doorbells, Others, Own};
use crate::wait::{ALL, READY, Reach, SLICE, Sleeper, Waker};
use loom::sync::Arc;
use loom::thread;
use std::ops::Range;
use std::ptr::NonNull;

const DEVICES: [Device; 3] = [Device::Semaphore, Device::Condvar, Device::Doorbell];

/// The alarms of so many participants.
struct Alarms {
    device: Device,
    alarms: Box<[Alarm]>,
    queues: std::sync::Arc<[std::sync::Arc<Queue>]>,
}

impl Alarms {
    fn new(device: Device, participants: usize) -> Self {
        Self {
            device,
            alarms: (0..participants).map(|_| Alarm::new()).collect(),
            queues: (0..participants)
                .map(|_| Queue::new(participants as u32).into())
                .collect(),
        }
    }

    fn all(&self) -> Range<u32> {
        0..self.alarms.len() as u32
    }

    fn sleeper(&self, index: u32) -> Sleeper {
        let doorbell = Doorbell::of(self.queues[0].clone());
        let alarms = NonNull::from(&*self.alarms).cast();
        // SAFETY: callers keep the alarms alive.
        #[allow(unsafe_code, reason = "a model's own alarms")]
        let own = unsafe { Own::new(alarms, index, &self.all(), self.device, Some(doorbell)) };
        Sleeper::new(0, own)
    }

    /// For who wakes all of them.
    fn waker(&self) -> Waker {
        let queues = self.queues.clone();
        let open = move |index: u32| Some(Doorbell::of(queues[index as usize].clone()));
        let doorbells = Doorbells::new(self.alarms.len() as u32, open).into();
        let alarms = NonNull::from(&*self.alarms).cast();
        // SAFETY: as in `sleeper`.
        #[allow(unsafe_code, reason = "a model's own alarms")]
        let others =
            unsafe { Others::new(alarms, self.all(), self.device, Some(doorbells), READY) };
        Waker::new(true, Reach::Alarms(others))
    }
}

/// A receiver that sleeps twice, and a sender.
fn two_messages(device: Device) {
    let heap = Arc::new(Heap::<u64>::new(2, 0));
    let alarms = Arc::new(Alarms::new(device, 1));
    let mut producer = spsc::Producer::take_over(heap.ring());
    let mut consumer = spsc::Consumer::take_over(heap.ring());
    let sender = thread::spawn({
        let (heap, alarms) = (heap.clone(), alarms.clone());
        move || {
            let mut waker = alarms.waker();
            for value in 0..2 {
                assert!(try_send(&mut producer, *heap.ring().slots(), value));
                waker.notify(producer.call(), ALL);
            }
        }
    });
    let mut sleeper = alarms.sleeper(0);
    for expected in 0..2 {
        let value = loop {
            if let Some(value) = try_recv(&mut consumer, *heap.ring().slots()) {
                break value;
            }
            sleeper.sleep(&mut consumer, SLICE, |consumer| consumer.slot().is_some());
        };
        sleeper.wake_up(&mut consumer);
        assert_eq!(value, expected);
    }
    sender.join().unwrap();
}

/// Two senders that sleep on a full ring, with one word and an alarm each, and a receiver that gives slots back one by one.
fn two_senders_sleep(device: Device) {
    let heap = Arc::new(Heap::<u64>::new(2, 0));
    let alarms = Arc::new(Alarms::new(device, 2));
    let mut consumer = mpsc::Consumer::take_over(heap.ring());
    let mut one = mpsc::Producer::join(heap.ring(), 0);
    let two = mpsc::Producer::join(heap.ring(), 1);
    for value in 0..2 {
        assert!(try_send(&mut one, *heap.ring().slots(), value));
    }
    let senders = [one, two]
        .into_iter()
        .enumerate()
        .map(|(index, mut producer)| {
            let (heap, alarms) = (heap.clone(), alarms.clone());
            thread::spawn(move || {
                let mut sleeper = alarms.sleeper(index as u32);
                while !try_send(&mut producer, *heap.ring().slots(), 10) {
                    sleeper.sleep(&mut producer, SLICE, |producer| producer.has_room());
                }
                sleeper.wake_up(&mut producer);
            })
        });
    let senders = senders.collect::<Vec<_>>();
    let mut waker = alarms.waker();
    for _ in 0..2 {
        assert!(try_recv(&mut consumer, *heap.ring().slots()).is_some());
        waker.notify(consumer.call(), 1);
    }
    for sender in senders {
        sender.join().unwrap();
    }
}

/// What a device makes possible to do wrong, of one sleeper and of several.
fn own_faults(device: Device) -> (&'static [Fault], &'static [Fault]) {
    match device {
        // The mutex keeps a notification from falling between the sleeper's look at the word and its sleep.
        Device::Condvar => (&[Fault::NotifyUnlocked, Fault::WaitingSaidLate], &[]),
        Device::Semaphore | Device::Doorbell => {
            (&[Fault::RingsTakenBackLate], &[Fault::OthersRingsTakenBack])
        }
    }
}

#[test]
fn a_receiver_that_sleeps_by_its_alarm_is_woken_by_the_next_message() {
    for device in DEVICES {
        let faults = [
            Fault::NoLightBarrier,
            Fault::NoHeavyBarrier,
            Fault::NoSecondLook,
            Fault::NoWake,
        ];
        let faults = [&faults, own_faults(device).0].concat();
        check(move || two_messages(device), &faults);
    }
}

/// With so many preemptions at most.
fn senders_are_woken_one_by_one(bound: usize, device: Device) {
    let faults = [Fault::NoWake, Fault::NoHeavyBarrier];
    let faults = [&faults, own_faults(device).1].concat();
    check_within(bound, move || two_senders_sleep(device), &faults);
}

#[test]
fn senders_that_share_a_word_are_woken_one_by_one_by_a_semaphore() {
    senders_are_woken_one_by_one(1, Device::Semaphore);
}

#[test]
fn senders_that_share_a_word_are_woken_one_by_one_by_condition_variables() {
    senders_are_woken_one_by_one(2, Device::Condvar);
}

#[test]
fn senders_that_share_a_word_are_woken_one_by_one_by_a_doorbell() {
    senders_are_woken_one_by_one(1, Device::Doorbell);
}
