//! Everything that the handles of a ring with several senders offer, once for each kind.
#![allow(unsafe_code, reason = "peeking by reference trusts the sender")]

use ipc_ring::{
    Builder, Counters, Participant, Receiver, RecvError, RecvTimeoutError, Role, SendTimeoutError,
    Sender, TryRecvError, TrySendError, mpsc,
};
use ipc_ring_tests::{Parent, RingName, Several, Stage, for_several_senders, of_kind};
use std::mem;
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

fn pair<K: Several>(name: &str, capacity: usize) -> (Sender<u64, K>, Receiver<u64, K>) {
    let tx = K::ring(name).capacity(capacity).sender().unwrap();
    (tx, K::ring(name).receiver().unwrap())
}

fn all_of_the_capacity_is_usable_and_counted<K: Several>(stage: &Stage) {
    for (asked, got) in [(1, 1), (2, 2), (3, 4), (100, 128)] {
        let name = stage.ring();
        let (mut tx, mut rx) = pair::<K>(&name, asked);
        assert_eq!((tx.capacity(), rx.capacity()), (got, got));
        for lap in 0..3 {
            for number in 0..got {
                assert_eq!((tx.len(), rx.len()), (number, number));
                assert_eq!((tx.is_empty(), rx.is_empty()), (number == 0, number == 0));
                assert!(!tx.is_full() && !rx.is_full());
                tx.try_send(lap + number as u64).unwrap();
            }
            assert!(tx.is_full() && rx.is_full());
            assert_eq!(tx.try_send(77), Err(TrySendError::Full(77)));
            assert_eq!(tx.try_send_ref(&77), Err(TrySendError::Full(())));
            assert_eq!(tx.try_send_slice(&[77]), Err(TrySendError::Full(())));
            assert!(matches!(tx.try_reserve(), Err(TrySendError::Full(()))));
            for number in 0..got {
                assert_eq!(rx.try_recv(), Ok(lap + number as u64));
            }
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
            assert_eq!(rx.try_peek_copied(), Err(TryRecvError::Empty));
            assert_eq!(rx.try_recv_slice(&mut [0; 2]), Err(TryRecvError::Empty));
            assert_eq!((rx.try_iter().next(), rx.drain().next()), (None, None));
            assert!(!rx.consume() && rx.is_empty() && tx.is_empty());
        }
    }
}

fn a_timeout_is_waited_for_and_gives_the_message_back<K: Several>(stage: &Stage) {
    let name = stage.ring();
    let (mut tx, mut rx) = pair::<K>(&name, 2);
    for timeout in [0, 1, 20, 120].map(Duration::from_millis) {
        let begun = Instant::now();
        assert_eq!(rx.recv_timeout(timeout), Err(RecvTimeoutError::Timeout));
        assert!(begun.elapsed() >= timeout);
    }
    tx.send_slice(&[1, 2]).unwrap();
    for timeout in [0, 1, 20, 120].map(Duration::from_millis) {
        let begun = Instant::now();
        let full = tx.send_timeout(3, timeout);
        assert_eq!(full, Err(SendTimeoutError::Timeout(3)));
        assert!(begun.elapsed() >= timeout);
    }
    // What can be had at once is had, whatever the timeout.
    assert_eq!(rx.recv_timeout(Duration::ZERO), Ok(1));
    assert_eq!(tx.send_timeout(3, Duration::ZERO), Ok(()));
    assert_eq!(rx.recv_timeout(Duration::MAX), Ok(2));
    assert_eq!(tx.send_timeout(4, Duration::MAX), Ok(()));
}

