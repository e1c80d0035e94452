//! Who is alive is the kernel's word: not a pid, not a heartbeat, not a descriptor.

use ipc_ring::{OpenError, Peer, RecvError, RecvTimeoutError, SendTimeoutError, spsc};
use ipc_ring_tests::{Parent, stage};
use std::fs::File;
use std::time::Duration;

/// Longer than any slice of sleep.
const WHILE: Duration = Duration::from_millis(200);

/// Arguments: ring.
fn sends(parent: &mut Parent) {
    let mut tx = spsc::<u64>(parent.argument(0))
        .capacity(4)
        .sender()
        .unwrap();
    parent.tell(std::process::id());
    tx.send(1).unwrap();
    parent.hear();
}

#[test]
fn a_stopped_process_is_never_called_dead() {
    let stage = stage!(sends, takes);
    let ring = stage.ring();
    let mut sender = stage.start("sends", &[&ring]);
    let pid: u32 = sender.hear().parse().unwrap();
    let mut rx = spsc::<u64>(&ring).receiver().unwrap();
    assert_eq!(rx.recv(), Ok(1));
    sender.stop();
    assert_eq!(rx.recv_timeout(WHILE), Err(RecvTimeoutError::Timeout));
    assert!(matches!(rx.peer(), Peer::Alive { pid: p, .. } if p == pid));
    assert!(matches!(
        spsc::<u64>(&ring).sender(),
        Err(OpenError::RoleTaken { .. })
    ));
    sender.go_on();
    sender.say("leave");
    sender.finish();
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    drop(rx);

    let mut receiver = stage.start("takes", &[&ring]);
    assert_eq!(receiver.hear(), "ready");
    let mut tx = spsc::<u64>(&ring).sender().unwrap();
    receiver.stop();
    tx.send_slice(&[1, 2, 3, 4]).unwrap();
    assert_eq!(tx.send_timeout(5, WHILE), Err(SendTimeoutError::Timeout(5)));
    assert!(matches!(tx.peer(), Peer::Alive { .. }));
    receiver.go_on();
    tx.send(5).unwrap();
    receiver.finish();
}

/// Arguments: ring.
fn takes(parent: &mut Parent) {
    let mut rx = spsc::<u64>(parent.argument(0)).receiver().unwrap();
    parent.tell("ready");
    assert!(rx.iter().take(5).eq(1..=5));
}

/// Arguments: ring.
fn tries_to_send(parent: &mut Parent) {
    match spsc::<u64>(parent.argument(0)).sender() {
        Err(OpenError::RoleTaken { pid, .. }) => parent.tell(pid),
        Err(error) => panic!("{error}"),
        Ok(_) => parent.tell("free"),
    }
}

#[test]
fn closing_another_descriptor_of_the_object_does_not_end_a_life() {
    let stage = stage!(tries_to_send);
    let ring = stage.ring();
    let tx = spsc::<u64>(&ring).capacity(4).sender().unwrap();
    let asked = || stage.start("tries_to_send", &[&ring]).hear();
    let us = std::process::id().to_string();
    assert_eq!(asked(), us);
    // What ends POSIX locks: any close of any descriptor of the file.
    let file = File::options()
        .read(true)
        .write(true)
        .open(ring.path())
        .unwrap();
    drop(file.try_clone().unwrap());
    drop(file);
    drop(File::open(ring.path()).unwrap());
    assert_eq!(asked(), us);
    let mut rx = spsc::<u64>(&ring).receiver().unwrap();
    assert!(
        matches!(rx.peer(), Peer::Alive { .. }),
        "seen from the same process as well"
    );
    // A second handle of another ring, or of this one refused, changes nothing either.
    assert!(spsc::<u64>(&ring).sender().is_err());
    assert_eq!(asked(), us);
    drop(tx);
    assert_eq!(asked(), "free");
}
