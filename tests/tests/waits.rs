//! Every way to wait, for every kind of ring, between real processes.

use ipc_ring::{Builder, Receiver, RecvTimeoutError, SendTimeoutError, Sender, ShmMessage, Wait};
use ipc_ring_tests::step::{Progress, Tracee, marker, submit, supported};
use ipc_ring_tests::{AnyKind, Child, Parent, Stage, for_all_kinds, of_any_kind, skip};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

/// A slice of sleep, and what a busy machine adds.
const SOON: Duration = Duration::from_secs(1);

/// A wake that went missing is made up for by the next look, a slice of sleep (50 ms) later. A machine that is busy
/// otherwise makes some rounds slow; wakes that go missing make many.
const SLOW: Duration = Duration::from_millis(40);

const ROUNDS: u64 = 100_000;

const WAYS: [(&str, Wait); 6] = [
    ("spin", Wait::Spin),
    ("yield", Wait::Yield),
    ("futex", Wait::Futex),
    ("condvar", Wait::Condvar),
    ("semaphore", Wait::Semaphore),
    ("message_queue", Wait::MessageQueue),
];

/// One test at a time: those who poll need a processor each, and how long waiting takes is what is looked at.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name_of(wait: Wait) -> &'static str {
    let known = WAYS.iter().find(|(_, way)| *way == wait);
    known.expect("every way is listed").0
}

fn sleeps(wait: Wait) -> bool {
    !matches!(wait, Wait::Spin | Wait::Yield)
}

fn ring<T: ShmMessage, K: AnyKind>(name: &str, wait: Wait) -> Builder<T, K> {
    let ring = K::ring_for::<T>(name, K::SENDERS);
    K::with_receivers(ring, 2).capacity(2).wait(wait)
}

/// Arguments: kind, way to wait, ring.
fn as_asked<K: AnyKind>(parent: &Parent, ring_at: usize) -> Builder<u64, K> {
    let known = WAYS.iter().find(|(name, _)| *name == parent.argument(1));
    ring(parent.argument(ring_at), known.expect("a way to wait").1)
}

fn start<K: AnyKind>(stage: &Stage, role: &str, wait: Wait, rings: &[&str]) -> Child {
    let arguments = [&[K::NAME, name_of(wait)], rings].concat();
    let mut child = stage.start(role, &arguments);
    assert_eq!(child.hear(), "ready");
    child
}

/// Waits until it sleeps, if it ever does.
fn let_sleep(child: &mut Child, wait: Wait) {
    if sleeps(wait) {
        child.wait_until_asleep();
    }
}

/// Sends what it is told to, until it is told to leave.
/// Arguments: kind, way to wait, ring.
fn sends(parent: &mut Parent) {
    of_any_kind!(parent.argument(0), sends_into(parent));
}

fn sends_into<K: AnyKind>(parent: &mut Parent) {
    let mut tx = as_asked::<K>(parent, 2).sender().unwrap();
    parent.tell("ready");
    loop {
        match parent.hear().as_str() {
            "leave" => return,
            "exit" => process::exit(0),
            number => match tx.send_timeout(number.parse().unwrap(), LONG) {
                Ok(()) => parent.tell("sent"),
                Err(SendTimeoutError::ReceiverDied(_)) => parent.tell("died"),
                Err(SendTimeoutError::Closed(_)) => parent.tell("closed"),
                Err(other) => panic!("{other}"),
            },
        }
    }
}

static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn note_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// Receives one message at each line that it hears, and tells what came, and how many signals it got.
/// Arguments: kind, way to wait, ring.
#[allow(unsafe_code, reason = "a signal handler")]
fn receives(parent: &mut Parent) {
    let handler = SigHandler::Handler(note_signal);
    // Not restarting: what waits is interrupted.
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing but add to an atomic.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    of_any_kind!(parent.argument(0), receives_from(parent));
}

fn receives_from<K: AnyKind>(parent: &mut Parent) {
    let mut rx = as_asked::<K>(parent, 2).receiver().unwrap();
    parent.tell("ready");
    loop {
        match parent.hear().as_str() {
            "leave" => return,
            "exit" => process::exit(0),
            _ => {}
        }
        let what = match rx.recv_timeout(LONG) {
            Ok(number) => number.to_string(),
            Err(RecvTimeoutError::SenderDied { .. }) => "died".to_owned(),
            Err(RecvTimeoutError::Closed) => "closed".to_owned(),
            Err(other) => panic!("{other}"),
        };
        parent.tell(format!("{what} {}", SIGNALS.load(Ordering::Relaxed)));
    }
}

