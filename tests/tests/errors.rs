//! Requests that can't be met: a rule is broken, or a ring is there, is not there, is busy, or has lost its name. Each with
//! an error that says what is wrong and what to do, and with nothing lost or left behind.

use ipc_ring::{
    OpenError, RecvError, RecvTimeoutError, RemoveError, SendError, TryRecvError, Wait, remove,
    remove_in, spsc,
};
use ipc_ring_tests::{RingName, idle, in_a_child, says, seize, traces};
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn a_name_that_breaks_a_rule_is_refused_with_the_rule() {
    in_a_child!(|_| {
        let long = "x".repeat(201);
        let rules = [
            ("", "is empty"),
            (long.as_str(), "more than 200 bytes"),
            (".hidden", "starts with a dot"),
            ("..", "starts with a dot"),
            ("a/b", "ASCII letters"),
            ("a b", "ASCII letters"),
            ("a:b", "ASCII letters"),
            ("a~b", "ASCII letters"),
            ("a\0b", "ASCII letters"),
            ("tüchtig", "ASCII letters"),
        ];
        for (name, rule) in rules {
            traces::leaves_none("good", || {
                let words = [rule, &format!("{name:?}")];
                says(spsc::<u64>(name).capacity(4).sender().unwrap_err(), &words);
                says(spsc::<u64>(name).receiver().unwrap_err(), &words);
                says(
                    spsc::<u64>("good")
                        .namespace(name)
                        .capacity(4)
                        .receiver()
                        .unwrap_err(),
                    &words,
                );
                says(remove(name).unwrap_err(), &words);
                says(remove_in(name, "good").unwrap_err(), &words);
            });
        }
        // Each is good; together they are no file name.
        let long = "x".repeat(200);
        let both = spsc::<u64>(&long).namespace(&long).capacity(4).sender();
        says(both.unwrap_err(), &["together"]);
    });
}

#[test]
fn a_name_of_200_bytes_and_a_namespace_are_taken() {
    let ring = RingName::of("long");
    let padded = format!("{}{}", &*ring, "x".repeat(200 - ring.len()));
    let mut tx = spsc::<u64>(&padded).capacity(1).sender().unwrap();
    let mut other = spsc::<u64>(&ring)
        .namespace("desk-1")
        .capacity(1)
        .sender()
        .unwrap();
    assert_eq!((tx.name(), other.name()), (&*padded, &*ring));
    tx.send(1).unwrap();
    other.send(2).unwrap();
    assert_eq!(
        spsc::<u64>(&ring)
            .namespace("desk-1")
            .receiver()
            .unwrap()
            .recv(),
        Ok(2)
    );
    drop((tx, other));
    remove(&padded).unwrap();
    assert!(
        matches!(remove(&ring), Err(RemoveError::NotFound { .. })),
        "the other one has a namespace"
    );
    remove_in("desk-1", &ring).unwrap();
}

#[test]
fn a_capacity_of_0_or_beyond_the_address_space_is_refused() {
    in_a_child!(|_| {
        let ring = RingName::of("capacity");
        traces::leaves_none(&ring, || {
            let error = spsc::<u64>(&ring).capacity(0).sender().unwrap_err();
            says(&error, &["capacity 0", "1 or more"]);
            assert!(matches!(
                error,
                OpenError::InvalidCapacity {
                    capacity: 0,
                    message_size: 8
                }
            ));
            for capacity in [usize::MAX, usize::MAX / 2 + 2, 1 << 62, 1 << 60] {
                let error = spsc::<u64>(&ring)
                    .capacity(capacity)
                    .receiver()
                    .unwrap_err();
                says(&error, &[&capacity.to_string(), "8 bytes", "address space"]);
                assert!(matches!(error, OpenError::InvalidCapacity { .. }));
            }
            // The same number of messages may fit or not.
            let error = spsc::<[u64; 8192]>(&ring)
                .capacity(1 << 48)
                .receiver()
                .unwrap_err();
            says(error, &["65536 bytes", "address space"]);
        });
    });
}

#[test]
fn create_new_insists_on_being_first() {
    in_a_child!(|_| {
        let ring = RingName::of("first");
        traces::leaves_none(&ring, || {
            let error = spsc::<u64>(&ring).create_new().sender().unwrap_err();
            assert!(matches!(error, OpenError::NoCapacity), "{error}");
        });
        let tx = spsc::<u64>(&ring)
            .capacity(4)
            .create_new()
            .sender()
            .unwrap();
        traces::leaves_none(&ring, || {
            let error = spsc::<u64>(&ring)
                .capacity(4)
                .create_new()
                .receiver()
                .unwrap_err();
            assert!(matches!(error, OpenError::AlreadyExists { .. }), "{error}");
            says(error, &["create_new", &ring.path(), "ipc_ring::remove"]);
        });
        drop(tx);
    });
}

