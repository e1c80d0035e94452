//! What the system does not give: room, permission, descriptors, memory, `/proc`. Each with an error that says what to do, or
//! with another way, and with nothing lost or left behind.

use ipc_ring::{OpenError, RemoveError, locked, remove, spsc};
use ipc_ring_tests::{
    Parent, RingName, idle, in_a_child, sandbox, says, seize, skip, stage, traces,
};
use nix::sys::resource::Resource;
use nix::sys::stat::{Mode, umask};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::time::Duration;

#[test]
#[cfg_attr(ipc_ring_locked, ignore = "a locked ring has another size")]
fn a_full_dev_shm_is_an_error_that_says_how_much_is_needed_and_free() {
    in_a_child!(|_| {
        if let Err(reason) = sandbox::own_mounts() {
            return skip(&reason);
        }
        sandbox::small_shm(1 << 20);
        // The second lies beyond any address space, and must not be tried page by page.
        for capacity in [1 << 18, 1 << 50] {
            traces::leaves_none("", || {
                let error = spsc::<u64>("r").capacity(capacity).sender().unwrap_err();
                let OpenError::NoSpace { needed, free, .. } = error else {
                    panic!("{error}");
                };
                assert!(
                    needed > capacity as u64 * 8 && free == 1 << 20,
                    "{needed} {free}"
                );
                says(
                    error,
                    &[
                        &needed.to_string(),
                        &free.to_string(),
                        "--shm-size",
                        "/dev/shm",
                    ],
                );
            });
        }
        // What was tried is free again: nearly all of it can be had.
        let mut tx = spsc::<u64>("r").capacity(1 << 15).sender().unwrap();
        // And a ring that is there does not need more, whatever happens to the rest.
        let rest = File::create("/dev/shm/rest").unwrap();
        let full = (0..256).find_map(|page| rest.write_all_at(&[1; 4096], page * 4096).err());
        assert!(full.is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull));
        for number in 0..1 << 15 {
            tx.send(number).unwrap();
        }
        let mut rx = spsc::<u64>("r").receiver().unwrap();
        assert!(rx.drain().eq(0..1 << 15));
        // Not one more, though.
        assert!(matches!(
            spsc::<u64>("s").capacity(1).sender(),
            Err(OpenError::NoSpace { .. })
        ));
        assert_eq!(
            traces::names(""),
            ["ipc-ring.r", "rest"].map(str::to_owned).into()
        );
    });
}

#[test]
fn rlimit_fsize_is_an_error_and_not_a_signal() {
    in_a_child!(|_| {
        let ring = RingName::of("fsize");
        idle(&ring, 4, 0);
        sandbox::limit(Resource::RLIMIT_FSIZE, 8192);
        traces::leaves_none(&ring, || {
            let error = spsc::<u64>("large").capacity(4096).sender().unwrap_err();
            assert!(matches!(
                error,
                OpenError::FileSizeLimit {
                    needed: 65536..,
                    limit: 8192
                }
            ));
            says(error, &["8192", "RLIMIT_FSIZE", "ulimit -f"]);
        });
        // It limits who creates, not who opens.
        spsc::<u64>(&ring).sender().unwrap().send(1).unwrap();
    });
}

#[test]
fn another_users_ring_is_refused_and_left_alone() {
    let stage = stage!(strays);
    let ring = stage.ring();
    idle(&ring, 4, 1);
    stage.play("strays", &[&ring, &ring.path()]);
    assert_eq!(spsc::<u64>(&ring).receiver().unwrap().recv(), Ok(0));
}

/// Arguments: ring, path.
fn strays(parent: &mut Parent) {
    let (ring, path) = (parent.argument(0), parent.argument(1));
    if let Err(reason) = sandbox::become_user(65534) {
        return skip(&reason);
    }
    traces::leaves_none(ring, || {
        for error in [
            spsc::<u64>(ring).sender().unwrap_err(),
            spsc::<u64>(ring).capacity(4).receiver().unwrap_err(),
            spsc::<u32>(ring)
                .capacity(8)
                .replace_idle()
                .receiver()
                .unwrap_err(),
        ] {
            assert!(
                matches!(error, OpenError::PermissionDenied { .. }),
                "{error}"
            );
            says(error, &["no permission", path, "group_access", "namespace"]);
        }
        says(remove(ring).unwrap_err(), &["ermission", path]);
    });
    // Which is not to say that this user can't have rings.
    let own = RingName::of("own");
    spsc::<u64>(&own)
        .capacity(4)
        .sender()
        .unwrap()
        .send(1)
        .unwrap();
}

