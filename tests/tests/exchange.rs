//! Two processes exchange messages, in every way that the handles offer, and check each one of them.
#![allow(unsafe_code, reason = "peeking by reference trusts the sender")]

use ipc_ring::{
    Receiver, RecvTimeoutError, SendTimeoutError, Sender, ShmMessage, TryRecvError, TrySendError,
    Wait, spsc,
};
use ipc_ring_tests::{Parent, RingName, Stage, stage};
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

/// A message that knows its number, in all of its bytes.
trait Numbered: ShmMessage {
    fn numbered(number: u64) -> Self;
    fn number(&self) -> Option<u64>;
}

impl Numbered for u64 {
    fn numbered(number: u64) -> Self {
        number
    }

    fn number(&self) -> Option<u64> {
        Some(*self)
    }
}

impl<const N: usize> Numbered for [u64; N] {
    fn numbered(number: u64) -> Self {
        std::array::from_fn(|i| number.wrapping_add(i as u64))
    }

    fn number(&self) -> Option<u64> {
        let number = self[0];
        (*self == Self::numbered(number)).then_some(number)
    }
}

/// As large and as strictly aligned as a cache line.
#[derive(ShmMessage)]
#[repr(C, align(64))]
struct Line {
    words: [u64; 8],
}

impl Numbered for Line {
    fn numbered(number: u64) -> Self {
        Self {
            words: Numbered::numbered(number),
        }
    }

    fn number(&self) -> Option<u64> {
        assert_eq!((&raw const *self).addr() % 64, 0, "misaligned");
        self.words.number()
    }
}

const CAPACITY: usize = 256;

fn expect<T: Numbered>(message: &T, number: u64) {
    assert_eq!(
        message.number(),
        Some(number),
        "torn, lost, doubled or reordered"
    );
}

fn wait_of(name: &str) -> Wait {
    match name {
        "Spin" => Wait::Spin,
        "Futex" => Wait::Futex,
        other => panic!("{other} is no way to wait"),
    }
}

/// Sends and receives `count` messages at the same time.
/// Arguments: ring to send into, ring to receive from, message, way to wait, count.
fn talks(parent: &mut Parent) {
    match parent.argument(2) {
        "u64" => talks_of::<u64>(parent),
        "[u64; 3]" => talks_of::<[u64; 3]>(parent),
        "[u64; 7]" => talks_of::<[u64; 7]>(parent),
        "Line" => talks_of::<Line>(parent),
        "[u64; 32]" => talks_of::<[u64; 32]>(parent),
        "[u64; 512]" => talks_of::<[u64; 512]>(parent),
        "[u64; 8192]" => talks_of::<[u64; 8192]>(parent),
        other => panic!("{other} is no message"),
    }
}

fn talks_of<T: Numbered>(parent: &mut Parent) {
    let open = |name| {
        spsc::<T>(name)
            .capacity(CAPACITY)
            .wait(wait_of(parent.argument(3)))
    };
    let mut tx = open(parent.argument(0)).sender().unwrap();
    let mut rx = open(parent.argument(1)).receiver().unwrap();
    let count: u64 = parent.number(4);
    let (mut sent, mut received) = (0, 0);
    while sent < count || received < count {
        let before = (sent, received);
        while sent < count && tx.try_send(T::numbered(sent)).is_ok() {
            sent += 1;
        }
        while let Ok(message) = rx.try_recv() {
            expect(&message, received);
            received += 1;
        }
        // Nothing to take, and no room or nothing left to give: it is the other one's turn.
        if (sent, received) == before {
            if received < count {
                expect(&rx.recv().unwrap(), received);
                received += 1;
            } else {
                assert!(tx.send(T::numbered(sent)).is_ok());
                sent += 1;
            }
        }
    }
    // The other one may still be receiving what we sent.
    parent.tell("done");
    parent.hear();
}

