//! Those who go on: all of the other side and, where there may be several senders, one on the victim's own.

use crate::victim::{RECEIVED, SENT};
use ipc_ring::{
    Builder, OpenError, Participant, Peer, Receiver, RecvError, RecvTimeoutError, Role, SendError,
    SendTimeoutError, Sender, State, TryRecvError, TrySendError, remove,
};
use ipc_ring_tests::{AnyKind, Child, RingName, Stage, program, traces};
use std::fs;
use std::process;
use std::thread;
use std::time::Duration;

const CAPACITY: u64 = 8;
const LAPS: u64 = 3;
/// Who lives is looked at for so many slices of sleep, at the end of each of which the kernel is asked.
const LOOKS: u64 = 2;
const WHILE: Duration = Duration::from_millis(150);
/// Sleeps until a death is told for sure. The kernel is asked after the first one; who got past a claim of the dead has asked
/// already, and asks again a slice later.
const FEW: u64 = 2;
/// The numbers of a second sender begin here.
const OTHERS: u64 = 1_000_000;

/// A ring with room for the victim and, if it may have another of its role, for that one.
pub(crate) fn ring<K: AnyKind>(name: &str) -> Builder<u64, K> {
    K::ring_for(name, K::SENDERS).capacity(CAPACITY as usize)
}

fn path(name: &str) -> String {
    format!("/dev/shm/ipc-ring.{name}")
}

/// What they see and do. The victim is known by its pid.
pub(crate) trait Survivors {
    /// Takes note that the victim has gone on by a message.
    fn one_more(&mut self);

    /// Exchanges some messages with a victim that goes on and on.
    fn exchange(&mut self);

    /// They may look as often as they want: it lives, and its place is taken.
    fn see_it_alive(&mut self, pid: u32);

    /// They are told that it left.
    fn see_it_leave(&mut self);

    /// They wait until they are told of its death, while they work, and then nothing comes of it any more.
    fn hear_of_its_death(&mut self, pid: u32);

    /// It is dead. They are told so as soon as they ask.
    fn are_told(&mut self, pid: u32) {
        let before = self.sleeps();
        self.hear_of_its_death(pid);
        let slept = self.sleeps() - before;
        assert!(slept <= FEW, "told after {slept} sleeps");
    }

    /// How often they have slept.
    fn sleeps(&self) -> u64;

    /// Somebody takes the victim's place, all goes on for some laps, and in the end nothing is left.
    fn go_on(self: Box<Self>);
}

/// Of whoever will join the ring as `victim`.
pub(crate) fn survivors_of<K: AnyKind>(victim: Role, name: &str) -> Box<dyn Survivors> {
    match victim {
        Role::Sender => Box::new(OfSender::<K>::new(name)),
        _ => Box::new(OfReceiver::<K>::new(name)),
    }
}

/// A world with a victim to come.
pub(crate) struct Scene<'a> {
    stage: &'a Stage,
    kind: &'static str,
    victim: Role,
    pub(crate) ring: RingName,
    pub(crate) survivors: Box<dyn Survivors>,
}

impl Scene<'_> {
    /// Starts the victim: who plays it joins the ring, and says so.
    pub(crate) fn start(&self, plays: &str, more: &[&str]) -> Child {
        let mut arguments = arguments(self.kind, &self.ring, self.victim);
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let mut child = self.stage.start(plays, &arguments);
        assert_eq!(child.hear(), "ready");
        child
    }

    /// Has the victim go on by a message.
    pub(crate) fn let_go_on(&mut self, victim: &mut Child) {
        victim.say("go on");
        assert_eq!(victim.hear(), "one more");
        self.survivors.one_more();
    }

    /// Kills the victim: the survivors are told so, and go on.
    pub(crate) fn kill(mut self, victim: &mut Child) {
        victim.kill_now();
        self.survivors.are_told(victim.id());
        self.survivors.go_on();
    }
}

/// What everybody needs to know.
pub(crate) fn arguments(kind: &str, ring: &str, victim: Role) -> Vec<String> {
    vec![kind.to_owned(), ring.to_owned(), victim.to_string()]
}

