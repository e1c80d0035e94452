//! Several processes that receive from one ring, and share the work.

use ipc_ring::{
    Builder, Locked, OpenError, Peer, Receiver, RecvError, RecvTimeoutError, Role, SendError,
    SendTimeoutError, State, TryRecvError, TrySendError, Wait, locked,
};
use ipc_ring_tests::{Child, Parent, RingName, Stage, says, skip, stage};
use std::time::{Duration, Instant};

const CAPACITY: u64 = 8;
const LONG: Duration = Duration::from_secs(60);
/// Slices of sleep, and what a busy machine adds.
const SOON: Duration = Duration::from_secs(2);

fn ring(name: &str) -> Builder<u64, Locked> {
    locked(name).capacity(CAPACITY as usize)
}

/// Receives until nobody sends any more, and tells what and how many.
/// Arguments: ring.
fn works(parent: &mut Parent) {
    let mut rx = locked::<u64>(parent.argument(0)).receiver().unwrap();
    parent.tell("ready");
    let received: Vec<_> = rx.iter().map(|job| job.to_string()).collect();
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    assert_eq!(rx.participants().len(), 4);
    parent.tell(received.join(" "));
    parent.hear();
}

#[test]
fn each_message_goes_to_one_of_the_workers_in_the_order_in_which_they_were_sent() {
    const JOBS: u64 = 60_000;
    let stage = stage!(works);
    let name = stage.ring();
    let mut tx = ring(&name).sender().unwrap();
    let mut workers: Vec<_> = (0..3).map(|_| stage.start("works", &[&name])).collect();
    for worker in &mut workers {
        assert_eq!(worker.hear(), "ready");
    }
    for job in 0..JOBS {
        tx.send(job).unwrap();
    }
    drop(tx);
    let mut all = Vec::new();
    for worker in &mut workers {
        let heard = worker.hear();
        let received: Vec<u64> = heard
            .split_whitespace()
            .map(|job| job.parse().unwrap())
            .collect();
        assert!(received.is_sorted(), "of one sender");
        all.extend(received);
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..JOBS));
    for mut worker in workers {
        worker.say("leave");
        worker.finish();
    }
}

/// Does what it hears: looks at a message, consumes it, looks at all there are, receives one; or leaves.
/// Arguments: ring.
fn looks(parent: &mut Parent) {
    let mut rx = locked::<u64>(parent.argument(0)).receiver().unwrap();
    parent.tell("ready");
    loop {
        let told = match &*parent.hear() {
            "look" => rx.peek_copied().unwrap().to_string(),
            "consume" => rx.consume().to_string(),
            "look at all" => {
                let mut drain = rx.drain();
                let count = drain.by_ref().count();
                std::mem::forget(drain);
                count.to_string()
            }
            "receive" => match rx.recv_timeout(LONG) {
                Ok(message) => message.to_string(),
                Err(RecvTimeoutError::SenderDied { .. }) => "died".to_owned(),
                Err(RecvTimeoutError::Closed) => "closed".to_owned(),
                Err(error) => panic!("{error}"),
            },
            "leave" => return,
            other => panic!("{other}"),
        };
        parent.tell(told);
    }
}

fn worker(stage: &Stage, name: &RingName) -> Child {
    let mut worker = stage.start("looks", &[name]);
    assert_eq!(worker.hear(), "ready");
    worker
}

fn ask(worker: &mut Child, word: &str) -> String {
    worker.say(word);
    worker.hear()
}

#[test]
fn what_a_worker_looks_at_is_its_own_until_it_has_consumed_it() {
    let stage = stage!(looks);
    let name = stage.ring();
    let mut tx = ring(&name).sender().unwrap();
    let mut rx = ring(&name).receiver().unwrap();
    let mut worker = worker(&stage, &name);
    for job in 0..4 {
        tx.send(job).unwrap();
    }
    assert_eq!(ask(&mut worker, "look"), "0");
    assert_eq!(ask(&mut worker, "look"), "0", "again");
    assert_eq!((rx.len(), tx.len()), (3, 4));
    assert_eq!(rx.peek_copied(), Ok(1));
    assert_eq!(ask(&mut worker, "consume"), "true");
    assert_eq!(ask(&mut worker, "receive"), "2");
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(rx.recv(), Ok(3));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert!(!rx.consume());
    worker.say("leave");
    worker.finish();
}

