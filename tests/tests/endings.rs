//! What receivers and senders are told when the other side leaves, dies, has not come yet, or comes back.

use ipc_ring::{
    OpenError, Peer, RecvError, RecvTimeoutError, Role, SendError, SendTimeoutError, TryRecvError,
    TrySendError, Wait, spsc,
};
use ipc_ring_tests::{Child, Parent, RingName, Stage, program, stage};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1);

/// Sends the numbers below a count, says so, and keeps its handle until it is killed, or told to leave.
/// Arguments: ring, count.
fn sends(parent: &mut Parent) {
    let mut tx = spsc::<u64>(parent.argument(0))
        .capacity(16)
        .sender()
        .unwrap();
    for number in 0..parent.number(1) {
        tx.send(number).unwrap();
    }
    parent.tell("sent");
    parent.hear();
}

/// Receives a count of messages, says so, and likewise.
fn receives(parent: &mut Parent) {
    let mut rx = spsc::<u64>(parent.argument(0))
        .capacity(16)
        .receiver()
        .unwrap();
    for number in 0..parent.number(1) {
        assert_eq!(rx.recv(), Ok(number));
    }
    parent.tell("received");
    parent.hear();
}

fn start(stage: &Stage, role: &str, ring: &str, count: u64) -> Child {
    let mut child = stage.start(role, &[ring, &count.to_string()]);
    child.hear();
    child
}

fn leave(mut child: Child) {
    child.say("leave");
    child.finish();
}

#[test]
fn a_receiver_hears_closed_once_it_has_drained_what_the_sender_left() {
    let stage = stage!(sends);
    let ring = stage.ring();
    let sender = start(&stage, "sends", &ring, 3);
    let mut rx = spsc::<u64>(&ring).receiver().unwrap();
    leave(sender);
    assert_eq!(rx.peer(), Peer::Left);
    assert_eq!(rx.try_recv(), Ok(0));
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(rx.recv_timeout(LONG), Ok(2));
    for _ in 0..2 {
        assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(rx.recv(), Err(RecvError::Closed));
        assert_eq!(rx.recv_timeout(LONG), Err(RecvTimeoutError::Closed));
        assert_eq!(rx.recv_latest(), Err(TryRecvError::Closed));
        assert_eq!(rx.peek_copied(), Err(RecvError::Closed));
        assert_eq!(rx.iter().next(), None);
        assert_eq!(rx.try_iter().next(), None);
        assert_eq!(rx.drain().next(), None);
    }
}

