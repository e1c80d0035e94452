//! Senders and the receiver are killed, stopped and replaced at random, under load, and every message is accounted for. Then
//! nothing is left of them.
//!
//! For 100,000 kills, shared out among the kinds:
//! `IPC_RING_STORM_KILLS=100000 cargo test --release -p ipc-ring-tests --test storm storm_of -- --nocapture --test-threads=1`.
//! `IPC_RING_SEED` makes the choices of an earlier run again; at which instruction they strike is chance.

mod ledger;
mod oracle;
mod roles;
mod shm;
mod strikes;
mod tally;

use ipc_ring::{Builder, RecvError, ShmMessage, TryRecvError};
use ipc_ring_tests::traces::Traces;
use ipc_ring_tests::{AnyKind, Nursery, Random, Stage, allow_time, for_all_kinds};
use ledger::Ledger;
use oracle::Oracle;
use roles::{receives, sends};
use shm::Shm;
use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use strikes::Storm;
use tempfile::NamedTempFile;

const CAPACITY: u64 = 64;
/// Kills in all, unless the environment says how many.
const KILLS: u64 = 2_400;
const KINDS: u64 = 3;
/// No kill takes longer, on average.
const TIME_A_KILL: Duration = Duration::from_millis(100);

/// How many send at a time.
fn senders<K: AnyKind>() -> u32 {
    if has_several::<K>() { 9 } else { 1 }
}

fn has_several<K: AnyKind>() -> bool {
    K::NAME != "spsc"
}

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

    fn assert_whole(&self) {
        assert_eq!(*self, Self::of_words(self.words()), "torn");
    }
}

fn ring<K: AnyKind>(name: &str) -> Builder<Numbered, K> {
    K::ring_for(name, senders::<K>()).capacity(CAPACITY as usize)
}

/// Who is spared, in one part of the storm after the other, to see what it costs who lives through it. Where one sends, nobody
/// could be in all of it.
fn spared<K: AnyKind>() -> Vec<Option<usize>> {
    let senders = senders::<K>() as usize;
    if senders > 1 {
        vec![Some(senders - 1)]
    } else {
        vec![Some(0), Some(1), None]
    }
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
        // Notes are not announced: that would cost each of them a system call, and slow down what is to be stormed.
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
fn all_places_are_good<K: AnyKind>(name: &str) {
    let mut rx = ring::<K>(name).receiver().unwrap();
    assert!(matches!(rx.try_recv(), Err(TryRecvError::Empty)));
    let ids = 0..u64::from(senders::<K>());
    let mut senders: Vec<_> = ids
        .clone()
        .map(|_| ring::<K>(name).sender().unwrap())
        .collect();
    let sequences = 0..CAPACITY / ids.end;
    for sequence in sequences.clone() {
        for (id, tx) in ids.clone().zip(&mut senders) {
            let message = Numbered::of_words([id, sequence, 0, 0]);
            tx.try_send(message).unwrap();
        }
    }
    drop(senders);
    let mut received: Vec<_> = rx
        .iter()
        .map(|message| (message.sequence, message.sender))
        .collect();
    received.sort_unstable();
    let all = sequences.flat_map(|sequence| ids.clone().map(move |id| (sequence, id)));
    assert!(received.into_iter().eq(all));
    assert!(matches!(rx.recv(), Err(RecvError::Closed)));
}

fn a_storm_of_kills_and_stops_costs_no_message_that_was_sent<K: AnyKind>(stage: &Stage) {
    let kills = env::var("IPC_RING_STORM_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let kills = kills.div_ceil(KINDS);
    allow_time(TIME_A_KILL * kills as u32);
    let seed = Random::seed();
    println!("{}: IPC_RING_SEED={seed}", K::NAME);
    let shm = Shm::own();
    let name = stage.ring();
    let mut nursery = Nursery::of(stage);
    let nursery_had = Traces::of_process(nursery.id(), &name);
    let file = NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let ledger = Ledger::of(path);
    let deaths = Mutex::default();
    let has_one_order = K::NAME != "lanes";
    let mut oracle = Oracle::new(&deaths, has_one_order);
    let is_over = AtomicBool::new(false);
    let begun = Instant::now();
    let (ended, messages) = thread::scope(|scope| {
        let follower = scope.spawn(|| follow(&mut oracle, &ledger, &is_over));
        let over = Over(&is_over);
        let ring = (K::NAME, &*name, senders::<K>());
        let mut storm = Storm::new(&mut nursery, ring, (path, &ledger), &deaths, seed);
        let spared = spared::<K>();
        for (part, &seat) in (1..).zip(&spared) {
            storm.spare(seat);
            let is_enough = |storm: &Storm<'_>| match part == spared.len() {
                true => storm.tally.kills() >= kills && storm.tally.is_enough(),
                false => storm.tally.kills() >= kills * part as u64 / spared.len() as u64,
            };
            while !follower.is_finished() && !is_enough(&storm) {
                storm.strike();
            }
        }
        let ended = (!follower.is_finished()).then(|| storm.end());
        drop(over);
        let messages = follower.join().expect("what the oracle said");
        (ended.expect("the oracle said nothing"), messages)
    });
    let time = begun.elapsed().as_secs_f64();
    let (tally, lives) = ended;
    for id in 0..lives {
        oracle.check_end(messages, id, &ledger.row(id));
    }
    let told = ledger.deaths_told().load(Ordering::Relaxed);
    assert!(messages > 20 * kills, "no load: {messages} messages");
    assert!(told > 0, "nobody was told of a death");
    let endings = ledger.endings_told().load(Ordering::Relaxed);
    assert_eq!(endings > 0, !has_several::<K>());
    // Lanes have no one order: there the oracle must have seen what it looks for.
    assert_eq!(oracle.overtaken > 0, !has_one_order);
    all_places_are_good::<K>(&name);
    ipc_ring::remove(&name).unwrap();
    let nursery_has = Traces::of_process(nursery.id(), &name);
    assert_eq!(nursery_has, nursery_had, "left behind (right: before)");
    nursery.finish();
    let shm = match shm.is_as_before() {
        true => "nothing left, in /dev/shm or in who lived through it",
        false => "no name left, nor anything in who lived through it",
    };
    let kills = tally.kills();
    println!(
        "{}: {kills} kills in {time:.1} s ({:.0}/s), {:.0} % of them inside the library; {messages} messages ({} a kill)\n{tally}\n  \
         {} lost and {} repeated by killed receivers; {told} deaths and {endings} endings told; {} overtaken; {} stops, {} left; \
         calm after {:.0} ms at most\n  {shm}; IPC_RING_SEED={seed}",
        K::NAME,
        kills as f64 / time,
        tally.share_inside() * 100.0,
        messages / kills,
        oracle.lost,
        oracle.repeated,
        oracle.overtaken,
        tally.stopped,
        tally.left,
        tally.calm.as_secs_f64() * 1e3,
    );
}

for_all_kinds! {
    a_storm_of_kills_and_stops_costs_no_message_that_was_sent(sends, receives);
}