#[test]
fn a_directory_that_can_not_be_written_is_an_error() {
    in_a_child!(|_| {
        if let Err(reason) = sandbox::own_mounts() {
            return skip(&reason);
        }
        sandbox::small_shm(1 << 20);
        fs::set_permissions("/dev/shm", PermissionsExt::from_mode(0o755)).unwrap();
        sandbox::become_user(65534).unwrap();
        traces::leaves_none("", || {
            let error = spsc::<u64>("r").capacity(4).sender().unwrap_err();
            assert!(
                matches!(error, OpenError::PermissionDenied { .. }),
                "{error}"
            );
        });
    });
}

#[test]
fn modes_are_0600_and_with_group_access_0660_whatever_the_umask() {
    in_a_child!(|_| {
        for mask in [0, 0o077, 0o777] {
            umask(Mode::from_bits_truncate(mask));
            let (private, shared) = (RingName::of("private"), RingName::of("shared"));
            let _one = spsc::<u64>(&private).capacity(4).sender().unwrap();
            let _two = spsc::<u64>(&shared)
                .capacity(4)
                .group_access()
                .sender()
                .unwrap();
            let mode = |ring: &RingName| fs::metadata(ring.path()).unwrap().mode() & 0o7777;
            assert_eq!((mode(&private), mode(&shared)), (0o600, 0o660));
            drop((_one, _two));
        }
    });
}

/// Runs `action` while the process may open only so many more descriptors.
fn with_descriptors<R>(free: usize, action: impl FnOnce() -> R) -> R {
    let null = || File::open("/dev/null");
    let mut spare: Vec<File> = std::iter::from_fn(|| null().ok()).collect();
    spare.truncate(spare.len() - free);
    let result = action();
    drop(spare);
    result
}

#[test]
fn running_out_of_descriptors_at_any_step_is_an_error_that_leaves_nothing() {
    in_a_child!(|_| {
        sandbox::limit(Resource::RLIMIT_NOFILE, 64);
        let ring = RingName::of("descriptors");
        let create = || {
            spsc::<u64>(&ring)
                .capacity(4)
                .open_timeout(Duration::from_secs(5))
                .sender()
                .map(drop)
        };
        let open = || {
            spsc::<u64>(&ring)
                .open_timeout(Duration::from_secs(5))
                .receiver()
                .map(drop)
        };
        let replace = || {
            spsc::<u32>(&ring)
                .capacity(8)
                .open_timeout(Duration::from_secs(5))
                .sender()
                .map(drop)
        };
        /// What is done, whether the ring is there before, and how it is done.
        type Step<'a> = (&'a str, bool, &'a dyn Fn() -> Result<(), OpenError>);
        let steps: [Step; 3] = [
            ("create", false, &create),
            ("open", true, &open),
            ("replace", true, &replace),
        ];
        for (step, existed, action) in steps {
            for free in 0.. {
                let (descriptors, mappings) = (traces::descriptors(), traces::mappings());
                let outcome = with_descriptors(free, action);
                assert_eq!(
                    (traces::descriptors(), traces::mappings()),
                    (descriptors, mappings)
                );
                let Err(error) = outcome else {
                    assert!((2..=4).contains(&free), "{step} took {free}");
                    break;
                };
                assert!(
                    matches!(error, OpenError::TooManyFiles { .. }),
                    "{step} with {free} descriptors: {error}"
                );
                says(error, &["descriptors", "RLIMIT_NOFILE", &ring.path()]);
                // An empty ring that was to be replaced may be gone by then.
                assert!(!ring.exists() || existed, "left behind");
            }
        }
        for free in 0.. {
            match with_descriptors(free, || remove(&ring)) {
                Ok(()) => break,
                Err(error @ RemoveError::Os { .. }) => {
                    says(error, &["Too many open files", &ring.path()])
                }
                Err(error) => panic!("remove with {free} descriptors: {error}"),
            }
            assert!(free < 4);
        }
    });
}

