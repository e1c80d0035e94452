//! Who is killed, stopped and replaced.

use crate::CAPACITY;
use crate::ledger::{Doing, Ledger};
use crate::oracle::{Death, Way};
use crate::tally::Tally;
use ipc_ring_tests::traces::Traces;
use ipc_ring_tests::{Fork, Nursery, Random};
use std::hint;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// Nothing takes so long.
const LONG: Duration = Duration::from_secs(20);
/// The next misfortune comes within this time.
const LULL: Duration = Duration::from_millis(10);
/// Nobody is stopped for longer, at a time.
const STOP: Duration = Duration::from_millis(30);
/// Who has only just come into being has joined by then, mostly.
const YOUTH: Duration = Duration::from_micros(200);
/// Leaving takes about so long.
const FAREWELL: Duration = Duration::from_micros(10);
/// So often, nobody is struck until everybody has come on.
const KILLS_BETWEEN_CALMS: u64 = 100;

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain until {what}");
        thread::sleep(Duration::from_micros(200));
    }
}

/// A process of the storm.
struct Player {
    fork: Fork,
    life: u64,
    way: Way,
    stopped_until: Option<Instant>,
}

pub(crate) struct Storm<'a> {
    nursery: &'a mut Nursery,
    kind: &'static str,
    name: &'a str,
    ledger: &'a Ledger,
    path: &'a str,
    deaths: &'a Mutex<Vec<Death>>,
    random: Random,
    /// The senders, and the receiver behind them.
    players: Vec<Player>,
    /// One of them to whom nothing happens, and what it had when that began.
    spared: Option<(usize, Traces)>,
    lives: u64,
    calm_at: u64,
    pub(crate) tally: Tally,
}

impl<'a> Storm<'a> {
    pub(crate) fn new(
        nursery: &'a mut Nursery,
        (kind, name, senders): (&'static str, &'a str, u32),
        (path, ledger): (&'a str, &'a Ledger),
        deaths: &'a Mutex<Vec<Death>>,
        seed: u64,
    ) -> Self {
        let mut storm = Self {
            nursery,
            kind,
            name,
            ledger,
            path,
            deaths,
            random: Random::of_seed(seed),
            players: Vec::new(),
            spared: None,
            lives: 0,
            calm_at: 0,
            tally: Tally::default(),
        };
        let receiver = storm.start_receiver();
        for _ in 0..senders {
            let sender = storm.start_sender();
            storm.players.push(sender);
        }
        storm.players.push(receiver);
        storm
    }

    fn receiver(&self) -> usize {
        self.players.len() - 1
    }

    fn start_receiver(&mut self) -> Player {
        let way = match self.random.below(2) {
            0 => Way::Takes,
            _ => Way::Peeks,
        };
        let seed = self.random.below(1 << 32).to_string();
        self.start("receives", way, &[&format!("{way:?}"), &seed])
    }

    fn start_sender(&mut self) -> Player {
        self.start("sends", Way::Takes, &[])
    }

    fn start(&mut self, role: &str, way: Way, more: &[&str]) -> Player {
        let life = self.lives;
        self.lives += 1;
        let life_argument = life.to_string();
        let arguments = [self.kind, self.name, self.path, &life_argument];
        Player {
            fork: self.nursery.start(role, &[&arguments, more].concat()),
            life,
            way,
            stopped_until: None,
        }
    }

    fn replace(&mut self, seat: usize) {
        let successor = if seat == self.receiver() {
            self.start_receiver()
        } else {
            self.start_sender()
        };
        self.players[seat] = successor;
    }

    fn doing(&self, seat: usize) -> Doing {
        self.ledger.row(self.players[seat].life).doing()
    }

    /// Lets those go on whose time has come, or everybody.
    fn let_go_on(&mut self, everybody: bool) {
        for player in &mut self.players {
            let is_time = |until| everybody || until <= Instant::now();
            if player.stopped_until.is_some_and(is_time) {
                player.fork.go_on();
                player.stopped_until = None;
            }
        }
    }

