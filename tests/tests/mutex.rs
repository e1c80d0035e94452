//! The mutex of a locked ring: who holds it is stopped, killed, or a thread that ends while its process lives on; or a peer has
//! scribbled into it.

use ipc_ring::{
    Builder, Locked, RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError, locked,
};
use ipc_ring_tests::step::{Progress, Tracee, marker, submit, supported};
use ipc_ring_tests::{Child, Parent, RingName, Stage, Words, says, skip, stage};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};
use std::fs;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CAPACITY: u64 = 4;
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1);
/// The mutex is waited for as long as that, and this machine may do other things as well.
const STUCK: std::ops::Range<Duration> = Duration::from_millis(900)..Duration::from_secs(30);
/// What follows what happened at once.
const SOON: Duration = Duration::from_millis(900);
/// Where the senders' words begin, in the header's words; and the order, behind the mutex, in bytes from there on.
const SENDERS_OFFSET: usize = 96 / 8;

fn ring(name: &str) -> Builder<u64, Locked> {
    locked(name).capacity(CAPACITY as usize)
}

/// The words of the mutex.
struct Mutex {
    words: Words,
    first: usize,
}

impl Mutex {
    fn of(name: &RingName) -> Self {
        let bytes = fs::metadata(name.path()).unwrap().len();
        let words = Words::of(name.path(), bytes as usize / 8);
        let first = words[SENDERS_OFFSET].load(Ordering::Relaxed) as usize / 8;
        Self { words, first }
    }

    /// The number of the thread that holds it, or 0.
    fn holder(&self) -> u32 {
        self.word(0).load(Ordering::Relaxed) & 0x3fff_ffff
    }

    /// One of its words of 32 bits.
    #[allow(unsafe_code, reason = "half of a word")]
    fn word(&self, number: usize) -> &AtomicU32 {
        let word: *const [AtomicU32; 2] = (&raw const self.words[self.first + number / 2]).cast();
        // SAFETY: of the same size, aligned, and everybody's atomically.
        let halves = unsafe { &*word };
        &halves[number % 2]
    }
}

/// Sends a message and receives one, between two markers, in a thread of its own, and stays.
/// Arguments: ring.
fn exchanges(parent: &mut Parent) {
    let mut tx = locked::<u64>(parent.argument(0)).sender().unwrap();
    let mut rx = locked::<u64>(parent.argument(0)).receiver().unwrap();
    let mut other = parent.clone();
    thread::spawn(move || {
        submit().unwrap();
        other.tell(gettid());
        // Where there is an instruction that makes a system call.
        other.tell(libc::syscall as *const () as usize);
        other.hear();
        marker();
        tx.try_send(77).unwrap();
        rx.try_recv().unwrap();
        marker();
    });
    loop {
        thread::park();
    }
}

/// One that stands in the midst of that.
struct Victim {
    child: Child,
    tracee: Tracee,
    makes_system_call: u64,
}

/// Steps a victim to where it has held the mutex for `instructions`, of all that it does with it held. None if that are fewer.
fn step_into(stage: &Stage, name: &RingName, instructions: usize) -> Option<Victim> {
    let mutex = Mutex::of(name);
    let mut child = stage.start("exchanges", &[name]);
    let thread: i32 = child.hear().parse().unwrap();
    let makes_system_call = child.hear().parse().unwrap();
    child.say("go on");
    let mut tracee = Tracee::meet(thread).unwrap();
    let mut held = 0;
    while tracee.step().unwrap() == Progress::Inside {
        held += usize::from(mutex.holder() == thread as u32);
        if held > instructions {
            return Some(Victim {
                child,
                tracee,
                makes_system_call,
            });
        }
    }
    None
}

/// One that stands still with the mutex held.
fn stopped_with_the_mutex(stage: &Stage, name: &RingName) -> Child {
    let Victim { child, tracee, .. } = step_into(stage, name, 10).unwrap();
    tracee.leave_stopped().unwrap();
    child
}

/// Every some instructions: in all, a victim holds the mutex for some hundreds.
fn some_instructions() -> impl Iterator<Item = usize> {
    (0..).step_by(29)
}

fn in_time<R>(call: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let result = call();
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    result
}

