//! The message queues of a ring that waits by them: where they are, that they go with it, and what the system does not give.

use ipc_ring::{OpenError, Wait, lanes, mpsc, remove, spsc};
use ipc_ring_tests::{Parent, RingName, in_a_child, sandbox, says, seccomp, skip, stage};
use nix::sys::resource::Resource;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Where the queues of a child are to be seen, which nobody else sees.
const PLACE: &str = "/mnt";

/// The names of all queues, with what is in the place of a ring's device and inode left out.
fn queues(ring: &str) -> BTreeSet<String> {
    let ring = fs::metadata(format!("/dev/shm/ipc-ring.{ring}")).ok();
    let prefix = ring.map(|ring| format!("ipc-ring.{:x}-{:x}.", ring.dev(), ring.ino()));
    let files = fs::read_dir(PLACE).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let shorten = |name: String| match &prefix {
        Some(prefix) => name.strip_prefix(prefix).unwrap_or(&name).to_owned(),
        None => name,
    };
    names.map(shorten).collect()
}

/// Gives this process queues and rings of its own. If it can't have them, that was said.
fn is_alone() -> bool {
    match sandbox::own_queues(PLACE) {
        Ok(()) => {
            sandbox::small_shm(1 << 20);
            true
        }
        Err(reason) => {
            skip(&reason);
            false
        }
    }
}

fn named<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn there_is_one_for_each_who_is_called_by_himself_and_it_goes_with_the_ring() {
    in_a_child!(|_| {
        if !is_alone() {
            return;
        }
        let way = Wait::MessageQueue;
        let tx = spsc::<u64>("one").capacity(2).wait(way).sender().unwrap();
        assert_eq!(queues("one"), named(["0"]));
        let rx = spsc::<u64>("one").receiver().unwrap();
        assert_eq!(queues("one"), named(["0", "1"]));
        drop((tx, rx));
        assert_eq!(queues("one"), named(["0", "1"]), "it goes on");
        remove("one").unwrap();
        assert_eq!(queues("one"), named([]));

        // Senders that share an attention word share a queue.
        let ring = || mpsc::<u64>("two").capacity(2).max_senders(3).wait(way);
        let senders = [ring().sender().unwrap(), ring().sender().unwrap()];
        let rx = ring().remove_when_idle().receiver();
        assert!(matches!(rx, Err(OpenError::Mismatch { .. })));
        let rx = ring().receiver().unwrap();
        assert_eq!(queues("two"), named(["0", "3"]));
        drop((senders, rx));
        remove("two").unwrap();

        let ring = || {
            let ring = lanes::<u64>("three").capacity(2).max_senders(3).wait(way);
            ring.remove_when_idle()
        };
        let senders = [ring().sender().unwrap(), ring().sender().unwrap()];
        let rx = ring().receiver().unwrap();
        assert_eq!(queues("three"), named(["0", "1", "3"]));
        drop((senders, rx));
        assert_eq!(queues("three"), named([]));

        // Who replaces an idle ring replaces its queues.
        drop(spsc::<u64>("four").capacity(2).wait(way).sender().unwrap());
        drop(spsc::<u8>("four").capacity(2).sender().unwrap());
        assert_eq!(queues("four"), named([]));
        remove("four").unwrap();
    });
}

#[test]
fn a_full_queue_says_that_it_was_rung_and_holds_nobody_up() {
    in_a_child!(|_| {
        if !is_alone() {
            return;
        }
        let way = Wait::MessageQueue;
        let mut tx = spsc::<u64>("full").capacity(8).wait(way).sender().unwrap();
        let mut rx = spsc::<u64>("full").receiver().unwrap();
        let sleeper = std::thread::spawn(move || {
            assert_eq!(rx.recv(), Ok(1));
            rx
        });
        // Rung by somebody else, again and again.
        let ring = fs::metadata("/dev/shm/ipc-ring.full").unwrap();
        let name = format!("/ipc-ring.{:x}-{:x}.1", ring.dev(), ring.ino());
        let flags = nix::mqueue::MQ_OFlag::O_WRONLY | nix::mqueue::MQ_OFlag::O_NONBLOCK;
        let mode = nix::sys::stat::Mode::empty();
        let queue = nix::mqueue::mq_open(name.as_str(), flags, mode, None).unwrap();
        let mut rings = (0..1_000_000).map(|_| nix::mqueue::mq_send(&queue, b"ready", 0));
        assert!(rings.any(|rung| rung == Err(nix::errno::Errno::EAGAIN)));
        tx.send(1).unwrap();
        let rx = sleeper.join().unwrap();
        drop((tx, rx));
        remove("full").unwrap();
    });
}

