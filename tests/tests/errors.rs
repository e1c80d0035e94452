//! Bad input: each with an error that says what is wrong and what to do, and with nothing lost or left behind.

use ipc_ring::{
    OpenError, RecvError, RecvTimeoutError, RemoveError, SendError, ShmMessage, TryRecvError, Wait,
    remove, remove_in, spsc,
};
use ipc_ring_tests::{RingName, idle, in_a_child, says, seize, traces};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

mod here {
    use super::ShmMessage;

    #[derive(ShmMessage)]
    #[repr(C)]
    pub(crate) struct Tick {
        pub(crate) time: u64,
        pub(crate) price: f64,
    }
}

/// The same name in another program, and another price.
mod there {
    use super::ShmMessage;

    #[derive(ShmMessage)]
    #[repr(C)]
    pub(crate) struct Tick {
        pub(crate) time: u64,
        pub(crate) price: f32,
        pub(crate) size: u32,
    }
}

/// Overwrites bytes of a ring that nobody uses.
fn overwrite(ring: &RingName, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(ring.path()).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

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
fn a_ring_of_another_version_is_refused_with_both_versions() {
    in_a_child!(|_| {
        let ring = RingName::of("version");
        idle(&ring, 4, 1);
        overwrite(&ring, 8, &7u32.to_ne_bytes());
        traces::leaves_none(&ring, || {
            for error in [
                spsc::<u64>(&ring).receiver().unwrap_err(),
                spsc::<u64>(&ring).capacity(4).receiver().unwrap_err(),
            ] {
                assert!(matches!(
                    error,
                    OpenError::Version {
                        expected: 0,
                        found: 7,
                        ..
                    }
                ));
                says(
                    error,
                    &["version 7", "has 0", "same ipc-ring", &ring.path()],
                );
            }
        });
        drop(
            spsc::<u64>(&ring)
                .capacity(4)
                .replace_idle()
                .sender()
                .unwrap(),
        );
        overwrite(&ring, 8, &7u32.to_ne_bytes());
        remove(&ring).unwrap();
    });
}

#[test]
fn a_header_that_makes_no_sense_is_refused() {
    in_a_child!(|_| {
        let ring = RingName::of("header");
        let bends: [(u64, &[u8], &str); 6] = [
            (12, &0x0403_0201_u32.to_ne_bytes(), "byte order"),
            (32, &3_u64.to_ne_bytes(), "contradicts itself"),
            (48, &u64::MAX.to_ne_bytes(), "contradicts itself"),
            (64, &u64::MAX.to_ne_bytes(), "contradicts itself"),
            (112, &u64::MAX.to_ne_bytes(), "contradicts itself"),
            (200, &[1], "contradicts itself"),
        ];
        for (offset, bytes, words) in bends {
            idle(&ring, 4, 1);
            overwrite(&ring, offset, bytes);
            traces::leaves_none(&ring, || {
                says(
                    spsc::<u64>(&ring).receiver().unwrap_err(),
                    &[words, "not a ring", &ring.path()],
                );
            });
            remove(&ring).unwrap_or_else(|_| fs::remove_file(ring.path()).unwrap());
        }
    });
}

#[test]
fn what_is_not_a_ring_is_refused_and_left_alone() {
    in_a_child!(|_| {
        let ring = RingName::of("foreign");
        let path = ring.path();
        let real = RingName::of("real");
        idle(&real, 4, 1);
        let file = |text: &str| fs::write(ring.path(), text).unwrap();
        let makers: [(&str, &dyn Fn()); 7] = [
            ("does not begin with \"ipc-ring\"", &|| file("")),
            ("does not begin with \"ipc-ring\"", &|| file("hello")),
            ("does not begin with \"ipc-ring\"", &|| {
                file(&"x".repeat(10_000))
            }),
            ("directory", &|| fs::create_dir(&path).unwrap()),
            // Even to a ring: somebody else might turn it around.
            ("symbolic link", &|| symlink(real.path(), &path).unwrap()),
            ("not a regular file", &|| {
                mkfifo(path.as_str(), Mode::S_IRWXU).unwrap()
            }),
            ("socket", &|| drop(UnixListener::bind(&path).unwrap())),
        ];
        for (words, make) in makers {
            make();
            let before = fs::symlink_metadata(&path).unwrap();
            traces::leaves_none(&ring, || {
                for error in [
                    spsc::<u64>(&ring).receiver().unwrap_err(),
                    spsc::<u64>(&ring).capacity(4).sender().unwrap_err(),
                    spsc::<u64>(&ring)
                        .capacity(4)
                        .replace_idle()
                        .sender()
                        .unwrap_err(),
                ] {
                    assert!(matches!(error, OpenError::NotARing { .. }), "{error}");
                    says(error, &[words, &path, "not a ring"]);
                }
                let error = remove(&ring).unwrap_err();
                assert!(matches!(error, RemoveError::NotARing { .. }), "{error}");
                says(error, &[words, &path, "left alone"]);
            });
            let after = fs::symlink_metadata(&path).unwrap();
            assert_eq!(
                (before.ino(), before.len()),
                (after.ino(), after.len()),
                "{words}"
            );
            let _ = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
        }
    });
}

#[test]
fn a_truncated_ring_is_refused_with_both_lengths() {
    in_a_child!(|_| {
        let ring = RingName::of("truncated");
        idle(&ring, 1024, 1);
        let whole = fs::metadata(ring.path()).unwrap().len();
        for len in [8, 100, 255, 256, 4096, whole - 1] {
            let file = OpenOptions::new().write(true).open(ring.path()).unwrap();
            file.set_len(len).unwrap();
            traces::leaves_none(&ring, || {
                for error in [
                    spsc::<u64>(&ring).receiver().unwrap_err(),
                    spsc::<u64>(&ring).capacity(1024).sender().unwrap_err(),
                ] {
                    let expected = if len < 256 { 256 } else { whole };
                    assert!(
                        matches!(error, OpenError::Truncated { expected: e, found, .. } if (e, found) == (expected, len)),
                        "{error}"
                    );
                    says(
                        error,
                        &[
                            &len.to_string(),
                            &expected.to_string(),
                            "truncated",
                            &ring.path(),
                        ],
                    );
                }
            });
            if len % 2 == 0 {
                let mut tx = spsc::<u64>(&ring)
                    .capacity(1024)
                    .replace_idle()
                    .sender()
                    .unwrap();
                tx.send(1).unwrap();
            } else {
                remove(&ring).unwrap();
                idle(&ring, 1024, 1);
            }
        }
    });
}

#[test]
fn a_different_message_is_refused_down_to_the_field_with_both_views() {
    in_a_child!(|_| {
        let ring = RingName::of("schema");
        let mut tx = spsc::<there::Tick>(&ring).capacity(4).sender().unwrap();
        let refused = || spsc::<here::Tick>(&ring).receiver().unwrap_err();
        let difference = r#"field #2: "price: f64 at 8" here, "price: f32 at 8" in the segment"#;
        traces::leaves_none(&ring, || {
            let error = refused();
            assert!(
                matches!(
                    error,
                    OpenError::Mismatch {
                        in_use: true,
                        unread: 0,
                        ..
                    }
                ),
                "{error}"
            );
            says(error, &[difference, "in use", &ring.path()]);
        });
        let tick = there::Tick {
            time: 1,
            price: 2.0,
            size: 3,
        };
        tx.send(tick).unwrap();
        drop(tx);
        traces::leaves_none(&ring, || {
            let error = refused();
            assert!(
                matches!(
                    error,
                    OpenError::Mismatch {
                        in_use: false,
                        unread: 1,
                        ..
                    }
                ),
                "{error}"
            );
            says(
                error,
                &[difference, "nobody uses it", "1 unread", "replace_idle"],
            );
        });
        // Nothing was lost by that.
        let mut rx = spsc::<there::Tick>(&ring).receiver().unwrap();
        let tick = rx.recv().unwrap();
        assert_eq!((tick.time, tick.price, tick.size), (1, 2.0, 3));
        drop(rx);
        says(
            refused(),
            &[difference, "nobody uses it and it is empty", "capacity"],
        );
        let tx = spsc::<here::Tick>(&ring)
            .capacity(4)
            .sender()
            .unwrap()
            .try_send(here::Tick {
                time: 0,
                price: 0.0,
            });
        assert!(tx.is_ok(), "a creator replaces an idle and empty one");
    });
}

#[test]
fn two_integers_of_one_size_are_told_apart() {
    let ring = RingName::of("integers");
    let _tx = spsc::<u32>(&ring).capacity(4).sender().unwrap();
    says(
        spsc::<f32>(&ring).receiver().unwrap_err(),
        &["\"f32\" here", "\"u32\" in the segment"],
    );
    drop(_tx);
}

#[test]
fn a_stated_option_must_equal_the_rings_and_an_unstated_one_adopts_it() {
    let ring = RingName::of("options");
    let mut tx = spsc::<u64>(&ring)
        .capacity(16)
        .wait(Wait::Spin)
        .sender()
        .unwrap();
    let open = || spsc::<u64>(&ring).open_timeout(Duration::ZERO);
    let cases = [
        (open().capacity(17), "capacity 32 here, 16 in the segment"),
        (
            open().wait(Wait::Futex),
            "wait Futex here, Spin in the segment",
        ),
        (
            open().capacity(16).remove_when_idle(),
            "remove_when_idle here",
        ),
        // In use, so it stays.
        (
            open().capacity(64).replace_idle(),
            "capacity 64 here, 16 in the segment",
        ),
    ];
    for (builder, words) in cases {
        says(builder.receiver().unwrap_err(), &[words, "in use"]);
    }
    // Rounded up, it is the same.
    let mut rx = open().capacity(9).wait(Wait::Spin).receiver().unwrap();
    tx.send(1).unwrap();
    assert_eq!((rx.recv(), rx.capacity()), (Ok(1), 16));
    drop(rx);
    assert_eq!(open().receiver().unwrap().capacity(), 16);
    drop(tx);
}

#[test]
fn an_idle_ring_of_another_layout_is_replaced_by_a_creator_only_if_it_is_empty() {
    let ring = RingName::of("idle");
    let inode = || fs::metadata(ring.path()).unwrap().ino();
    idle(&ring, 16, 3);
    let first = inode();
    let error = spsc::<u64>(&ring).capacity(64).sender().unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Mismatch {
                in_use: false,
                unread: 3,
                ..
            }
        ),
        "{error}"
    );
    says(
        error,
        &[
            "capacity 64 here, 16 in the segment",
            "3 unread",
            "replace_idle",
        ],
    );
    assert_eq!(inode(), first);
    let mut rx = spsc::<u64>(&ring).receiver().unwrap();
    assert!(rx.drain().eq(0..3));
    drop(rx);
    assert_eq!(
        spsc::<u64>(&ring).receiver().unwrap().capacity(),
        16,
        "who states nothing replaces nothing"
    );
    assert_eq!(
        spsc::<u64>(&ring).capacity(64).sender().unwrap().capacity(),
        64
    );
    let second = inode();
    assert_ne!(second, first);
    idle(&ring, 64, 5);
    assert_eq!(inode(), second, "the right ring is not replaced");
    let mut rx = spsc::<u64>(&ring)
        .capacity(64)
        .replace_idle()
        .receiver()
        .unwrap();
    assert!(rx.drain().eq(0..5), "nor with `replace_idle`");
    drop(rx);
    idle(&ring, 64, 5);
    let mut rx = spsc::<u32>(&ring)
        .capacity(4)
        .replace_idle()
        .receiver()
        .unwrap();
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    drop(rx);
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