#[test]
fn what_a_worker_left_unconsumed_goes_to_the_others_at_once_and_first() {
    let stage = stage!(looks);
    let name = stage.ring();
    let mut tx = ring(&name).sender().unwrap();
    let mut first = worker(&stage, &name);
    for job in 0..3 {
        tx.send(job).unwrap();
    }
    assert_eq!(ask(&mut first, "look at all"), "3");
    let mut second = worker(&stage, &name);
    second.say("receive");
    second.wait_until_asleep();
    let left = Instant::now();
    first.say("leave");
    first.finish();
    assert_eq!(second.hear(), "0");
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
    assert_eq!(ask(&mut second, "receive"), "1");
    assert_eq!(ask(&mut second, "receive"), "2");
    second.say("leave");
    second.finish();
}

#[test]
fn what_a_killed_worker_was_looking_at_goes_to_one_that_waits() {
    let stage = stage!(looks);
    let name = stage.ring();
    let mut tx = ring(&name).sender().unwrap();
    for job in 0..3 {
        tx.send(job).unwrap();
    }
    let mut victim = worker(&stage, &name);
    assert_eq!(ask(&mut victim, "look at all"), "3");
    let mut other = worker(&stage, &name);
    other.say("receive");
    other.wait_until_asleep();
    let killed = Instant::now();
    victim.kill();
    assert_eq!(other.hear(), "0");
    assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
    assert_eq!(ask(&mut other, "receive"), "1");
    assert_eq!(ask(&mut other, "receive"), "2");
    other.kill();
}

#[test]
fn what_a_killed_worker_was_looking_at_goes_to_one_that_never_waits() {
    let stage = stage!(looks);
    let name = stage.ring();
    let mut tx = ring(&name).sender().unwrap();
    let mut rx = ring(&name).receiver().unwrap();
    tx.send(7).unwrap();
    let mut victim = worker(&stage, &name);
    assert_eq!(ask(&mut victim, "look"), "7");
    victim.kill();
    let killed = Instant::now();
    let received = loop {
        match rx.try_recv() {
            Err(TryRecvError::Empty) => assert!(killed.elapsed() < SOON, "it never comes"),
            other => break other,
        }
    };
    assert_eq!(received, Ok(7));
}

#[test]
fn a_worker_that_comes_in_the_place_of_a_killed_one_has_what_that_one_was_looking_at() {
    let stage = stage!(looks);
    let name = stage.ring();
    let ring = || ring(&name).max_receivers(1);
    let mut tx = ring().sender().unwrap();
    tx.send(7).unwrap();
    let mut victim = worker(&stage, &name);
    assert_eq!(ask(&mut victim, "look"), "7");
    victim.kill();
    assert_eq!(ring().receiver().unwrap().try_recv(), Ok(7));
}

#[test]
fn a_worker_that_is_stopped_while_it_looks_holds_up_nobody() {
    let stage = stage!(looks);
    let name = stage.ring();
    let mut tx = ring(&name).sender().unwrap();
    let mut rx = ring(&name).receiver().unwrap();
    tx.send(7).unwrap();
    let mut stopped = worker(&stage, &name);
    assert_eq!(ask(&mut stopped, "look"), "7");
    stopped.stop();
    for job in 0..10 * CAPACITY {
        tx.send(job).unwrap();
        assert_eq!(rx.recv(), Ok(job));
    }
    for job in 1..CAPACITY {
        tx.try_send(job).unwrap();
    }
    assert_eq!(tx.try_send(0), Err(TrySendError::Full(0)), "it has one");
    assert!(rx.try_iter().eq(1..CAPACITY));
    // It lives: nobody takes that away.
    assert_eq!(
        rx.recv_timeout(Duration::from_millis(120)),
        Err(RecvTimeoutError::Timeout)
    );
    stopped.go_on();
    assert_eq!(ask(&mut stopped, "consume"), "true");
    stopped.kill();
    for job in 0..CAPACITY {
        tx.try_send(job).unwrap();
    }
}

/// Has the place of a message, and keeps it.
/// Arguments: ring.
fn reserves(parent: &mut Parent) {
    let mut tx = locked::<u64>(parent.argument(0)).sender().unwrap();
    let place = tx.reserve().unwrap();
    parent.tell("ready");
    parent.hear();
    place.write(99).publish();
    parent.tell("sent");
    parent.hear();
}