/// Who may die.
pub(crate) const ROLES: [Role; 2] = [Role::Sender, Role::Receiver];

/// A world for each role that may die. The survivors are in this process.
pub(crate) fn scenes<K: AnyKind>(stage: &Stage) -> impl Iterator<Item = Scene<'_>> {
    ROLES.into_iter().map(move |victim| {
        println!("{}: a {victim} dies", K::NAME);
        let ring = stage.ring();
        let survivors = survivors_of::<K>(victim, &ring);
        Scene {
            stage,
            kind: K::NAME,
            victim,
            ring,
            survivors,
        }
    })
}

/// The receiver, and a second sender if there may be one.
struct OfSender<K: AnyKind> {
    name: String,
    rx: Receiver<u64, K>,
    other: Option<Sender<u64, K>>,
    /// How many the other sender has sent.
    others: u64,
    received: Vec<u64>,
    /// How many the victim has sent, if that is known.
    sent: Option<u64>,
}

impl<K: AnyKind> OfSender<K> {
    fn new(name: &str) -> Self {
        let rx = ring(name).receiver().unwrap();
        let other = (K::SENDERS > 1).then(|| ring(name).sender().unwrap());
        Self {
            name: name.to_owned(),
            rx,
            other,
            others: 0,
            received: Vec::new(),
            sent: Some(SENT),
        }
    }

    /// In `mpsc`, behind what the victim has begun with, which may have filled the ring.
    fn other_sends(&mut self) {
        let Some(other) = &mut self.other else {
            return;
        };
        let number = OTHERS + self.others;
        while let Err(error) = other.try_send(number) {
            assert_eq!(error, TrySendError::Full(number));
            self.received.push(self.rx.recv().unwrap());
        }
        self.others += 1;
    }

    fn number_of_others(&self) -> usize {
        1 + usize::from(self.other.is_some())
    }

    fn check_messages_of_victim(&self) {
        let of_victim = self.received.iter().filter(|&&number| number < OTHERS);
        let count = of_victim.clone().count() as u64;
        assert!(of_victim.copied().eq(0..count), "{:?}", self.received);
        assert!(self.sent.is_none_or(|sent| sent == count), "{count}");
    }

    fn check_messages_of_other(&self) {
        let of_other = self.received.iter().filter(|&&number| number >= OTHERS);
        let all = OTHERS..OTHERS + self.others;
        assert!(of_other.copied().eq(all), "{:?}", self.received);
    }
}

impl<K: AnyKind> Survivors for OfSender<K> {
    fn one_more(&mut self) {
        *self.sent.as_mut().unwrap() += 1;
    }

    fn exchange(&mut self) {
        self.sent = None;
        for _ in 0..1_000 {
            self.received.push(self.rx.recv().unwrap());
        }
    }

    fn see_it_alive(&mut self, pid: u32) {
        self.other_sends();
        let before = self.sleeps();
        while self.sleeps() < before + LOOKS {
            match self.rx.recv_timeout(WHILE) {
                Ok(number) => self.received.push(number),
                Err(error) => assert_eq!(error, RecvTimeoutError::Timeout),
            }
        }
        self.check_messages_of_victim();
        let victim = check_states(self.rx.participants(), K::SENDERS - 1, State::Alive);
        assert_eq!((victim.pid, victim.program), (pid, program()));
        match ring::<K>(&self.name).sender() {
            Err(OpenError::RoleTaken { pid: holder, .. }) => assert_eq!(holder, pid),
            Err(OpenError::TooManySenders { most }) => assert_eq!(most, K::SENDERS),
            other => panic!("{other:?}"),
        }
        check_traces(&self.name, self.number_of_others(), 1);
    }