/// Others send and receive, and nothing was lost but what the victim was about to do: 1 and 2 were sent before, 77 by it.
fn others_go_on(name: &RingName) {
    let mut tx = locked::<u64>(name).sender().unwrap();
    let mut rx = locked::<u64>(name).receiver().unwrap();
    in_time(|| tx.send_timeout(3, LONG)).unwrap();
    let mut received = Vec::new();
    while received.last() != Some(&3) {
        received.push(in_time(|| rx.recv_timeout(LONG)).unwrap());
    }
    let others: Vec<_> = received
        .iter()
        .copied()
        .filter(|&message| message != 77)
        .collect();
    // The victim may have received the first of them, or has it in hand as long as its process lives.
    assert!(matches!(&others[..], [1, 2, 3] | [2, 3]), "{received:?}");
    assert!(received.len() - others.len() <= 1, "{received:?}");
}

/// A ring with 1 and 2 in it.
fn with_two(name: &RingName) -> impl Drop + use<> {
    let mut tx = ring(name).sender().unwrap();
    tx.send(1).unwrap();
    tx.send(2).unwrap();
    tx
}

/// Every slot is there, and free, once nobody is left.
fn is_whole(name: &RingName) {
    let mut tx = locked::<u64>(name).sender().unwrap();
    let mut rx = locked::<u64>(name).receiver().unwrap();
    // Who waits takes back what the dead had in hand.
    while let Ok(_) | Err(RecvTimeoutError::SenderDied { .. }) = rx.recv_timeout(SHORT) {}
    for message in 0..CAPACITY {
        tx.send_timeout(message, LONG).unwrap();
    }
    assert_eq!(tx.try_send(0), Err(TrySendError::Full(0)));
    assert!(rx.try_iter().eq(0..CAPACITY));
}

#[test]
fn a_process_killed_with_the_mutex_held_is_in_nobodys_way() {
    if let Err(reason) = supported() {
        return skip(reason);
    }
    let stage = stage!(exchanges);
    for instructions in some_instructions() {
        let name = stage.ring();
        let _two = with_two(&name);
        let Some(victim) = step_into(&stage, &name, instructions) else {
            assert!(instructions > 100, "it hardly holds the mutex");
            break;
        };
        drop(victim.tracee);
        victim.child.kill();
        others_go_on(&name);
        is_whole(&name);
    }
}

#[test]
fn a_thread_that_ends_with_the_mutex_held_is_in_nobodys_way_though_its_process_lives_on() {
    if let Err(reason) = supported() {
        return skip(reason);
    }
    let stage = stage!(exchanges);
    for instructions in some_instructions() {
        let name = stage.ring();
        let _two = with_two(&name);
        let Some(victim) = step_into(&stage, &name, instructions) else {
            assert!(instructions > 100, "it hardly holds the mutex");
            break;
        };
        victim.tracee.end_thread(victim.makes_system_call).unwrap();
        others_go_on(&name);
        // The slots that it had in hand, one at most to send and one to receive, are its process's.
        let mut tx = locked::<u64>(&name).sender().unwrap();
        let sent = (0..=CAPACITY)
            .take_while(|&message| tx.try_send(message).is_ok())
            .count();
        assert!(sent + 2 >= CAPACITY as usize, "{sent}");
        victim.child.kill();
        is_whole(&name);
    }
}

#[test]
fn who_is_stopped_with_the_mutex_held_makes_others_say_so_until_it_goes_on() {
    if let Err(reason) = supported() {
        return skip(reason);
    }
    let stage = stage!(exchanges);
    let name = stage.ring();
    let _two = with_two(&name);
    let mut tx = locked::<u64>(&name).sender().unwrap();
    let mut rx = locked::<u64>(&name).receiver().unwrap();
    let mut child = stopped_with_the_mutex(&stage, &name);
    let stuck = |call: &mut dyn FnMut()| {
        let begun = Instant::now();
        call();
        let took = begun.elapsed();
        assert!(STUCK.contains(&took), "it took {took:?}");
    };
    stuck(&mut || assert_eq!(tx.try_send(3), Err(TrySendError::Stuck(3))));
    stuck(&mut || assert!(matches!(tx.try_reserve(), Err(TrySendError::Stuck(())))));
    stuck(&mut || assert_eq!(tx.send_timeout(3, LONG), Err(SendTimeoutError::Stuck(3))));
    stuck(&mut || assert_eq!(rx.try_recv(), Err(TryRecvError::Stuck)));
    stuck(&mut || assert_eq!(rx.recv_timeout(LONG), Err(RecvTimeoutError::Stuck)));
    stuck(&mut || assert_eq!(rx.iter().next(), None));
    assert_eq!(
        rx.recv_timeout(LONG),
        Err(RecvTimeoutError::Stuck),
        "what ended it"
    );
    says(
        rx.try_recv().unwrap_err(),
        &["mutex", "a second", "stopped", "damaged"],
    );
    // What needs no mutex goes on.
    assert_eq!((tx.capacity() as u64, rx.len()), (CAPACITY, 2));
    child.go_on();
    tx.send_timeout(3, LONG).unwrap();
    let mut received = Vec::new();
    while received.last() != Some(&3) {
        received.extend(rx.recv_timeout(LONG));
    }
    assert!(
        received.ends_with(&[2, 3]) || received.ends_with(&[77, 3]),
        "{received:?}"
    );
    child.kill();
    is_whole(&name);
}