#[test]
fn a_sender_that_is_stopped_while_it_writes_holds_up_nobody() {
    let stage = stage!(reserves);
    let name = stage.ring();
    let mut tx = ring(&name).sender().unwrap();
    let mut rx = ring(&name).receiver().unwrap();
    let mut stopped = stage.start("reserves", &[&name]);
    assert_eq!(stopped.hear(), "ready");
    stopped.stop();
    for job in 0..10 * CAPACITY {
        tx.send(job).unwrap();
        assert_eq!(rx.recv(), Ok(job));
    }
    stopped.go_on();
    stopped.say("publish");
    assert_eq!(stopped.hear(), "sent");
    assert_eq!(rx.recv(), Ok(99));
    stopped.kill();
}

#[test]
fn the_slot_in_which_a_killed_sender_wrote_is_free_for_who_waits_and_for_who_never_does() {
    let stage = stage!(reserves);
    let name = stage.ring();
    let ring = || locked::<u64>(&name).capacity(1);
    let mut rx = ring().receiver().unwrap();
    let mut tx = ring().sender().unwrap();
    for waits in [true, false] {
        let mut victim = stage.start("reserves", &[&name]);
        assert_eq!(victim.hear(), "ready");
        assert_eq!(tx.try_send(1), Err(TrySendError::Full(1)));
        victim.kill();
        let killed = Instant::now();
        if waits {
            assert_eq!(tx.send_timeout(1, LONG), Ok(()));
        } else {
            while tx.try_send(1).is_err() {
                assert!(killed.elapsed() < SOON, "it is never free");
            }
        }
        assert_eq!(rx.recv(), Ok(1));
    }
}

#[test]
fn all_workers_hear_that_nobody_sends_any_more_and_each_death() {
    let stage = stage!(looks, sends_and_stays);
    let name = stage.ring();
    let rings = ring(&name);
    let mut rx = rings.receiver().unwrap();
    let mut other = worker(&stage, &name);
    let mut sender = stage.start("sends_and_stays", &[&name]);
    assert_eq!(sender.hear(), "ready");
    other.say("receive");
    other.wait_until_asleep();
    let pid = sender.id();
    sender.kill();
    assert_eq!(other.hear(), "died");
    assert!(matches!(rx.recv(), Err(RecvError::SenderDied { pid: dead, .. }) if dead == pid));
    drop(ring(&name).sender().unwrap());
    assert_eq!(ask(&mut other, "receive"), "closed");
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    other.kill();
}

/// Joins as a sender, and stays.
/// Arguments: ring.
fn sends_and_stays(parent: &mut Parent) {
    let _tx = locked::<u64>(parent.argument(0)).sender().unwrap();
    parent.tell("ready");
    parent.hear();
}

