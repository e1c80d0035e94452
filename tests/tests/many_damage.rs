//! A peer that breaks the rules, by its own mapping of the ring: calls come back in time, with a message or an error.

use ipc_ring::{
    Builder, Kind, OpenError, Receiver, RecvTimeoutError, SendTimeoutError, Sender, Spsc, spsc,
};
use ipc_ring_tests::{Random, RingName, Several, Stage, Words, for_several_senders};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CAPACITY: u64 = 16;
const SHORT: Duration = Duration::from_millis(2);
/// For [`SHORT`] and a slice of sleep, on a machine that does other things as well.
const IN_TIME: Duration = Duration::from_secs(2);

/// Offsets in the header, in words.
const KIND: usize = 16 / 8;
const PARTICIPANTS_OFFSET: usize = 80 / 8;
const RECEIVERS_OFFSET: usize = 88 / 8;
const SENDERS_OFFSET: usize = 96 / 8;
const SLOTS_OFFSET: usize = 104 / 8;

const LOCKED: u32 = 4;

/// A mapping of the ring in which everything can be written, and its regions' first words.
struct Peer {
    words: Words,
    participants: usize,
    receivers: usize,
    senders: usize,
    /// How many words of the senders' are a mutex, about which there are tests of their own.
    mutex: usize,
    slots: usize,
}

impl Peer {
    fn of(ring: &RingName) -> Self {
        let bytes = fs::metadata(ring.path()).unwrap().len();
        let words = Words::of(ring.path(), bytes as usize / 8);
        let offset = |word: usize| words[word].load(Ordering::Relaxed) as usize / 8;
        Self {
            participants: offset(PARTICIPANTS_OFFSET),
            receivers: offset(RECEIVERS_OFFSET),
            senders: offset(SENDERS_OFFSET),
            mutex: if words[KIND].load(Ordering::Relaxed) as u32 == LOCKED {
                16
            } else {
                0
            },
            slots: offset(SLOTS_OFFSET),
            words,
        }
    }

    /// One that may be written while the ring is in use.
    fn some_word(&self, random: &mut Random) -> usize {
        let (first, count) = match random.below(4) {
            0 => (self.participants, 17 * 16),
            1 => (self.receivers, 64),
            2 => (self.senders + self.mutex, 64),
            _ => (self.slots, 2 * CAPACITY),
        };
        first + random.below(count) as usize
    }

    /// Writes nonsense of several sorts to a word.
    fn bend(&self, word: usize, random: &mut Random) {
        let word = &self.words[word];
        let before = word.load(Ordering::Relaxed);
        let value = match random.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => before.wrapping_add(random.below(4 * CAPACITY)),
            3 => before.wrapping_sub(random.below(4 * CAPACITY)),
            // Stamps: another state or owner, another lap.
            4 => before ^ random.below(1 << 12),
            _ => before ^ 1 << random.below(64),
        };
        word.store(value, Ordering::Relaxed);
    }
}

type Pair<K> = (Sender<u64, K>, Receiver<u64, K>);

fn pair<K: Kind>(ring: Builder<u64, K>, again: Builder<u64, K>) -> Pair<K> {
    (
        ring.capacity(CAPACITY as usize).sender().unwrap(),
        again.receiver().unwrap(),
    )
}

/// Runs `call` and checks that it took no longer than it may.
fn in_time<R>(what: &str, call: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let result = call();
    let took = begun.elapsed();
    assert!(took < IN_TIME, "{what} took {took:?}");
    result
}

/// A head that makes no sense, for a sender with a full ring and a receiver with an empty one.
fn nonsense_in_head<K: Kind>(name: &RingName, (mut tx, mut rx): Pair<K>) {
    let peer = Peer::of(name);
    let head = &peer.words[peer.receivers];
    for number in 0..CAPACITY {
        tx.try_send(number).unwrap();
    }
    let bends = [
        1,
        CAPACITY + 1,
        1 << 20,
        1 << 52,
        1 << 63,
        u64::MAX,
        u64::MAX - CAPACITY,
    ];
    for bend in bends {
        head.store(bend, Ordering::Relaxed);
        match in_time("send_timeout", || tx.send_timeout(77, SHORT)) {
            Ok(()) | Err(SendTimeoutError::Timeout(77)) => {}
            Err(error) => panic!("{bend}: {error}"),
        }
        in_time("try_send_slice", || {
            let _ = tx.try_send_slice(&[7; 100]);
        });
        let _ = (
            tx.len(),
            tx.is_full(),
            rx.len(),
            rx.is_full(),
            rx.is_empty(),
        );
        match in_time("recv_timeout", || rx.recv_timeout(SHORT)) {
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(error) => panic!("{bend}: {error}"),
        }
        in_time("try_iter", || rx.try_iter().take(1000).count());
        in_time("recv_timeout", || while rx.recv_timeout(SHORT).is_ok() {});
    }
    // And never the same: of those that fit a bit, and of those that fit nothing.
    for (first, count) in [(0, 64), (1 << 40, 1 << 32)] {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = Random::default();
                while !is_over.load(Ordering::Relaxed) {
                    head.store(first + random.below(count), Ordering::Relaxed);
                }
            });
            let until = Instant::now() + Duration::from_millis(100);
            while Instant::now() < until {
                in_time("send_timeout", || {
                    let _ = tx.send_timeout(1, SHORT);
                });
                in_time("recv_timeout", || {
                    let _ = rx.recv_timeout(SHORT);
                });
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}

