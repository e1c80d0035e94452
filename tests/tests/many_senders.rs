//! Several sender processes and one receiver, in one order and in lanes.
//!
//! The sequence check of 100 million messages, either kind:
//! `IPC_RING_MESSAGES=100000000 cargo test --release -p ipc-ring-tests --test many_senders eight -- --nocapture`.

use ipc_ring::{
    Builder, Lanes, ManySenders, Mpsc, OpenError, RecvError, Sender, ShmMessage, State,
    TrySendError, lanes, mpsc,
};
use ipc_ring_tests::{Parent, RingName, Stage, stage};
use std::env;
use std::mem;
use std::time::{Duration, Instant};

const SENDERS: u32 = 8;

/// Message `sequence` of `sender`, so that a torn one is noticed.
#[derive(ShmMessage, Clone, Copy, PartialEq, Debug)]
#[repr(C)]
struct Numbered {
    sender: u64,
    sequence: u64,
    check: u64,
}

impl Numbered {
    fn new(sender: u64, sequence: u64) -> Self {
        Self {
            sender,
            sequence,
            check: sender.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ !sequence,
        }
    }
}

fn one_order(name: &str) -> Builder<Numbered, Mpsc> {
    mpsc(name).capacity(256)
}

fn in_lanes(name: &str) -> Builder<Numbered, Lanes> {
    lanes(name).capacity(256)
}

/// Sends `argument 2` messages as sender `argument 1`.
fn send_all<K: ManySenders>(parent: &mut Parent, ring: fn(&str) -> Builder<Numbered, K>) {
    let mut tx = ring(parent.argument(0)).sender().unwrap();
    let sender = parent.number(1);
    for sequence in 0..parent.number(2) {
        tx.send(Numbered::new(sender, sequence)).unwrap();
    }
}

fn sends_in_order(parent: &mut Parent) {
    send_all(parent, one_order);
}

fn sends_in_lanes(parent: &mut Parent) {
    send_all(parent, in_lanes);
}

fn eight_senders<K: ManySenders>(
    stage: &Stage,
    role: &str,
    ring: fn(&str) -> Builder<Numbered, K>,
) {
    let messages: u64 = env::var("IPC_RING_MESSAGES").map_or(1_000_000, |n| n.parse().unwrap());
    let each = messages / u64::from(SENDERS);
    let name = stage.ring();
    let mut rx = ring(&name).receiver().unwrap();
    let begun = Instant::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| stage.start(role, &[&name, &sender.to_string(), &each.to_string()]))
        .collect();
    let mut next = [0; SENDERS as usize];
    for _ in 0..each * u64::from(SENDERS) {
        let message = rx.recv().unwrap();
        let next = &mut next[message.sender as usize];
        assert_eq!(message, Numbered::new(message.sender, *next));
        *next += 1;
    }
    let rate = messages as f64 / begun.elapsed().as_secs_f64() / 1e6;
    println!("{role}: {messages} messages in order, {rate:.1} million a second");
    assert_eq!(next, [each; SENDERS as usize]);
    for sender in senders {
        sender.finish();
    }
    assert!(matches!(rx.recv(), Err(RecvError::Closed)));
}

#[test]
fn eight_senders_in_one_order_lose_nothing_and_double_nothing() {
    let stage = stage!(sends_in_order);
    eight_senders(&stage, "sends_in_order", one_order);
}

#[test]
fn eight_senders_in_lanes_lose_nothing_and_double_nothing() {
    let stage = stage!(sends_in_lanes);
    eight_senders(&stage, "sends_in_lanes", in_lanes);
}

/// Sends one message, and is in the middle of another one until it is killed or told to go on.
fn claims(parent: &mut Parent) {
    let mut tx = one_order(parent.argument(0)).sender().unwrap();
    tx.send(Numbered::new(1, 0)).unwrap();
    let place = tx.reserve().unwrap();
    parent.tell("claimed");
    parent.hear();
    place.write(Numbered::new(1, 1)).publish();
}

#[test]
#[cfg_attr(ipc_ring_locked, ignore = "there are no claims in a locked ring")]
fn a_sender_killed_in_the_middle_of_a_message_is_passed_over() {
    let stage = stage!(claims);
    let name = stage.ring();
    let mut rx = one_order(&name).receiver().unwrap();
    let mut other = one_order(&name).sender().unwrap();
    for by_trying in [false, true] {
        let mut victim = stage.start("claims", &[&name]);
        assert_eq!(victim.hear(), "claimed");
        other.send(Numbered::new(2, 0)).unwrap();
        assert_eq!(rx.recv().unwrap(), Numbered::new(1, 0));
        assert!(rx.try_recv().is_err(), "what was claimed first comes first");
        let pid = victim.id();
        victim.kill();
        let message = if by_trying {
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                match rx.try_recv() {
                    Ok(message) => break message,
                    Err(_) => assert!(Instant::now() < deadline),
                }
            }
        } else {
            rx.recv().unwrap()
        };
        assert_eq!(message, Numbered::new(2, 0));
        match rx.recv() {
            Err(RecvError::SenderDied { pid: died, .. }) => assert_eq!(died, pid),
            told => panic!("{told:?}"),
        }
        let timeout = rx.recv_timeout(Duration::from_millis(1));
        assert!(timeout.is_err(), "a death is told once");
    }
    drop(other);
    assert!(matches!(rx.recv(), Err(RecvError::Closed)));
}