fn hears(child: &mut Child, what: &str) {
    let heard = child.hear();
    let (heard, _) = heard.split_once(' ').unwrap_or((&heard, ""));
    assert_eq!(heard, what);
}

fn messages_and_room_reach_those_who_sleep<K: AnyKind>(stage: &Stage, wait: Wait) {
    let _alone = alone();
    let name = stage.ring();
    let mut receiver = start::<K>(stage, "receives", wait, &[&name]);
    let mut tx = ring::<u64, K>(&name, wait).sender().unwrap();
    for number in 0..20 {
        receiver.say("receive");
        let_sleep(&mut receiver, wait);
        tx.send(number).unwrap();
        hears(&mut receiver, &number.to_string());
    }
    receiver.say("leave");
    receiver.finish();
    drop(tx);
    let mut rx = ring::<u64, K>(&name, wait).receiver().unwrap();
    let mut sender = start::<K>(stage, "sends", wait, &[&name]);
    for number in ["0", "1"] {
        sender.say(number);
        assert_eq!(sender.hear(), "sent");
    }
    for number in 2..20_u64 {
        sender.say(&number.to_string());
        let_sleep(&mut sender, wait);
        assert_eq!(rx.recv(), Ok(number - 2));
        assert_eq!(sender.hear(), "sent");
    }
    sender.say("leave");
    sender.finish();
}

fn a_wait_ends_in_time<K: AnyKind>(stage: &Stage, wait: Wait) {
    let _alone = alone();
    let name = stage.ring();
    let mut rx = ring::<u64, K>(&name, wait).receiver().unwrap();
    let sender = start::<K>(stage, "sends", wait, &[&name]);
    let begun = Instant::now();
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
    let (waited, used) = (begun.elapsed(), SHORT..SOON);
    assert!(used.contains(&waited), "{waited:?}");
    sender.kill();
    drop(rx);
    let receiver = start::<K>(stage, "receives", wait, &[&name]);
    let mut tx = ring::<u64, K>(&name, wait).sender().unwrap();
    tx.send(0).unwrap();
    tx.send(1).unwrap();
    let begun = Instant::now();
    let full = Err(SendTimeoutError::Timeout(2));
    assert_eq!(tx.send_timeout(2, SHORT), full);
    let waited = begun.elapsed();
    assert!(used.contains(&waited), "{waited:?}");
    receiver.kill();
}

/// Whoever is killed, exits or leaves while the other one sleeps: that is told soon.
fn who_sleeps_hears_how_the_other_side_ended<K: AnyKind>(
    stage: &Stage,
    wait: Wait,
    end: impl Fn(Child),
    told: &str,
) {
    let _alone = alone();
    let name = stage.ring();
    let mut receiver = start::<K>(stage, "receives", wait, &[&name]);
    let sender = start::<K>(stage, "sends", wait, &[&name]);
    receiver.say("receive");
    let_sleep(&mut receiver, wait);
    end(sender);
    let ended = Instant::now();
    hears(&mut receiver, told);
    assert!(ended.elapsed() < SOON, "{:?}", ended.elapsed());

    let mut sender = start::<K>(stage, "sends", wait, &[&name]);
    for number in ["0", "1"] {
        sender.say(number);
        assert_eq!(sender.hear(), "sent");
    }
    sender.say("2");
    let_sleep(&mut sender, wait);
    end(receiver);
    let ended = Instant::now();
    hears(&mut sender, told);
    assert!(ended.elapsed() < SOON, "{:?}", ended.elapsed());
    sender.say("leave");
    sender.finish();
}

fn who_sleeps_hears_that_the_other_side_was_killed<K: AnyKind>(stage: &Stage, wait: Wait) {
    who_sleeps_hears_how_the_other_side_ended::<K>(stage, wait, Child::kill, "died");
}

fn who_sleeps_hears_that_the_other_side_exited<K: AnyKind>(stage: &Stage, wait: Wait) {
    let exit = |mut child: Child| {
        child.say("exit");
        child.finish();
    };
    who_sleeps_hears_how_the_other_side_ended::<K>(stage, wait, exit, "died");
}

