//! Sending and receiving makes no system call and allocates nothing while nobody need be waited for, and waiting
//! costs next to nothing.
#![allow(unsafe_code, reason = "an allocator that counts")]

use ipc_ring::{
    Kind, Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, TrySendError, Wait,
    spsc,
};
use ipc_ring_tests::{
    Child, Parent, RingName, Several, Stage, for_several_senders,
    for_several_senders_without_a_mutex, in_a_child, of_kind, seccomp, stage,
};
use nix::sys::resource::{UsageWho, getrusage};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::spin_loop;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

struct Counting;

thread_local! {
    /// By thread: the test harness has its own, which goes on for a while after it has started a test.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: it is the system's allocator, but for the count.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a process ends with that made no system call and allocated nothing.
const QUIET: i32 = 42;
const ALLOCATED: i32 = 43;
const WRONG: i32 = 44;

/// Runs `action` where every system call kills, and ends the process. False: it went wrong. What it borrows is not
/// dropped: leaving a ring does make system calls.
fn quietly(action: impl FnOnce() -> bool) -> ! {
    seccomp::forbid_all();
    let before = ALLOCATIONS.get();
    let right = action();
    let allocated = ALLOCATIONS.get() - before;
    seccomp::leave(match (right, allocated) {
        (false, _) => WRONG,
        (true, 0) => QUIET,
        (true, _) => ALLOCATED,
    })
}

fn was_quiet(child: Child) {
    let status = child.end();
    assert_ne!(status.signal(), Some(libc::SIGSYS), "it made a system call");
    assert_ne!(status.code(), Some(ALLOCATED), "it allocated");
    assert_eq!(status.code(), Some(QUIET), "{status}");
}

fn wait_of(name: &str) -> Wait {
    if name == "Spin" {
        Wait::Spin
    } else {
        Wait::Futex
    }
}

fn pair(ring: &str, wait: Wait) -> (Sender<[u64; 7]>, Receiver<[u64; 7]>) {
    let tx = spsc(ring).capacity(64).wait(wait).sender().unwrap();
    (tx, spsc(ring).receiver().unwrap())
}

/// Both sides in one process, with every call that need not wait.
/// Arguments: ring, way to wait.
fn calls_everything(parent: &mut Parent) {
    let (tx, rx) = pair(parent.argument(0), wait_of(parent.argument(1)));
    call_everything([tx], rx, |rx| rx.recv_latest());
}

/// Three senders and the receiver in one process, likewise.
/// Arguments: ring, way to wait, kind.
fn calls_everything_of_several(parent: &mut Parent) {
    of_kind!(parent.argument(2), call_everything_of(parent));
}

fn call_everything_of<K: Several>(parent: &Parent) {
    let wait = wait_of(parent.argument(1));
    // More lanes than are looked at each time.
    let ring = || {
        K::ring(parent.argument(0))
            .capacity(64)
            .wait(wait)
            .max_senders(20)
    };
    let senders = [(); 3].map(|()| ring().sender().unwrap());
    let rx = ring().receiver().unwrap();
    call_everything(senders, rx, |rx| rx.try_recv().and(rx.try_recv()));
}

type Received = Result<[u64; 7], TryRecvError>;

fn call_everything<const N: usize, K: Kind>(
    mut senders: [Sender<[u64; 7], K>; N],
    mut rx: Receiver<[u64; 7], K>,
    take_two: fn(&mut Receiver<[u64; 7], K>) -> Received,
) {
    let mut batch = [[0; 7]; 64];
    let long = Duration::from_secs(60);
    quietly(|| {
        let message = [1; 7];
        let mut right = true;
        // Several laps, so that free space has to be looked for.
        for round in 0..1000 {
            let tx = &mut senders[round % N];
            right &= tx.try_send(message).is_ok() && tx.try_send_ref(&message).is_ok();
            right &= tx.send(message).is_ok() && tx.send_ref(&message).is_ok();
            right &= tx.send_timeout(message, long).is_ok();
            right &=
                tx.try_send_slice(&[message; 3]) == Ok(3) && tx.send_slice(&[message; 3]).is_ok();
            right &= tx.try_reserve().is_ok_and(|place| {
                place.write(message).publish();
                true
            });
            right &= tx.len() == 12 && rx.len() == 12 && !tx.is_full() && !rx.is_empty();
            // Gives up what it has claimed.
            drop(tx.try_reserve());
            right &= rx.try_recv() == Ok(message) && rx.recv() == Ok(message);
            right &= rx.recv_timeout(long) == Ok(message)
                && rx.peek_copied() == Ok(message)
                && rx.consume();
            right &= rx.try_recv_slice(&mut batch[..2]) == Ok(2) && rx.drain().take(2).count() == 2;
            right &= rx.iter().next() == Some(message) && rx.try_iter().next() == Some(message);
            right &= take_two(&mut rx) == Ok(message);
            right &= rx.try_recv() == Err(TryRecvError::Empty);
        }
        let tx = &mut senders[0];
        while tx.try_send(message).is_ok() {}
        right && tx.try_send(message) == Err(TrySendError::Full(message))
    });
}

#[test]
fn no_call_that_need_not_wait_makes_a_system_call_or_allocates() {
    let stage = stage!(calls_everything);
    for wait in ["Spin", "Futex"] {
        let ring = stage.ring();
        was_quiet(stage.start("calls_everything", &[&ring, wait]));
    }
}

fn no_call_of_several_senders_makes_a_system_call_or_allocates<K: Several>(stage: &Stage) {
    for wait in ["Spin", "Futex"] {
        let ring = stage.ring();
        was_quiet(stage.start("calls_everything_of_several", &[&ring, wait, K::NAME]));
    }
}

fn senders_and_a_receiver_that_are_awake_make_no_system_call<K: Several>(stage: &Stage) {
    let ring = stage.ring();
    let mut children: Vec<_> = [
        "receives_from_two",
        "sends_as_one_of_two",
        "sends_as_one_of_two",
    ]
    .map(|role| stage.start(role, &[&ring, "Futex", K::NAME]))
    .into();
    // All have joined, one after the other.
    for child in &mut children {
        assert_eq!(child.hear(), "ready");
    }
    for child in &mut children {
        child.say("go");
    }
    children.into_iter().for_each(was_quiet);
}

/// Arguments: ring, way to wait, kind.
fn sends_as_one_of_two(parent: &mut Parent) {
    of_kind!(parent.argument(2), send_as_one_of_two(parent));
}

fn send_as_one_of_two<K: Several>(parent: &mut Parent) {
    let mut tx = K::ring(parent.argument(0)).capacity(64).sender().unwrap();
    parent.tell("ready");
    parent.hear();
    quietly(|| (0..COUNT).all(|number| send_soon(&mut tx, [number; 7])));
}

/// The other side is awake and makes room, for which one that asks for it again and again need not wait.
fn send_soon<K: Kind>(tx: &mut Sender<[u64; 7], K>, message: [u64; 7]) -> bool {
    loop {
        match tx.try_send(message) {
            Ok(()) => return true,
            Err(TrySendError::Full(_)) => spin_loop(),
            Err(_) => return false,
        }
    }
}

/// Arguments: ring, way to wait, kind.
fn receives_from_two(parent: &mut Parent) {
    of_kind!(parent.argument(2), receive_from_two(parent));
}

fn receive_from_two<K: Several>(parent: &mut Parent) {
    let mut rx = K::ring::<[u64; 7]>(parent.argument(0))
        .capacity(64)
        .receiver()
        .unwrap();
    parent.tell("ready");
    parent.hear();
    quietly(|| {
        let mut sum = 0_u64;
        for _ in 0..2 * COUNT {
            while rx.is_empty() {
                spin_loop();
            }
            let Ok(message) = rx.recv() else {
                return false;
            };
            sum += message[0];
        }
        sum == COUNT * (COUNT - 1)
    });
}

const COUNT: u64 = 100_000;

/// Arguments: ring, way to wait.
fn sends(parent: &mut Parent) {
    let builder = spsc::<[u64; 7]>(parent.argument(0))
        .capacity(64)
        .wait(wait_of(parent.argument(1)));
    let mut tx = builder.sender().unwrap();
    if parent.argument(2) == "wakes" {
        // One that sleeps now and never again: what it left behind must not disturb.
        parent.hear();
        tx.send([u64::MAX; 7]).unwrap();
    }
    parent.tell("ready");
    parent.hear();
    quietly(|| {
        (0..COUNT).all(|number| {
            // The other side is awake and makes room: `send` need not wait.
            while tx.is_full() {
                spin_loop();
            }
            tx.send([number; 7]).is_ok()
        })
    });
}

/// Arguments: ring, way to wait, whether to sleep before.
fn receives(parent: &mut Parent) {
    let builder = spsc::<[u64; 7]>(parent.argument(0))
        .capacity(64)
        .wait(wait_of(parent.argument(1)));
    let mut rx = builder.receiver().unwrap();
    if parent.argument(2) == "wakes" {
        parent.tell("sleeping");
        assert_eq!(rx.recv(), Ok([u64::MAX; 7]));
    }
    parent.tell("ready");
    parent.hear();
    quietly(|| {
        (0..COUNT).all(|number| {
            while rx.is_empty() {
                spin_loop();
            }
            if number % 2 == 0 {
                rx.recv() == Ok([number; 7])
            } else {
                rx.try_recv() == Ok([number; 7])
            }
        })
    });
}

fn exchange(stage: &Stage, wait: &str, before: &str) {
    let ring = stage.ring();
    let mut sender = stage.start("sends", &[&ring, wait, before]);
    let mut receiver = stage.start("receives", &[&ring, wait, before]);
    if before == "wakes" {
        assert_eq!(receiver.hear(), "sleeping");
        receiver.wait_until_asleep();
        sender.say("wake it");
    }
    for child in [&mut sender, &mut receiver] {
        assert_eq!(child.hear(), "ready");
    }
    sender.say("go");
    receiver.say("go");
    was_quiet(sender);
    was_quiet(receiver);
}

#[test]
fn two_processes_that_are_awake_exchange_messages_without_a_system_call_or_an_allocation() {
    let stage = stage!(sends, receives);
    exchange(&stage, "Spin", "");
    exchange(&stage, "Futex", "");
}

#[test]
fn a_side_that_has_slept_once_costs_no_system_call_afterwards() {
    exchange(&stage!(sends, receives), "Futex", "wakes");
}

#[test]
fn the_filter_and_the_counter_would_notice() {
    let stage = stage!(calls, allocates);
    let status = stage.start("calls", &[]).end();
    assert_eq!(status.signal(), Some(libc::SIGSYS));
    assert_eq!(stage.start("allocates", &[]).end().code(), Some(ALLOCATED));
}

fn calls(_: &mut Parent) {
    quietly(|| nix::unistd::getppid().as_raw() > 0);
}

fn allocates(_: &mut Parent) {
    quietly(|| *std::hint::black_box(Box::new(1_u64)) == 1);
}

/// Of 3 seconds, one in a thousand.
const BLOCKED: Duration = Duration::from_secs(3);

fn cpu_time() -> Duration {
    // Of this thread: the harness has one too.
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let time = usage.user_time() + usage.system_time();
    Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
}

#[test]
fn a_blocked_receiver_uses_at_most_a_thousandth_of_a_cpu() {
    in_a_child!(|_| {
        let ring = RingName::of("blocked-receiver");
        let (tx, mut rx) = pair(&ring, Wait::Futex);
        let before = cpu_time();
        assert_eq!(rx.recv_timeout(BLOCKED), Err(RecvTimeoutError::Timeout));
        let used = cpu_time() - before;
        assert!(used <= BLOCKED / 1000, "{used:?}");
        drop((tx, rx));
    });
}

#[test]
fn a_blocked_sender_uses_at_most_a_thousandth_of_a_cpu() {
    in_a_child!(|_| {
        let ring = RingName::of("blocked-sender");
        let (mut tx, rx) = pair(&ring, Wait::Futex);
        while tx.try_send([0; 7]).is_ok() {}
        let before = cpu_time();
        assert!(tx.send_timeout([0; 7], BLOCKED).is_err());
        let used = cpu_time() - before;
        assert!(used <= BLOCKED / 1000, "{used:?}");
        drop((tx, rx));
    });
}

fn blocked_sides_use_at_most_a_thousandth_of_a_cpu<K: Several>(stage: &Stage) {
    let ring = stage.ring();
    // At the same time: a receiver, and a sender on another ring.
    let full = stage.ring();
    let mut receiver = stage.start("waits_for_a_message", &[&ring, K::NAME]);
    let mut sender = stage.start("waits_for_room", &[&full, K::NAME]);
    for child in [&mut receiver, &mut sender] {
        let used = Duration::from_micros(child.hear().parse().unwrap());
        assert!(used <= BLOCKED / 1000, "{used:?}");
    }
    receiver.finish();
    sender.finish();
}

/// Arguments: ring, kind.
fn waits_for_a_message(parent: &mut Parent) {
    of_kind!(parent.argument(1), wait_for_a_message(parent));
}

fn wait_for_a_message<K: Several>(parent: &mut Parent) {
    let ring = || {
        K::ring::<u64>(parent.argument(0))
            .capacity(64)
            .max_senders(20)
    };
    let mut rx = ring().receiver().unwrap();
    let _living = [(); 8].map(|()| ring().sender().unwrap());
    let before = cpu_time();
    assert_eq!(rx.recv_timeout(BLOCKED), Err(RecvTimeoutError::Timeout));
    parent.tell((cpu_time() - before).as_micros());
}

/// Arguments: ring, kind.
fn waits_for_room(parent: &mut Parent) {
    of_kind!(parent.argument(1), wait_for_room(parent));
}

fn wait_for_room<K: Several>(parent: &mut Parent) {
    let ring = || {
        K::ring::<u64>(parent.argument(0))
            .capacity(64)
            .max_senders(20)
    };
    let _living = ring().receiver().unwrap();
    let mut tx = ring().sender().unwrap();
    while tx.try_send(0).is_ok() {}
    let before = cpu_time();
    assert_eq!(
        tx.send_timeout(1, BLOCKED),
        Err(SendTimeoutError::Timeout(1))
    );
    parent.tell((cpu_time() - before).as_micros());
}

// Who waits for a mutex asks the kernel to wake him.
mod without_a_mutex {
    use super::*;

    for_several_senders_without_a_mutex! {
        senders_and_a_receiver_that_are_awake_make_no_system_call(sends_as_one_of_two, receives_from_two);
    }
}

for_several_senders! {
    no_call_of_several_senders_makes_a_system_call_or_allocates(calls_everything_of_several);
    blocked_sides_use_at_most_a_thousandth_of_a_cpu(waits_for_a_message, waits_for_room);
}
