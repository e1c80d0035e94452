//! Several senders in one order: claims, deaths, and what becomes of them.

use super::{check, check_within};
use crate::layout::Entry;
use crate::participant::{Session, end_unless};
use crate::ring::mpsc::{Consumer, Observer, Producer, sweep};
use crate::ring::{Consume, Look, Produce, TypedSlots, look_past_the_dead, settle};
use crate::segment::heap::Heap;
use crate::segment::heap::traffic::{fill, read, try_recv, try_send};
use crate::sync::{AtomicU64, Fault, Ordering};
use loom::sync::Arc;
use loom::thread;

type Sender = Producer<TypedSlots<u64>>;
type Receiver = Consumer<TypedSlots<u64>>;

/// Messages of sender `s` are 10 s, 10 s + 1, …
const SENDER: u64 = 10;

fn send(heap: &Heap<u64>, producer: &mut Sender, value: u64) {
    while !try_send(producer, *heap.ring().slots(), value) {
        thread::yield_now();
    }
}

/// Receives `count` messages, settling claims by `is_dead`.
fn receive(
    heap: &Heap<u64>,
    consumer: &mut Receiver,
    count: usize,
    is_dead: impl Fn(u32) -> bool,
) -> Vec<u64> {
    let mut received = Vec::new();
    while received.len() < count {
        match try_recv(consumer, *heap.ring().slots()) {
            Some(value) => received.push(value),
            None => {
                settle(consumer, &is_dead);
                thread::yield_now();
            }
        }
    }
    received
}

/// Of each sender, its messages in order; nothing else.
fn in_order(received: &[u64], sender: u64) -> Vec<u64> {
    let of_sender = received.iter().copied();
    of_sender.filter(|value| value / SENDER == sender).collect()
}

/// Two senders, `each` messages a sender.
fn exchange(capacity: u64, each: u64, origin: u64) {
    let heap = Arc::new(Heap::<u64>::new(capacity, origin));
    let mut consumer = Consumer::take_over(heap.ring());
    let senders: Vec<_> = [1, 2]
        .map(|sender| {
            let mut producer = Producer::join(heap.ring(), sender);
            let heap = heap.clone();
            thread::spawn(move || {
                for n in 0..each {
                    send(&heap, &mut producer, u64::from(sender) * SENDER + n);
                }
            })
        })
        .into();
    let received = receive(&heap, &mut consumer, 2 * each as usize, |_| false);
    for sender in [1, 2] {
        let expected: Vec<_> = (0..each).map(|n| sender * SENDER + n).collect();
        assert_eq!(in_order(&received, sender), expected);
    }
    assert!(consumer.slot().is_none());
    for sender in senders {
        sender.join().unwrap();
    }
}

/// One slot and two senders that try once. With more than one thread that polls, loom may starve the one that matters.
fn one_slot() {
    let heap = Arc::new(Heap::<u64>::new(1, u64::MAX));
    let mut consumer = Consumer::take_over(heap.ring());
    let senders = [1, 2].map(|sender| {
        let mut producer = Producer::join(heap.ring(), sender);
        let heap = heap.clone();
        thread::spawn(move || {
            let value = u64::from(sender) * SENDER;
            try_send(&mut producer, *heap.ring().slots(), value).then_some(value)
        })
    });
    let mut received = receive(&heap, &mut consumer, 1, |_| false);
    let mut sent: Vec<_> = senders
        .into_iter()
        .filter_map(|sender| sender.join().unwrap())
        .collect();
    received.extend(try_recv(&mut consumer, *heap.ring().slots()));
    received.sort_unstable();
    sent.sort_unstable();
    assert_eq!(received, sent);
}

#[test]
fn messages_of_two_senders_arrive_whole_and_once_with_one_slot() {
    check(
        one_slot,
        &[
            Fault::PublishRelaxed,
            Fault::StampRelaxed,
            Fault::ReleaseRelaxed,
            Fault::HeadRelaxed,
            Fault::PublishEarly,
            Fault::ReleaseEarly,
            Fault::ClaimByStore,
            Fault::ClaimUnread,
            Fault::TouchLate,
        ],
    );
}

