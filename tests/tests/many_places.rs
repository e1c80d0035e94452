//! Places for senders: how many there are, who gets one, what is full, and who is woken from which.

use ipc_ring::{ManySenders, OpenError, Receiver, RecvError, Role, Sender, TrySendError, lanes};
use ipc_ring_tests::{
    Parent, RingName, Several, Stage, for_several_senders, of_kind, seize, sleeps_of, stage,
};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use std::{process, thread};

const MANY: u32 = 1023;

fn a_ring_for_one_sender_takes_one<K: Several>(stage: &Stage) {
    let name = stage.ring();
    let ring = || K::ring::<u64>(&name).capacity(4).max_senders(1);
    let mut rx = ring().receiver().unwrap();
    for round in 0..3 {
        let mut tx = ring().sender().unwrap();
        assert!(matches!(
            ring().sender(),
            Err(OpenError::TooManySenders { most: 1 } | OpenError::RoleTaken { .. })
        ));
        assert!(tx.try_clone().is_err());
        tx.send(round).unwrap();
        assert_eq!(rx.recv(), Ok(round));
    }
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

fn a_ring_for_1023_senders_takes_all_of_them<K: Several>(stage: &Stage) {
    let name = stage.ring();
    let ring = || K::ring::<u64>(&name).capacity(4).max_senders(MANY);
    let mut rx = ring().receiver().unwrap();
    let first = ring().sender().unwrap();
    let mut senders: Vec<Sender<u64, K>> = vec![first];
    while senders.len() < MANY as usize {
        let next = senders[0].try_clone().unwrap();
        senders.push(next);
    }
    assert!(matches!(
        ring().sender(),
        Err(OpenError::TooManySenders { most: MANY })
    ));
    for (number, tx) in senders.iter_mut().enumerate() {
        tx.send(number as u64).unwrap();
        if K::NAME != "lanes" {
            assert_eq!(rx.recv(), Ok(number as u64));
        }
    }
    if K::NAME == "lanes" {
        let mut all: Vec<_> = rx.try_iter().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..u64::from(MANY)));
    }
    let last = senders.pop().unwrap();
    drop(senders);
    let mut last = last;
    last.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(rx.participants().len(), MANY as usize + 1);
    drop(last);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

fn try_clone_waits_for_whoever_is_just_removing_a_ring_in_use<K: Several>(stage: &Stage) {
    let name = stage.ring();
    let ring = || K::ring::<u64>(&name).capacity(4);
    let mut rx = ring().receiver().unwrap();
    let mut tx = ring().sender().unwrap();
    for number in 0..10 {
        let seized = seize(&name.path());
        let (tell, hear) = channel();
        tx = thread::scope(|scope| {
            let clone = scope.spawn(move || {
                let thread = nix::unistd::gettid().as_raw();
                let sleeps = sleeps_of(process::id(), thread).unwrap();
                tell.send((thread, sleeps)).unwrap();
                tx.try_clone()
            });
            let (id, sleeps) = hear.recv().unwrap();
            // It has found the ring seized, more than once: it sleeps between two looks.
            let deadline = Instant::now() + Duration::from_secs(10);
            while !clone.is_finished()
                && sleeps_of(process::id(), id).is_some_and(|now| now < sleeps + 3)
            {
                assert!(Instant::now() < deadline, "it neither fails nor waits");
                thread::yield_now();
            }
            drop(seized);
            clone
                .join()
                .unwrap()
                .unwrap_or_else(|error| panic!("{error}"))
        });
        tx.send(number).unwrap();
        assert_eq!(rx.recv(), Ok(number));
    }
}

fn try_clone_never_fails_by_chance<K: Several>(stage: &Stage) {
    const THREADS: u64 = 6;
    const CLONES: u64 = 150;
    let name = stage.ring();
    let ring = || {
        K::ring::<u64>(&name)
            .capacity(64)
            .max_senders(2 * THREADS as u32)
    };
    let mut rx = ring().receiver().unwrap();
    let barrier = &Barrier::new(THREADS as usize + 1);
    let is_over = &AtomicBool::new(false);
    let sum = thread::scope(|scope| {
        let clones: Vec<_> = (0..THREADS)
            .map(|_| {
                let tx = ring().sender().unwrap();
                scope.spawn(move || {
                    barrier.wait();
                    for number in 0..CLONES {
                        let clone = tx.try_clone();
                        let mut clone = clone.unwrap_or_else(|error| panic!("{error}"));
                        clone.send(number).unwrap();
                    }
                })
            })
            .collect();
        // Who tries to remove it is refused, and holds for a moment what joining needs.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                ipc_ring::remove(&name).unwrap_err();
            }
        });
        barrier.wait();
        let sum: u64 = rx.iter().take((THREADS * CLONES) as usize).sum();
        let joined: Vec<_> = clones.into_iter().map(|clone| clone.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        for result in joined {
            result.expect("what it says");
        }
        sum
    });
    assert_eq!(sum, THREADS * CLONES * (CLONES - 1) / 2);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn lanes_are_full_when_one_lane_is() {
    let name = RingName::of("full_lanes");
    let mut rx = lanes::<u64>(&name)
        .capacity(2)
        .max_senders(3)
        .receiver()
        .unwrap();
    let mut one = lanes::<u64>(&name).sender().unwrap();
    let mut two = one.try_clone().unwrap();
    one.send(1).unwrap();
    two.send(2).unwrap();
    // As many as a lane holds, but not in one.
    assert_eq!((rx.len(), rx.capacity()), (2, 2));
    assert!(!rx.is_full() && !one.is_full() && !two.is_full());
    two.send(3).unwrap();
    assert_eq!((rx.len(), one.len(), two.len()), (3, 1, 2));
    assert!(rx.is_full() && !one.is_full() && two.is_full());
    assert_eq!(two.try_send(4), Err(TrySendError::Full(4)));
    one.send(5).unwrap();
    assert_eq!(rx.len(), 4);
    while rx.is_full() {
        rx.recv().unwrap();
    }
    assert!(!one.is_full() && !two.is_full());
    one.try_send(6).unwrap();
    two.try_send(7).unwrap();
}

