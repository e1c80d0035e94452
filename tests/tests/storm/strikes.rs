//! Who is killed, stopped and replaced.

use crate::ledger::Ledger;
use crate::oracle::{Death, Way};
use crate::{CAPACITY, SENDERS};
use ipc_ring_tests::{Child, Random, RingName, Stage};
use std::mem;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// Nothing takes so long.
const LONG: Duration = Duration::from_secs(20);
/// Nobody is stopped for longer, at a time.
const STOP: Duration = Duration::from_millis(30);

/// What happened how often.
#[derive(Default, Debug)]
pub(crate) struct Counts {
    senders_killed: u64,
    of_those_while_stopped: u64,
    of_those_with_a_place: u64,
    senders_stopped: u64,
    senders_left: u64,
    receivers_killed_taking: u64,
    receivers_killed_peeking: u64,
    receivers_stopped: u64,
}

impl Counts {
    /// Whether the storm was one.
    pub(crate) fn are_enough(&self) -> bool {
        self.senders_killed >= 40
            && self.of_those_while_stopped >= 4
            && self.of_those_with_a_place >= 4
            && self.senders_stopped >= 20
            && self.senders_left >= 5
            && self.receivers_killed_taking >= 10
            && self.receivers_killed_peeking >= 10
            && self.receivers_stopped >= 10
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A process of the storm.
struct Player {
    child: Child,
    id: u64,
    stopped_until: Option<Instant>,
}

pub(crate) struct Storm<'a> {
    stage: &'a Stage,
    kind: &'static str,
    name: RingName,
    ledger: &'a Ledger,
    path: &'a str,
    deaths: &'a Mutex<Vec<Death>>,
    pub(crate) random: Random,
    senders: Vec<Player>,
    receiver: Player,
    way: Way,
    begun: u64,
    pub(crate) counts: Counts,
}

impl<'a> Storm<'a> {
    pub(crate) fn new(
        stage: &'a Stage,
        kind: &'static str,
        (path, ledger): (&'a str, &'a Ledger),
        deaths: &'a Mutex<Vec<Death>>,
        seed: u64,
    ) -> Self {
        let name = stage.ring();
        let way = Way::Takes;
        let receiver = Self::start_receiver(stage, [kind, &name, path], way, seed);
        let mut storm = Self {
            stage,
            kind,
            name,
            ledger,
            path,
            deaths,
            random: Random::of_seed(seed),
            senders: Vec::new(),
            receiver,
            way,
            begun: 0,
            counts: Counts::default(),
        };
        for _ in 0..SENDERS {
            let sender = storm.start_sender();
            storm.senders.push(sender);
        }
        storm
    }

    fn start_receiver(stage: &Stage, [kind, name, path]: [&str; 3], way: Way, seed: u64) -> Player {
        let arguments = [kind, name, path, &format!("{way:?}"), &seed.to_string()];
        Player {
            child: stage.start("receives", &arguments),
            id: 0,
            stopped_until: None,
        }
    }

    fn start_sender(&mut self) -> Player {
        let id = self.begun;
        self.begun += 1;
        let arguments = [self.kind, &self.name, self.path, &id.to_string()];
        Player {
            child: self.stage.start("sends", &arguments),
            id,
            stopped_until: None,
        }
    }

    /// Lets those go on whose time has come, or everybody.
    pub(crate) fn let_go_on(&mut self, everybody: bool) {
        for player in self.senders.iter_mut().chain([&mut self.receiver]) {
            let is_time = |until| everybody || until <= Instant::now();
            if player.stopped_until.is_some_and(is_time) {
                player.child.go_on();
                player.stopped_until = None;
            }
        }
    }

