//! What the options about memory and names do.

use ipc_ring::{RemoveError, remove_in, spsc};
use ipc_ring_tests::{RingName, in_a_child};
use nix::sys::resource::{UsageWho, getrusage};
use std::fs;

/// A page each.
type Page = [u64; 511];

const PAGES: usize = 256;

fn page_faults() -> i64 {
    getrusage(UsageWho::RUSAGE_SELF)
        .unwrap()
        .minor_page_faults()
}

/// Sends and receives once through all of a ring, and counts the page faults of that.
fn faults_of_a_lap(ring: &RingName, prefault: bool) -> i64 {
    let builder = || {
        let builder = spsc::<Page>(ring).capacity(PAGES).remove_when_idle();
        if prefault {
            builder.prefault()
        } else {
            builder
        }
    };
    let mut tx = builder().sender().unwrap();
    let mut rx = builder().receiver().unwrap();
    let mut lap = || {
        let before = page_faults();
        for number in 0..PAGES {
            tx.try_send([number as u64; 511]).unwrap();
        }
        for number in 0..PAGES {
            assert_eq!(rx.try_recv().unwrap(), [number as u64; 511]);
        }
        page_faults() - before
    };
    lap()
}

#[test]
fn no_message_takes_a_page_fault_in_a_prefaulted_ring() {
    in_a_child!(|_| {
        let (plain, prefaulted) = (RingName::of("plain"), RingName::of("prefaulted"));
        let faults = faults_of_a_lap(&plain, false);
        assert!(faults >= 16, "{faults}: the count shows nothing");
        // The stack of the calls themselves may take some.
        let faults = faults_of_a_lap(&prefaulted, true);
        assert!(faults <= 4, "{faults}");
    });
}

/// Memory of this process that is locked, in KiB.
fn locked_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    let amount = line.unwrap().trim().strip_suffix(" kB").unwrap();
    amount.trim().parse().unwrap()
}

#[test]
fn a_locked_ring_stays_in_memory_until_it_is_left() {
    in_a_child!(|_| {
        let ring = RingName::of("locked");
        assert_eq!(locked_memory(), 0);
        let tx = spsc::<Page>(&ring)
            .capacity(PAGES)
            .lock_memory()
            .remove_when_idle()
            .sender()
            .unwrap();
        assert!(
            locked_memory() >= 4 * PAGES as u64,
            "{} KiB",
            locked_memory()
        );
        drop(tx);
        assert_eq!(locked_memory(), 0);
    });
}

#[test]
fn equal_names_in_different_namespaces_do_not_meet() {
    in_a_child!(|_| {
        let ring = RingName::of("spaced");
        let open = |namespace| spsc::<u64>(&ring).namespace(namespace);
        let mut one = open("one").capacity(4).sender().unwrap();
        let mut two = open("two").capacity(4).sender().unwrap();
        one.send(1).unwrap();
        two.send(2).unwrap();
        assert_eq!(open("one").receiver().unwrap().recv(), Ok(1));
        assert_eq!(open("two").receiver().unwrap().recv(), Ok(2));
        assert!(
            !ring.exists(),
            "the name without a namespace is another one"
        );
        drop((one, two));
        for namespace in ["one", "two"] {
            remove_in(namespace, &ring).unwrap();
            let again = remove_in(namespace, &ring).unwrap_err();
            assert!(matches!(again, RemoveError::NotFound { .. }), "{again}");
        }
    });
}