#[test]
fn a_limit_of_queues_is_an_error_that_names_it_and_leaves_no_ring() {
    in_a_child!(|_| {
        sandbox::limit(Resource::RLIMIT_MSGQUEUE, 0);
        let name = RingName::of("queue-limit");
        let ring = spsc::<u64>(&name).capacity(2).wait(Wait::MessageQueue);
        let error = ring.sender().unwrap_err();
        assert!(matches!(error, OpenError::NoQueue { .. }), "{error}");
        says(
            error,
            &[&name, "/ipc-ring.", "RLIMIT_MSGQUEUE", "ulimit -q"],
        );
        assert!(!name.exists(), "who could not use it has created it");
    });
}

#[test]
fn too_many_queues_are_an_error_that_says_where_to_allow_more() {
    in_a_child!(|_| {
        if !is_alone() {
            return;
        }
        fs::write("/proc/sys/fs/mqueue/queues_max", "1").unwrap();
        // Whom this limits: not root.
        sandbox::become_user(65534).unwrap();
        let ring = || spsc::<u64>("many").capacity(2).wait(Wait::MessageQueue);
        let tx = ring().sender().unwrap();
        let error = ring().receiver().unwrap_err();
        assert!(matches!(error, OpenError::NoQueue { .. }), "{error}");
        says(error, &["fs.mqueue.queues_max"]);
        drop(tx);
        remove("many").unwrap();
    });
}

#[test]
fn a_queue_for_more_sleepers_than_the_system_allows_is_an_error_that_says_how_to_have_fewer() {
    in_a_child!(|_| {
        if !is_alone() {
            return;
        }
        fs::write("/proc/sys/fs/mqueue/msg_max", "4").unwrap();
        // Whom this limits: not root.
        sandbox::become_user(65534).unwrap();
        let ring = || mpsc::<u64>("wide").capacity(2).wait(Wait::MessageQueue);
        let error = ring().max_senders(5).sender().unwrap_err();
        assert!(matches!(error, OpenError::NoQueue { .. }), "{error}");
        says(error, &["fs.mqueue.msg_max", "max_senders"]);
        drop(ring().max_senders(4).sender().unwrap());
        remove("wide").unwrap();
    });
}

#[test]
fn a_ring_of_another_user_has_no_queue_for_us() {
    in_a_child!(|_| {
        if !is_alone() {
            return;
        }
        let ring = || {
            spsc::<u64>("theirs")
                .wait(Wait::MessageQueue)
                .group_access()
        };
        drop(ring().capacity(2).sender().unwrap());
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o660);
        fs::set_permissions("/dev/shm/ipc-ring.theirs", everybody).unwrap();
        std::os::unix::fs::chown("/dev/shm/ipc-ring.theirs", None, Some(65534)).unwrap();
        sandbox::become_user(65534).unwrap();
        let error = ring().receiver().unwrap_err();
        assert!(matches!(error, OpenError::NoQueue { .. }), "{error}");
        says(error, &["another user's", "another way to wait"]);
    });
}

#[test]
fn a_system_without_queues_is_an_error_that_says_to_wait_otherwise() {
    let stage = stage!(has_no_queues);
    let ring = stage.ring();
    stage.play("has_no_queues", &[&ring]);
}

/// Arguments: ring.
fn has_no_queues(parent: &mut Parent) {
    seccomp::refuse(libc::SYS_mq_open, libc::ENOSYS);
    let ring = spsc::<u64>(parent.argument(0)).capacity(2);
    let error = ring.wait(Wait::MessageQueue).sender().unwrap_err();
    assert!(matches!(error, OpenError::NoQueue { .. }), "{error}");
    says(error, &["another way to wait"]);
}
