//! Processes are killed at random moments, hundreds of times, and others go on where they ended.

use ipc_ring::{Builder, Peer, RecvError, TrySendError, spsc};
use ipc_ring_tests::{Child, Parent, Random, Stage, stage};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// A process is killed at some moment of this time after it began.
const LIFE: Duration = Duration::from_millis(3);

/// Message number n.
fn message(number: u64) -> [u64; 7] {
    std::array::from_fn(|i| number.wrapping_mul(i as u64 + 1))
}

fn number(message: &[u64; 7]) -> u64 {
    let number = message[0];
    assert_eq!(*message, self::message(number), "torn");
    number
}

fn ring(name: &str) -> Builder<[u64; 7]> {
    spsc(name).capacity(64)
}

/// What a process notes is noted, whatever becomes of the process.
fn note(file: &File, number: u64) {
    file.write_all_at(&number.to_le_bytes(), 0).unwrap();
}

fn noted(file: &Path) -> Option<u64> {
    let bytes = fs::read(file).unwrap();
    bytes.try_into().ok().map(u64::from_le_bytes)
}

/// Sends numbers without end, and notes the first one that is not certainly sent.
/// Arguments: ring, first number, notes.
fn sends(parent: &mut Parent) {
    let notes = File::options()
        .write(true)
        .open(parent.argument(2))
        .unwrap();
    let mut tx = ring(parent.argument(0)).sender().unwrap();
    parent.tell("begins");
    for number in parent.number(1).. {
        match number % 3 {
            0 => tx.send(message(number)).unwrap(),
            1 => tx.reserve().unwrap().write(message(number)).publish(),
            _ => tx.send_slice(&[message(number)]).unwrap(),
        }
        note(&notes, number + 1);
    }
}