    fn see_it_leave(&mut self) {
        self.other_sends();
        let ending = loop {
            match self.rx.recv_timeout(WHILE) {
                Ok(number) => self.received.push(number),
                Err(error) => break error,
            }
        };
        let expected = match self.other {
            None => RecvTimeoutError::Closed,
            Some(_) => RecvTimeoutError::Timeout,
        };
        assert_eq!(ending, expected);
        self.check_messages_of_victim();
        self.check_messages_of_other();
        check_states(self.rx.participants(), K::SENDERS - 1, State::Left);
        wait_for_locks(&self.name, self.number_of_others());
        check_traces(&self.name, self.number_of_others(), 0);
    }

    fn hear_of_its_death(&mut self, pid: u32) {
        self.other_sends();
        let died = loop {
            match self.rx.recv() {
                Ok(number) => self.received.push(number),
                Err(RecvError::SenderDied { pid, program }) => break (pid, program),
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(died, (pid, program()));
        self.check_messages_of_victim();
        self.check_messages_of_other();
        // Told once, and nothing comes any more.
        let again = self.rx.recv_timeout(Duration::ZERO);
        assert_eq!(again, Err(RecvTimeoutError::Timeout));
        check_states(self.rx.participants(), K::SENDERS - 1, State::Died);
        check_traces(&self.name, self.number_of_others(), 0);
    }

    fn sleeps(&self) -> u64 {
        sleeps(self.rx.participants(), Role::Receiver)
    }

    fn go_on(mut self: Box<Self>) {
        let successor = ring::<K>(&self.name).sender().unwrap();
        let place = check_states(self.rx.participants(), K::SENDERS - 1, State::Alive);
        assert_eq!(place.pid, process::id());
        for tx in [Some(successor), self.other.take()].iter_mut().flatten() {
            run_laps(tx, &mut self.rx);
        }
        assert_eq!(self.rx.recv(), Err(RecvError::Closed));
        drop(self.rx);
        leave_nothing(&self.name);
    }
}

/// All senders, and what each is to send next.
struct OfReceiver<K: AnyKind> {
    name: String,
    senders: Vec<(Sender<u64, K>, u64)>,
    /// How many the victim has received, if that is known; they were the first sender's.
    received: Option<u64>,
}

impl<K: AnyKind> OfReceiver<K> {
    fn new(name: &str) -> Self {
        let first = (0..K::SENDERS).map(|sender| u64::from(sender) * OTHERS);
        let mut senders: Vec<_> = first
            .map(|first| (ring(name).sender().unwrap(), first))
            .collect();
        let (tx, next) = &mut senders[0];
        for _ in 0..CAPACITY - 2 {
            tx.send(*next).unwrap();
            *next += 1;
        }
        Self {
            name: name.to_owned(),
            senders,
            received: Some(RECEIVED),
        }
    }

    fn participants(&self) -> Vec<Participant> {
        self.senders[0].0.participants()
    }

    fn fill(&mut self) {
        for (tx, next) in &mut self.senders {
            let full = loop {
                match tx.try_send(*next) {
                    Ok(()) => *next += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(full, TrySendError::Full(*next));
        }
    }
}

impl<K: AnyKind> Survivors for OfReceiver<K> {
    fn one_more(&mut self) {
        *self.received.as_mut().unwrap() += 1;
    }

    fn exchange(&mut self) {
        self.received = None;
        for _ in 0..1_000 {
            for (tx, next) in &mut self.senders {
                tx.send(*next).unwrap();
                *next += 1;
            }
        }
    }

    fn see_it_alive(&mut self, pid: u32) {
        self.fill();
        let before = self.sleeps();
        let enough = before + LOOKS * self.senders.len() as u64;
        while self.sleeps() < enough {
            for (tx, next) in &mut self.senders {
                let full = tx.send_timeout(*next, WHILE);
                assert_eq!(full, Err(SendTimeoutError::Timeout(*next)));
                let program = program();
                assert_eq!(tx.peer(), Peer::Alive { pid, program });
            }
        }
        check_states(self.participants(), K::SENDERS, State::Alive);
        let taken = ring::<K>(&self.name).receiver();
        assert!(
            matches!(taken, Err(OpenError::RoleTaken { pid: holder, .. }) if holder == pid),
            "{taken:?}"
        );
        check_traces(&self.name, self.senders.len(), 1);
    }

    fn see_it_leave(&mut self) {
        for (tx, next) in &mut self.senders {
            assert_eq!(tx.send(*next), Err(SendError::Closed(*next)));
            assert_eq!(tx.peer(), Peer::Left);
        }
        check_states(self.participants(), K::SENDERS, State::Left);
        wait_for_locks(&self.name, self.senders.len());
        check_traces(&self.name, self.senders.len(), 0);
    }

    fn hear_of_its_death(&mut self, pid: u32) {
        for (tx, next) in &mut self.senders {
            let died = loop {
                match tx.send(*next) {
                    Ok(()) => *next += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(died, SendError::ReceiverDied(*next));
            let program = program();
            assert_eq!(tx.peer(), Peer::Died { pid, program });
        }
        check_states(self.participants(), K::SENDERS, State::Died);
        check_traces(&self.name, self.senders.len(), 0);
    }

    fn sleeps(&self) -> u64 {
        sleeps(self.participants(), Role::Sender)
    }

    fn go_on(mut self: Box<Self>) {
        let mut rx = ring::<K>(&self.name).receiver().unwrap();
        let place = check_states(rx.participants(), K::SENDERS, State::Alive);
        assert_eq!(place.pid, process::id());
        let rest: Vec<_> = rx.try_iter().collect();
        for (sender, &(_, next)) in (0..).zip(&self.senders) {
            let of_it = rest.iter().filter(|&&number| number / OTHERS == sender);
            let first = next - of_it.clone().count() as u64;
            assert!(of_it.copied().eq(first..next), "{rest:?}");
            if let Some(received) = self.received {
                let received = if sender == 0 { received } else { 0 };
                assert_eq!(first, sender * OTHERS + received);
            }
        }
        for (tx, _) in &mut self.senders {
            run_laps(tx, &mut rx);
        }
        drop(rx);
        for (tx, _) in &mut self.senders {
            assert_eq!(tx.send(0), Err(SendError::Closed(0)));
        }
        drop(self.senders);
        leave_nothing(&self.name);
    }
}

/// Fills an empty ring and empties it, some times.
fn run_laps<K: AnyKind>(tx: &mut Sender<u64, K>, rx: &mut Receiver<u64, K>) {
    for _ in 0..LAPS {
        (0..CAPACITY).for_each(|number| tx.try_send(number).unwrap());
        assert_eq!(tx.try_send(0), Err(TrySendError::Full(0)));
        (0..CAPACITY).for_each(|number| assert_eq!(rx.recv(), Ok(number)));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    }
}

/// Checks that the place of the victim is in `state` and that all others live. Hands out the victim, or who has its place.
fn check_states(all: Vec<Participant>, victim: u32, state: State) -> Participant {
    for who in &all {
        let expected = if who.index == victim {
            state
        } else {
            State::Alive
        };
        assert_eq!(who.state, expected, "{who:?}");
    }
    let victim = all.into_iter().find(|who| who.index == victim);
    victim.expect("it has joined")
}

/// Checks what this process has of the ring, by handle, and that nobody but they and `victims` hold a lock.
fn check_traces(name: &str, handles: usize, victims: usize) {
    let expected = traces::Held {
        descriptors: handles,
        mappings: handles,
    };
    assert_eq!(traces::held("self", &path(name)), expected);
    assert_eq!(traces::locks(&path(name)), handles + victims);
}

/// Waits until who has left has let go of its lock, which it does after saying that it leaves.
fn wait_for_locks(name: &str, expected: usize) {
    while traces::locks(&path(name)) > expected {
        thread::yield_now();
    }
}

/// Checks that nobody uses the ring, and that it can be removed.
fn leave_nothing(name: &str) {
    check_traces(name, 0, 0);
    remove(name).unwrap();
    assert!(fs::symlink_metadata(path(name)).is_err());
}

fn sleeps(participants: Vec<Participant>, of: Role) -> u64 {
    let of_role = participants.iter().filter(|who| who.role == of);
    of_role.map(|who| who.counters.sleeps).sum()
}