fn who_sleeps_hears_that_the_other_side_left<K: AnyKind>(stage: &Stage, wait: Wait) {
    let leave = |mut child: Child| {
        child.say("leave");
        child.finish();
    };
    who_sleeps_hears_how_the_other_side_ended::<K>(stage, wait, leave, "closed");
}

/// Sends one message, between two markers.
/// Arguments: kind, way to wait, ring.
fn sends_one(parent: &mut Parent) {
    submit().unwrap();
    of_any_kind!(parent.argument(0), sends_one_into(parent));
}

fn sends_one_into<K: AnyKind>(parent: &mut Parent) {
    let mut tx = as_asked::<K>(parent, 2).sender().unwrap();
    parent.tell("ready");
    parent.hear();
    marker();
    tx.try_send(0).unwrap();
    marker();
}

/// Receives one message, between two markers.
/// Arguments: kind, way to wait, ring.
fn receives_one(parent: &mut Parent) {
    submit().unwrap();
    of_any_kind!(parent.argument(0), receives_one_from(parent));
}

fn receives_one_from<K: AnyKind>(parent: &mut Parent) {
    let mut rx = as_asked::<K>(parent, 2).receiver().unwrap();
    parent.tell("ready");
    parent.hear();
    marker();
    rx.try_recv().unwrap();
    marker();
}

/// Kills it at each system call of its operation in turn; the first is the wake, which comes behind the publish. Whether it came
/// to so many.
fn kill_at_system_call(mut child: Child, number: usize) -> bool {
    child.say("go on");
    let mut tracee = Tracee::meet(child.thread()).unwrap();
    let comes_there = (0..number).all(|_| tracee.run_to_system_call().unwrap() == Progress::Inside);
    tracee.leave_stopped().unwrap();
    child.kill();
    comes_there
}

fn a_waker_killed_between_publishing_and_waking_holds_nobody_up<K: AnyKind>(
    stage: &Stage,
    wait: Wait,
) {
    if let Err(reason) = supported() {
        return skip(reason);
    }
    let _alone = alone();
    for number in 1.. {
        let name = stage.ring();
        let mut receiver = start::<K>(stage, "receives", wait, &[&name]);
        let sender = start::<K>(stage, "sends_one", wait, &[&name]);
        receiver.say("receive");
        let_sleep(&mut receiver, wait);
        let comes_there = kill_at_system_call(sender, number);
        let killed = Instant::now();
        hears(&mut receiver, "0");
        assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
        receiver.kill();
        if !comes_there {
            assert!(number > 1 || !sleeps(wait), "a wake is a system call");
            break;
        }
    }
    for number in 1.. {
        let name = stage.ring();
        let mut sender = start::<K>(stage, "sends", wait, &[&name]);
        for number in ["0", "1"] {
            sender.say(number);
            assert_eq!(sender.hear(), "sent");
        }
        let receiver = start::<K>(stage, "receives_one", wait, &[&name]);
        sender.say("2");
        let_sleep(&mut sender, wait);
        let comes_there = kill_at_system_call(receiver, number);
        let killed = Instant::now();
        hears(&mut sender, "sent");
        assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
        sender.kill();
        if !comes_there {
            assert!(number > 1 || !sleeps(wait), "a wake is a system call");
            break;
        }
    }
}

/// Signals the thread that waits, no other one of its process.
#[allow(unsafe_code, reason = "tgkill")]
fn interrupt(child: &Child) {
    let process = child.id() as libc::pid_t;
    // SAFETY: a system call without memory.
    let result = unsafe { libc::tgkill(process, child.thread(), libc::SIGUSR1) };
    assert_eq!(result, 0, "it is our child");
}

fn signals_interrupt_and_end_nothing<K: AnyKind>(stage: &Stage, wait: Wait) {
    const TIMES: u64 = 20;

    let _alone = alone();
    let name = stage.ring();
    let mut receiver = start::<K>(stage, "receives", wait, &[&name]);
    let mut tx = ring::<u64, K>(&name, wait).sender().unwrap();
    receiver.say("receive");
    for _ in 0..TIMES {
        let_sleep(&mut receiver, wait);
        let before = receiver.sleeps();
        interrupt(&receiver);
        if sleeps(wait) {
            // Another sleep than the one that was interrupted.
            receiver.wait_until_slept_since(before, 1);
        }
    }
    // Who is awake may be slower to hear of the last signal than of the first message, but not of another one.
    let mut signals = 0;
    for number in ["7", "8"] {
        tx.send(number.parse().unwrap()).unwrap();
        let heard = receiver.hear();
        let (what, heard) = heard.split_once(' ').unwrap();
        assert_eq!(what, number);
        signals = heard.parse().unwrap();
        receiver.say("receive");
    }
    // Signals that meet are one.
    let fewest = if sleeps(wait) { TIMES } else { 1 };
    assert!((fewest..=TIMES).contains(&signals), "{signals} signals");
    tx.send(9).unwrap();
    hears(&mut receiver, "9");
    receiver.say("leave");
    receiver.finish();
}