#[test]
fn a_killed_sender_loses_at_most_the_message_it_was_sending() {
    let stage = stage!(sends);
    let name = stage.ring();
    let mut random = Random::default();
    let mut rx = ring(&name).receiver().unwrap();
    let mut next = 0;
    for round in 0..300 {
        let notes = NamedTempFile::new().unwrap();
        let mut sender = stage.start(
            "sends",
            &[&name, &next.to_string(), notes.path().to_str().unwrap()],
        );
        assert_eq!(sender.hear(), "begins");
        let end = Instant::now() + random.time(LIFE);
        while Instant::now() < end {
            if let Ok(message) = rx.try_recv() {
                assert_eq!(number(&message), next);
                next += 1;
            }
        }
        let pid = sender.id();
        sender.kill();
        let died = loop {
            if round % 10 != 0 && rx.is_empty() {
                // Spares us the slice of sleep after which a receiver asks by itself.
                assert!(matches!(rx.peer(), Peer::Died { .. }));
            }
            match rx.recv() {
                Ok(message) => {
                    assert_eq!(number(&message), next);
                    next += 1;
                }
                Err(RecvError::SenderDied { pid, .. }) => break pid,
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(died, pid);
        let sent = noted(notes.path()).unwrap_or(0);
        assert!(
            sent <= next,
            "a message was lost whose call had returned: {sent}, received {next}"
        );
    }
}

/// Receives numbers without end, by `recv`, and notes the last one.
/// Arguments: ring, notes, how many have died since the last note.
fn receives(parent: &mut Parent) {
    let (mut last, notes) = predecessor(parent);
    let mut dead: u64 = parent.number(2);
    let mut rx = ring(parent.argument(0)).receiver().unwrap();
    parent.tell("begins");
    loop {
        let number = number(&rx.recv().unwrap());
        // At most once: what a predecessor had received and not noted, one message each, is gone, and none comes again.
        let first = last.map_or(0, |last| last + 1);
        assert!(
            (first..=first + dead).contains(&number),
            "{number} after {last:?}, {dead} died"
        );
        note(&notes, number);
        (last, dead) = (Some(number), 0);
    }
}

/// Likewise by `peek` and `consume`, noting in between.
fn peeks(parent: &mut Parent) {
    let (mut last, notes) = predecessor(parent);
    let mut bygone = true;
    let mut rx = ring(parent.argument(0)).receiver().unwrap();
    parent.tell("begins");
    loop {
        let number = number(&rx.peek_copied().unwrap());
        // At least once: the one that a predecessor had noted and not consumed comes again.
        let again = bygone && last == Some(number);
        assert!(
            again || number == last.map_or(0, |last| last + 1),
            "{number} after {last:?}"
        );
        note(&notes, number);
        assert!(rx.consume());
        (last, bygone) = (Some(number), false);
    }
}

/// The number that was noted last; the notes.
fn predecessor(parent: &Parent) -> (Option<u64>, File) {
    let path = parent.argument(1);
    (
        noted(path.as_ref()),
        File::options().write(true).open(path).unwrap(),
    )
}

/// Kills so many receivers one after the other, while it sends.
fn kill_receivers(stage: &Stage, role: &str, rounds: usize) {
    let name = stage.ring();
    let notes = NamedTempFile::new().unwrap();
    let mut random = Random::default();
    let mut tx = ring(&name).sender().unwrap();
    let (mut next, mut dead) = (0, 0);
    for _ in 0..rounds {
        let before = noted(notes.path());
        let arguments = [&name, notes.path().to_str().unwrap(), &dead.to_string()];
        let mut receiver: Child = stage.start(role, &arguments);
        assert_eq!(receiver.hear(), "begins");
        let end = Instant::now() + random.time(LIFE);
        while Instant::now() < end {
            match tx.try_send(message(next)) {
                Ok(()) => next += 1,
                Err(TrySendError::Full(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        receiver.kill();
        dead = if noted(notes.path()) == before {
            dead + 1
        } else {
            1
        };
    }
    let last = noted(notes.path()).expect("somebody lived long enough to receive something");
    // The last one sees to the rest.
    let mut rx = ring(&name).receiver().unwrap();
    let rest: Vec<u64> = rx.drain().map(|message| number(&message)).collect();
    let taken = next - rest.len() as u64;
    assert!(rest.iter().copied().eq(taken..next), "{rest:?} of {next}");
    assert!(
        taken <= last + 1 + dead,
        "{rest:?} of {next} after {last}, {dead} died"
    );
}

#[test]
fn messages_of_a_killed_receiver_arrive_at_most_once_and_only_one_is_lost() {
    kill_receivers(&stage!(receives), "receives", 150);
}

#[test]
fn messages_peeked_by_a_killed_receiver_arrive_at_least_once_and_none_is_lost() {
    kill_receivers(&stage!(peeks), "peeks", 150);
}

/// Sends one message and leaves, without end.
/// Arguments: ring.
fn comes_and_goes(parent: &mut Parent) {
    parent.tell("begins");
    loop {
        let mut tx = spsc::<u64>(parent.argument(0))
            .capacity(1024)
            .remove_when_idle()
            .sender()
            .unwrap();
        tx.try_send(1).unwrap();
    }
}

#[test]
fn a_process_killed_while_it_creates_joins_leaves_or_removes_is_in_nobodys_way() {
    let stage = stage!(comes_and_goes);
    let name = stage.ring();
    let mut random = Random::default();
    for _ in 0..150 {
        let mut child = stage.start("comes_and_goes", &[&name]);
        assert_eq!(child.hear(), "begins");
        random.pause(LIFE);
        child.kill();
        let builder = || spsc::<u64>(&name).capacity(1024).remove_when_idle();
        let mut tx = builder().sender().unwrap();
        let mut rx = builder().receiver().unwrap();
        tx.send(2).unwrap();
        let messages: Vec<u64> = rx.drain().collect();
        assert!(matches!(messages[..], [2] | [1, 2]), "{messages:?}");
        drop((tx, rx));
        assert!(!name.exists(), "the last one removes it");
    }
}