#[test]
fn messages_of_two_senders_arrive_whole_and_once_across_the_wrap() {
    check(
        || exchange(2, 1, u64::MAX),
        &[Fault::ClaimByStore, Fault::PublishRelaxed],
    );
}

/// What one sender had sent before another one began arrives first.
#[test]
fn what_was_sent_first_arrives_first_whoever_sent_it() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(2, 0));
        let mut consumer = Consumer::take_over(heap.ring());
        let mut one = Producer::join(heap.ring(), 1);
        let mut two = Producer::join(heap.ring(), 2);
        let sent = Arc::new(AtomicU64::new(0));
        let first = thread::spawn({
            let (heap, sent) = (heap.clone(), sent.clone());
            move || {
                send(&heap, &mut one, SENDER);
                sent.store(1, Ordering::Release);
            }
        });
        let second = thread::spawn({
            let (heap, sent) = (heap.clone(), sent.clone());
            move || {
                let begun_after = sent.load(Ordering::Acquire) == 1;
                send(&heap, &mut two, 2 * SENDER);
                begun_after
            }
        });
        let received = receive(&heap, &mut consumer, 2, |_| false);
        first.join().unwrap();
        if second.join().unwrap() {
            assert_eq!(received, [SENDER, 2 * SENDER]);
        }
    };
    check(model, &[Fault::ClaimByStore]);
}

/// Steps of a send, counted in shared stores and what lies between them.
const STEPS: usize = 3;

/// Sends `value` until killed after `steps` steps. True if the call came to its end.
fn send_until(heap: &Heap<u64>, producer: &mut Sender, value: u64, steps: usize) -> bool {
    if steps == 0 {
        return false;
    }
    let index = producer.slot().expect("room");
    if steps == 1 {
        return false;
    }
    fill(*heap.ring().slots(), index, value);
    if steps == 2 {
        return false;
    }
    producer.publish();
    true
}

/// A sender is killed after `steps` of a send; another one sends meanwhile. Each call that came to its end arrives, the other
/// one not.
fn sender_killed(steps: usize) {
    let heap = Arc::new(Heap::<u64>::new(2, u64::MAX));
    let mut consumer = Consumer::take_over(heap.ring());
    let mut victim = Producer::join(heap.ring(), 1);
    let mut other = Producer::join(heap.ring(), 2);
    // The kernel's word: a lock that is released when all that the dead did is visible.
    let dead = Arc::new(AtomicU64::new(0));
    let killed = thread::spawn({
        let (heap, dead) = (heap.clone(), dead.clone());
        move || {
            let sent = send_until(&heap, &mut victim, SENDER, steps);
            dead.store(1, Ordering::Release);
            sent
        }
    });
    let alive = thread::spawn({
        let heap = heap.clone();
        move || send(&heap, &mut other, 2 * SENDER)
    });
    let expected = 1 + usize::from(steps == STEPS);
    let is_dead = |owner| owner == 1 && dead.load(Ordering::Acquire) == 1;
    let received = receive(&heap, &mut consumer, expected, is_dead);
    let sent = killed.join().unwrap();
    alive.join().unwrap();
    assert_eq!(in_order(&received, 1).len(), usize::from(sent));
    assert_eq!(in_order(&received, 2), [2 * SENDER]);
    assert_eq!(consumer.slot(), None);
}

#[test]
fn a_sender_killed_at_every_step_is_passed_over_or_received() {
    for steps in 0..=STEPS {
        check(move || sender_killed(steps), &[]);
    }
    // A claim that is skipped while its owner lives takes a message with it; by a store, one that was published.
    check(
        || sender_killed(STEPS),
        &[Fault::SkipUnasked, Fault::SkipByStore],
    );
}