/// Receives until all have left, and tells each message.
/// Arguments: kind, ring.
fn receives(parent: &mut Parent) {
    of_kind!(parent.argument(0), tells_what_it_receives(parent));
}

fn tells_what_it_receives<K: Several>(parent: &mut Parent) {
    let mut rx = K::ring::<u64>(parent.argument(1)).receiver().unwrap();
    parent.tell("ready");
    for message in &mut rx {
        parent.tell(message);
    }
}

/// How often the sender in the place `index` found the receiver asleep and woke it.
fn wakes<K: ManySenders>(tx: &Sender<u64, K>, index: u32) -> u64 {
    let participants = tx.participants();
    let sender = participants
        .iter()
        .find(|who| who.role == Role::Sender && who.index == index);
    sender.unwrap().counters.wakes
}

fn a_receiver_that_has_slept_for_long_is_woken_by_whoever_sends<K: Several>(stage: &Stage) {
    let name = stage.ring();
    let ring = || K::ring::<u64>(&name).capacity(4).max_senders(20);
    // More lanes than are always looked at.
    let mut senders: Vec<_> = (0..20).map(|_| ring().sender().unwrap()).collect();
    let mut receiver = stage.start("receives", &[K::NAME, &name]);
    assert_eq!(receiver.hear(), "ready");
    // By turns one that has never sent and one that has just been idle.
    for (round, index) in [(1, 3), (1, 17), (2, 3), (1, 11), (2, 17)] {
        // So many slices of sleep, and looks in between, that idle lanes are told from busy ones.
        receiver.wait_until_slept(6);
        senders[index].send(index as u64).unwrap();
        assert_eq!(receiver.hear(), index.to_string());
        // It rang, and did not leave it to the next slice.
        assert_eq!(
            wakes(&senders[index], index as u32),
            round,
            "sender {index}"
        );
    }
    drop(senders);
    receiver.finish();
}

#[test]
fn a_receiver_of_lanes_that_slept_is_awake_for_good() {
    // What was armed for the sleep is taken back on all lanes: sending does not ring for nobody.
    let name = RingName::of("awake_for_good");
    let mut rx: Receiver<u64, _> = lanes(&name)
        .capacity(64)
        .max_senders(12)
        .receiver()
        .unwrap();
    let mut senders: Vec<_> = (0..12).map(|_| lanes(&name).sender().unwrap()).collect();
    let short = Duration::from_millis(120);
    assert!(rx.recv_timeout(short).is_err());
    for _ in 0..20 {
        for tx in &mut senders {
            tx.send(1).unwrap();
        }
    }
    assert_eq!(rx.try_iter().count(), 240);
    for (index, tx) in senders.iter().enumerate() {
        assert_eq!(wakes(tx, index as u32), 0);
    }
}

#[test]
fn a_sender_killed_in_its_place_frees_it_at_once() {
    let stage = stage!(receives, keeps_a_place);
    let name = stage.ring();
    let ring = || lanes::<u64>(&name).capacity(4).max_senders(2);
    let mut rx = ring().receiver().unwrap();
    let _other = ring().sender().unwrap();
    for _ in 0..20 {
        let mut keeper = stage.start("keeps_a_place", &[&name]);
        assert_eq!(keeper.hear(), "sent");
        assert!(matches!(
            ring().sender(),
            Err(OpenError::TooManySenders { most: 2 })
        ));
        keeper.kill();
        let mut successor = ring().sender().unwrap();
        successor.send(2).unwrap();
        assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(1), Ok(2)));
    }
}

/// Arguments: ring.
fn keeps_a_place(parent: &mut Parent) {
    let mut tx = lanes::<u64>(parent.argument(0)).sender().unwrap();
    tx.send(1).unwrap();
    parent.tell("sent");
    parent.hear();
}

for_several_senders! {
    a_ring_for_one_sender_takes_one();
    a_ring_for_1023_senders_takes_all_of_them();
    try_clone_never_fails_by_chance();
    try_clone_waits_for_whoever_is_just_removing_a_ring_in_use();
    a_receiver_that_has_slept_for_long_is_woken_by_whoever_sends(receives);
}
