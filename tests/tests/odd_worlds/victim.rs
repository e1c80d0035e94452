//! Whoever is about to die, or seems to be: a participant in the middle of something.

use crate::survivors::ring;
use ipc_ring::{Kind, Peer, Receiver, RecvError, SendError, Sender, TryRecvError, TrySendError};
use ipc_ring_tests::{AnyKind, Parent, of_any_kind};
use std::mem;

/// So many messages a sender has sent when it says that it is ready.
pub(crate) const SENT: u64 = 3;
/// So many a receiver has received by then.
pub(crate) const RECEIVED: u64 = 2;

/// A handle of whatever kind and role. It always has begun with the next message.
pub(crate) trait Victim: Send {
    /// Is done with the message that it has begun with, and begins with another.
    fn one_more(&mut self);

    /// Checks that nothing can be done by it, as a forked child's copy.
    fn answers_forked(&mut self);
}

/// Joins a ring.
/// Arguments: kind, ring, role.
pub(crate) fn joins(parent: &Parent) -> Box<dyn Victim> {
    of_any_kind!(parent.argument(0), join(parent))
}

fn join<K: AnyKind>(parent: &Parent) -> Box<dyn Victim> {
    let ring = ring::<K>(parent.argument(1));
    match parent.argument(2) {
        "sender" => {
            let mut tx = ring.sender().unwrap();
            (0..SENT).for_each(|number| tx.send(number).unwrap());
            Box::new(Sends::begin(tx, SENT))
        }
        "receiver" => {
            let mut rx = ring.receiver().unwrap();
            (0..RECEIVED).for_each(|number| assert_eq!(rx.recv(), Ok(number)));
            Box::new(Receives::begin(rx, RECEIVED))
        }
        other => panic!("{other} is no role"),
    }
}

/// Joins, and does nothing until its end.
pub(crate) fn waits(parent: &mut Parent) {
    let _victim = joins(parent);
    parent.tell("ready");
    parent.hear();
}

/// Has reserved a place for the next number.
struct Sends<K: Kind> {
    tx: Sender<u64, K>,
    next: u64,
}

impl<K: Kind> Sends<K> {
    fn begin(mut tx: Sender<u64, K>, next: u64) -> Self {
        // Forgotten by us, not by the handle: it gives the place up in its next call, or in its drop.
        mem::forget(tx.reserve().unwrap());
        Self { tx, next }
    }
}

impl<K: Kind> Victim for Sends<K> {
    fn one_more(&mut self) {
        self.tx.send(self.next).unwrap();
        self.next += 1;
        mem::forget(self.tx.reserve().unwrap());
    }

    fn answers_forked(&mut self) {
        assert_eq!(self.tx.try_send(9), Err(TrySendError::Forked(9)));
        assert_eq!(self.tx.send(9), Err(SendError::Forked(9)));
        assert!(matches!(self.tx.reserve(), Err(SendError::Forked(()))));
        assert_eq!(self.tx.peer(), Peer::Forked);
    }
}

/// Has peeked at the next number.
struct Receives<K: Kind>(Receiver<u64, K>);

impl<K: Kind> Receives<K> {
    fn begin(mut rx: Receiver<u64, K>, next: u64) -> Self {
        assert_eq!(rx.peek_copied(), Ok(next));
        Self(rx)
    }
}

impl<K: Kind> Victim for Receives<K> {
    fn one_more(&mut self) {
        assert!(self.0.consume());
        // Of whichever sender.
        self.0.peek_copied().unwrap();
    }

    fn answers_forked(&mut self) {
        assert_eq!(self.0.try_recv(), Err(TryRecvError::Forked));
        assert_eq!(self.0.recv(), Err(RecvError::Forked));
        assert_eq!(self.0.peek_copied(), Err(RecvError::Forked));
        assert!(!self.0.consume());
    }
}