/// Arguments: kind, way to wait, ring to send into, ring to receive from.
fn echoes(parent: &mut Parent) {
    of_any_kind!(parent.argument(0), echoes_by(parent));
}

fn ends<K: AnyKind>(parent: &Parent) -> (Sender<u64, K>, Receiver<u64, K>) {
    let tx = as_asked(parent, 2).sender().unwrap();
    (tx, as_asked(parent, 3).receiver().unwrap())
}

fn echoes_by<K: AnyKind>(parent: &mut Parent) {
    let (mut tx, mut rx) = ends::<K>(parent);
    parent.tell("ready");
    while let Ok(message) = rx.recv() {
        tx.send(message).unwrap();
    }
}

fn a_hundred_thousand_ping_pongs_are_not_held_up<K: AnyKind>(stage: &Stage, wait: Wait) {
    let _alone = alone();
    let (there, back) = (stage.ring(), stage.ring());
    let mut rx = ring::<u64, K>(&back, wait).receiver().unwrap();
    let other = start::<K>(stage, "echoes", wait, &[&back, &there]);
    let mut tx = ring::<u64, K>(&there, wait).sender().unwrap();
    let mut slow = 0;
    for round in 0..ROUNDS {
        let begun = Instant::now();
        tx.send(round).unwrap();
        assert_eq!(rx.recv(), Ok(round));
        slow += u32::from(begun.elapsed() >= SLOW);
    }
    assert!(slow <= 10, "{slow} of {ROUNDS} rounds were slow");
    drop(tx);
    other.finish();
}

/// However long it is told to poll.
fn who_polls_for_long_hears_of_endings_all_the_same<K: AnyKind>(stage: &Stage) {
    let _alone = alone();
    for wait in [Wait::Futex, Wait::Spin] {
        let name = stage.ring();
        let patient = ring::<u64, K>(&name, wait).poll_before_sleep(Duration::MAX);
        let mut rx = patient.receiver().unwrap();
        let sender = start::<K>(stage, "sends", wait, &[&name]);
        // It has just joined: nobody asks the kernel yet.
        sender.kill();
        let begun = Instant::now();
        let told = rx.recv_timeout(LONG);
        let waited = begun.elapsed();
        let died = matches!(told, Err(RecvTimeoutError::SenderDied { .. }));
        assert!(died && waited < SOON, "{told:?} after {waited:?}");
    }
}

for_all_kinds! {
    who_polls_for_long_hears_of_endings_all_the_same(sends);
}

/// Makes the tests that are named for one way to wait, of each kind.
macro_rules! of_way {
    ($way:ident: $($name:ident($($role:ident),*);)+) => {
        $(
            fn $name<K: AnyKind>(stage: &Stage) {
                super::$name::<K>(stage, Wait::$way);
            }
        )+

        for_all_kinds! {
            $($name($($role),*);)+
        }
    };
}

macro_rules! of_every_way {
    ($($module:ident $way:ident;)+) => {
        $(
            mod $module {
                use super::*;

                of_way! {
                    $way:
                    messages_and_room_reach_those_who_sleep(sends, receives);
                    a_wait_ends_in_time(sends, receives);
                    who_sleeps_hears_that_the_other_side_was_killed(sends, receives);
                    who_sleeps_hears_that_the_other_side_exited(sends, receives);
                    who_sleeps_hears_that_the_other_side_left(sends, receives);
                    a_waker_killed_between_publishing_and_waking_holds_nobody_up(sends, receives, sends_one, receives_one);
                    signals_interrupt_and_end_nothing(receives);
                    a_hundred_thousand_ping_pongs_are_not_held_up(echoes);
                }
            }
        )+
    };
}

of_every_way! {
    spin Spin;
    yielding Yield;
    futex Futex;
    condvar Condvar;
    semaphore Semaphore;
    message_queue MessageQueue;
}
