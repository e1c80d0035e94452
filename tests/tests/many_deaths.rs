//! Of several senders, some die: who is told what, and in which order.

use ipc_ring::{
    Builder, ManySenders, Mpsc, Receiver, RecvError, RecvTimeoutError, Role, TryRecvError, mpsc,
};
use ipc_ring_tests::{Child, Parent, Random, Several, Stage, for_several_senders, of_kind, stage};
use std::time::{Duration, Instant};

/// Nothing takes so long.
const LONG: Duration = Duration::from_secs(10);
/// Longer than a slice of sleep, in which the kernel is asked.
const SLICES: Duration = Duration::from_millis(300);

fn ring<K: Several>(name: &str) -> Builder<u64, K> {
    K::ring(name).capacity(64)
}

/// Whose death `recv` tells, having nothing else to say.
fn told<K: ManySenders>(rx: &mut Receiver<u64, K>) -> u32 {
    match rx.recv_timeout(LONG) {
        Err(RecvTimeoutError::SenderDied { pid, .. }) => pid,
        other => panic!("{other:?}"),
    }
}

/// Joins twice, sends by both, and keeps both until it is killed.
/// Arguments: kind, ring.
fn sends_twice(parent: &mut Parent) {
    of_kind!(parent.argument(0), sends_by_two_handles(parent));
}

fn sends_by_two_handles<K: Several>(parent: &mut Parent) {
    let mut tx = ring::<K>(parent.argument(1)).sender().unwrap();
    let mut clone = tx.try_clone().unwrap();
    tx.send(1).unwrap();
    clone.send(2).unwrap();
    parent.tell("sent");
    parent.hear();
}

