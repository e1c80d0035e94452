//! What is found under a ring's name and is not the ring that is asked for: refused with both views, and left as it was
//! unless whoever asks may replace it.

use ipc_ring::{OpenError, RemoveError, ShmMessage, TryRecvError, Wait, remove, spsc};
use ipc_ring_tests::{RingName, idle, in_a_child, says, traces};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::time::Duration;

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
