//! Who sleeps is woken: by the asymmetric barrier, and by fences where the kernel has no barrier for us.

use ipc_ring::{Receiver, RecvError, Sender, spsc};
use ipc_ring_tests::{Parent, Random, Stage, seccomp, stage};
use std::fs;
use std::hint::spin_loop;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// A wake that went missing is made up for by the next look, a slice of sleep (50 ms) later. A machine that is busy
/// otherwise makes some rounds slow; a missing barrier makes many.
const SLOW: Duration = Duration::from_millis(40);

/// Sets up a process as the argument `index` says: with the barrier, or without.
fn prepare(parent: &Parent, index: usize) {
    match parent.argument(index) {
        "barrier" => {}
        // Forbidden, and not known.
        "EPERM" => seccomp::refuse(libc::SYS_membarrier, libc::EPERM),
        "ENOSYS" => seccomp::refuse(libc::SYS_membarrier, libc::ENOSYS),
        other => panic!("{other}"),
    }
}

/// Arguments 0 and 1: the ring to send into and the one to receive from.
fn join(parent: &Parent) -> (Sender<u64>, Receiver<u64>) {
    let tx = spsc(parent.argument(0)).capacity(1).sender().unwrap();
    (tx, spsc(parent.argument(1)).capacity(1).receiver().unwrap())
}

/// Sends back what comes. With `pauses`, only after a while, so that the other side falls asleep, or nearly.
/// Arguments: rings, barrier, pauses.
fn echoes(parent: &mut Parent) {
    prepare(parent, 2);
    let (mut tx, mut rx) = join(parent);
    let mut random = Random::default();
    parent.tell("ready");
    for message in &mut rx {
        if parent.argument(3) == "pauses" {
            random.pause(Duration::from_micros(60));
        }
        tx.send(message).unwrap();
    }
}

/// Sends and awaits the answer, and tells how many rounds were slow.
/// Arguments: rings, barrier, pauses, rounds.
fn asks(parent: &mut Parent) {
    prepare(parent, 2);
    let (mut tx, mut rx) = join(parent);
    let mut random = Random::default();
    parent.tell("ready");
    parent.hear();
    let mut slow = 0;
    for round in 0..parent.number(4) {
        if parent.argument(3) == "pauses" {
            random.pause(Duration::from_micros(60));
        }
        let begun = Instant::now();
        tx.send(round).unwrap();
        assert_eq!(rx.recv(), Ok(round));
        slow += u32::from(begun.elapsed() >= SLOW);
    }
    parent.tell(slow);
}

/// How many of so many rounds were slow.
fn play(stage: &Stage, asker: &str, echoer: &str, pauses: &str, rounds: u32) {
    let (there, back) = (stage.ring(), stage.ring());
    let mut one = stage.start("asks", &[&there, &back, asker, pauses, &rounds.to_string()]);
    let mut other = stage.start("echoes", &[&back, &there, echoer, pauses]);
    for child in [&mut one, &mut other] {
        assert_eq!(child.hear(), "ready");
    }
    one.say("go");
    let slow: u32 = one.hear().parse().unwrap();
    assert!(
        slow <= 10,
        "{slow} of {rounds} rounds were slow ({asker}, {echoer}, {pauses})"
    );
    one.finish();
    other.finish();
}

#[test]
fn a_ping_pong_of_sleepers_is_never_held_up_with_the_barrier() {
    play(&stage!(asks, echoes), "barrier", "barrier", "", 100_000);
}

#[test]
fn a_ping_pong_of_sleepers_is_never_held_up_if_one_side_has_no_barrier() {
    play(&stage!(asks, echoes), "EPERM", "barrier", "", 100_000);
}

#[test]
fn a_ping_pong_of_sleepers_is_never_held_up_if_neither_side_has_a_barrier() {
    play(&stage!(asks, echoes), "ENOSYS", "ENOSYS", "", 100_000);
}

#[test]
fn a_message_sent_while_the_other_side_falls_asleep_wakes_it_with_the_barrier() {
    play(
        &stage!(asks, echoes),
        "barrier",
        "barrier",
        "pauses",
        30_000,
    );
}

#[test]
fn a_message_sent_while_the_other_side_falls_asleep_wakes_it_without_the_senders_or_the_receivers_barrier()
 {
    let stage = stage!(asks, echoes);
    play(&stage, "ENOSYS", "barrier", "pauses", 10_000);
    play(&stage, "barrier", "EPERM", "pauses", 10_000);
    play(&stage, "EPERM", "ENOSYS", "pauses", 10_000);
}