/// Any word but those of the header, while all calls are made, and others join.
fn nonsense_anywhere<K: Kind>(name: &RingName, ring: impl Fn() -> Builder<u64, K>) {
    let seed = Random::seed();
    println!("IPC_RING_SEED={seed}");
    let mut random = Random::of_seed(seed);
    let until = Instant::now() + Duration::from_millis(700);
    while Instant::now() < until {
        let origin = random.below(3 * CAPACITY).wrapping_sub(CAPACITY);
        drop(pair(ring().start_position(origin), ring()));
        let peer = Peer::of(name);
        for _ in 0..3 {
            let (mut tx, mut rx) = in_time("joining", || pair(ring(), ring()));
            for _ in 0..30 {
                let word = peer.some_word(&mut random);
                call_anything(&mut tx, &mut rx, &mut random);
                peer.bend(word, &mut random);
                call_anything(&mut tx, &mut rx, &mut random);
            }
            in_time("leaving", || drop((tx, rx)));
        }
        ipc_ring::remove(name).unwrap();
    }
}

fn call_anything<K: Kind>(tx: &mut Sender<u64, K>, rx: &mut Receiver<u64, K>, random: &mut Random) {
    let mut messages = [0; 20];
    let timeout = random.time(SHORT / 10);
    let call = random.below(12);
    in_time(&format!("call {call}"), || match call {
        0 => drop(tx.try_send(1)),
        1 => drop(tx.send_timeout(2, timeout)),
        2 => drop(tx.try_send_slice(&[3; 20])),
        3 => drop(tx.try_reserve().map(|place| place.write(4).publish())),
        4 => drop(rx.try_recv()),
        5 => drop(rx.recv_timeout(timeout)),
        6 => drop(rx.try_recv_slice(&mut messages)),
        7 => drop(rx.try_peek_copied()),
        8 => drop(rx.consume()),
        9 => drop(rx.drain().count()),
        10 => drop(rx.try_iter().take(100).count()),
        _ => {
            let _ = (tx.len(), rx.len(), rx.is_empty(), rx.is_full());
            assert!(rx.participants().len() <= 1024);
        }
    });
}

fn a_head_that_makes_no_sense_holds_up_no_call<K: Several>(stage: &Stage) {
    let name = stage.ring();
    nonsense_in_head(&name, pair(K::ring(&name), K::ring(&name)));
}

fn no_word_that_a_peer_writes_makes_a_call_hang_or_panic<K: Several>(stage: &Stage) {
    let name = stage.ring();
    nonsense_anywhere(&name, || K::ring(&name));
}

#[test]
fn neither_does_it_with_one_sender() {
    let name = RingName::of("nonsense_in_head");
    nonsense_in_head(&name, pair::<Spsc>(spsc(&name), spsc(&name)));
    let name = RingName::of("nonsense_anywhere");
    nonsense_anywhere(&name, || spsc(&name));
}

#[test]
#[cfg_attr(ipc_ring_locked, ignore = "a locked ring may have several")]
fn a_header_that_says_that_one_sender_is_several_is_refused() {
    let name = RingName::of("one_is_several");
    drop(pair::<Spsc>(spsc(&name), spsc(&name)));
    let peer = Peer::of(&name);
    // The second word of the line is `flags`, and then `participants`; everything else fits three as well.
    let word = &peer.words[24 / 8];
    assert_eq!(word.load(Ordering::Relaxed) >> 32, 2);
    word.store(3 << 32, Ordering::Relaxed);
    for error in [
        spsc::<u64>(&name).sender().map(drop),
        spsc::<u64>(&name).receiver().map(drop),
    ] {
        let error = error.unwrap_err();
        assert!(matches!(error, OpenError::NotARing { .. }), "{error}");
        assert!(error.to_string().contains("contradicts itself"), "{error}");
    }
    word.store(2 << 32, Ordering::Relaxed);
    drop(spsc::<u64>(&name).sender().unwrap());
}

for_several_senders! {
    a_head_that_makes_no_sense_holds_up_no_call();
    no_word_that_a_peer_writes_makes_a_call_hang_or_panic();
}