#[test]
fn a_handle_that_is_dropped_while_nobody_can_have_the_mutex_leaves_nothing_behind() {
    if let Err(reason) = supported() {
        return skip(reason);
    }
    let stage = stage!(exchanges);
    let name = stage.ring();
    let two = with_two(&name);
    let mut tx = locked::<u64>(&name).sender().unwrap();
    let mut rx = locked::<u64>(&name).receiver().unwrap();
    assert_eq!(rx.peek_copied(), Ok(1));
    std::mem::forget(tx.try_reserve().unwrap());
    let mut child = stopped_with_the_mutex(&stage, &name);
    in_time(|| drop((tx, rx)));
    child.go_on();
    child.kill();
    let mut rx = locked::<u64>(&name).receiver().unwrap();
    assert_eq!(rx.recv(), Ok(1), "it comes back");
    drop((rx, two));
    is_whole(&name);
}

/// What comes of nonsense in each word of the mutex but the links of the C library's list of those that somebody holds.
#[test]
fn a_scribbled_mutex_gives_an_error_and_no_hang() {
    for inherits in [false, true] {
        for word in 0..6 {
            for nonsense in [1, u32::MAX, 0x7fff_ffff, 0x4000_0000, 0x2345_6789] {
                let name = RingName::of("scribbled_mutex");
                let ring = || match inherits {
                    true => ring(&name).inherit_priority(),
                    false => ring(&name),
                };
                let mut tx = ring().sender().unwrap();
                let mut rx = ring().receiver().unwrap();
                tx.send(1).unwrap();
                let mutex = Mutex::of(&name);
                // A thread that there is not, or bits beside it; who else is called by its number would be waited for.
                mutex
                    .word(word)
                    .store(nonsense & !1 | u32::from(word > 0), Ordering::Relaxed);
                let begun = Instant::now();
                let sent = tx.send_timeout(2, LONG);
                let received = rx.recv_timeout(LONG);
                let took = begun.elapsed();
                let what = format!("{nonsense:#x} in word {word}: {sent:?}, {received:?}");
                assert!(took < STUCK.end, "{what} took {took:?}");
                assert!(
                    matches!(sent, Ok(()) | Err(SendTimeoutError::Stuck(2))),
                    "{what}"
                );
                assert!(
                    matches!(received, Ok(1) | Err(RecvTimeoutError::Stuck)),
                    "{what}"
                );
                // The sort of mutex that it is, is looked at.
                if word == 4 {
                    assert_eq!(sent, Err(SendTimeoutError::Stuck(2)), "{what}");
                    assert!(took < SOON, "{what} took {took:?}");
                }
            }
        }
    }
}

/// A process that fork(3) has not made.
/// Arguments: ring.
#[allow(unsafe_code, reason = "a bare system call")]
fn is_unknown(parent: &mut Parent) {
    // SAFETY: as fork(2), which the kernel takes it for; the copy makes calls that need none of what only the C library knows.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        let refused = locked::<u64>(parent.argument(0)).receiver().unwrap_err();
        says(refused, &["bare clone(2)", "fork"]);
        process::exit(0);
    }
    assert_eq!(
        waitpid(Pid::from_raw(pid as i32), None),
        Ok(WaitStatus::Exited(Pid::from_raw(pid as i32), 0))
    );
}

#[test]
fn a_process_that_the_c_library_does_not_know_of_is_refused() {
    let stage = stage!(is_unknown);
    let name = stage.ring();
    let _tx = ring(&name).sender().unwrap();
    stage.play("is_unknown", &[&name]);
}

#[test]
fn a_damaged_ring_is_removed_and_made_again() {
    let name = RingName::of("damaged_ring");
    let mut tx = ring(&name).sender().unwrap();
    Mutex::of(&name).word(4).store(u32::MAX, Ordering::Relaxed);
    assert_eq!(tx.try_send(1), Err(TrySendError::Stuck(1)));
    drop(tx);
    ipc_ring::remove(&name).unwrap();
    ring(&name).sender().unwrap().send(1).unwrap();
}