/// A sender dies with a claim; the next holder of its index sends, in a ring of one slot: the place must be settled, by the
/// consumer or by the new holder, and what the dead one wrote must not meet what is written next.
fn index_reused() {
    let heap = Arc::new(Heap::<u64>::new(1, u64::MAX));
    let mut consumer = Consumer::take_over(heap.ring());
    let mut victim = Producer::join(heap.ring(), 1);
    // 0: the victim lives; 1: its lock is free; 2: the successor holds it.
    let lock = Arc::new(AtomicU64::new(0));
    let senders = thread::spawn({
        let (heap, lock) = (heap.clone(), lock.clone());
        move || {
            send_until(&heap, &mut victim, SENDER, 2);
            lock.store(1, Ordering::Release);
            thread::yield_now();
            lock.store(2, Ordering::Release);
            sweep(&heap.ring(), 1);
            let mut successor = Producer::join(heap.ring(), 1);
            send(&heap, &mut successor, 2 * SENDER);
        }
    });
    let is_dead = |owner| owner == 1 && lock.load(Ordering::Acquire) == 1;
    let received = receive(&heap, &mut consumer, 1, is_dead);
    assert_eq!(received, [2 * SENDER]);
    senders.join().unwrap();
}

#[test]
fn an_index_that_is_used_again_is_swept_first() {
    check(index_reused, &[Fault::NoSweep]);
}

/// What the holder of a claim wrote before it was settled by `settle_it` comes before what the next claimant writes.
fn settled_then_claimed(settle_it: fn(&Heap<u64>, Sender)) {
    let heap = Arc::new(Heap::<u64>::new(1, 0));
    let mut consumer = Consumer::take_over(heap.ring());
    let mut holder = Producer::join(heap.ring(), 1);
    let mut next = Producer::join(heap.ring(), 2);
    let begun = consumer.position();
    let settler = thread::spawn({
        let heap = heap.clone();
        move || {
            send_until(&heap, &mut holder, SENDER, 2);
            settle_it(&heap, holder);
        }
    });
    // The place is passed over, not skipped: nobody is taken for dead.
    while consumer.slot().is_none() && consumer.position() == begun {
        thread::yield_now();
    }
    assert!(try_send(&mut next, *heap.ring().slots(), 2 * SENDER));
    assert_eq!(
        try_recv(&mut consumer, *heap.ring().slots()),
        Some(2 * SENDER)
    );
    settler.join().unwrap();
}

#[test]
fn what_the_dead_wrote_comes_before_what_the_next_claimant_writes() {
    let swept = |heap: &Heap<u64>, _: Sender| assert!(sweep(&heap.ring(), 1));
    check(move || settled_then_claimed(swept), &[Fault::SweepRelaxed]);
}

#[test]
fn a_reservation_that_is_dropped_makes_room() {
    let dropped = |_: &Heap<u64>, mut holder: Sender| assert!(holder.abandon());
    check(
        move || settled_then_claimed(dropped),
        &[Fault::GiveUpRelaxed, Fault::ClaimForgotten],
    );
}

#[test]
fn a_reservation_that_is_forgotten_is_passed_over() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(2, 0));
        let mut consumer = Consumer::take_over(heap.ring());
        let mut producer = Producer::join(heap.ring(), 1);
        let sender = thread::spawn({
            let heap = heap.clone();
            move || {
                let index = producer.slot().unwrap();
                fill(*heap.ring().slots(), index, 99);
                // The next claim gives it up.
                assert!(try_send(&mut producer, *heap.ring().slots(), SENDER));
            }
        });
        assert_eq!(receive(&heap, &mut consumer, 1, |_| false), [SENDER]);
        sender.join().unwrap();
    };
    check(model, &[Fault::ClaimForgotten]);
}

/// Who claims a position sees that the one before it was claimed: through the hint, where it comes from there.
#[test]
fn positions_are_claimed_in_order() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(16, 0));
        let mut one = Producer::join(heap.ring(), 1);
        let mut two = Producer::join(heap.ring(), 2);
        // The hint is stored with the last of them, so that the first sender is at it.
        for value in 0..15 {
            assert!(try_send(&mut one, *heap.ring().slots(), value));
        }
        let sender = thread::spawn({
            let heap = heap.clone();
            move || assert!(try_send(&mut one, *heap.ring().slots(), 15))
        });
        let hint = two.hinted();
        if hint == 16 {
            assert!(heap.ring().is_claimed(15), "a hint before its claim");
        }
        sender.join().unwrap();
    };
    check(model, &[Fault::ClaimUnfenced, Fault::HintBeforeClaim]);
}