fn a_drain_is_one_unit_and_counts_nothing_if_it_is_forgotten<K: Several>(stage: &Stage) {
    let name = stage.ring();
    let (mut tx, mut rx) = pair::<K>(&name, 8);
    tx.send_slice(&[0, 1, 2]).unwrap();
    // In one order, a place without a message; in lanes, none.
    mem::forget(tx.reserve().unwrap());
    tx.send_slice(&[3, 4]).unwrap();
    for _ in 0..3 {
        let mut drain = rx.drain();
        assert!(drain.by_ref().eq(0..5));
        mem::forget(drain);
    }
    assert_eq!(received(&rx.participants()), Counters::default());
    {
        let mut drain = rx.drain();
        assert_eq!((drain.next(), drain.next()), (Some(0), Some(1)));
        let most = if K::CLAIMS { 2 } else { 3 };
        assert_eq!(tx.try_send_slice(&[5; 9]), Ok(most), "not given back yet");
    }
    assert_eq!(tx.try_send_slice(&[6; 9]), Ok(2));
    assert!(rx.drain().take(3).eq([2, 3, 4]));
    let rest: Vec<u64> = rx.try_iter().collect();
    let most = if K::CLAIMS { 2 } else { 3 };
    assert_eq!(rest.len(), most + 2);
    let counters = received(&rx.participants());
    let passed_over = u64::from(K::CLAIMS);
    assert_eq!(
        (counters.messages, counters.skipped),
        (5 + most as u64 + 2, passed_over)
    );
}

fn received(participants: &[Participant]) -> Counters {
    let mut receivers = participants.iter().filter(|who| who.role == Role::Receiver);
    receivers.next().unwrap().counters
}

fn sent(participants: &[Participant]) -> Vec<u64> {
    let senders = participants.iter().filter(|who| who.role == Role::Sender);
    senders.map(|who| who.counters.messages).collect()
}

fn counters_are_exact<K: Several>(stage: &Stage) {
    let name = stage.ring();
    let (mut one, mut rx) = pair::<K>(&name, 16);
    let mut two = one.try_clone().unwrap();
    assert_eq!(sent(&rx.participants()), [0, 0]);
    one.send_slice(&[1; 5]).unwrap();
    two.send(2).unwrap();
    drop(two.reserve().unwrap());
    two.reserve().unwrap().write(3).publish();
    mem::forget(two.reserve().unwrap());
    one.send(4).unwrap();
    assert_eq!(sent(&rx.participants()), [6, 2]);
    let mut batch = [0; 3];
    assert_eq!(rx.try_recv_slice(&mut batch), Ok(3));
    assert!(rx.peek_copied().is_ok() && rx.consume());
    assert_eq!(received(&rx.participants()).messages, 4);
    // The forgotten place is given up by the next call.
    two.send(5).unwrap();
    assert_eq!(rx.try_iter().count(), 5);
    assert_eq!(sent(&one.participants()), [6, 3]);
    let counters = received(&one.participants());
    let passed_over = if K::CLAIMS { 2 } else { 0 };
    assert_eq!((counters.messages, counters.skipped), (9, passed_over));
    assert_eq!(
        (counters.corrupt, counters.waits, counters.sleeps),
        (0, 0, 0)
    );
    rx.recv_timeout(Duration::from_millis(60)).unwrap_err();
    let counters = received(&one.participants());
    assert_eq!((counters.messages, counters.waits), (9, 1));
    assert!(counters.sleeps > 0);
    // A successor begins anew.
    drop(rx);
    let mut rx: Receiver<u64, K> = K::ring(&name).receiver().unwrap();
    assert_eq!(received(&one.participants()), Counters::default());
    one.send(6).unwrap();
    assert_eq!(rx.recv(), Ok(6));
    assert_eq!(received(&one.participants()).messages, 1);
    drop((one, two));
    let successor: Sender<u64, K> = K::ring(&name).sender().unwrap();
    assert_eq!(sent(&successor.participants())[0], 0);
}

