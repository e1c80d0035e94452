//! The queue under a mutex: held against a plain one, and left by threads that end at each moment with the mutex held.

use super::{capacity, origin};
use crate::ring::locked::{Consumer, Locked, Producer, sweep};
use crate::ring::{Ahead, Consume, Look, Produce, TypedSlots};
use crate::segment::heap::HeapLocked;
use crate::segment::heap::traffic::{fill, read, try_recv, try_send};
use crate::sync::ends::ends;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::mpsc::channel;
use std::thread;

const SENDERS: u32 = 3;
const RECEIVERS: u32 = 3;

type Slots = TypedSlots<u64>;

/// Nobody who took part is left: all that they had in hand is settled.
fn settle(locked: &Locked<Slots>) {
    for owner in 0..SENDERS + RECEIVERS {
        sweep(locked, owner);
    }
}

/// What is in the queue, in order, which then is empty.
fn drain(heap: &HeapLocked<u64>) -> Vec<u64> {
    let mut consumer = heap.consumer(SENDERS);
    std::iter::from_fn(|| try_recv(&mut consumer, heap.slots())).collect()
}

/// Every slot takes a message, and gives it back.
fn is_whole(heap: &HeapLocked<u64>, capacity: u64) {
    let mut producer = heap.producer(0);
    for value in 0..capacity {
        assert!(
            try_send(&mut producer, heap.slots(), value),
            "a slot is lost"
        );
    }
    assert!(!try_send(&mut producer, heap.slots(), 0), "a slot too many");
    assert_eq!(drain(heap), (0..capacity).collect::<Vec<_>>());
}

#[derive(Clone, Debug)]
enum Operation {
    Send(usize),
    /// Has a slot, fills it and leaves it at that.
    Claim(usize),
    Publish(usize),
    AbandonClaim(usize),
    SenderDies(usize),
    Recv(usize),
    /// Looks so many messages ahead.
    Peek(usize, u64),
    Release(usize, u64),
    AbandonHand(usize),
    ReceiverDies(usize),
    /// Asks who is dead.
    LookForRoom(usize),
    LookForMessage(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    let sender = || 0..SENDERS as usize;
    let receiver = || 0..RECEIVERS as usize;
    prop_oneof![
        8 => sender().prop_map(Operation::Send),
        3 => sender().prop_map(Operation::Claim),
        2 => sender().prop_map(Operation::Publish),
        1 => sender().prop_map(Operation::AbandonClaim),
        1 => sender().prop_map(Operation::SenderDies),
        6 => receiver().prop_map(Operation::Recv),
        3 => (receiver(), 0..4_u64).prop_map(|(who, ahead)| Operation::Peek(who, ahead)),
        3 => (receiver(), 1..4_u64).prop_map(|(who, count)| Operation::Release(who, count)),
        1 => receiver().prop_map(Operation::AbandonHand),
        1 => receiver().prop_map(Operation::ReceiverDies),
        1 => sender().prop_map(Operation::LookForRoom),
        1 => receiver().prop_map(Operation::LookForMessage),
    ]
}

/// What there should be.
#[derive(Default)]
struct Model {
    queue: VecDeque<u64>,
    claims: [Option<u64>; SENDERS as usize],
    /// With the position at which it was taken, by which messages of several dead are put back.
    hands: [Vec<(i64, u64)>; RECEIVERS as usize],
    head: i64,
    is_dead: [bool; (SENDERS + RECEIVERS) as usize],
    next: u64,
}

impl Model {
    fn room(&self, capacity: u64) -> u64 {
        let claims = self.claims.iter().flatten().count();
        let hands: usize = self.hands.iter().map(Vec::len).sum();
        capacity - (self.queue.len() + claims + hands) as u64
    }

    fn take(&mut self, who: usize) -> bool {
        let Some(message) = self.queue.pop_front() else {
            return false;
        };
        self.hands[who].push((self.head, message));
        self.head += 1;
        true
    }