    pub(crate) fn strike(&mut self) {
        if self.random.below(4) > 0 {
            thread::sleep(self.random.time(LULL));
        }
        self.let_go_on(false);
        match self.random.below(100) {
            0..45 => {
                let victims = self.victims();
                self.kill(&victims);
            }
            45..60 => self.kill_young(),
            60..82 => self.stop(),
            82..95 => self.kill_leaver(),
            _ => self.leave(),
        }
        if self.tally.kills() >= self.calm_at {
            self.calm();
        }
    }

    fn is_spared(&self, seat: usize) -> bool {
        self.spared
            .as_ref()
            .is_some_and(|(spared, _)| *spared == seat)
    }

    fn victim(&mut self) -> usize {
        let receiver = self.receiver();
        let senders = receiver as u64;
        loop {
            let victim = match self.random.below(3) {
                0 => receiver,
                _ => self.random.below(senders) as usize,
            };
            if !self.is_spared(victim) {
                return victim;
            }
        }
    }

    /// One, or several of them.
    fn victims(&mut self) -> Vec<usize> {
        let one = self.victim();
        if self.random.below(2) == 0 {
            return vec![one];
        }
        let all = 0..self.players.len();
        all.filter(|&seat| seat == one || (!self.is_spared(seat) && self.random.below(2) == 0))
            .collect()
    }

    /// Kills those at once. Their successors come when all of them are gone.
    fn kill(&mut self, seats: &[usize]) {
        let slept: Vec<_> = seats
            .iter()
            .map(|&seat| {
                let fork = &self.players[seat].fork;
                let sleeps = fork.state() == 'S';
                fork.kill();
                sleeps
            })
            .collect();
        for (&seat, slept) in seats.iter().zip(slept) {
            self.bury(seat, slept);
        }
        for &seat in seats {
            self.replace(seat);
        }
    }

    /// Kills one, and its successors before they have done much.
    fn kill_young(&mut self) {
        let victim = self.victim();
        self.kill(&[victim]);
        for _ in 0..self.random.below(5) {
            self.random.pause(YOUTH);
            self.kill(&[victim]);
        }
    }

    /// Waits until this one is gone, which has been killed.
    fn bury(&mut self, seat: usize, slept: bool) {
        let is_receiver = seat == self.receiver();
        let victim = &mut self.players[seat];
        if victim.fork.bury() {
            self.tally.left += 1;
            return;
        }
        let doing = self.ledger.row(victim.life).doing();
        let killed = match is_receiver {
            true => &mut self.tally.receivers,
            false => &mut self.tally.senders,
        };
        killed.count(doing, slept, victim.stopped_until.is_some());
        // Nobody else may have lost a message, or leave one to come again.
        if is_receiver && matches!(doing, Doing::Calling | Doing::Holding) {
            self.deaths.lock().unwrap().push(Death {
                at: self.ledger.noted(),
                way: victim.way,
                is_used: false,
            });
        }
    }

    fn stop(&mut self) {
        let victim = self.victim();
        let until = Instant::now() + self.random.time(STOP);
        let victim = &mut self.players[victim];
        if victim.stopped_until.replace(until).is_none() {
            victim.fork.stop();
            self.tally.stopped += 1;
        }
    }

    fn tell_to_leave(&mut self, seat: usize) {
        // Who leaves may have to wait for room, or for a message.
        self.let_go_on(true);
        if seat != self.receiver() {
            self.ledger.leavers().fetch_add(1, Ordering::SeqCst);
        }
        let row = self.ledger.row(self.players[seat].life);
        row.is_to_leave().store(1, Ordering::SeqCst);
    }

    fn leave(&mut self) {
        let leaver = self.victim();
        self.tell_to_leave(leaver);
        self.players[leaver].fork.finish();
        self.tally.left += 1;
        self.replace(leaver);
    }