fn talk(stage: &Stage, message: &str, wait: &str, count: u64) {
    let (there, back) = (stage.ring(), stage.ring());
    let count = count.to_string();
    let mut one = stage.start("talks", &[&there, &back, message, wait, &count]);
    let mut other = stage.start("talks", &[&back, &there, message, wait, &count]);
    for child in [&mut one, &mut other] {
        assert_eq!(child.hear(), "done");
    }
    drop((one, other));
}

#[test]
fn a_million_messages_each_way_arrive_in_order_while_spinning() {
    talk(&stage!(talks), "u64", "Spin", 1_000_000);
}

#[test]
fn a_million_messages_each_way_arrive_in_order_with_sleeps() {
    talk(&stage!(talks), "u64", "Futex", 1_000_000);
}

#[test]
fn a_million_messages_of_56_bytes_each_way_arrive_whole() {
    talk(&stage!(talks), "[u64; 7]", "Futex", 1_000_000);
}

#[test]
fn messages_of_every_size_up_to_64_kib_arrive_whole() {
    let stage = stage!(talks);
    for (message, count) in [
        ("[u64; 3]", 100_000),
        ("[u64; 32]", 50_000),
        ("[u64; 512]", 5_000),
        ("[u64; 8192]", 400),
    ] {
        talk(&stage, message, "Futex", count);
    }
    talk(&stage, "[u64; 8192]", "Spin", 400);
}

#[test]
fn messages_aligned_to_64_bytes_stay_aligned() {
    let stage = stage!(talks);
    talk(&stage, "Line", "Futex", 100_000);
    talk(&stage, "Line", "Spin", 100_000);
}

/// Sends the numbers below a count, each by the way that its position in the rotation says.
/// Arguments: ring, count, capacity, way to wait, first position.
fn sends_in_every_way(parent: &mut Parent) {
    let mut tx = open_stream(parent).sender().unwrap();
    let count: u64 = parent.number(1);
    let mut next = 0;
    while next < count {
        match next % 7 {
            0 => tx.send(next).unwrap(),
            1 => tx.send_ref(&next).unwrap(),
            2 => tx.send_timeout(next, Duration::from_secs(60)).unwrap(),
            3 => {
                // Dropped and forgotten ones send nothing.
                drop(tx.reserve().unwrap());
                let _forgotten = ManuallyDrop::new(tx.reserve().unwrap().write(u64::MAX));
                tx.reserve().unwrap().write(next).publish();
            }
            4 => {
                let batch: Vec<u64> = (next..count.min(next + 10)).collect();
                tx.send_slice(&batch).unwrap();
                next += batch.len() as u64 - 1;
            }
            5 => {
                let batch: Vec<u64> = (next..count.min(next + 10)).collect();
                next += match tx.try_send_slice(&batch) {
                    Ok(sent) => sent as u64 - 1,
                    Err(TrySendError::Full(())) => continue,
                    Err(error) => panic!("{error}"),
                };
            }
            _ => match tx.try_reserve() {
                Ok(mut place) => {
                    place.as_uninit().write(next);
                    // SAFETY: written just now.
                    unsafe { place.assume_written() }.publish();
                }
                Err(TrySendError::Full(())) => continue,
                Err(error) => panic!("{error}"),
            },
        }
        next += 1;
    }
}

fn open_stream(parent: &Parent) -> ipc_ring::Builder<u64> {
    spsc(parent.argument(0))
        .capacity(parent.number(2))
        .wait(wait_of(parent.argument(3)))
        .start_position(parent.number(4))
}

