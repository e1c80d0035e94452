//! Roles that go from one process to the next: what a successor hears, and whom nobody may keep from coming.

use ipc_ring::{OpenError, RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};
use ipc_ring_tests::step::{Progress, Tracee, marker, submit, supported};
use ipc_ring_tests::{AnyKind, Parent, Stage, for_all_kinds, of_any_kind, skip};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Longer than a slice of sleep, in which the kernel is asked.
const SLICES: Duration = Duration::from_millis(120);
const LONG: Duration = Duration::from_secs(60);

/// Joins as the receiver, receives one message if there is one, and is killed.
/// Arguments: kind, ring.
fn receives_one(parent: &mut Parent) {
    of_any_kind!(parent.argument(0), receives_one_of(parent));
}

fn receives_one_of<K: AnyKind>(parent: &mut Parent) {
    let mut rx = K::ring::<u64>(parent.argument(1)).receiver().unwrap();
    parent.tell("joined");
    while parent.hear() == "receive" {
        parent.tell(rx.recv().unwrap());
    }
}

fn a_killed_receiver_leaves_an_ending_that_it_did_not_hear_to_its_successor<K: AnyKind>(
    stage: &Stage,
) {
    let name = stage.ring();
    let ring = || K::ring::<u64>(&name).capacity(4);
    let mut tx = ring().sender().unwrap();
    let mut receiver = stage.start("receives_one", &[K::NAME, &name]);
    assert_eq!(receiver.hear(), "joined");
    tx.send(1).unwrap();
    receiver.say("receive");
    assert_eq!(receiver.hear(), "1");
    drop(tx);
    receiver.kill();
    let mut rx = ring().receiver().unwrap();
    assert_eq!(rx.recv_timeout(LONG), Err(RecvTimeoutError::Closed));
    // This one leaves, and so has heard what it wanted to.
    drop(rx);
    let mut rx = ring().receiver().unwrap();
    assert_eq!(rx.recv_timeout(SLICES), Err(RecvTimeoutError::Timeout));
}

/// Joins as a sender, and is killed.
/// Arguments: kind, ring.
fn joins_as_sender(parent: &mut Parent) {
    of_any_kind!(parent.argument(0), joins_as_sender_of(parent));
}

fn joins_as_sender_of<K: AnyKind>(parent: &mut Parent) {
    let _tx = K::ring_for::<u64>(parent.argument(1), 1).sender().unwrap();
    parent.tell("joined");
    parent.hear();
}

fn a_killed_receiver_leaves_a_death_that_it_was_not_told_of_to_its_successor<K: AnyKind>(
    stage: &Stage,
) {
    let name = stage.ring();
    let ring = || K::ring_for::<u64>(&name, 1).capacity(4);
    drop(ring().receiver().unwrap());
    let mut receiver = stage.start("receives_one", &[K::NAME, &name]);
    let mut sender = stage.start("joins_as_sender", &[K::NAME, &name]);
    assert_eq!(receiver.hear(), "joined");
    assert_eq!(sender.hear(), "joined");
    let pid = sender.id();
    sender.kill();
    receiver.kill();
    let mut rx = ring().receiver().unwrap();
    match rx.recv_timeout(LONG) {
        Err(RecvTimeoutError::SenderDied { pid: told, .. }) => assert_eq!(told, pid),
        other => panic!("{other:?}"),
    }
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
}

fn a_killed_sender_leaves_the_word_that_the_receiver_left_to_its_successor<K: AnyKind>(
    stage: &Stage,
) {
    let name = stage.ring();
    let ring = || K::ring_for::<u64>(&name, 1).capacity(2);
    let rx = ring().receiver().unwrap();
    let mut sender = stage.start("joins_as_sender", &[K::NAME, &name]);
    assert_eq!(sender.hear(), "joined");
    drop(rx);
    sender.kill();
    let mut tx = ring().sender().unwrap();
    assert_eq!(tx.try_send(1), Err(TrySendError::Closed(1)));
    drop(tx);
    // The next one comes after that, and buffers for whoever comes; and so does one in whose place it is killed.
    let mut sender = stage.start("joins_as_sender", &[K::NAME, &name]);
    assert_eq!(sender.hear(), "joined");
    sender.kill();
    let mut tx = ring().sender().unwrap();
    tx.try_send(1).unwrap();
    tx.try_send(2).unwrap();
    let full = tx.send_timeout(3, SLICES);
    assert_eq!(full, Err(SendTimeoutError::Timeout(3)));
}

/// Is refused, in a stretch between two markers.
/// Arguments: kind, ring.
fn is_refused(parent: &mut Parent) {
    of_any_kind!(parent.argument(0), is_refused_by(parent));
}

fn is_refused_by<K: AnyKind>(parent: &mut Parent) {
    submit().unwrap();
    parent.tell("submitted");
    let ring = K::ring_for::<u64>(parent.argument(1), 1).open_timeout(Duration::ZERO);
    marker();
    let refused = ring.sender().map(drop);
    marker();
    assert!(matches!(
        refused,
        Err(OpenError::RoleTaken { .. } | OpenError::TooManySenders { .. })
    ));
}

fn who_is_refused_and_stopped_keeps_nobody_from_coming<K: AnyKind>(stage: &Stage) {
    if let Err(reason) = supported() {
        return skip(reason);
    }
    let name = stage.ring();
    let ring = || {
        let ring = K::ring_for::<u64>(&name, 1).capacity(2);
        ring.open_timeout(Duration::ZERO)
    };
    let _tx = ring().sender().unwrap();
    let mut child = stage.start("is_refused", &[K::NAME, &name]);
    assert_eq!(child.hear(), "submitted");
    let mut tracee = Tracee::meet(child.thread()).unwrap();
    let mut stops = 0;
    while tracee.run_to_system_call().unwrap() == Progress::Inside {
        stops += 1;
        let joined = ring().receiver();
        drop(joined.unwrap_or_else(|error| panic!("at stop {stops}: {error}")));
    }
    assert!(stops > 10, "{stops}");
    tracee.release().unwrap();
    child.finish();
}

/// Reads what the kernel knows of a process's memory, as monitors do, and so keeps it from being torn down.
fn look_into(pid: u32, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let _ = fs::read(format!("/proc/{pid}/smaps_rollup"));
    }
}

fn who_comes_when_the_dead_one_is_still_looked_into_waits_for_a_moment<K: AnyKind>(stage: &Stage) {
    let name = stage.ring();
    let ring = || K::ring_for::<u64>(&name, 1).capacity(2);
    let _rx = ring().receiver().unwrap();
    for _ in 0..20 {
        let mut sender = stage.start("joins_as_sender", &[K::NAME, &name]);
        assert_eq!(sender.hear(), "joined");
        let pid = sender.id();
        let is_over = &AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(move || look_into(pid, is_over));
            sender.kill();
            let successor = ring().sender();
            is_over.store(true, Ordering::Relaxed);
            successor.unwrap_or_else(|error| panic!("{error}"));
        });
    }
}

for_all_kinds! {
    a_killed_receiver_leaves_an_ending_that_it_did_not_hear_to_its_successor(receives_one);
    a_killed_receiver_leaves_a_death_that_it_was_not_told_of_to_its_successor(receives_one, joins_as_sender);
    a_killed_sender_leaves_the_word_that_the_receiver_left_to_its_successor(joins_as_sender);
    who_is_refused_and_stopped_keeps_nobody_from_coming(is_refused);
    who_comes_when_the_dead_one_is_still_looked_into_waits_for_a_moment(joins_as_sender);
}