/// A hint that lies a lap behind, or anywhere, costs steps and no order.
#[test]
fn a_stale_or_foolish_hint_leads_to_the_right_place() {
    loom::model(|| {
        for hint in [0, 1, 3, u64::MAX, 1 << 40, 5, 6, 7] {
            let heap = Heap::<u64>::new(4, 0);
            let mut consumer = Consumer::take_over(heap.ring());
            let mut one = Producer::join(heap.ring(), 1);
            let mut two = Producer::join(heap.ring(), 2);
            for value in 0..5 {
                assert!(try_send(&mut one, *heap.ring().slots(), value));
                assert_eq!(try_recv(&mut consumer, *heap.ring().slots()), Some(value));
            }
            heap.senders().position.0.store(hint, Ordering::Relaxed);
            assert!(try_send(&mut two, *heap.ring().slots(), 5));
            assert!(try_send(&mut one, *heap.ring().slots(), 6));
            for value in [5, 6] {
                assert_eq!(try_recv(&mut consumer, *heap.ring().slots()), Some(value));
            }
        }
    });
}

/// A sender finds the ring full; while it waits, others go on by more than a lap.
#[test]
fn a_waiting_sender_whom_others_have_overtaken_sees_room() {
    loom::model(|| {
        let heap = Heap::<u64>::new(2, u64::MAX - 3);
        let mut consumer = Consumer::take_over(heap.ring());
        let mut one = Producer::join(heap.ring(), 1);
        let mut two = Producer::join(heap.ring(), 2);
        assert!(try_send(&mut one, *heap.ring().slots(), 0));
        assert!(try_send(&mut one, *heap.ring().slots(), 1));
        assert!(!try_send(&mut two, *heap.ring().slots(), 9));
        assert!(!two.has_room());
        for value in 0..8 {
            let received = try_recv(&mut consumer, *heap.ring().slots());
            assert_eq!(received, Some(value));
            assert!(two.has_room());
            assert!(try_send(&mut one, *heap.ring().slots(), value + 2));
        }
        assert_eq!(try_recv(&mut consumer, *heap.ring().slots()), Some(8));
        assert!(two.has_room());
        assert!(try_send(&mut two, *heap.ring().slots(), 9));
    });
}

#[test]
fn a_full_ring_takes_nothing_until_it_is_read() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(1, u64::MAX));
        let mut consumer = Consumer::take_over(heap.ring());
        let mut one = Producer::join(heap.ring(), 1);
        let mut two = Producer::join(heap.ring(), 2);
        assert!(try_send(&mut one, *heap.ring().slots(), SENDER));
        let sender = thread::spawn({
            let heap = heap.clone();
            move || send(&heap, &mut two, 2 * SENDER)
        });
        let index = consumer.slot().unwrap();
        assert_eq!(read(*heap.ring().slots(), index), SENDER);
        consumer.release(1);
        let received = receive(&heap, &mut consumer, 1, |_| false);
        assert_eq!(received, [2 * SENDER]);
        sender.join().unwrap();
    };
    check(
        model,
        &[
            Fault::ClaimUnread,
            Fault::ReleaseRelaxed,
            Fault::HeadRelaxed,
        ],
    );
}

mod observed {
    use super::*;
    use crate::models::observer::Words;

    /// A message is observed while the next one is written over it.
    #[test]
    fn an_observer_of_several_senders_is_never_handed_a_torn_message() {
        let model = || {
            let heap = Arc::new(Heap::<u64>::new(1, 0));
            let words = Words::new(0);
            let mut producer = Producer::join(heap.ring_of(words.clone()), 1);
            let mut consumer = Consumer::take_over(heap.ring_of(words.clone()));
            let index = producer.slot().unwrap();
            words.write(index, 1);
            producer.publish();
            assert!(consumer.slot().is_some());
            consumer.release(1);
            let onlooker = thread::spawn({
                let (heap, words) = (heap.clone(), words.clone());
                move || {
                    let observer = Observer::new(heap.ring_of(words.clone()));
                    if let Some(copy) = observer.read(0, |index| words.read(index)) {
                        assert_eq!(copy, (1, 1), "torn, or another message");
                    }
                }
            });
            let index = producer.slot().unwrap();
            words.write(index, 2);
            producer.publish();
            onlooker.join().unwrap();
        };
        check(model, &[Fault::ClaimUnfenced]);
    }