fn a_corrupt_message_is_dropped_and_counted<K: Several>(stage: &Stage) {
    let name = stage.ring();
    // As if the sender were a program that writes other bytes than a bool has.
    let mut rx = K::ring::<bool>(&name).capacity(8).receiver().unwrap();
    let mut tx = K::ring::<bool>(&name).sender().unwrap();
    let mut send = |byte: u8| {
        let mut place = tx.reserve().unwrap();
        // SAFETY: the place of a byte.
        unsafe { place.as_uninit().as_mut_ptr().cast::<u8>().write(byte) };
        // SAFETY: not so, which the receiver is to notice.
        unsafe { place.assume_written() }.publish();
    };
    for byte in [1, 2, 3, 0, 4, 1] {
        send(byte);
    }
    assert_eq!(rx.recv(), Ok(true));
    assert!(matches!(rx.recv(), Err(RecvError::Corrupt(_))));
    for _ in 0..2 {
        let mut drain = rx.drain();
        assert!(drain.by_ref().eq([false, true]));
        mem::forget(drain);
    }
    assert_eq!(rx.corrupt(), 1, "nothing is counted twice");
    assert!(rx.drain().eq([false, true]));
    assert_eq!(rx.corrupt(), 3);
    let counters = received(&rx.participants());
    assert_eq!((counters.messages, counters.corrupt), (6, 3));
}

#[test]
#[cfg_attr(ipc_ring_locked, ignore = "there are no claims in a locked ring")]
fn recv_latest_takes_the_newest_in_one_order_past_places_without_a_message() {
    let name = RingName::of("recv_latest_of_several");
    let mut rx = mpsc::<u64>(&name).capacity(8).receiver().unwrap();
    let mut one = mpsc::<u64>(&name).sender().unwrap();
    let mut two = one.try_clone().unwrap();
    assert_eq!(rx.recv_latest(), Err(TryRecvError::Empty));
    one.send(1).unwrap();
    drop(two.reserve().unwrap());
    two.send(2).unwrap();
    drop(one.reserve().unwrap());
    assert_eq!(rx.recv_latest(), Ok(2));
    assert_eq!(rx.recv_latest(), Err(TryRecvError::Empty));
    // No further than to what is being written.
    one.send(3).unwrap();
    let place = two.reserve().unwrap();
    one.send(4).unwrap();
    assert_eq!(rx.recv_latest(), Ok(3));
    place.write(5).publish();
    assert_eq!(rx.recv_latest(), Ok(4));
    let counters = received(&rx.participants());
    assert_eq!((counters.messages, counters.skipped), (5, 2));
}

/// Arguments: kind, ring, capacity, origin, sender, count.
fn sends_in_every_way(parent: &mut Parent) {
    of_kind!(parent.argument(0), sends_in_all_ways(parent));
}

/// Message `number` of `sender`.
fn message(sender: u64, number: u64) -> [u64; 2] {
    [sender, number]
}

fn stream_of<K: Several>(parent: &Parent) -> Builder<[u64; 2], K> {
    K::ring(parent.argument(1))
        .capacity(parent.number(2))
        .start_position(parent.number(3))
}

fn sends_in_all_ways<K: Several>(parent: &mut Parent) {
    let mut tx = stream_of::<K>(parent).sender().unwrap();
    // The receiver must not find that all have left before all have come.
    parent.tell("joined");
    parent.hear();
    let (sender, count): (u64, u64) = (parent.number(4), parent.number(5));
    let mut next = 0;
    while next < count {
        let batch: Vec<_> = (next..count.min(next + 10))
            .map(|number| message(sender, number))
            .collect();
        let now = batch[0];
        next += match next % 7 {
            0 => tx.send(now).map(|()| 1).unwrap(),
            1 => tx.send_ref(&now).map(|()| 1).unwrap(),
            2 => tx.send_timeout(now, LONG).map(|()| 1).unwrap(),
            3 => {
                // Dropped and forgotten ones send nothing.
                drop(tx.reserve().unwrap());
                mem::forget(tx.reserve().unwrap().write([u64::MAX; 2]));
                tx.reserve().unwrap().write(now).publish();
                1
            }
            4 => tx.send_slice(&batch).map(|()| batch.len() as u64).unwrap(),
            5 => match tx.try_send_slice(&batch) {
                Ok(sent) => sent as u64,
                Err(TrySendError::Full(())) => 0,
                Err(error) => panic!("{error}"),
            },
            _ => u64::from(tx.try_send(now).is_ok()),
        };
    }
}