/// Nanoseconds since 1970, in any process.
fn clock() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64
}

/// For how long this thread was ready to run while others ran: the second number of its `schedstat`.
fn held_up() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let delay = stat.split_ascii_whitespace().nth(1);
    Duration::from_nanos(delay.and_then(|delay| delay.parse().ok()).unwrap_or(0))
}

/// Sleeps so seldom that it does not ask for fences, and each time says when it is about to. Tells how often it slept
/// on although a message was there.
/// Arguments: rings, rounds.
fn sleeps_rarely(parent: &mut Parent) {
    let (mut tx, mut rx) = join(parent);
    parent.tell("ready");
    let mut slept_on = 0;
    for _ in 0..parent.number(2) {
        let awake = Instant::now();
        while awake.elapsed() < Duration::from_micros(1_100) {
            spin_loop();
        }
        let before = held_up();
        // The other side polls for that: it needs no wake.
        tx.send(0).unwrap();
        let sent = rx.recv().unwrap();
        let late = Duration::from_nanos(clock().saturating_sub(sent));
        // Not counted: it was awake, and had no processor.
        slept_on += u32::from(late >= SLOW && held_up() - before < SLOW / 2);
    }
    parent.tell(slept_on);
}

/// Sends the time just when the other side falls asleep.
/// Arguments: rings, rounds.
fn sends_just_then(parent: &mut Parent) {
    let (mut tx, mut rx) = join(parent);
    let mut random = Random::default();
    parent.tell("ready");
    for _ in 0..parent.number(2) {
        while rx.try_recv().is_err() {}
        // About as long as the other side polls before it sleeps.
        let moment = Duration::from_micros(9) + random.time(Duration::from_micros(12));
        let begun = Instant::now();
        while begun.elapsed() < moment {
            spin_loop();
        }
        tx.send(clock()).unwrap();
    }
}

/// Without the barrier, some six of these rounds are slow in an optimised build. In another one, the code between the
/// store and the look hides it.
#[test]
fn a_message_sent_just_when_a_rare_sleeper_falls_asleep_wakes_it() {
    let stage = stage!(sends_just_then, sleeps_rarely);
    let (there, back) = (stage.ring(), stage.ring());
    let mut sender = stage.start("sends_just_then", &[&there, &back, "4000"]);
    let mut sleeper = stage.start("sleeps_rarely", &[&back, &there, "4000"]);
    let ready = "ready".to_owned();
    assert_eq!((sender.hear(), sleeper.hear()), (ready.clone(), ready));
    let slept_on: u32 = sleeper.hear().parse().unwrap();
    // The sender may have been interrupted between its clock and its wake.
    assert!(slept_on <= 1, "slept on {slept_on} times");
    sender.finish();
    sleeper.finish();
}

/// Sends numbers, with pauses in which the receiver falls asleep, until it is killed.
/// Arguments: ring.
fn sends(parent: &mut Parent) {
    let mut tx = spsc::<u64>(parent.argument(0)).sender().unwrap();
    let mut random = Random::default();
    parent.tell("begins");
    for number in 0.. {
        tx.send(number).unwrap();
        random.pause(Duration::from_micros(40));
    }
}

/// Receives what senders send before they die, and tells of each death.
/// Arguments: ring.
fn mourns(parent: &mut Parent) {
    let mut rx = spsc::<u64>(parent.argument(0))
        .capacity(8)
        .receiver()
        .unwrap();
    parent.tell("ready");
    loop {
        match rx.recv() {
            Ok(_) => {}
            Err(RecvError::SenderDied { pid, .. }) => {
                parent.tell(pid);
                // The next one has begun to send.
                parent.hear();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_sender_killed_between_publishing_and_waking_holds_nobody_up_for_longer_than_a_look() {
    let stage = stage!(sends, mourns);
    let ring = stage.ring();
    let mut receiver = stage.start("mourns", &[&ring]);
    assert_eq!(receiver.hear(), "ready");
    let mut random = Random::default();
    for round in 0..40 {
        let mut sender = stage.start("sends", &[&ring]);
        assert_eq!(sender.hear(), "begins");
        if round > 0 {
            receiver.say("go on");
        }
        random.pause(Duration::from_millis(3));
        let pid = sender.id();
        sender.kill();
        let killed = Instant::now();
        assert_eq!(receiver.hear(), pid.to_string());
        // One slice, and what a busy machine adds.
        assert!(
            killed.elapsed() < Duration::from_secs(1),
            "{:?}",
            killed.elapsed()
        );
    }
}