#[test]
fn nobody_hears_closed_as_long_as_a_message_may_come_back() {
    let stage = stage!(looks);
    let name = stage.ring();
    let mut tx = ring(&name).sender().unwrap();
    let mut rx = ring(&name).receiver().unwrap();
    let mut holder = worker(&stage, &name);
    tx.send(7).unwrap();
    assert_eq!(ask(&mut holder, "look"), "7");
    drop(tx);
    let empty = Err(RecvTimeoutError::Timeout);
    assert_eq!(rx.recv_timeout(Duration::from_millis(120)), empty);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    holder.kill();
    assert_eq!(rx.recv(), Ok(7));
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn a_sender_hears_that_the_last_of_several_workers_left_and_not_that_another_one_did() {
    let stage = stage!(looks);
    let name = stage.ring();
    let mut tx = ring(&name).sender().unwrap();
    let mut first = worker(&stage, &name);
    let second = worker(&stage, &name);
    first.say("leave");
    first.finish();
    assert_eq!(tx.try_send(1), Ok(()));
    assert!(matches!(tx.peer(), Peer::Alive { pid, .. } if pid == second.id()));
    let leave = |mut worker: Child| {
        worker.say("leave");
        worker.finish();
    };
    leave(second);
    assert_eq!(tx.try_send(2), Err(TrySendError::Closed(2)));
    assert_eq!(tx.send(2), Err(SendError::Closed(2)));
    assert_eq!(tx.peer(), Peer::Left);
    // One that comes is sent to, though others have left.
    let third = worker(&stage, &name);
    assert_eq!(tx.try_send(2), Ok(()));
    // One that died meanwhile does not keep the last one from saying that nobody is left.
    let fourth = worker(&stage, &name);
    fourth.kill();
    leave(third);
    let told = loop {
        match tx.try_send(3) {
            Ok(()) => {}
            Err(TrySendError::Full(3)) => break tx.send(3),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(told, Err(SendError::Closed(3)));
    assert_eq!(tx.try_send(3), Err(TrySendError::Closed(3)));
}

#[test]
fn a_sender_hears_that_all_of_several_workers_died_once_the_ring_is_full() {
    let stage = stage!(looks);
    let name = stage.ring();
    let mut tx = ring(&name).sender().unwrap();
    let (one, two) = (worker(&stage, &name), worker(&stage, &name));
    one.kill();
    for job in 0..CAPACITY {
        tx.send(job).unwrap();
    }
    // As long as one lives, he may make room.
    let full = Err(SendTimeoutError::Timeout(9));
    assert_eq!(tx.send_timeout(9, Duration::from_millis(120)), full);
    let pid = two.id();
    two.kill();
    assert_eq!(tx.send(9), Err(SendError::ReceiverDied(9)));
    assert!(matches!(tx.peer(), Peer::Died { .. }));
    let died = |participant: &&ipc_ring::Participant| participant.state == State::Died;
    let participants = tx.participants();
    let dead: Vec<_> = participants.iter().filter(died).collect();
    assert_eq!(dead.len(), 2);
    assert!(
        dead.iter()
            .any(|dead| dead.pid == pid && dead.role == Role::Receiver)
    );
    let mut rx = ring(&name).receiver().unwrap();
    assert!(rx.try_iter().eq(0..CAPACITY));
    tx.send(9).unwrap();
    assert_eq!(rx.recv(), Ok(9));
}

#[test]
fn a_ring_takes_as_many_workers_as_it_was_created_for() {
    let name = RingName::of("a_ring_takes_as_many_workers_a");
    let ring = || {
        locked::<u64>(&name)
            .capacity(4)
            .max_senders(2)
            .max_receivers(3)
    };
    let first = ring().receiver().unwrap();
    let second = first.try_clone().unwrap();
    let third = ring().receiver().unwrap();
    let refused = ring().receiver().unwrap_err();
    assert!(matches!(refused, OpenError::TooManyReceivers { most: 3 }));
    says(refused, &["3 living receivers", "max_receivers"]);
    assert!(first.try_clone().is_err());
    drop(second);
    let again = first.try_clone().unwrap();
    let indices = |rx: &Receiver<u64, Locked>| -> Vec<_> {
        rx.participants()
            .iter()
            .map(|who| (who.index, who.role))
            .collect()
    };
    let receivers = [
        (2, Role::Receiver),
        (3, Role::Receiver),
        (4, Role::Receiver),
    ];
    assert_eq!(indices(&first), receivers);
    drop((again, third));
    says(
        locked::<u64>(&name)
            .max_receivers(2)
            .receiver()
            .unwrap_err(),
        &["max_receivers 2 here, 3 in the segment"],
    );
    says(
        locked::<u64>(&name)
            .inherit_priority()
            .receiver()
            .unwrap_err(),
        &["inherit_priority here, not in the segment"],
    );
    for (receivers, senders) in [(0, 1), (1024, 1), (1000, 25), (1, 1024)] {
        let refused = locked::<u64>("never-made")
            .capacity(4)
            .max_senders(senders)
            .max_receivers(receivers)
            .memory();
        assert!(refused.is_err(), "{receivers} {senders}");
    }
    let most = locked::<u64>("never-made")
        .capacity(4)
        .max_senders(1000)
        .max_receivers(24);
    assert!(most.memory().is_ok());
}

#[test]
fn what_workers_did_is_counted() {
    let name = RingName::of("what_workers_did_is_counted");
    let mut tx = ring(&name).sender().unwrap();
    let mut rx = ring(&name).receiver().unwrap();
    let mut other = rx.try_clone().unwrap();
    for job in 0..6 {
        tx.send(job).unwrap();
    }
    assert_eq!(rx.recv(), Ok(0));
    assert_eq!(other.try_iter().count(), 5);
    let counted: Vec<_> = tx
        .participants()
        .iter()
        .map(|who| (who.role, who.counters.messages))
        .collect();
    let expected = [(Role::Sender, 6), (Role::Receiver, 1), (Role::Receiver, 5)];
    assert_eq!(counted, expected);
}

#[test]
fn a_process_of_another_pid_namespace_is_refused_where_there_is_a_mutex() {
    let stage = stage!(is_refused);
    let (queue, condvar) = (stage.ring(), stage.ring());
    let _tx = ring(&queue).sender().unwrap();
    let by_condvar = ipc_ring::spsc::<u64>(&condvar)
        .capacity(4)
        .wait(Wait::Condvar);
    let _other = by_condvar.sender().unwrap();
    match stage.start_with_own_pids("is_refused", &[&queue, &condvar]) {
        Ok(child) => child.finish(),
        Err(reason) => skip(&reason),
    }
}

/// Arguments: a ring that is locked, one that waits by condition variables.
fn is_refused(parent: &mut Parent) {
    let queue = locked::<u64>(parent.argument(0)).receiver().unwrap_err();
    let condvar = ipc_ring::spsc::<u64>(parent.argument(1))
        .receiver()
        .unwrap_err();
    for refused in [queue, condvar] {
        assert!(matches!(refused, OpenError::Mismatch { in_use: true, .. }));
        says(refused, &["pid namespace", "in the segment", "mutex"]);
    }
}

#[test]
fn what_is_given_back_goes_to_whoever_asks_first() {
    let name = RingName::of("given_back");
    let mut tx = ring(&name).sender().unwrap();
    let mut rx = ring(&name).receiver().unwrap();
    let mut other = rx.try_clone().unwrap();
    let none = Err(RecvTimeoutError::Timeout);
    assert_eq!(rx.peek_copied_timeout(Duration::from_millis(1)), none);
    for job in 0..3 {
        tx.send(job).unwrap();
    }
    assert_eq!(rx.peek_copied_timeout(LONG), Ok(0));
    assert_eq!(other.peek_copied_timeout(LONG), Ok(1));
    rx.give_back();
    rx.give_back();
    assert_eq!(rx.peek_copied(), Ok(0), "again");
    rx.give_back();
    assert!(other.consume());
    assert_eq!(other.recv(), Ok(0));
    assert_eq!(rx.recv(), Ok(2));
    assert!(!rx.consume());
}

#[test]
fn what_is_stated_takes_places_from_what_is_not() {
    let name = RingName::of("many_places");
    let many = locked::<u64>(&name)
        .capacity(4)
        .max_senders(4)
        .max_receivers(1015);
    let _first = many.receiver().unwrap();
    let _second = locked::<u64>(&name).max_receivers(1015).receiver().unwrap();
    let _third = locked::<u64>(&name).max_senders(4).sender().unwrap();
    let most = locked::<u64>("never-made").capacity(4).max_senders(1023);
    assert!(most.memory().is_ok());
}

/// Two that take over at once what a dead one was looking at: the one that gets nothing hears of no end as long as the other one
/// may die as well.
#[test]
fn nobody_hears_closed_who_loses_the_race_for_what_a_dead_worker_had() {
    let stage = stage!(looks);
    for _ in 0..20 {
        let name = stage.ring();
        let mut tx = ring(&name).sender().unwrap();
        let mut rivals: Vec<_> = (0..2).map(|_| ring(&name).receiver().unwrap()).collect();
        let mut victim = worker(&stage, &name);
        tx.send(7).unwrap();
        assert_eq!(ask(&mut victim, "look"), "7");
        drop(tx);
        victim.kill();
        let looks = |rx: &mut Receiver<u64, Locked>| loop {
            match rx.try_peek_copied() {
                Ok(job) => break Some(job),
                Err(TryRecvError::Closed) => break None,
                Err(_) => {}
            }
        };
        let (one, two) = rivals.split_at_mut(1);
        let (first, second) = std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                let found = looks(&mut two[0]);
                if found.is_some() {
                    two[0].consume();
                }
                found
            });
            let found = looks(&mut one[0]);
            if found.is_some() {
                one[0].consume();
            }
            (found, second.join().unwrap())
        });
        assert!(
            matches!((first, second), (Some(7), None) | (None, Some(7))),
            "{first:?} {second:?}"
        );
    }
}