    pub(crate) fn strike(&mut self) {
        match self.random.below(100) {
            0..40 => self.kill_sender(),
            40..65 => {
                let victim = self.victim();
                let until = Instant::now() + self.random.time(STOP);
                let sender = &mut self.senders[victim];
                if sender.stopped_until.replace(until).is_none() {
                    sender.child.stop();
                    self.counts.senders_stopped += 1;
                }
            }
            65..73 => self.leave(),
            73..88 => self.kill_receiver(),
            _ => {
                let until = Instant::now() + self.random.time(STOP);
                if self.receiver.stopped_until.replace(until).is_none() {
                    self.receiver.child.stop();
                    self.counts.receivers_stopped += 1;
                }
            }
        }
    }

    fn victim(&mut self) -> usize {
        self.random.below(SENDERS.into()) as usize
    }

    fn kill_sender(&mut self) {
        let victim = self.victim();
        self.kill_this_sender(victim);
    }

    fn kill_this_sender(&mut self, victim: usize) {
        let victim = self.senders.swap_remove(victim);
        self.counts.senders_killed += 1;
        self.counts.of_those_while_stopped += u64::from(victim.stopped_until.is_some());
        victim.child.kill();
        let held = self
            .ledger
            .row(victim.id)
            .holds_place()
            .load(Ordering::SeqCst);
        self.counts.of_those_with_a_place += held;
        // All places but the dead one's are taken.
        let successor = self.start_sender();
        self.senders.push(successor);
    }

    fn leave(&mut self) {
        // Who leaves may have to wait for room.
        self.let_go_on(true);
        let victim = self.victim();
        let victim = self.senders.swap_remove(victim);
        self.ledger
            .row(victim.id)
            .is_to_leave()
            .store(1, Ordering::SeqCst);
        victim.child.finish();
        self.counts.senders_left += 1;
        let successor = self.start_sender();
        self.senders.push(successor);
    }

    fn kill_receiver(&mut self) {
        let way = match self.random.below(2) {
            0 => Way::Takes,
            _ => Way::Peeks,
        };
        let seed = self.random.below(1 << 32);
        let (stage, path) = (self.stage, self.path);
        // Messages wait for the successor, and senders with them.
        let dead = mem::replace(&mut self.way, way);
        self.receiver.child.kill_now();
        self.deaths.lock().unwrap().push(Death {
            at: self.ledger.noted(),
            way: dead,
            is_used: false,
        });
        match dead {
            Way::Takes => self.counts.receivers_killed_taking += 1,
            Way::Peeks => self.counts.receivers_killed_peeking += 1,
        }
        self.receiver = Self::start_receiver(stage, [self.kind, &self.name, path], way, seed);
    }

    /// Kills one sender while it holds a place, and leaves it to its successor to settle that: the receiver stands still
    /// meanwhile.
    fn kill_claimant(&mut self) {
        let before = self.counts.of_those_with_a_place;
        while self.counts.of_those_with_a_place == before {
            self.let_go_on(true);
            let holds_place = |sender: &Player| {
                self.ledger
                    .row(sender.id)
                    .holds_place()
                    .load(Ordering::SeqCst)
                    != 0
            };
            if let Some(victim) = self.senders.iter().position(holds_place) {
                self.receiver.child.stop();
                self.receiver.stopped_until = Some(Instant::now());
                self.kill_this_sender(victim);
                let successor = self.ledger.row(self.begun - 1);
                wait_until("the successor joins", || {
                    successor.attempted().load(Ordering::SeqCst) > 0
                });
            }
        }
        self.let_go_on(true);
    }

    /// Everybody leaves; the receiver has drained the ring. The ring, the counts, and how many senders there were.
    pub(crate) fn end(mut self) -> (RingName, Counts, u64) {
        // Nobody dies after it, which would make up for a claim that was left open.
        self.kill_claimant();
        let noted = self.ledger.noted();
        wait_until("messages arrive", || {
            self.ledger.noted() >= noted + 8 * CAPACITY
        });
        self.ledger.finish().store(1, Ordering::SeqCst);
        for sender in self.senders {
            sender.child.finish();
        }
        self.receiver.child.finish();
        (self.name, self.counts, self.begun)
    }
}
