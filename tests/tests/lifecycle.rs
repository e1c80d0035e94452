//! Many processes create, join, leave and remove the same rings at the same time.

use ipc_ring::{Builder, OpenError, RemoveError, remove, spsc};
use ipc_ring_tests::{Child, Parent, Random, RingName, Stage, stage};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

const PROCESSES: usize = 64;
const RINGS: usize = 6;
/// Of each process.
const ROUNDS: usize = 60;
/// A machine that is busy otherwise gets through fewer.
const TIME: Duration = Duration::from_secs(10);

/// Checks that what this process has mapped is what others find under the name.
fn is_the_named_one(ring: &str) {
    let path = format!("/dev/shm/ipc-ring.{ring}");
    let named = fs::metadata(&path).map(|file| file.ino());
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps
        .lines()
        .find(|line| line.contains(&path))
        .expect("the ring is mapped");
    let mapped: Option<u64> = mapped
        .split_ascii_whitespace()
        .nth(4)
        .and_then(|inode| inode.parse().ok());
    assert!(
        !maps.contains("(deleted)") && named.as_ref().ok() == mapped.as_ref(),
        "nameless: {named:?}\n{maps}"
    );
}

/// Joins rings, leaves and removes them again, at random.
/// Arguments: whether the last one to leave removes, rings.
fn races(parent: &mut Parent) {
    let when_idle = parent.argument(0) == "idle";
    let rings: Vec<String> = (1..=RINGS).map(|i| parent.argument(i).to_owned()).collect();
    let builder = |ring: &str| -> Builder<u64> {
        let builder = spsc(ring).capacity(16);
        if when_idle {
            builder.remove_when_idle()
        } else {
            builder
        }
    };
    let mut random = Random::default();
    parent.tell("ready");
    parent.hear();
    let end = Instant::now() + TIME;
    let mut rounds = 0;
    while rounds < ROUNDS && Instant::now() < end {
        let ring = &rings[random.below(RINGS as u64) as usize];
        let taken = if random.below(2) == 0 {
            builder(ring).sender().map(|mut tx| {
                is_the_named_one(ring);
                // Full, or closed by a receiver that left: all is well.
                let _ = tx.try_send(7);
                is_the_named_one(ring);
            })
        } else {
            builder(ring).receiver().map(|mut rx| {
                is_the_named_one(ring);
                assert!(rx.drain().all(|message| message == 7));
                is_the_named_one(ring);
            })
        };
        match taken {
            Ok(()) => rounds += 1,
            Err(OpenError::RoleTaken { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        if !when_idle && random.below(2) == 0 {
            match remove(ring) {
                Ok(()) | Err(RemoveError::InUse { .. } | RemoveError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    parent.tell(rounds);
}

fn race(stage: &Stage, removal: &str) -> Vec<RingName> {
    let rings: Vec<RingName> = (0..RINGS).map(|_| stage.ring()).collect();
    let arguments: Vec<&str> = [removal]
        .into_iter()
        .chain(rings.iter().map(|ring| &**ring))
        .collect();
    let mut children: Vec<Child> = (0..PROCESSES)
        .map(|_| stage.start("races", &arguments))
        .collect();
    for child in &mut children {
        assert_eq!(child.hear(), "ready");
    }
    for child in &mut children {
        child.say("go");
    }
    let rounds: usize = children
        .iter_mut()
        .map(|child| child.hear().parse::<usize>().unwrap())
        .sum();
    for child in children {
        child.finish();
    }
    assert!(rounds >= 2_000, "that was no race: {rounds} rounds");
    rings
}

#[test]
fn of_64_processes_racing_to_create_open_and_remove_none_fails_or_gets_a_nameless_ring() {
    race(&stage!(races), "remove");
}

#[test]
fn of_64_processes_racing_to_come_first_and_leave_last_the_last_one_removes_the_ring() {
    for ring in race(&stage!(races), "idle") {
        assert!(!ring.exists(), "nobody removed it");
    }
}

/// Opens and drops the receiver's handle, again and again.
/// Arguments: ring.
fn comes_and_goes(parent: &mut Parent) {
    let mut random = Random::default();
    loop {
        let rx = spsc::<u64>(parent.argument(0))
            .remove_when_idle()
            .receiver()
            .unwrap();
        parent.tell("came");
        parent.hear();
        random.pause(Duration::from_micros(50));
        drop(rx);
        parent.tell("left");
        parent.hear();
    }
}

#[test]
fn of_two_that_leave_at_the_same_time_one_removes_the_ring() {
    let stage = stage!(comes_and_goes);
    let ring = stage.ring();
    let mut random = Random::default();
    let mut child = stage.start("comes_and_goes", &[&ring]);
    for _ in 0..3_000 {
        let tx = spsc::<u64>(&ring)
            .capacity(4)
            .remove_when_idle()
            .sender()
            .unwrap();
        assert_eq!(child.hear(), "came");
        child.say("go");
        random.pause(Duration::from_micros(100));
        drop(tx);
        assert_eq!(child.hear(), "left");
        assert!(!ring.exists(), "both have left it to the other");
        child.say("again");
    }
}

/// Opens one handle, says so, and leaves when told.
/// Arguments: ring.
fn takes_part(parent: &mut Parent) {
    let mut rx = spsc::<u64>(parent.argument(0)).receiver().unwrap();
    parent.tell(rx.recv().unwrap());
    parent.hear();
}

#[test]
fn remove_when_idle_waits_for_the_last_one_and_a_death_leaves_the_ring_to_the_next() {
    let stage = stage!(takes_part);
    let ring = stage.ring();
    let sender = || {
        spsc::<u64>(&ring)
            .capacity(4)
            .remove_when_idle()
            .sender()
            .unwrap()
    };
    let mut tx = sender();
    let mut child = stage.start("takes_part", &[&ring]);
    tx.send(1).unwrap();
    assert_eq!(child.hear(), "1");
    drop(tx);
    assert!(ring.exists(), "the receiver is still there");
    child.say("leave");
    child.finish();
    assert!(!ring.exists());

    let mut tx = sender();
    let mut child = stage.start("takes_part", &[&ring]);
    tx.send_slice(&[1, 2]).unwrap();
    assert_eq!(child.hear(), "1");
    drop(tx);
    child.kill();
    assert!(ring.exists(), "the dead remove nothing");
    let mut rx = spsc::<u64>(&ring).receiver().unwrap();
    assert_eq!(rx.recv(), Ok(2), "and lose nothing");
    drop(rx);
    assert!(!ring.exists());
}

#[test]
fn a_ring_outlives_its_participants_until_it_is_removed() {
    let stage = stage!(takes_part);
    let ring = stage.ring();
    let mut tx = spsc::<u64>(&ring).capacity(4).sender().unwrap();
    tx.send(5).unwrap();
    drop(tx);
    assert!(ring.exists());
    let mut child = stage.start("takes_part", &[&ring]);
    assert_eq!(child.hear(), "5");
    assert!(matches!(remove(&ring), Err(RemoveError::InUse { .. })));
    child.say("leave");
    child.finish();
    remove(&ring).unwrap();
    assert!(!ring.exists());
}

/// Waits for the ring to exist.
/// Arguments: ring.
fn opens(parent: &mut Parent) {
    parent.tell("opening");
    let mut rx = spsc::<u64>(parent.argument(0)).receiver().unwrap();
    assert_eq!(rx.recv(), Ok(3));
}

#[test]
fn who_states_no_capacity_waits_until_somebody_creates_the_ring() {
    let stage = stage!(opens);
    let ring = stage.ring();
    let mut child = stage.start("opens", &[&ring]);
    assert_eq!(child.hear(), "opening");
    let mut tx = spsc::<u64>(&ring).capacity(4).sender().unwrap();
    tx.send(3).unwrap();
    child.finish();
}