    fn give_back(&mut self, taken: Vec<(i64, u64)>) {
        for (_, message) in taken.into_iter().rev() {
            self.queue.push_front(message);
            self.head -= 1;
        }
    }

    /// False if it does not matter in which order.
    fn bury(&mut self) -> bool {
        for who in 0..SENDERS as usize {
            if self.is_dead[who] {
                self.claims[who] = None;
            }
        }
        let mut taken = Vec::new();
        for who in 0..RECEIVERS as usize {
            if self.is_dead[SENDERS as usize + who] {
                taken.append(&mut self.hands[who]);
            }
        }
        taken.sort_unstable();
        let is_clear = taken.windows(2).all(|pair| pair[0].0 != pair[1].0);
        self.give_back(taken);
        is_clear
    }
}

proptest! {
    #[test]
    fn several_senders_and_receivers_share_one_queue(
        capacity in capacity(),
        origin in origin(),
        operations in proptest::collection::vec(operation(), 1..200),
    ) {
        let heap = HeapLocked::<u64>::new(capacity, origin, SENDERS);
        let mut producers: Vec<Producer<Slots>> = (0..SENDERS).map(|owner| heap.producer(owner)).collect();
        let mut consumers: Vec<Consumer<Slots>> =
            (0..RECEIVERS).map(|owner| heap.consumer(SENDERS + owner)).collect();
        let mut model = Model::default();
        for operation in operations {
            match operation {
                Operation::Send(who) | Operation::Claim(who) => {
                    revive_sender(&heap, &mut model, &mut producers, who);
                    let room = model.room(capacity) > 0 || model.claims[who].is_some();
                    let slot = producers[who].slot();
                    prop_assert_eq!(slot.is_some(), room);
                    if let Some(slot) = slot {
                        model.next += 1;
                        fill(heap.slots(), slot, model.next);
                        model.claims[who] = Some(model.next);
                        if matches!(operation, Operation::Send(_)) {
                            producers[who].publish();
                            model.queue.extend(model.claims[who].take());
                        }
                    }
                }
                Operation::Publish(who) => {
                    if !model.is_dead[who] && let Some(message) = model.claims[who].take() {
                        producers[who].publish();
                        model.queue.push_back(message);
                    }
                }
                Operation::AbandonClaim(who) => {
                    if !model.is_dead[who] {
                        prop_assert_eq!(producers[who].abandon(), model.claims[who].take().is_some());
                    }
                }
                Operation::SenderDies(who) => model.is_dead[who] = true,
                Operation::Recv(who) => {
                    prop_assume!(revive_receiver(&heap, &mut model, &mut consumers, who));
                    let there = !model.hands[who].is_empty() || model.take(who);
                    let expected = there.then(|| model.hands[who].remove(0).1);
                    prop_assert_eq!(try_recv(&mut consumers[who], heap.slots()), expected);
                }
                Operation::Peek(who, ahead) => {
                    prop_assume!(revive_receiver(&heap, &mut model, &mut consumers, who));
                    for ahead in 0..=ahead {
                        let known = model.hands[who].len() as u64 > ahead;
                        let there = known || model.take(who);
                        match consumers[who].ahead(ahead) {
                            Ahead::Message(slot) => {
                                prop_assert!(there);
                                let (_, message) = model.hands[who][ahead as usize];
                                prop_assert_eq!(read(heap.slots(), slot), message);
                            }
                            other => {
                                prop_assert_eq!(other, Ahead::Nothing);
                                prop_assert!(!there);
                                break;
                            }
                        }
                    }
                }
                Operation::Release(who, count) => {
                    if !model.is_dead[SENDERS as usize + who] {
                        consumers[who].release(count);
                        let count = model.hands[who].len().min(count as usize);
                        model.hands[who].drain(..count);
                    }
                }
                Operation::AbandonHand(who) => {
                    if !model.is_dead[SENDERS as usize + who] {
                        let hand = std::mem::take(&mut model.hands[who]);
                        prop_assert_eq!(consumers[who].abandon(), !hand.is_empty());
                        // As it was in his hand, whatever was given back meanwhile.
                        model.give_back(hand);
                    }
                }
                Operation::ReceiverDies(who) => model.is_dead[SENDERS as usize + who] = true,
                Operation::LookForRoom(who) => {
                    if !model.is_dead[who] {
                        let room = producers[who].has_room();
                        let look = producers[who].look(|owner| model.is_dead[owner as usize]);
                        if !room {
                            prop_assume!(model.bury());
                        }
                        let room = model.room(capacity) > 0 || model.claims[who].is_some();
                        prop_assert_eq!(look == Look::Ready, room);
                    }
                }
                Operation::LookForMessage(who) => {
                    if !model.is_dead[SENDERS as usize + who] {
                        let look = consumers[who].look(|owner| model.is_dead[owner as usize]);
                        if model.hands[who].is_empty() {
                            prop_assume!(model.bury());
                            model.take(who);
                        }
                        prop_assert_eq!(look == Look::Ready, !model.hands[who].is_empty());
                    }
                }
            }
            if !model.is_dead[SENDERS as usize] {
                let in_hand = model.hands[0].len();
                prop_assert_eq!(consumers[0].len(), (model.queue.len() + in_hand) as u64);
            }
            prop_assert_eq!(producers[0].len(), capacity - model.room(capacity));
            let in_hands: usize = model.hands.iter().map(Vec::len).sum();
            prop_assert_eq!(heap.locked().unread(), (model.queue.len() + in_hands) as u64);
        }
        settle(&heap.locked());
        let left: usize = model.queue.len() + model.hands.iter().map(Vec::len).sum::<usize>();
        prop_assert_eq!(drain(&heap).len(), left);
        is_whole(&heap, capacity);
    }
}

/// Whoever comes in the place of a dead one sweeps first.
fn revive_sender(
    heap: &HeapLocked<u64>,
    model: &mut Model,
    producers: &mut [Producer<Slots>],
    who: usize,
) {
    if std::mem::take(&mut model.is_dead[who]) {
        sweep(&heap.locked(), who as u32);
        model.claims[who] = None;
        producers[who] = heap.producer(who as u32);
    }
}

fn revive_receiver(
    heap: &HeapLocked<u64>,
    model: &mut Model,
    consumers: &mut [Consumer<Slots>],
    who: usize,
) -> bool {
    let index = SENDERS as usize + who;
    if std::mem::take(&mut model.is_dead[index]) {
        sweep(&heap.locked(), index as u32);
        let mut hand = std::mem::take(&mut model.hands[who]);
        hand.sort_unstable();
        // Of two that were taken at one position, since one had been given back between, either may come first.
        let is_clear = hand.windows(2).all(|pair| pair[0].0 != pair[1].0);
        model.give_back(hand);
        consumers[who] = heap.consumer(index as u32);
        return is_clear;
    }
    true
}

/// What a thread does that ends amid it. The queue then holds 10, 11, 12, and 1 is in the hand of another sender, 2 in that of
/// another receiver.
type Act = fn(&HeapLocked<u64>, &mut Producer<Slots>, &mut Consumer<Slots>);

const ACTS: &[(&str, Act)] = &[
    ("reserve", |_, producer, _| {
        producer.slot();
    }),
    ("send", |heap, producer, _| {
        try_send(producer, heap.slots(), 99);
    }),
    ("give up", |_, producer, _| {
        producer.slot();
        producer.abandon();
    }),
    ("borrow", |_, _, consumer| {
        consumer.slot();
    }),
    ("receive", |heap, _, consumer| {
        try_recv(consumer, heap.slots());
    }),
    ("receive two", |_, _, consumer| {
        consumer.ahead(0);
        consumer.ahead(1);
        consumer.release(2);
    }),
    ("give back two", |_, _, consumer| {
        consumer.ahead(0);
        consumer.ahead(1);
        consumer.abandon();
    }),
    ("look for the dead", |_, _, consumer| {
        while consumer.slot().is_some() {
            consumer.release(1);
        }
        consumer.look(|_| true);
    }),
    ("sweep", |heap, _, _| settle(&heap.locked())),
];

/// A queue as [`Act`] says, of so many slots.
fn scene(capacity: u64, origin: u64) -> HeapLocked<u64> {
    let heap = HeapLocked::<u64>::new(capacity, origin, SENDERS);
    let mut producer = heap.producer(1);
    let mut consumer = heap.consumer(SENDERS + 1);
    for value in [2, 10, 11, 12] {
        assert!(try_send(&mut producer, heap.slots(), value));
    }
    assert!(consumer.slot().is_some());
    let claim = producer.slot().unwrap();
    fill(heap.slots(), claim, 1);
    heap
}

/// Does `act` in a thread of its own, up to so many moments. Whether it ended there.
fn ends_amid(heap: &HeapLocked<u64>, moments: u32, act: Act) -> bool {
    let (mut producer, mut consumer) = (heap.producer(0), heap.consumer(SENDERS));
    thread::scope(|scope| {
        let act = move || ends(moments, || act(heap, &mut producer, &mut consumer));
        scope.spawn(act).join().unwrap()
    })
}

/// What may be left of the messages, if somebody ended who may have sent 99 or received some; others go on at once.
fn check(heap: &HeapLocked<u64>, capacity: u64, what: &str) {
    let mut producer = heap.producer(2);
    assert!(
        try_send(&mut producer, heap.slots(), 100),
        "{what}: no room"
    );
    let mut messages = Vec::new();
    messages.extend(try_recv(&mut heap.consumer(SENDERS + 2), heap.slots()));
    settle(&heap.locked());
    messages.extend(drain(heap));
    let mut there = messages.clone();
    there.sort_unstable();
    there.dedup();
    assert_eq!(
        there.len(),
        messages.len(),
        "{what}: {messages:?} has one twice"
    );
    // What is missing was received; but 1, which was never sent, and 99, which may have been.
    let sent = [2, 10, 11, 12, 100];
    assert!(
        there
            .iter()
            .all(|value| *value == 99 || sent.contains(value))
    );
    let missing = sent.iter().filter(|value| !there.contains(value)).count();
    let received = match what {
        "receive" => 1,
        "receive two" => 2,
        "look for the dead" => 3,
        _ => 0,
    };
    assert!(missing <= received, "{what}: {messages:?} lacks some");
    assert!(there.contains(&100), "{what}: {messages:?}");
    is_whole(heap, capacity);
}

#[test]
fn a_thread_that_ends_with_the_mutex_held_costs_nothing_but_what_it_was_about_to_do() {
    for capacity in [8, 16] {
        for origin in [0, u64::MAX - 1, 1 << 52] {
            for (name, act) in ACTS {
                let mut moments = 0;
                loop {
                    let heap = scene(capacity, origin);
                    let ended = ends_amid(&heap, moments, *act);
                    check(&heap, capacity, name);
                    if !ended {
                        break;
                    }
                    moments += 1;
                }
                assert!(moments > 1, "{name} never holds the mutex");
            }
        }
    }
}

/// Who repairs may end as well, at each moment; the next one then repairs both.
#[test]
fn who_ends_amid_the_repair_leaves_it_to_the_next_one() {
    for (name, act) in ACTS {
        let mut moments = 0;
        while ends_amid(&scene(8, 0), moments, *act) {
            let mut repaired = 0;
            loop {
                let heap = scene(8, 0);
                ends_amid(&heap, moments, *act);
                let ended = ends_amid(&heap, repaired, |heap, _, _| settle(&heap.locked()));
                check(&heap, 8, name);
                if !ended {
                    break;
                }
                repaired += 1;
            }
            moments += 1;
        }
    }
}

/// Whatever a peer writes into the words and the stamps, calls come to an end, and once those who took part are gone, no slot is
/// lost.
#[test]
fn scribbled_words_and_stamps_cost_messages_and_no_slots() {
    proptest!(|(
        words in proptest::collection::vec((0..19_usize, any::<u64>()), 1..6),
        shift in prop_oneof![Just(0_u32), Just(10), Just(40), Just(60)],
    )| {
        let heap = scene(8, 0);
        for (place, value) in words {
            heap.scribble(place, value >> shift);
        }
        let (mut producer, mut consumer) = (heap.producer(0), heap.consumer(SENDERS));
        for value in 0..20 {
            let sent = try_send(&mut producer, heap.slots(), value);
            let received = try_recv(&mut consumer, heap.slots());
            let _ = (sent, received);
        }
        producer.look(|_| true);
        consumer.look(|_| true);
        drop((producer, consumer));
        settle(&heap.locked());
        drain(&heap);
        settle(&heap.locked());
        is_whole(&heap, 8);
    });
}

/// Does `act` while another thread stands still with the mutex held, for longer than anybody waits who leaves things to others.
fn with_the_mutex_held_by_another<R>(heap: &HeapLocked<u64>, act: impl FnOnce() -> R) -> R {
    let (lock, locked) = channel();
    let (unlock, unlocked) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            heap.locked().stand_with_the_mutex(|| {
                lock.send(()).unwrap();
                unlocked.recv().unwrap();
            });
        });
        locked.recv().unwrap();
        let result = act();
        unlock.send(()).unwrap();
        result
    })
}