    #[test]
    fn an_observer_beside_the_receiver_is_never_handed_a_torn_message() {
        let model = || {
            let heap = Arc::new(Heap::<u64>::new(1, 0));
            let words = Words::new(0);
            let mut producer = Producer::join(heap.ring_of(words.clone()), 1);
            let mut consumer = Consumer::take_over(heap.ring_of(words.clone()));
            let observer = Observer::new(heap.ring_of(words.clone()));
            let receiver = thread::spawn({
                let heap = heap.clone();
                move || {
                    if consumer.slot().is_some() {
                        consumer.release(1);
                    }
                    drop(heap);
                }
            });
            let onlooker = thread::spawn({
                let (heap, words) = (heap.clone(), words.clone());
                move || {
                    let copy = observer.read(0, |index| words.read(index));
                    assert!(matches!(copy, None | Some((1, 1))), "torn");
                    drop(heap);
                }
            });
            let index = producer.slot().unwrap();
            words.write(index, 1);
            producer.publish();
            receiver.join().unwrap();
            onlooker.join().unwrap();
        };
        check(model, &[Fault::TouchRelaxed]);
    }
}

#[test]
fn closed_is_said_only_after_the_last_message_of_either_sender() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(2, u64::MAX));
        let entries = Arc::new([Entry::new(), Entry::new()]);
        let mut consumer = Consumer::take_over(heap.ring());
        let senders = [0, 1].map(|index| {
            let mut producer = Producer::join(heap.ring(), index);
            entries[index as usize].join(1);
            let (heap, entries) = (heap.clone(), entries.clone());
            thread::spawn(move || {
                assert!(try_send(&mut producer, *heap.ring().slots(), 1));
                entries[index as usize].leave(1);
            })
        });
        let all_left = || {
            let left = |entry: &Entry| matches!(entry.session(), Session::Left(_));
            entries.iter().all(left).then_some(())
        };
        let mut received = 0;
        loop {
            let mut there = || {
                let look = look_past_the_dead(&mut consumer, |_| false);
                (look != Look::Nothing).then_some(())
            };
            let look = there().ok_or(None);
            match look.or_else(|_: Option<()>| end_unless(all_left, there)) {
                // Or there is a claim, which its owner is about to publish.
                Ok(()) => match try_recv(&mut consumer, *heap.ring().slots()) {
                    Some(value) => received += value,
                    None => thread::yield_now(),
                },
                Err(Some(())) => break,
                Err(None) => thread::yield_now(),
            }
        }
        assert_eq!(received, 2);
        for sender in senders {
            sender.join().unwrap();
        }
    };
    // LeaveRelaxed is for the model with one sender: it takes stale looks in a row, which are many here.
    check_within(2, model, &[Fault::NoLookAfterEnding]);
}

/// One sender has died, with its message behind a claim of another one, which is about to publish.
#[test]
fn a_death_is_told_only_after_what_the_dead_one_sent() {
    let model = || {
        let heap = Arc::new(Heap::<u64>::new(2, 0));
        let mut consumer = Consumer::take_over(heap.ring());
        let mut alive = Producer::join(heap.ring(), 1);
        let mut dead = Producer::join(heap.ring(), 2);
        let index = alive.slot().unwrap();
        assert!(try_send(&mut dead, *heap.ring().slots(), 2));
        let publisher = thread::spawn({
            let heap = heap.clone();
            move || {
                fill(*heap.ring().slots(), index, 1);
                alive.publish();
            }
        });
        let mut received = Vec::new();
        loop {
            match look_past_the_dead(&mut consumer, |owner| owner == 2) {
                Look::Ready => received.extend(try_recv(&mut consumer, *heap.ring().slots())),
                Look::Held => thread::yield_now(),
                Look::Nothing => break,
                Look::Stuck => unreachable!("no mutex"),
            }
        }
        assert_eq!(received, [1, 2]);
        publisher.join().unwrap();
    };
    check(model, &[Fault::ClaimSettledUnseen]);
}