/// Receives the numbers below a count, likewise, and then hears that the sender has left.
fn receives_in_every_way(parent: &mut Parent) {
    let mut rx = open_stream(parent).receiver().unwrap();
    let count: u64 = parent.number(1);
    let mut next = 0;
    let mut turn = 0;
    while next < count {
        turn += 1;
        match turn % 8 {
            0 => expect(&rx.recv().unwrap(), next),
            1 => expect(&rx.recv_timeout(Duration::from_secs(60)).unwrap(), next),
            2 => {
                expect(&rx.peek_copied().unwrap(), next);
                // Not consumed: it is still there.
                expect(&rx.peek_copied().unwrap(), next);
                assert!(rx.consume());
            }
            3 => {
                // SAFETY: the sender is of this library.
                expect(unsafe { rx.peek() }.unwrap(), next);
                assert!(rx.consume());
            }
            4 => {
                let mut batch = [0; 16];
                let Some(received) = some(rx.try_recv_slice(&mut batch)) else {
                    continue;
                };
                assert!(received > 0);
                for message in &batch[..received] {
                    expect(message, next);
                    next += 1;
                }
                continue;
            }
            5 => {
                // What is not asked for stays.
                for message in rx.drain().take(5) {
                    expect(&message, next);
                    next += 1;
                }
                continue;
            }
            6 => {
                for message in rx.try_iter().take(20) {
                    expect(&message, next);
                    next += 1;
                }
                continue;
            }
            _ => match rx.try_recv() {
                Ok(message) => expect(&message, next),
                Err(error) => {
                    assert!(some::<u64>(Err(error)).is_none());
                    continue;
                }
            },
        }
        next += 1;
    }
    assert!(
        rx.recv()
            .is_err_and(|error| error == ipc_ring::RecvError::Closed)
    );
    assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
}

fn some<T>(received: Result<T, TryRecvError>) -> Option<T> {
    match received {
        Ok(received) => Some(received),
        Err(TryRecvError::Empty) => None,
        Err(error) => panic!("{error}"),
    }
}

fn stream(stage: &Stage, count: u64, capacity: usize, wait: &str, origin: u64) {
    let ring = stage.ring();
    let (count, capacity, origin) = (count.to_string(), capacity.to_string(), origin.to_string());
    let arguments = [&*ring, &count, &capacity, wait, &origin];
    let receiver = stage.start("receives_in_every_way", &arguments);
    let sender = stage.start("sends_in_every_way", &arguments);
    sender.finish();
    receiver.finish();
}

#[test]
fn all_ways_to_send_and_to_receive_go_together() {
    let stage = stage!(sends_in_every_way, receives_in_every_way);
    for capacity in [1, 2, 64] {
        stream(&stage, 20_000, capacity, "Futex", 0);
    }
    stream(&stage, 20_000, 64, "Spin", 0);
}

#[test]
fn positions_may_pass_2_to_the_64() {
    let stage = stage!(sends_in_every_way, receives_in_every_way);
    for capacity in [1, 16] {
        stream(&stage, 10_000, capacity, "Futex", u64::MAX - 4_999);
    }
}

#[test]
fn positions_may_pass_2_to_the_52_where_stamps_wrap() {
    let stage = stage!(sends_in_every_way, receives_in_every_way);
    for capacity in [1, 16] {
        stream(&stage, 10_000, capacity, "Futex", (1 << 52) - 5_000);
    }
}

/// Arguments: ring, count.
fn receives_the_latest(parent: &mut Parent) {
    let mut rx = spsc::<u64>(parent.argument(0))
        .capacity(32)
        .receiver()
        .unwrap();
    parent.tell("ready");
    let last = parent.number::<u64>(1) - 1;
    let mut seen = None;
    while seen != Some(last) {
        if let Some(message) = some(rx.recv_latest()) {
            assert!(
                seen.is_none_or(|seen| seen < message),
                "{message} after {seen:?}"
            );
            seen = Some(message);
        }
    }
}

#[test]
fn recv_latest_skips_ahead_and_never_back_and_does_not_miss_the_last() {
    let stage = stage!(receives_the_latest);
    let ring = stage.ring();
    let mut receiver = stage.start("receives_the_latest", &[&ring, "200000"]);
    assert_eq!(receiver.hear(), "ready");
    let mut tx = spsc::<u64>(&ring).sender().unwrap();
    for number in 0..200_000 {
        tx.send(number).unwrap();
    }
    receiver.finish();
}

