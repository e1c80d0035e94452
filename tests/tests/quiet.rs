//! Sending and receiving makes no system call and allocates nothing while nobody need be waited for, and waiting
//! costs next to nothing.
#![allow(unsafe_code, reason = "an allocator that counts")]

use ipc_ring::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, Wait, spsc};
use ipc_ring_tests::{Child, Parent, RingName, Stage, in_a_child, seccomp, stage};
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
    let (mut tx, mut rx) = pair(parent.argument(0), wait_of(parent.argument(1)));
    let mut batch = [[0; 7]; 64];
    let long = Duration::from_secs(60);
    quietly(|| {
        let message = [1; 7];
        let mut right = true;
        // Several laps, so that free space has to be looked for.
        for _ in 0..1000 {
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
            right &= rx.try_recv() == Ok(message) && rx.recv() == Ok(message);
            right &= rx.recv_timeout(long) == Ok(message)
                && rx.peek_copied() == Ok(message)
                && rx.consume();
            right &= rx.try_recv_slice(&mut batch[..2]) == Ok(2) && rx.drain().take(2).count() == 2;
            right &= rx.iter().next() == Some(message) && rx.try_iter().next() == Some(message);
            right &= rx.recv_latest() == Ok(message) && rx.try_recv() == Err(TryRecvError::Empty);
        }
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
