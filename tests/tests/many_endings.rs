//! What several senders and their receiver are told when others leave, die, are stopped, or come back.

use ipc_ring::{
    Builder, Peer, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError,
    TrySendError,
};
use ipc_ring_tests::{Child, Parent, Several, Stage, for_several_senders, of_kind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const CAPACITY: u64 = 8;
const LONG: Duration = Duration::from_secs(60);
/// Longer than a slice of sleep, in which the kernel is asked.
const SLICES: Duration = Duration::from_millis(120);

fn ring<K: Several>(name: &str) -> Builder<u64, K> {
    K::ring(name).capacity(CAPACITY as usize)
}

/// Receives a count of messages, peeks at the one after if there is one, and keeps its handle until it is killed, or told to
/// leave.
/// Arguments: kind, ring, count.
fn receives(parent: &mut Parent) {
    of_kind!(parent.argument(0), receives_some(parent));
}

fn receives_some<K: Several>(parent: &mut Parent) {
    let mut rx = ring::<K>(parent.argument(1)).receiver().unwrap();
    for number in 0..parent.number(2) {
        assert_eq!(rx.recv(), Ok(number));
    }
    match rx.try_peek_copied() {
        Ok(message) => parent.tell(message),
        Err(error) => parent.tell(error),
    }
    parent.hear();
}

/// Fills the ring (of lanes: its lane), sends one more, and tells what becomes of that.
/// Arguments: kind, ring.
fn blocks(parent: &mut Parent) {
    of_kind!(parent.argument(0), sends_too_many(parent));
}

fn sends_too_many<K: Several>(parent: &mut Parent) {
    let mut tx = ring::<K>(parent.argument(1)).sender().unwrap();
    while tx.try_send(0).is_ok() {}
    parent.tell("full");
    match tx.send(99) {
        Ok(()) => parent.tell("sent"),
        Err(SendError::Closed(99)) => parent.tell("closed"),
        Err(SendError::ReceiverDied(99)) => parent.tell("died"),
        Err(error) => panic!("{error}"),
    }
    parent.hear();
}

fn start_receiver<K: Several>(stage: &Stage, name: &str, count: u64) -> Child {
    let mut receiver = stage.start("receives", &[K::NAME, name, &count.to_string()]);
    receiver.hear();
    receiver
}

/// So many senders asleep on a full ring.
fn start_blocked<K: Several>(stage: &Stage, name: &str, count: usize) -> Vec<Child> {
    let mut senders: Vec<_> = (0..count)
        .map(|_| stage.start("blocks", &[K::NAME, name]))
        .collect();
    for sender in &mut senders {
        assert_eq!(sender.hear(), "full");
        sender.wait_until_asleep();
    }
    senders
}

fn leave(mut child: Child) {
    child.say("leave");
    child.finish();
}

fn closed_is_said_when_the_last_sender_has_left_and_all_is_drained<K: Several>(stage: &Stage) {
    let name = stage.ring();
    let mut rx = ring::<K>(&name).receiver().unwrap();
    assert_eq!(
        rx.recv_timeout(SLICES),
        Err(RecvTimeoutError::Timeout),
        "nobody came yet"
    );
    for _ in 0..2 {
        let mut one = ring::<K>(&name).sender().unwrap();
        let mut two = one.try_clone().unwrap();
        one.send(1).unwrap();
        drop(one);
        assert_eq!(rx.recv(), Ok(1));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(rx.recv_timeout(SLICES), Err(RecvTimeoutError::Timeout));
        two.send_slice(&[2, 3, 4]).unwrap();
        drop(two);
        assert_eq!((rx.try_recv(), rx.recv()), (Ok(2), Ok(3)));
        assert_eq!(rx.recv_timeout(LONG), Ok(4));
        for _ in 0..2 {
            assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
            assert_eq!(rx.recv(), Err(RecvError::Closed));
            assert_eq!(rx.recv_timeout(LONG), Err(RecvTimeoutError::Closed));
            assert_eq!(rx.peek_copied(), Err(RecvError::Closed));
            assert_eq!(rx.iter().next(), None);
            assert_eq!((rx.try_iter().next(), rx.drain().next()), (None, None));
        }
    }
}

fn every_sender_hears_that_the_receiver_left<K: Several>(stage: &Stage) {
    let name = stage.ring();
    let mut one = ring::<K>(&name).sender().unwrap();
    let mut two = ring::<K>(&name).sender().unwrap();
    for _ in 0..2 {
        let receiver = start_receiver::<K>(stage, &name, 0);
        one.send(0).unwrap();
        two.send(0).unwrap();
        leave(receiver);
        for tx in [&mut one, &mut two] {
            assert_eq!(tx.try_send(1), Err(TrySendError::Closed(1)));
            assert_eq!(tx.try_send_ref(&1), Err(TrySendError::Closed(())));
            assert_eq!(tx.send(1), Err(SendError::Closed(1)));
            assert_eq!(tx.send_timeout(1, LONG), Err(SendTimeoutError::Closed(1)));
            assert_eq!(tx.send_slice(&[1, 2]), Err(SendError::Closed(0)));
            assert_eq!(tx.try_send_slice(&[1]), Err(TrySendError::Closed(())));
            assert!(matches!(tx.reserve(), Err(SendError::Closed(()))));
            assert_eq!(tx.peer(), Peer::Left);
        }
    }
    // What was sent is there for the next one.
    let mut rx = ring::<K>(&name).receiver().unwrap();
    assert_eq!(rx.try_iter().count(), 4);
}

fn senders_asleep_on_a_full_ring_hear_that_the_receiver_left_or_died<K: Several>(stage: &Stage) {
    for (told, is_killed) in [("closed", false), ("died", true)] {
        let name = stage.ring();
        let receiver = start_receiver::<K>(stage, &name, 0);
        let mut senders = start_blocked::<K>(stage, &name, 3);
        if is_killed {
            receiver.kill();
        } else {
            leave(receiver);
        }
        for sender in &mut senders {
            assert_eq!(sender.hear(), told);
        }
        senders.into_iter().for_each(leave);
    }
}

fn senders_asleep_on_a_full_ring_all_go_on_when_there_is_room<K: Several>(stage: &Stage) {
    let name = stage.ring();
    let mut rx = ring::<K>(&name).receiver().unwrap();
    let mut senders = start_blocked::<K>(stage, &name, 4);
    // Those that wait are not held up by one that dies while it waits.
    senders.swap_remove(1).kill();
    let full = if K::NAME == "lanes" {
        4 * CAPACITY
    } else {
        CAPACITY
    };
    let (mut others, mut late, mut deaths) = (0, 0, 0);
    while (others, late, deaths) != (full, 3, 1) {
        match rx.recv_timeout(LONG) {
            Ok(0) => others += 1,
            Ok(99) => late += 1,
            Err(RecvTimeoutError::SenderDied { .. }) => deaths += 1,
            other => panic!("{other:?}: {others} of {full}, {late} of 3"),
        }
    }
    for sender in &mut senders {
        assert_eq!(sender.hear(), "sent");
    }
    senders.into_iter().for_each(leave);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

fn a_stopped_receiver_makes_senders_wait_and_no_longer_than_they_want<K: Several>(stage: &Stage) {
    let name = stage.ring();
    let mut tx = ring::<K>(&name).sender().unwrap();
    let mut receiver = stage.start("receives", &[K::NAME, &name, &(CAPACITY + 1).to_string()]);
    while !matches!(tx.peer(), Peer::Alive { .. }) {
        std::thread::yield_now();
    }
    receiver.stop();
    let mut sent = 0;
    while tx.try_send(sent).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, CAPACITY);
    assert_eq!(
        tx.send_timeout(sent, SLICES),
        Err(SendTimeoutError::Timeout(sent))
    );
    assert!(matches!(tx.peer(), Peer::Alive { .. }), "it is not dead");
    receiver.go_on();
    tx.send_timeout(sent, LONG).unwrap();
    assert_eq!(receiver.hear(), TryRecvError::Empty.to_string());
    leave(receiver);
}

fn what_a_killed_receiver_had_peeked_at_comes_again<K: Several>(stage: &Stage) {
    let name = stage.ring();
    let mut tx = ring::<K>(&name).sender().unwrap();
    tx.send_slice(&[0, 1, 2, 3]).unwrap();
    let mut victim = stage.start("receives", &[K::NAME, &name, "2"]);
    assert_eq!(victim.hear(), "2");
    victim.kill();
    // It buffers, and says so only when it is full.
    for number in 4..CAPACITY + 2 {
        tx.send(number).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(tx.try_send(99), Err(TrySendError::Full(99)));
        assert_eq!(tx.send(99), Err(SendError::ReceiverDied(99)));
        let died = tx.send_timeout(99, LONG);
        assert_eq!(died, Err(SendTimeoutError::ReceiverDied(99)));
    }
    let mut rx = ring::<K>(&name).receiver().unwrap();
    assert!(rx.try_iter().eq(2..CAPACITY + 2));
    tx.send(99).unwrap();
    assert_eq!(rx.recv(), Ok(99));
}

/// Somebody is there at every moment: each sender comes before the one before it leaves.
fn senders_that_take_turns_are_never_taken_for_gone<K: Several>(stage: &Stage) {
    const TURNS: usize = 4000;

    let name = stage.ring();
    let ring = || K::ring::<u64>(&name).capacity(4).max_senders(2);
    let mut rx = ring().receiver().unwrap();
    let mut one = ring().sender().unwrap();
    let is_over = &AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..TURNS {
                one = one.try_clone().unwrap();
            }
            is_over.store(true, Ordering::SeqCst);
        });
        let mut looks = 0_u64;
        while !is_over.load(Ordering::SeqCst) {
            let found = rx.try_recv();
            // By the look that found the end, the last one may have left.
            if !is_over.load(Ordering::SeqCst) {
                assert_eq!(found, Err(TryRecvError::Empty), "after {looks} looks");
            }
            looks += 1;
        }
    });
    assert_eq!(rx.recv_timeout(LONG), Err(RecvTimeoutError::Closed));
}

for_several_senders! {
    senders_that_take_turns_are_never_taken_for_gone();
    closed_is_said_when_the_last_sender_has_left_and_all_is_drained();
    every_sender_hears_that_the_receiver_left(receives);
    senders_asleep_on_a_full_ring_hear_that_the_receiver_left_or_died(receives, blocks);
    senders_asleep_on_a_full_ring_all_go_on_when_there_is_room(blocks);
    a_stopped_receiver_makes_senders_wait_and_no_longer_than_they_want(receives);
    what_a_killed_receiver_had_peeked_at_comes_again(receives);
}