    fn kill_leaver(&mut self) {
        let leaver = self.victim();
        self.tell_to_leave(leaver);
        let until = Instant::now() + LULL;
        while self.doing(leaver) < Doing::Leaving && Instant::now() < until {
            hint::spin_loop();
        }
        let until = Instant::now() + self.random.time(FAREWELL);
        while Instant::now() < until {
            hint::spin_loop();
        }
        // At once: it is not asked whether it sleeps.
        self.players[leaver].fork.kill();
        self.bury(leaver, false);
        self.replace(leaver);
    }

    /// Strikes nobody until everybody has come on: a kill must not be what somebody needs that hangs.
    fn calm(&mut self) {
        self.let_go_on(true);
        let begun = Instant::now();
        let noted = self.ledger.noted();
        let rows = self
            .players
            .iter()
            .map(|player| self.ledger.row(player.life));
        let senders: Vec<_> = rows
            .take(self.receiver())
            .map(|row| (row.returned().load(Ordering::SeqCst), row))
            .collect();
        wait_until("everybody comes on while nobody is struck", || {
            self.ledger.noted() >= noted + CAPACITY
                && senders
                    .iter()
                    .all(|(before, row)| row.returned().load(Ordering::SeqCst) > *before)
        });
        self.tally.calm = self.tally.calm.max(begun.elapsed());
        self.calm_at = self.tally.kills() + KILLS_BETWEEN_CALMS;
    }

    /// From now on, nothing happens to this one. Who was spared before has no more than it had then.
    pub(crate) fn spare(&mut self, seat: Option<usize>) {
        if let Some((seat, had)) = self.spared.take() {
            let has = self.traces_of(seat);
            assert_eq!(has, had, "left in who lived through it (right: before)");
        }
        self.spared = seat.map(|seat| (seat, self.traces_of(seat)));
    }

    /// What this one has, but for a moment: who waits for the first time reads how many cores there are.
    fn traces_of(&mut self, seat: usize) -> Traces {
        let pid = self.players[seat].fork.id();
        let until = Instant::now() + LONG;
        loop {
            self.calm();
            let has = Traces::of_process(pid, self.name);
            self.calm();
            if Traces::of_process(pid, self.name) == has {
                return has;
            }
            assert!(Instant::now() < until, "it has more and more: {has:?}");
        }
    }

    /// Kills one sender while it holds a place, and leaves it to its successor to settle that: the receiver stands still
    /// meanwhile.
    fn kill_claimant(&mut self) {
        let before = self.tally.senders.while_doing(Doing::Holding);
        let receiver = self.receiver();
        while self.tally.senders.while_doing(Doing::Holding) == before {
            self.let_go_on(true);
            let holds_place =
                |&seat: &usize| !self.is_spared(seat) && self.doing(seat) == Doing::Holding;
            if let Some(victim) = (0..receiver).find(holds_place) {
                self.players[receiver].fork.stop();
                self.players[receiver].stopped_until = Some(Instant::now());
                self.kill(&[victim]);
                let successor = self.ledger.row(self.players[victim].life);
                wait_until("the successor joins", || {
                    successor.attempted().load(Ordering::SeqCst) > 0
                });
            }
        }
        self.let_go_on(true);
    }

    /// Everybody leaves; the receiver has drained the ring. What happened, and how many took part.
    pub(crate) fn end(mut self) -> (Tally, u64) {
        // Nobody dies after it, which would make up for a claim that was left open.
        self.kill_claimant();
        let noted = self.ledger.noted();
        wait_until("messages arrive", || {
            self.ledger.noted() >= noted + 8 * CAPACITY
        });
        self.spare(None);
        self.ledger.finish().store(1, Ordering::SeqCst);
        for player in &mut self.players {
            player.fork.finish();
        }
        (self.tally, self.lives)
    }
}