#[test]
#[cfg_attr(ipc_ring_locked, ignore = "there are no claims in a locked ring")]
fn a_sender_stopped_in_the_middle_of_a_message_keeps_its_place() {
    let stage = stage!(claims);
    let name = stage.ring();
    let mut rx = one_order(&name).receiver().unwrap();
    let mut other = one_order(&name).sender().unwrap();
    let mut stopped = stage.start("claims", &[&name]);
    assert_eq!(stopped.hear(), "claimed");
    stopped.stop();
    other.send(Numbered::new(2, 0)).unwrap();
    assert_eq!(rx.recv().unwrap(), Numbered::new(1, 0));
    assert!(rx.recv_timeout(Duration::from_millis(300)).is_err());
    stopped.go_on();
    stopped.say("go on");
    assert_eq!(rx.recv().unwrap(), Numbered::new(1, 1));
    assert_eq!(rx.recv().unwrap(), Numbered::new(2, 0));
    stopped.finish();
}

#[test]
fn the_index_of_a_killed_sender_is_swept_and_used_again() {
    let stage = stage!(claims);
    let name = stage.ring();
    let ring = || mpsc::<Numbered>(&name).capacity(256).max_senders(1);
    let mut rx = ring().receiver().unwrap();
    let mut victim = stage.start("claims", &[&name]);
    assert_eq!(victim.hear(), "claimed");
    assert!(matches!(
        ring().sender(),
        Err(OpenError::TooManySenders { most: 1 } | OpenError::RoleTaken { .. })
    ));
    victim.kill();
    let mut successor = ring().sender().unwrap();
    successor.send(Numbered::new(2, 0)).unwrap();
    assert_eq!(rx.recv().unwrap(), Numbered::new(1, 0));
    assert_eq!(rx.recv().unwrap(), Numbered::new(2, 0));
}

#[test]
#[cfg_attr(ipc_ring_locked, ignore = "there are no claims in a locked ring")]
fn a_reservation_dropped_or_forgotten_is_passed_over() {
    let name = RingName::of("a_reservation_dropped_or_forgotten");
    let mut rx = one_order(&name).receiver().unwrap();
    let mut one = one_order(&name).sender().unwrap();
    let mut two = one.try_clone().unwrap();
    drop(one.reserve().unwrap());
    two.send(Numbered::new(2, 0)).unwrap();
    assert_eq!(rx.recv().unwrap(), Numbered::new(2, 0));
    mem::forget(one.reserve().unwrap());
    two.send(Numbered::new(2, 1)).unwrap();
    assert!(rx.try_recv().is_err());
    one.send(Numbered::new(1, 0)).unwrap();
    assert_eq!(rx.recv().unwrap(), Numbered::new(2, 1));
    assert_eq!(rx.recv().unwrap(), Numbered::new(1, 0));
    mem::forget(one.reserve().unwrap());
    two.send(Numbered::new(2, 2)).unwrap();
    drop(one);
    assert_eq!(rx.recv().unwrap(), Numbered::new(2, 2));
}

fn places<K: ManySenders>(ring: impl Fn() -> Builder<Numbered, K>) {
    let mut rx = ring().receiver().unwrap();
    let mut senders: Vec<Sender<_, K>> = (0..3).map(|_| ring().sender().unwrap()).collect();
    assert!(matches!(
        ring().sender(),
        Err(OpenError::TooManySenders { most: 3 })
    ));
    for (number, tx) in senders.iter_mut().enumerate() {
        tx.try_send(Numbered::new(number as u64, 0)).unwrap();
    }
    let mut received: Vec<_> = (0..3).map(|_| rx.recv().unwrap().sender).collect();
    received.sort_unstable();
    assert_eq!(received, [0, 1, 2]);
    let all = rx.participants();
    let sent: Vec<_> = all[..3].iter().map(|who| who.counters.messages).collect();
    assert_eq!(sent, [1, 1, 1]);
    assert_eq!(all[3].counters.messages, 3);
    assert!(all.iter().all(|who| who.state == State::Alive));
    senders.pop();
    assert_eq!(rx.participants()[2].state, State::Left);
    ring().sender().unwrap();
    drop(senders);
    assert!(matches!(rx.recv(), Err(RecvError::Closed)));
    let mut late = ring().sender().unwrap();
    late.send(Numbered::new(9, 0)).unwrap();
    assert_eq!(rx.recv().unwrap().sender, 9);
    drop(rx);
    let closed = late.try_send(Numbered::new(9, 1));
    assert!(matches!(closed, Err(TrySendError::Closed(_))));
}

#[test]
fn there_are_as_many_places_as_the_ring_was_created_for() {
    let name = RingName::of("places_in_one_order");
    places(|| mpsc(&name).capacity(8).max_senders(3));
    let name = RingName::of("places_in_lanes");
    places(|| lanes(&name).capacity(8).max_senders(3));
    for senders in [0, 1024] {
        let refused = mpsc::<u64>(&name).capacity(8).max_senders(senders).sender();
        assert!(matches!(
            refused,
            Err(OpenError::InvalidSenders { most: 1023, .. })
        ));
    }
}