/// Arguments: ring, count.
fn iterates_to_the_end(parent: &mut Parent) {
    let mut rx = spsc::<[u64; 7]>(parent.argument(0)).receiver().unwrap();
    let mut next = 0;
    for message in &mut rx {
        expect(&message, next);
        next += 1;
    }
    assert_eq!(next, parent.number::<u64>(1));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
}

#[test]
fn an_iterator_ends_when_the_sender_has_left_and_not_before() {
    let stage = stage!(iterates_to_the_end);
    let ring = stage.ring();
    // It comes before there is a ring, and waits.
    let receiver = stage.start("iterates_to_the_end", &[&ring, "50000"]);
    let mut tx = spsc::<[u64; 7]>(&ring).capacity(100).sender().unwrap();
    for number in 0..50_000 {
        tx.send(Numbered::numbered(number)).unwrap();
    }
    drop(tx);
    receiver.finish();
}

fn pair(ring: &RingName, capacity: usize, wait: Wait) -> (Sender<u64>, Receiver<u64>) {
    let tx = spsc(ring).capacity(capacity).wait(wait).sender().unwrap();
    (tx, spsc(ring).receiver().unwrap())
}

#[test]
fn a_timeout_is_waited_for_and_gives_the_message_back() {
    for wait in [Wait::Spin, Wait::Futex] {
        let ring = RingName::of(&format!("timeouts-{wait:?}"));
        let (mut tx, mut rx) = pair(&ring, 2, wait);
        for timeout in [0, 1, 20, 120].map(Duration::from_millis) {
            let begun = Instant::now();
            assert_eq!(rx.recv_timeout(timeout), Err(RecvTimeoutError::Timeout));
            assert!(begun.elapsed() >= timeout);
        }
        tx.send_slice(&[1, 2]).unwrap();
        for timeout in [0, 1, 20, 120].map(Duration::from_millis) {
            let begun = Instant::now();
            assert_eq!(
                tx.send_timeout(3, timeout),
                Err(SendTimeoutError::Timeout(3))
            );
            assert!(begun.elapsed() >= timeout);
        }
        // What can be had at once is had, whatever the timeout.
        assert_eq!(rx.recv_timeout(Duration::ZERO), Ok(1));
        assert_eq!(tx.send_timeout(3, Duration::ZERO), Ok(()));
        assert_eq!(rx.recv_timeout(Duration::MAX), Ok(2));
        assert_eq!(tx.send_timeout(4, Duration::MAX), Ok(()));
    }
}

#[test]
fn a_capacity_is_rounded_up_to_a_power_of_two_and_all_of_it_is_usable() {
    for (asked, got) in [(1, 1), (2, 2), (3, 4), (5, 8), (4097, 8192)] {
        let ring = RingName::of("capacity");
        let (mut tx, mut rx) = pair(&ring, asked, Wait::Futex);
        assert_eq!((tx.capacity(), rx.capacity()), (got, got));
        for number in 0..got as u64 {
            assert_eq!((tx.len(), rx.len()), (number as usize, number as usize));
            tx.try_send(number).unwrap();
        }
        assert!(tx.is_full() && rx.is_full() && !tx.is_empty() && !rx.is_empty());
        assert_eq!(tx.try_send(77), Err(TrySendError::Full(77)));
        assert_eq!(rx.recv_latest(), Ok(got as u64 - 1));
        assert!(tx.is_empty() && rx.is_empty());
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    }
}

#[test]
fn a_drain_gives_back_what_was_taken_and_no_more() {
    let ring = RingName::of("drain");
    let (mut tx, mut rx) = pair(&ring, 8, Wait::Futex);
    tx.send_slice(&[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    {
        let mut drain = rx.drain();
        assert_eq!((drain.next(), drain.next()), (Some(0), Some(1)));
        // One unit: nothing is given back before its end.
        assert_eq!(tx.try_send(8), Err(TrySendError::Full(8)));
    }
    assert_eq!(tx.try_send_slice(&[8, 9, 10]).unwrap(), 2);
    assert_eq!(rx.drain().collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 8, 9]);
}