#[test]
fn what_is_handed_on_without_the_mutex_is_found_by_whoever_has_it_next_and_first() {
    let heap = HeapLocked::<u64>::new(4, 0, SENDERS);
    let (mut one, mut two) = (heap.producer(0), heap.producer(1));
    let mut consumer = heap.consumer(SENDERS);
    let slot = one.slot().unwrap();
    fill(heap.slots(), slot, 10);
    with_the_mutex_held_by_another(&heap, || one.publish());
    // What is sent after that comes after it.
    assert!(try_send(&mut two, heap.slots(), 20));
    assert_eq!(try_recv(&mut consumer, heap.slots()), Some(10));
    assert_eq!(try_recv(&mut consumer, heap.slots()), Some(20));
    for value in 0..4 {
        assert!(try_send(&mut one, heap.slots(), value));
    }
    for ahead in 0..4 {
        assert!(matches!(consumer.ahead(ahead), Ahead::Message(_)));
    }
    with_the_mutex_held_by_another(&heap, || consumer.release(4));
    assert!(try_send(&mut two, heap.slots(), 30), "there is room");
    assert_eq!(try_recv(&mut consumer, heap.slots()), Some(30));
    is_whole(&heap, 4);
}

#[test]
fn who_could_not_sweep_when_it_came_does_so_when_it_can() {
    let heap = HeapLocked::<u64>::new(1, 0, SENDERS);
    assert!(heap.producer(0).slot().is_some());
    let mut successor = with_the_mutex_held_by_another(&heap, || {
        sweep(&heap.locked(), 0);
        heap.producer(0)
    });
    assert_eq!(successor.look(|_| false), Look::Ready);
    assert!(try_send(&mut successor, heap.slots(), 1));
    assert!(heap.consumer(SENDERS).slot().is_some());
    let mut successor = with_the_mutex_held_by_another(&heap, || {
        sweep(&heap.locked(), SENDERS);
        heap.consumer(SENDERS)
    });
    assert_eq!(successor.look(|_| false), Look::Ready);
    assert_eq!(try_recv(&mut successor, heap.slots()), Some(1));
}

#[test]
fn a_message_in_the_hand_of_somebody_who_lives_may_come_back() {
    let heap = HeapLocked::<u64>::new(4, 0, SENDERS);
    let (mut first, mut second) = (heap.consumer(SENDERS), heap.consumer(SENDERS + 1));
    assert!(try_send(&mut heap.producer(0), heap.slots(), 10));
    assert!(first.slot().is_some());
    assert_eq!(second.look(|_| false), Look::Held);
    assert!(first.abandon());
    assert_eq!(second.look(|_| false), Look::Ready);
    second.release(1);
    assert_eq!(first.look(|_| false), Look::Nothing);
}
