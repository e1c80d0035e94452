//! Senders and the receiver are killed, stopped and replaced at random, under load, and every message is accounted for.
//!
//! For ten minutes a kind: `IPC_RING_STORM_SECONDS=600 cargo test --release -p ipc-ring-tests --test storm -- --nocapture`.
//! `IPC_RING_SEED` makes the choices of an earlier run again; at which instruction they strike is chance.

mod ledger;
mod oracle;
mod roles;
mod strikes;

use ipc_ring::{Builder, RecvError, ShmMessage, TryRecvError};
use ipc_ring_tests::{Random, Several, Stage, allow_time, for_both_kinds, traces};
use ledger::Ledger;
use oracle::Oracle;
use roles::{receives, sends};
use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};
use strikes::Storm;
use tempfile::NamedTempFile;

const SENDERS: u32 = 8;
const CAPACITY: u64 = 64;
/// The next misfortune comes within this time.
const LULL: Duration = Duration::from_millis(10);
/// Message `sequence` of `sender`. Times are the ledger's.
#[derive(ShmMessage, Clone, Copy, PartialEq, Debug)]
#[repr(C)]
struct Numbered {
    sender: u64,
    sequence: u64,
    /// Before it was sent.
    begun: u64,
    /// After the sender's message before had been sent.
    before: u64,
    /// So that a torn one is noticed.
    check: u64,
}

impl Numbered {
    fn words(&self) -> [u64; 4] {
        [self.sender, self.sequence, self.begun, self.before]
    }

    fn of_words([sender, sequence, begun, before]: [u64; 4]) -> Self {
        let words = [sender, sequence, begun, before];
        let mixed = words.map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let check = mixed
            .iter()
            .fold(0, |sum: u64, word| sum.rotate_left(17) ^ word);
        Self {
            sender,
            sequence,
            begun,
            before,
            check,
        }
    }
}

fn ring<K: Several>(name: &str) -> Builder<Numbered, K> {
    K::ring(name)
        .capacity(CAPACITY as usize)
        .max_senders(SENDERS)
}

/// Follows the notes until `is_over` and there are no more.
fn follow(oracle: &mut Oracle<'_>, ledger: &Ledger, is_over: &AtomicBool) -> u64 {
    let mut checked = 0;
    loop {
        let over = is_over.load(Ordering::SeqCst);
        let noted = ledger.noted();
        for number in checked..noted {
            oracle.check(number, &ledger.read(number));
        }
        checked = noted;
        ledger.checked(checked);
        if over {
            return checked;
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// Lets who follows the notes come to an end, also if something goes wrong here.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// After the storm everything is as if nothing had happened.
fn all_places_are_good<K: Several>(name: &str) {
    let mut rx = ring::<K>(name).receiver().unwrap();
    assert!(matches!(rx.try_recv(), Err(TryRecvError::Empty)));
    let mut senders: Vec<_> = (0..SENDERS)
        .map(|_| ring::<K>(name).sender().unwrap())
        .collect();
    let sequences = 0..CAPACITY / u64::from(SENDERS);
    for sequence in sequences.clone() {
        for (id, tx) in senders.iter_mut().enumerate() {
            let message = Numbered::of_words([id as u64, sequence, 0, 0]);
            tx.try_send(message).unwrap();
        }
    }
    drop(senders);
    let mut received: Vec<_> = rx
        .iter()
        .map(|message| (message.sequence, message.sender))
        .collect();
    received.sort_unstable();
    let all = sequences.flat_map(|sequence| (0..SENDERS.into()).map(move |id| (sequence, id)));
    assert!(received.into_iter().eq(all));
    assert!(matches!(rx.recv(), Err(RecvError::Closed)));
}

fn a_storm_of_kills_and_stops_costs_no_message_that_was_sent<K: Several>(stage: &Stage) {
    let time = env::var("IPC_RING_STORM_SECONDS").map_or(4, |time| time.parse().unwrap());
    let time = Duration::from_secs(time);
    allow_time(time);
    let seed = Random::seed();
    println!("{}: IPC_RING_SEED={seed}", K::NAME);
    let file = NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let ledger = Ledger::of(path);
    let deaths = Mutex::default();
    let has_one_order = K::NAME == "mpsc";
    let mut oracle = Oracle::new(&deaths, has_one_order);
    let is_over = AtomicBool::new(false);
    let begun = Instant::now();
    let (name, counts, lives, messages) = thread::scope(|scope| {
        let follower = scope.spawn(|| follow(&mut oracle, &ledger, &is_over));
        let over = Over(&is_over);
        let mut storm = Storm::new(stage, K::NAME, (path, &ledger), &deaths, seed);
        let goes_well = |follower: &ScopedJoinHandle<'_, u64>| !follower.is_finished();
        while goes_well(&follower) && (begun.elapsed() < time || !storm.counts.are_enough()) {
            thread::sleep(storm.random.time(LULL));
            storm.let_go_on(false);
            storm.strike();
        }
        let ended = goes_well(&follower).then(|| storm.end());
        drop(over);
        let messages = follower.join().expect("what the oracle said");
        let (name, counts, lives) = ended.expect("the oracle said nothing");
        (name, counts, lives, messages)
    });
    for id in 0..lives {
        oracle.check_end(messages, id, &ledger.row(id));
    }
    let told = ledger.deaths_told().load(Ordering::Relaxed);
    println!(
        "{}: {messages} messages in {:.1} s; {counts:?}; {} lost and {} repeated by killed receivers; {told} deaths told; {} overtaken",
        K::NAME,
        begun.elapsed().as_secs_f64(),
        oracle.lost,
        oracle.repeated,
        oracle.overtaken,
    );
    assert!(counts.are_enough() && messages > 20_000);
    assert!(told > 0, "nobody was told of a death");
    // Lanes have no one order: there the oracle must have seen what it looks for.
    assert_eq!(oracle.overtaken > 0, !has_one_order);
    all_places_are_good::<K>(&name);
    ipc_ring::remove(&name).unwrap();
    assert!(traces::names(&name).is_empty());
}

for_both_kinds! {
    a_storm_of_kills_and_stops_costs_no_message_that_was_sent(sends, receives);
}