#[test]
fn who_states_no_capacity_waits_for_the_ring_as_long_as_told() {
    in_a_child!(|_| {
        let ring = RingName::of("absent");
        traces::leaves_none(&ring, || {
            for timeout in [0, 30].map(Duration::from_millis) {
                let begun = Instant::now();
                let error = spsc::<u64>(&ring)
                    .open_timeout(timeout)
                    .receiver()
                    .unwrap_err();
                assert!(begun.elapsed() >= timeout);
                assert!(matches!(error, OpenError::NotFound { .. }), "{error}");
                says(
                    error,
                    &[&ring.path(), "does not exist", "capacity", "/dev/shm"],
                );
            }
            assert!(matches!(remove(&ring), Err(RemoveError::NotFound { .. })));
        });
    });
}

#[test]
fn a_ring_that_is_being_removed_by_a_stopped_process_is_an_error_in_time() {
    in_a_child!(|_| {
        let ring = RingName::of("busy");
        idle(&ring, 4, 1);
        let seized = seize(&ring.path());
        traces::leaves_none(&ring, || {
            let timeout = Duration::from_millis(30);
            let error = spsc::<u64>(&ring)
                .capacity(4)
                .open_timeout(timeout)
                .receiver()
                .unwrap_err();
            assert!(matches!(error, OpenError::Busy { .. }), "{error}");
            says(error, &[&ring.path(), "stopped"]);
            assert!(matches!(remove(&ring), Err(RemoveError::InUse { .. })));
        });
        drop(seized);
        assert_eq!(spsc::<u64>(&ring).receiver().unwrap().recv(), Ok(0));
    });
}

#[test]
fn whoever_waits_on_a_ring_that_lost_its_name_is_told_once_and_can_go_on() {
    in_a_child!(|_| {
        let ring = RingName::of("nameless");
        for wait in [Wait::Futex, Wait::Spin] {
            let mut tx = spsc::<u64>(&ring).capacity(4).wait(wait).sender().unwrap();
            let mut rx = spsc::<u64>(&ring).receiver().unwrap();
            tx.send(1).unwrap();
            // What systemd's RemoveIPC does at logout.
            fs::remove_file(ring.path()).unwrap();
            assert_eq!(rx.recv(), Ok(1), "what is there comes first");
            let error = rx.recv().unwrap_err();
            assert_eq!(error, RecvError::NameLost);
            says(error, &["lost its name", "open the ring again"]);
            assert_eq!(
                rx.recv_timeout(Duration::from_millis(60)),
                Err(RecvTimeoutError::Timeout)
            );
            // It works for those who have it.
            tx.send_slice(&[2, 3, 4, 5]).unwrap();
            let error = tx.send(6).unwrap_err();
            says(error, &["lost its name", "open the ring again"]);
            assert_eq!(error, SendError::NameLost(6));
            assert_eq!(rx.iter().take(4).collect::<Vec<_>>(), [2, 3, 4, 5]);

            // Another one takes the name: the old handles stay with the old one, and hear of it when they wait.
            let mut new = spsc::<u64>(&ring).capacity(4).sender().unwrap();
            new.send(7).unwrap();
            let mut old = rx;
            assert_eq!(old.try_recv(), Err(TryRecvError::Empty));
            assert_eq!(spsc::<u64>(&ring).receiver().unwrap().recv(), Ok(7));
            drop((tx, new));
            assert_eq!(old.recv(), Err(RecvError::Closed), "its sender has left");
            remove(&ring).unwrap();
        }
    });
}

#[test]
fn a_ring_in_use_is_not_removed() {
    let ring = RingName::of("in-use");
    let tx = spsc::<u64>(&ring).capacity(4).sender().unwrap();
    let rx = spsc::<u64>(&ring).receiver().unwrap();
    let refused = || {
        let error = remove(&ring).unwrap_err();
        assert!(matches!(error, RemoveError::InUse { .. }), "{error}");
        says(error, &["in use", &ring.path(), "senders and receivers"]);
        assert!(ring.exists());
    };
    refused();
    drop(tx);
    refused();
    drop(rx);
    remove(&ring).unwrap();
    assert!(!ring.exists());
}