#[test]
fn a_receiver_hears_once_who_died_and_then_waits_for_the_next() {
    let stage = stage!(sends);
    let ring = stage.ring();
    let sender = start(&stage, "sends", &ring, 3);
    let mut rx = spsc::<u64>(&ring).receiver().unwrap();
    let pid = sender.id();
    let program = program();
    assert_eq!(
        rx.peer(),
        Peer::Alive {
            pid,
            program: program.clone()
        }
    );
    sender.kill();
    assert_eq!(rx.iter().take(2).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(rx.recv(), Ok(2), "what it sent comes first");
    // Which makes no system call, and so can't know.
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(
        rx.recv(),
        Err(RecvError::SenderDied {
            pid,
            program: program.clone()
        })
    );
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
    assert_eq!(rx.peer(), Peer::Died { pid, program });
    leave(start(&stage, "sends", &ring, 1));
    assert_eq!((rx.recv(), rx.recv()), (Ok(0), Err(RecvError::Closed)));
}

#[test]
fn every_way_to_wait_for_a_message_hears_of_a_death() {
    let stage = stage!(sends);
    let program = program();
    let die = |ring: &RingName| {
        let sender = start(&stage, "sends", ring, 0);
        let rx = spsc::<u64>(ring).receiver().unwrap();
        let pid = sender.id();
        sender.kill();
        (rx, pid)
    };
    let ring = stage.ring();
    let (mut rx, pid) = die(&ring);
    let died = RecvTimeoutError::SenderDied {
        pid,
        program: program.clone(),
    };
    assert_eq!(rx.recv_timeout(Duration::ZERO), Err(died));
    drop(rx);
    let (mut rx, pid) = die(&ring);
    let died = RecvError::SenderDied {
        pid,
        program: program.clone(),
    };
    assert_eq!(rx.peek_copied(), Err(died));
    drop(rx);
    // An iterator ends, and leaves it to the next call to say why.
    let (mut rx, pid) = die(&ring);
    let died = TryRecvError::SenderDied {
        pid,
        program: program.clone(),
    };
    assert_eq!(rx.iter().next(), None);
    assert_eq!(rx.try_recv(), Err(died));
    drop(rx);
    // Having asked for the peer, one knows.
    let (mut rx, pid) = die(&ring);
    assert!(matches!(rx.peer(), Peer::Died { .. }));
    assert_eq!(
        rx.try_recv(),
        Err(TryRecvError::SenderDied { pid, program })
    );
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn a_blocked_receiver_hears_of_a_death() {
    let stage = stage!(hears_of_a_death, sends);
    for wait in ["Futex", "Spin"] {
        let ring = stage.ring();
        let mut receiver = stage.start("hears_of_a_death", &[&ring, wait]);
        receiver.hear();
        let sender = start(&stage, "sends", &ring, 2);
        assert_eq!(receiver.hear(), "1");
        if wait == "Futex" {
            receiver.wait_until_asleep();
        }
        let expected = format!("SenderDied {} {}", sender.id(), program());
        sender.kill();
        assert_eq!(receiver.hear(), expected);
        receiver.finish();
    }
}

/// Arguments: ring, way to wait.
fn hears_of_a_death(parent: &mut Parent) {
    let wait = if parent.argument(1) == "Spin" {
        Wait::Spin
    } else {
        Wait::Futex
    };
    let builder = spsc::<u64>(parent.argument(0)).capacity(16).wait(wait);
    let mut rx = builder.receiver().unwrap();
    parent.tell("ready");
    assert_eq!(rx.recv(), Ok(0));
    assert_eq!(rx.recv(), Ok(1));
    parent.tell(1);
    match rx.recv() {
        Err(RecvError::SenderDied { pid, program }) => {
            parent.tell(format!("SenderDied {pid} {program}"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_receiver_waits_for_the_first_sender() {
    let stage = stage!(sends);
    let ring = stage.ring();
    let mut rx = spsc::<u64>(&ring).capacity(16).receiver().unwrap();
    assert_eq!(rx.peer(), Peer::Never);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(
        rx.recv_timeout(Duration::from_millis(120)),
        Err(RecvTimeoutError::Timeout)
    );
    let sender = start(&stage, "sends", &ring, 1);
    assert_eq!(rx.recv(), Ok(0));
    leave(sender);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn neither_ending_is_sticky() {
    let stage = stage!(sends);
    let ring = stage.ring();
    let mut rx = spsc::<u64>(&ring).capacity(16).receiver().unwrap();
    for round in 0..6 {
        let sender = start(&stage, "sends", &ring, 2);
        let pid = sender.id();
        assert_eq!(rx.recv(), Ok(0));
        if round % 2 == 0 {
            leave(sender);
        } else {
            sender.kill();
        }
        assert_eq!(rx.recv(), Ok(1));
        if round % 2 == 1 {
            let program = program();
            assert_eq!(rx.recv(), Err(RecvError::SenderDied { pid, program }));
        } else {
            assert_eq!(rx.recv(), Err(RecvError::Closed));
        }
    }
}

#[test]
fn a_death_that_nobody_asked_about_is_forgotten_when_a_later_sender_goes_on() {
    let stage = stage!(sends);
    let ring = stage.ring();
    let mut rx = spsc::<u64>(&ring).capacity(16).receiver().unwrap();
    start(&stage, "sends", &ring, 2).kill();
    let second = start(&stage, "sends", &ring, 2);
    assert_eq!(
        [rx.recv(), rx.recv(), rx.recv(), rx.recv()],
        [Ok(0), Ok(1), Ok(0), Ok(1)]
    );
    leave(second);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn a_new_receiver_hears_of_an_ended_sender_only_if_that_one_left_messages() {
    let stage = stage!(sends);
    let ring = stage.ring();
    let sender = start(&stage, "sends", &ring, 1);
    let pid = sender.id();
    sender.kill();
    let mut rx = spsc::<u64>(&ring).receiver().unwrap();
    assert_eq!(rx.recv(), Ok(0));
    assert_eq!(
        rx.recv(),
        Err(RecvError::SenderDied {
            pid,
            program: program()
        })
    );
    drop(rx);
    let mut rx = spsc::<u64>(&ring).receiver().unwrap();
    assert_eq!(
        rx.recv_timeout(SHORT),
        Err(RecvTimeoutError::Timeout),
        "that was long ago"
    );

    leave(start(&stage, "sends", &ring, 1));
    assert_eq!((rx.recv(), rx.recv()), (Ok(0), Err(RecvError::Closed)));
    drop(rx);
    let mut rx = spsc::<u64>(&ring).receiver().unwrap();
    assert_eq!(
        rx.recv_timeout(SHORT),
        Err(RecvTimeoutError::Timeout),
        "so was that"
    );
}

#[test]
fn keep_open_waits_through_endings() {
    let stage = stage!(sends, receives);
    let ring = stage.ring();
    let mut rx = spsc::<u64>(&ring)
        .capacity(16)
        .keep_open()
        .receiver()
        .unwrap();
    leave(start(&stage, "sends", &ring, 1));
    assert_eq!(rx.recv(), Ok(0));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
    start(&stage, "sends", &ring, 1).kill();
    assert_eq!(rx.iter().next(), Some(0));
    assert_eq!(
        rx.recv_timeout(Duration::from_millis(120)),
        Err(RecvTimeoutError::Timeout)
    );
    assert!(matches!(rx.peer(), Peer::Died { .. }), "who asks is told");
    let last = start(&stage, "sends", &ring, 1);
    assert_eq!(rx.recv(), Ok(0));
    leave(last);
    drop(rx);

    let mut tx = spsc::<u64>(&ring).keep_open().sender().unwrap();
    leave(start(&stage, "receives", &ring, 0));
    for number in 0..16 {
        tx.send(number).unwrap();
    }
    assert_eq!(tx.try_send(16), Err(TrySendError::Full(16)));
    assert_eq!(
        tx.send_timeout(16, SHORT),
        Err(SendTimeoutError::Timeout(16))
    );
    start(&stage, "receives", &ring, 16).kill();
    for number in 16..32 {
        tx.send(number).unwrap();
    }
    assert_eq!(
        tx.send_timeout(32, Duration::from_millis(120)),
        Err(SendTimeoutError::Timeout(32))
    );
}

#[test]
fn a_sender_buffers_for_a_receiver_that_has_not_come() {
    let stage = stage!(receives);
    let ring = stage.ring();
    let mut tx = spsc::<u64>(&ring).capacity(16).sender().unwrap();
    assert_eq!(tx.peer(), Peer::Never);
    for number in 0..16 {
        tx.send(number).unwrap();
    }
    assert_eq!(tx.try_send(16), Err(TrySendError::Full(16)));
    // Full is no reason to give up on somebody who may come.
    assert_eq!(
        tx.send_timeout(16, Duration::from_millis(120)),
        Err(SendTimeoutError::Timeout(16))
    );
    leave(start(&stage, "receives", &ring, 16));
}

#[test]
fn a_receiver_that_left_is_closed_at_once_and_values_come_back() {
    let stage = stage!(receives);
    let ring = stage.ring();
    let mut tx = spsc::<u64>(&ring).capacity(16).sender().unwrap();
    let receiver = start(&stage, "receives", &ring, 0);
    tx.send(0).unwrap();
    leave(receiver);
    assert_eq!(tx.try_send(1), Err(TrySendError::Closed(1)));
    assert_eq!(tx.try_send_ref(&1), Err(TrySendError::Closed(())));
    assert_eq!(tx.send(1), Err(SendError::Closed(1)));
    assert_eq!(tx.send_ref(&1), Err(SendError::Closed(())));
    assert_eq!(tx.send_timeout(1, LONG), Err(SendTimeoutError::Closed(1)));
    assert_eq!(tx.try_send_slice(&[1, 2]), Err(TrySendError::Closed(())));
    assert_eq!(tx.send_slice(&[1, 2]), Err(SendError::Closed(0)));
    assert!(matches!(tx.try_reserve(), Err(TrySendError::Closed(()))));
    assert!(matches!(tx.reserve(), Err(SendError::Closed(()))));
    assert_eq!(tx.send(5).unwrap_err().into_inner(), 5);
    assert_eq!(tx.peer(), Peer::Left);
    // Not sticky: the next one gets what the last one left, and what comes now.
    let receiver = start(&stage, "receives", &ring, 1);
    tx.send(1).unwrap();
    leave(receiver);
    assert_eq!(tx.try_send(2), Err(TrySendError::Closed(2)));
}

#[test]
fn a_blocked_sender_hears_that_the_receiver_left_or_died() {
    let stage = stage!(blocks, receives);
    for (wait, ending) in [
        ("Futex", "Closed"),
        ("Futex", "ReceiverDied"),
        ("Spin", "Closed"),
        ("Spin", "ReceiverDied"),
    ] {
        let ring = stage.ring();
        let mut sender = stage.start("blocks", &[&ring, wait]);
        assert_eq!(sender.hear(), "ready");
        let receiver = start(&stage, "receives", &ring, 0);
        sender.say("go");
        assert_eq!(sender.hear(), "full");
        if wait == "Futex" {
            sender.wait_until_asleep();
        }
        if ending == "Closed" {
            leave(receiver);
        } else {
            receiver.kill();
        }
        assert_eq!(sender.hear(), format!("{ending}(..)"));
        sender.finish();
    }
}

/// Arguments: ring, way to wait.
fn blocks(parent: &mut Parent) {
    let wait = if parent.argument(1) == "Spin" {
        Wait::Spin
    } else {
        Wait::Futex
    };
    let builder = spsc::<u64>(parent.argument(0)).capacity(16).wait(wait);
    let mut tx = builder.sender().unwrap();
    parent.tell("ready");
    parent.hear();
    for number in 0..16 {
        tx.send(number).unwrap();
    }
    parent.tell("full");
    let error = tx.send(99).unwrap_err();
    parent.tell(format!("{error:?}"));
    assert_eq!(error.into_inner(), 99);
}

#[test]
fn a_sender_buffers_for_the_successor_of_a_dead_receiver_and_says_so_only_when_full() {
    let stage = stage!(receives);
    let ring = stage.ring();
    let mut tx = spsc::<u64>(&ring).capacity(16).sender().unwrap();
    start(&stage, "receives", &ring, 0).kill();
    for number in 0..16 {
        tx.send(number).unwrap();
    }
    assert_eq!(
        tx.try_send(16),
        Err(TrySendError::Full(16)),
        "which makes no system call"
    );
    // As long as it is so.
    for _ in 0..2 {
        assert_eq!(tx.send(16), Err(SendError::ReceiverDied(16)));
        assert_eq!(tx.send_ref(&16), Err(SendError::ReceiverDied(())));
        assert_eq!(
            tx.send_timeout(16, LONG),
            Err(SendTimeoutError::ReceiverDied(16))
        );
        assert_eq!(tx.send_slice(&[16, 17]), Err(SendError::ReceiverDied(0)));
        assert!(matches!(tx.reserve(), Err(SendError::ReceiverDied(()))));
    }
    assert!(matches!(tx.peer(), Peer::Died { .. }));
    let successor = start(&stage, "receives", &ring, 16);
    tx.send(16).unwrap();
    leave(successor);
}

#[test]
fn a_batch_that_meets_an_ending_says_how_much_of_it_went() {
    let stage = stage!(receives);
    let ring = stage.ring();
    let mut tx = spsc::<u64>(&ring).capacity(16).sender().unwrap();
    start(&stage, "receives", &ring, 0).kill();
    let numbers: Vec<u64> = (0..20).collect();
    assert_eq!(tx.send_slice(&numbers), Err(SendError::ReceiverDied(16)));
}

#[test]
fn a_second_living_holder_is_refused_with_pid_and_program_of_the_first() {
    let stage = stage!(sends, receives);
    let ring = stage.ring();
    let sender = start(&stage, "sends", &ring, 1);
    let receiver = start(&stage, "receives", &ring, 1);
    let tx = spsc::<u64>(&ring).sender().unwrap_err();
    let rx = spsc::<u64>(&ring).receiver().unwrap_err();
    for (error, expected, holder) in [(tx, Role::Sender, &sender), (rx, Role::Receiver, &receiver)]
    {
        let text = error.to_string();
        let OpenError::RoleTaken {
            role,
            pid,
            program: named,
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((role, pid, named), (expected, holder.id(), program()));
        for word in [expected.to_string(), holder.id().to_string(), program()] {
            assert!(text.contains(&word), "{text}");
        }
    }
    // The refused ones did no harm.
    leave(sender);
    leave(receiver);
}

#[test]
fn the_role_of_one_who_was_killed_and_waited_for_is_free_at_once() {
    let stage = stage!(sends, receives);
    let ring = stage.ring();
    for _ in 0..25 {
        start(&stage, "sends", &ring, 0).kill();
        drop(spsc::<u64>(&ring).sender().unwrap());
        start(&stage, "receives", &ring, 0).kill();
        drop(spsc::<u64>(&ring).receiver().unwrap());
    }
}

#[test]
fn the_role_of_one_who_said_that_it_leaves_is_free_for_whoever_heard_it() {
    let stage = stage!(comes_and_goes);
    let ring = stage.ring();
    let mut tx = spsc::<u64>(&ring).capacity(1).sender().unwrap();
    let mut child = stage.start("comes_and_goes", &[&ring]);
    for _ in 0..2_000 {
        assert_eq!(child.hear(), "came");
        child.say("go");
        // Heard from the ring itself, which is before the process has let go of it.
        while tx.try_send(0) != Err(TrySendError::Closed(0)) {}
        let successor = spsc::<u64>(&ring).receiver();
        drop(successor.unwrap_or_else(|error| panic!("a holder that has left: {error}")));
        child.say("again");
    }
}

/// Arguments: ring.
fn comes_and_goes(parent: &mut Parent) {
    loop {
        let rx = spsc::<u64>(parent.argument(0)).receiver().unwrap();
        parent.tell("came");
        parent.hear();
        drop(rx);
        parent.hear();
    }
}

#[test]
fn a_process_that_exits_without_dropping_its_handle_has_died() {
    let stage = stage!(exits);
    let ring = stage.ring();
    let mut rx = spsc::<u64>(&ring).capacity(16).receiver().unwrap();
    let sender = stage.start("exits", &[&ring]);
    let pid = sender.id();
    sender.finish();
    assert_eq!(rx.recv(), Ok(7));
    assert_eq!(
        rx.recv(),
        Err(RecvError::SenderDied {
            pid,
            program: program()
        })
    );
}

/// Arguments: ring.
fn exits(parent: &mut Parent) {
    let mut tx = spsc::<u64>(parent.argument(0)).sender().unwrap();
    tx.send(7).unwrap();
    std::process::exit(0);
}