fn every_way_to_send_goes_with_every_way_to_receive<K: Several>(stage: &Stage) {
    const SENDERS: usize = 3;
    for (capacity, origin, count) in [
        (1, 0, 2_000),
        (2, u64::MAX - 2_000, 2_000),
        (64, u64::MAX - 10_000, 10_000),
        (16, (1 << 52) - 5_000, 10_000),
    ] {
        let name = stage.ring();
        let ring = K::ring::<[u64; 2]>(&name).capacity(capacity);
        let mut rx = ring.start_position(origin).receiver().unwrap();
        let (capacity, origin, each) =
            (capacity.to_string(), origin.to_string(), count.to_string());
        let mut senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let sender = sender.to_string();
                let arguments = [K::NAME, &*name, &capacity, &origin, &sender, &each];
                stage.start("sends_in_every_way", &arguments)
            })
            .collect();
        for sender in &mut senders {
            assert_eq!(sender.hear(), "joined");
        }
        for sender in &mut senders {
            sender.say("go");
        }
        let mut next = [0; SENDERS];
        let mut expect = |[sender, number]: [u64; 2]| {
            assert_eq!(number, next[sender as usize], "lost, doubled or reordered");
            next[sender as usize] += 1;
        };
        for turn in 0.. {
            match turn % 8 {
                0 => match rx.recv() {
                    Ok(message) => expect(message),
                    Err(RecvError::Closed) => break,
                    Err(error) => panic!("{error}"),
                },
                1 => drop(rx.recv_timeout(LONG).map(&mut expect)),
                2 => {
                    if let Ok(message) = rx.peek_copied() {
                        // Not consumed: it is still there.
                        assert_eq!(rx.peek_copied(), Ok(message));
                        expect(message);
                        assert!(rx.consume());
                    }
                }
                3 => {
                    // SAFETY: the senders are of this library.
                    let peeked = unsafe { rx.peek() }.copied();
                    if let Ok(message) = peeked {
                        expect(message);
                        assert!(rx.consume());
                    }
                }
                4 => {
                    let mut batch = [[0; 2]; 16];
                    let received = rx.try_recv_slice(&mut batch).unwrap_or(0);
                    batch[..received].iter().copied().for_each(&mut expect);
                }
                // What is not asked for stays.
                5 => rx.drain().take(5).for_each(&mut expect),
                6 => rx.try_iter().take(20).for_each(&mut expect),
                _ => rx.try_recv().map_or((), &mut expect),
            }
        }
        assert_eq!(next, [count; SENDERS]);
        for sender in senders {
            sender.finish();
        }
    }
}

fn large_messages_arrive_whole<K: Several>(stage: &Stage) {
    type Large = [u64; 8192];
    let name = stage.ring();
    let mut rx = K::ring::<Large>(&name)
        .capacity(4)
        .max_senders(4)
        .receiver()
        .unwrap();
    thread::scope(|scope| {
        for sender in 0..4 {
            let mut tx = K::ring::<Large>(&name).sender().unwrap();
            scope.spawn(move || {
                for number in 0..50 {
                    tx.reserve()
                        .unwrap()
                        .write([sender << 32 | number; 8192])
                        .publish();
                }
            });
        }
        let mut next = [0; 4];
        for message in &mut rx {
            let (sender, number) = (message[0] >> 32, message[0] & 0xffff_ffff);
            assert!(message.iter().all(|&word| word == message[0]), "torn");
            assert_eq!(number, next[sender as usize]);
            next[sender as usize] += 1;
        }
        assert_eq!(next, [50; 4]);
    });
}

for_several_senders! {
    all_of_the_capacity_is_usable_and_counted();
    a_timeout_is_waited_for_and_gives_the_message_back();
    a_drain_is_one_unit_and_counts_nothing_if_it_is_forgotten();
    counters_are_exact();
    a_corrupt_message_is_dropped_and_counted();
    every_way_to_send_goes_with_every_way_to_receive(sends_in_every_way);
    large_messages_arrive_whole();
}
