//! Random schedules of what loom can't hold: many senders that join, leave, die and are replaced.
//!
//! Shuttle has no weak memory: a missing barrier or a weaker ordering shows in `models` only, under loom. Here it is
//! steps that are left out. Each model names those that must make it fail.
//!
//! Run by plain `cargo test` through the member `tests/shuttle`. Seeds are fixed, so that what a run finds it finds again;
//! `SHUTTLE_RANDOM_SEED` takes another one for the uniform schedules.

mod lanes;
mod mpsc;
mod waking;

use crate::layout::Entry;
use crate::sync::{Fault, plant};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::atomic::AtomicBool;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner, thread};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Runs `model` in `schedules` random schedules, then again with each fault planted, and insists that it fails each time.
fn check(schedules: usize, model: impl Fn() + Send + Sync + 'static, faults: &[Fault]) {
    let model = Arc::new(model);
    explore(schedules, model.clone(), FailurePersistence::Print);
    for &fault in faults {
        plant(Some(fault));
        let control = AssertUnwindSafe(|| {
            explore(schedules, model.clone(), FailurePersistence::None);
        });
        let failed = catch_unwind(control).is_err();
        plant(None);
        assert!(
            failed,
            "the model holds with {fault:?}: it shows nothing about it"
        );
    }
}

/// Most schedules choose at each step who goes on; some stick to one thread and leave it a few times only.
fn explore(
    schedules: usize,
    model: Arc<impl Fn() + Send + Sync + 'static>,
    persistence: FailurePersistence,
) {
    const SEED: u64 = 0x5eed;
    const SWITCHES: usize = 4;
    let config = || {
        let mut config = Config::new();
        config.silence_warnings = true;
        config.failure_persistence = persistence.clone();
        // Some wait by polling: who waits in vain is found by this.
        config.max_steps = MaxSteps::FailAfter(100_000);
        config
    };
    let uniform = RandomScheduler::new_from_seed(SEED, schedules);
    Runner::new(uniform, config()).run({
        let model = model.clone();
        move || model()
    });
    let sticky = PctScheduler::new_from_seed(SEED, SWITCHES, schedules / 4);
    Runner::new(sticky, config()).run(move || model());
}

/// One of `choices`.
fn pick<T: Copy>(choices: &[T]) -> T {
    choices[thread_rng().gen_range(0..choices.len())]
}

/// Nothing, if the caller dies here, by a chance of one in `chance`.
fn survive(chance: u32) -> Option<()> {
    (thread_rng().gen_range(0..chance) != 0).then_some(())
}

/// A participant's index: the kernel's lock, and the entry in the segment.
struct Place {
    held: AtomicBool,
    entry: Entry,
}

impl Place {
    /// Acquire: pairs with the Release in `release`; the kernel orders so.
    fn try_take(&self) -> bool {
        let taken = self
            .held
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok()
    }

    /// The holder has left or died.
    fn release(&self) {
        self.held.store(false, Ordering::Release);
    }

    /// The kernel's word.
    fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }
}

fn places(count: usize) -> Vec<Place> {
    let place = || Place {
        held: AtomicBool::new(false),
        entry: Entry::new(),
    };
    (0..count).map(|_| place()).collect()
}

/// Takes any of the places, and waits until one is free.
fn take_any(places: &[Place]) -> usize {
    loop {
        let start = thread_rng().gen_range(0..places.len());
        let order = (start..places.len()).chain(0..start);
        if let Some(index) = order.into_iter().find(|&index| places[index].try_take()) {
            return index;
        }
        thread::yield_now();
    }
}

/// Has each of so many threads lead so many lives, one after the other, and waits for their ends.
fn lead_lives(threads: usize, lives: usize, life: impl Fn() + Clone + Send + 'static) {
    let lead = |_| {
        let life = life.clone();
        thread::spawn(move || (0..lives).for_each(|_| life()))
    };
    for thread in Vec::from_iter((0..threads).map(lead)) {
        thread.join().unwrap();
    }
}

/// When each message was sent, by a clock that schedules nothing. A message is its own number in here.
#[derive(Default)]
struct History(Mutex<Log>);

#[derive(Default)]
struct Log {
    time: u64,
    sent: Vec<Sent>,
}

#[derive(Clone, Copy)]
struct Sent {
    /// Order holds among messages with the same number.
    lane: usize,
    begun: u64,
    ended: Option<u64>,
}

impl History {
    /// A message to come.
    fn message(&self, lane: usize) -> u64 {
        let mut log = self.0.lock().unwrap();
        log.sent.push(Sent {
            lane,
            begun: 0,
            ended: None,
        });
        log.sent.len() as u64 - 1
    }

    /// An attempt to send it begins; those before were in vain.
    fn begin(&self, message: u64) {
        let mut log = self.0.lock().unwrap();
        log.time += 1;
        log.sent[message as usize].begun = log.time;
    }

    /// It is published.
    fn end(&self, message: u64) {
        let mut log = self.0.lock().unwrap();
        log.time += 1;
        log.sent[message as usize].ended = Some(log.time);
    }

    /// Insists that what was published arrived, once, and nothing else did; and that what was sent before another message was
    /// begun arrived before it.
    fn check(&self, received: &[u64]) {
        let log = self.0.lock().unwrap();
        let mut arrived = received.to_vec();
        arrived.sort_unstable();
        let is_published = |&message: &u64| log.sent[message as usize].ended.is_some();
        let published = (0..log.sent.len() as u64).filter(is_published);
        assert_eq!(arrived, Vec::from_iter(published), "lost, or twice");
        for (place, &message) in received.iter().enumerate() {
            let later = log.sent[message as usize];
            for &earlier in &received[..place] {
                let earlier = log.sent[earlier as usize];
                let in_order = later.ended > Some(earlier.begun);
                assert!(
                    in_order || earlier.lane != later.lane,
                    "out of order: {received:?}"
                );
            }
        }
    }
}