#[test]
fn memory_that_can_not_be_locked_or_mapped_is_an_error_that_leaves_nothing() {
    in_a_child!(|_| {
        let ring = RingName::of("memory");
        // It is a limit only for those who may not exceed it.
        if nix::unistd::geteuid().is_root() {
            sandbox::become_user(65534).unwrap();
        }
        sandbox::limit(Resource::RLIMIT_MEMLOCK, 4096);
        traces::leaves_none(&ring, || {
            let error = spsc::<u64>(&ring)
                .capacity(4096)
                .lock_memory()
                .sender()
                .unwrap_err();
            says(error, &["RLIMIT_MEMLOCK", "ulimit -l", &ring.path()]);
        });
        let mut tx = spsc::<u64>(&ring)
            .capacity(4096)
            .prefault()
            .sender()
            .unwrap();
        tx.send(1).unwrap();
        drop(tx);
        sandbox::limit(Resource::RLIMIT_AS, 0);
        let error = spsc::<u64>(&ring).receiver().map(drop).unwrap_err();
        let text = error.to_string();
        sandbox::limit(Resource::RLIMIT_AS, libc::RLIM_INFINITY);
        says(text, &["mapping", "Cannot allocate memory"]);
        assert_eq!(spsc::<u64>(&ring).receiver().unwrap().recv(), Ok(1));
    });
}

#[test]
fn without_proc_a_ring_with_a_mutex_in_it_is_refused() {
    in_a_child!(|_| {
        if let Err(reason) = sandbox::own_mounts() {
            return skip(&reason);
        }
        sandbox::small_shm(1 << 20);
        let _there = locked::<u64>("there").capacity(4).sender().unwrap();
        sandbox::no_proc();
        says(
            locked::<u64>("r").capacity(4).sender().unwrap_err(),
            &["/dev/shm/ipc-ring.r", "pid namespace", "/proc"],
        );
        says(
            locked::<u64>("there").sender().unwrap_err(),
            &["pid namespace 0 here", "/proc"],
        );
    });
}

#[test]
#[cfg_attr(ipc_ring_locked, ignore = "a mutex takes /proc")]
fn without_proc_a_ring_is_built_under_a_temporary_name_and_leftovers_are_swept() {
    in_a_child!(|_| {
        if let Err(reason) = sandbox::own_mounts() {
            return skip(&reason);
        }
        sandbox::small_shm(1 << 20);
        sandbox::no_proc();
        let names = || -> Vec<String> {
            let entries = fs::read_dir("/dev/shm").unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        fs::write("/dev/shm/ipc-ring~1-0", "of a creator that died").unwrap();
        fs::write("/dev/shm/ipc-ring~2-0", "of one that is at it").unwrap();
        fs::write("/dev/shm/ipc-ring", "of somebody else").unwrap();
        let _locked = seize("/dev/shm/ipc-ring~2-0");
        let mut tx = spsc::<u64>("r")
            .capacity(4)
            .group_access()
            .sender()
            .unwrap();
        assert_eq!(names(), ["ipc-ring", "ipc-ring.r", "ipc-ring~2-0"]);
        assert_eq!(
            fs::metadata("/dev/shm/ipc-ring.r").unwrap().mode() & 0o7777,
            0o660
        );
        let mut rx = spsc::<u64>("r").receiver().unwrap();
        tx.send(1).unwrap();
        assert_eq!(rx.recv(), Ok(1));

        let second = spsc::<u64>("r").capacity(4).create_new().sender();
        assert!(matches!(second, Err(OpenError::AlreadyExists { .. })));
        let large = spsc::<u64>("s").capacity(1 << 18).sender();
        assert!(matches!(large, Err(OpenError::NoSpace { .. })));
        assert_eq!(
            names(),
            ["ipc-ring", "ipc-ring.r", "ipc-ring~2-0"],
            "failures leave nothing"
        );
        drop((tx, rx));
        remove("r").unwrap();
        assert_eq!(names(), ["ipc-ring", "ipc-ring~2-0"]);
    });
}
