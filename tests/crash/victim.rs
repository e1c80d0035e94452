//! The process that dies: it stages a ring, and runs one operation between two markers.

use std::hint::black_box;

use anyhow::{Context as _, Result, ensure};
use ipc_ring::{Builder, Receiver, Sender, Spsc, TryRecvError, TrySendError, spsc};
use ipc_ring_tests::step::{marker, submit};

use crate::image::Object;
use crate::message::{Tag, Words};
use crate::scenario::{Operation, Peer, Scenario, VICTIM};

/// The handles that are in use when the operation begins.
struct Roles<const N: usize> {
    sender: Option<Sender<Words<N>, Spsc>>,
    receiver: Option<Receiver<Words<N>, Spsc>>,
}

impl<const N: usize> Roles<N> {
    fn sender(&mut self) -> Result<&mut Sender<Words<N>, Spsc>> {
        self.sender.as_mut().context("no sender is attached")
    }

    fn receiver(&mut self) -> Result<&mut Receiver<Words<N>, Spsc>> {
        self.receiver.as_mut().context("no receiver is attached")
    }
}

/// Stages the ring for a take-over and dies with both roles in hand: `exit` runs no destructor.
pub(crate) fn stage_and_die<const N: usize>(scenario: &Scenario, object: &Object) -> Result<()> {
    let _roles = stage::<N>(scenario, object)?;
    std::process::exit(0)
}

/// Runs the operation of `scenario` between two markers. Then, no longer stepped, it examines what the operation
/// returned, and reaches the third marker only if that was right. There the explorer kills it.
pub(crate) fn run<const N: usize>(scenario: &Scenario, object: &Object) -> Result<()> {
    submit()?;
    if scenario.operation.is_takeover() {
        take_over::<N>(scenario, object)
    } else {
        use_roles(scenario, stage::<N>(scenario, object)?)
    }
}

fn take_over<const N: usize>(scenario: &Scenario, object: &Object) -> Result<()> {
    let builder = builder::<N>(object);
    // Both ways in: stating the capacity is "create or open", not stating it is "open".
    let builder = match scenario.backlog % 2 {
        0 => builder.capacity(scenario.capacity),
        _ => builder,
    };
    if scenario.operation.is_of_sender() {
        let sender = between_markers(|| builder.sender());
        let _sender = sender.context("taking over as the sender")?;
        marker();
    } else {
        let receiver = between_markers(|| builder.receiver());
        let _receiver = receiver.context("taking over as the receiver")?;
        marker();
    }
    Ok(())
}

/// Runs an operation on handles that are as used as the scenario says: what they remember is part of the state.
fn use_roles<const N: usize>(scenario: &Scenario, mut roles: Roles<N>) -> Result<()> {
    let message = Words::<N>::new(scenario.next_sent());
    match scenario.operation {
        Operation::TrySend => {
            let sender = roles.sender()?;
            let sent = between_markers(|| sender.try_send(message));
            ensure!(sent.is_ok(), "try_send found no room");
        }
        Operation::TrySendFull => {
            let sender = roles.sender()?;
            let sent = between_markers(|| sender.try_send(message));
            let Err(TrySendError::Full(back)) = sent else {
                anyhow::bail!("try_send on a full ring did not say so");
            };
            ensure!(
                back.tag() == Ok(scenario.next_sent()),
                "Full gave back another message"
            );
        }
        Operation::ReservePublish => {
            let sender = roles.sender()?;
            let sent = between_markers(|| {
                let reservation = sender.try_reserve()?;
                reservation.write(message).publish();
                Ok::<(), TrySendError<()>>(())
            });
            ensure!(sent.is_ok(), "try_reserve found no room");
        }
        Operation::TryRecv => {
            let receiver = roles.receiver()?;
            let received = between_markers(|| receiver.try_recv());
            expect_next(scenario, received)?;
        }
        Operation::TryRecvEmpty => {
            let receiver = roles.receiver()?;
            let received = between_markers(|| receiver.try_recv());
            let fits = match scenario.peer {
                Peer::Left => matches!(received, Err(TryRecvError::Closed)),
                Peer::Attached | Peer::Absent => matches!(received, Err(TryRecvError::Empty)),
            };
            ensure!(fits, "try_recv on an empty ring said {:?}", received.err());
        }
        Operation::PeekConsume => {
            let receiver = roles.receiver()?;
            let peeked = between_markers(|| {
                let peeked = receiver.try_peek_copied();
                receiver.consume();
                peeked
            });
            expect_next(scenario, peeked)?;
        }
        Operation::SenderLeave => between_markers(|| roles.sender = None),
        Operation::ReceiverLeave => between_markers(|| roles.receiver = None),
        Operation::SenderTakeover
        | Operation::ReceiverTakeover
        | Operation::SenderRecovery
        | Operation::ReceiverRecovery => unreachable!("a take-over has no roles to begin with"),
    }
    marker();
    Ok(())
}

/// The stretch that is stepped. What goes in and out is opaque to the optimizer, so that it can't be moved across.
fn between_markers<R>(operation: impl FnOnce() -> R) -> R {
    marker();
    let result = black_box(operation)();
    let result = black_box(result);
    marker();
    result
}

fn expect_next<const N: usize>(
    scenario: &Scenario,
    received: Result<Words<N>, TryRecvError>,
) -> Result<()> {
    let due = scenario.next_received();
    let tag = received.map(|message| message.tag());
    ensure!(
        matches!(&tag, Ok(Ok(tag)) if *tag == due),
        "{tag:?} came where {due} was due"
    );
    Ok(())
}

fn builder<const N: usize>(object: &Object) -> Builder<Words<N>, Spsc> {
    spsc::<Words<N>>(&object.name).namespace(&object.namespace)
}

fn stage<const N: usize>(scenario: &Scenario, object: &Object) -> Result<Roles<N>> {
    let created = builder::<N>(object)
        .capacity(scenario.capacity)
        .start_position(scenario.start)
        .create_new()
        .sender();
    let mut sender = created.context("creating the ring")?;
    ensure!(
        sender.capacity() == scenario.capacity,
        "the ring has another capacity than was asked for"
    );
    let mut receiver = match scenario.peer {
        Peer::Absent => None,
        Peer::Attached | Peer::Left => Some(
            builder::<N>(object)
                .receiver()
                .context("joining as the receiver")?,
        ),
    };
    for sequence in 0..scenario.history + scenario.backlog {
        let tag = Tag {
            sender: VICTIM,
            sequence: u16::try_from(sequence)?,
        };
        ensure!(
            sender.try_send(Words::new(tag)).is_ok(),
            "no room while staging"
        );
        if sequence < scenario.history {
            let receiver = receiver.as_mut().context("no receiver for the history")?;
            let received = receiver.try_recv().context("staging")?;
            ensure!(
                received.tag() == Ok(tag),
                "staging received another message"
            );
        }
    }
    let mut roles = Roles {
        sender: Some(sender),
        receiver,
    };
    if scenario.peer == Peer::Left {
        if scenario.operation.is_of_sender() {
            roles.receiver = None;
        } else {
            roles.sender = None;
        }
    }
    Ok(roles)
}