fn each_handle_of_a_killed_process_is_told_once<K: Several>(stage: &Stage) {
    let name = stage.ring();
    let mut rx = ring::<K>(&name).receiver().unwrap();
    let mut other = ring::<K>(&name).sender().unwrap();
    for _ in 0..2 {
        let mut victim = stage.start("sends_twice", &[K::NAME, &name]);
        assert_eq!(victim.hear(), "sent");
        let pid = victim.id();
        victim.kill();
        let received = [rx.recv().unwrap(), rx.recv().unwrap()];
        assert!(matches!(received, [1, 2] | [2, 1]), "{received:?}");
        assert_eq!([told(&mut rx), told(&mut rx)], [pid, pid]);
        assert_eq!(rx.recv_timeout(SLICES), Err(RecvTimeoutError::Timeout));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        other.send(3).unwrap();
        assert_eq!(rx.recv(), Ok(3), "it goes on");
    }
    drop(other);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

/// Sends by another handle while it has claimed a place, until it is killed or told to go on.
/// Arguments: kind, ring.
fn claims(parent: &mut Parent) {
    let mut tx = ring::<Mpsc>(parent.argument(0)).sender().unwrap();
    let place = tx.reserve().unwrap();
    parent.tell("claimed");
    parent.hear();
    place.write(1).publish();
    parent.tell("published");
    parent.hear();
}

fn start_claimant(stage: &Stage, name: &str) -> Child {
    let mut claimant = stage.start("claims", &[name]);
    assert_eq!(claimant.hear(), "claimed");
    claimant
}

/// A way to receive that does not wait: a message, if it has got at one.
type Way = fn(&mut Receiver<u64, Mpsc>) -> Option<u64>;

const WAYS: [(&str, Way); 7] = [
    ("try_recv", |rx| rx.try_recv().ok()),
    ("try_iter", |rx| rx.try_iter().next()),
    ("drain", |rx| rx.drain().next()),
    ("consume", |rx| rx.consume().then_some(2)),
    ("try_recv_slice", |rx| {
        let mut messages = [0; 4];
        rx.try_recv_slice(&mut messages).ok().map(|_| messages[0])
    }),
    ("try_peek_copied", |rx| {
        let message = rx.try_peek_copied().ok()?;
        rx.consume().then_some(message)
    }),
    ("recv_latest", |rx| rx.recv_latest().ok()),
];

#[test]
#[cfg_attr(ipc_ring_locked, ignore = "there are no claims in a locked ring")]
fn who_never_waits_gets_past_a_dead_claimant_in_time() {
    let stage = stage!(claims);
    for (way, receive) in WAYS {
        let name = stage.ring();
        let mut rx = ring::<Mpsc>(&name).receiver().unwrap();
        let mut other = ring::<Mpsc>(&name).sender().unwrap();
        // One behind the other: each of them has to be asked for.
        let claimants = [start_claimant(&stage, &name), start_claimant(&stage, &name)];
        other.send(2).unwrap();
        let until = Instant::now() + Duration::from_millis(20);
        while Instant::now() < until {
            assert_eq!(receive(&mut rx), None, "{way}: they live");
        }
        for claimant in claimants {
            claimant.kill();
        }
        let until = Instant::now() + LONG;
        let message = loop {
            if let Some(message) = receive(&mut rx) {
                break message;
            }
            assert!(Instant::now() < until, "{way} does not get past the dead");
        };
        assert_eq!(message, 2, "{way}");
        let participants = rx.participants();
        let receiver = participants.iter().find(|who| who.role == Role::Receiver);
        let counters = receiver.unwrap().counters;
        assert_eq!((counters.waits, counters.sleeps), (0, 0), "{way}");
        assert_eq!((counters.skipped, counters.messages), (2, 1), "{way}");
    }
}

/// Sends a number every few microseconds, which leaves the receiver no time to sleep.
/// Arguments: kind, ring.
fn trickles(parent: &mut Parent) {
    of_kind!(parent.argument(0), sends_steadily(parent));
}

fn sends_steadily<K: Several>(parent: &mut Parent) {
    let mut tx = ring::<K>(parent.argument(1)).sender().unwrap();
    parent.tell("begins");
    let mut random = Random::default();
    loop {
        tx.send(0).unwrap();
        random.pause(Duration::from_micros(20));
    }
}

fn a_death_is_told_while_others_keep_the_receiver_busy<K: Several>(stage: &Stage) {
    let name = stage.ring();
    let mut rx = ring::<K>(&name).receiver().unwrap();
    let mut victim = stage.start("sends_twice", &[K::NAME, &name]);
    assert_eq!(victim.hear(), "sent");
    let mut steady = stage.start("trickles", &[K::NAME, &name]);
    assert_eq!(steady.hear(), "begins");
    let pid = victim.id();
    victim.kill();
    let until = Instant::now() + LONG;
    let (mut deaths, mut messages) = (0, 0);
    while deaths < 2 || messages < 100 {
        let told = format!("{deaths} of 2 deaths told, {messages} messages");
        assert!(Instant::now() < until, "{told}");
        match rx.recv() {
            Ok(_) => messages += 1,
            Err(RecvError::SenderDied { pid: died, .. }) => {
                assert_eq!(died, pid);
                deaths += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    steady.kill();
}

/// Sends its own number and keeps its handle until it is killed.
/// Arguments: ring.
fn sends_one(parent: &mut Parent) {
    let mut tx = ring::<Mpsc>(parent.argument(0)).sender().unwrap();
    tx.send(7).unwrap();
    parent.tell("sent");
    parent.hear();
}

#[test]
#[cfg_attr(ipc_ring_locked, ignore = "there are no claims in a locked ring")]
fn a_death_is_told_after_the_dead_ones_message_behind_a_stopped_claimant() {
    let stage = stage!(claims, sends_one);
    let name = stage.ring();
    let mut rx = ring::<Mpsc>(&name).receiver().unwrap();
    let mut stopped = start_claimant(&stage, &name);
    stopped.stop();
    let mut victim = stage.start("sends_one", &[&name]);
    assert_eq!(victim.hear(), "sent");
    let pid = victim.id();
    victim.kill();
    // The kernel is asked, and more than once.
    for _ in 0..3 {
        assert_eq!(rx.recv_timeout(SLICES), Err(RecvTimeoutError::Timeout));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(rx.try_iter().next(), None);
        assert_eq!(rx.drain().next(), None);
    }
    stopped.go_on();
    stopped.say("go on");
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Ok(7)));
    assert_eq!(told(&mut rx), pid);
    stopped.say("leave");
    stopped.finish();
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn closed_is_said_after_the_message_of_one_who_left_behind_a_dead_claimant() {
    let stage = stage!(claims);
    let name = stage.ring();
    let mut rx = ring::<Mpsc>(&name).receiver().unwrap();
    for _ in 0..3 {
        let claimant = start_claimant(&stage, &name);
        let mut other = mpsc::<u64>(&name).sender().unwrap();
        other.send(5).unwrap();
        drop(other);
        let pid = claimant.id();
        claimant.kill();
        assert_eq!(rx.recv(), Ok(5));
        assert_eq!(told(&mut rx), pid);
        assert_eq!(rx.recv(), Err(RecvError::Closed));
    }
}

for_several_senders! {
    each_handle_of_a_killed_process_is_told_once(sends_twice);
    a_death_is_told_while_others_keep_the_receiver_busy(sends_twice, trickles);
}
