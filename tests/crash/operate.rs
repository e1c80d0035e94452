//! What the victim does, between two markers.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ipc_ring::{OpenError, TryRecvError, TrySendError, remove_in};
use ipc_ring_tests::step::marker;

use crate::event::{Ending, Event, RECEIVER, Seat};
use crate::message::{Tag, Words};
use crate::operation::Operation;
use crate::ring::Carries;
use crate::troupe::{Handle, Handles, JUST_ASK, received, sent, whole};

/// How long a call waits that is to sleep for a slice in vain. Longer than one slice; single steps take most of it.
const IN_VAIN: Duration = Duration::from_millis(120);

/// How long a call waits whose peer is about to act.
const LONG: Duration = Duration::from_secs(60);

/// The stretch that is stepped. What goes in and out is opaque to the optimizer, so that it can't be moved across.
fn between_markers<R>(operation: impl FnOnce() -> R) -> R {
    marker();
    let result = black_box(operation)();
    let result = black_box(result);
    marker();
    result
}

impl<const N: usize, K: Carries> Handles<N, K> {
    /// Operates, no longer stepped reports what the operation came to, and reaches the third marker only if that can be.
    pub(crate) fn operate(&mut self, operation: Operation, seat: Seat) -> Result<()> {
        self.dispatch(operation, seat)?;
        self.say(Event::Done)?;
        marker();
        Ok(())
    }

    fn dispatch(&mut self, operation: Operation, seat: Seat) -> Result<()> {
        use Operation as Op;

        match operation {
            Op::TrySend | Op::TrySendFull => {
                let tag = self.next_tag(seat);
                let sender = self.sender(seat)?;
                let result = between_markers(|| sender.try_send(Words::new(tag)));
                self.tell_sent(tag, result)
            }
            Op::SendWaiting => {
                let tag = self.next_tag(seat);
                let sender = self.sender(seat)?;
                let result = between_markers(|| sender.send_timeout(Words::new(tag), LONG));
                self.say(sent(tag, result)?)
            }
            Op::ReservePublish => {
                let tag = self.next_tag(seat);
                let sender = self.sender(seat)?;
                let result = between_markers(|| {
                    let reservation = sender.try_reserve()?;
                    reservation.write(Words::new(tag)).publish();
                    Ok::<(), TrySendError<()>>(())
                });
                result.context("reserving")?;
                self.say(Event::Sent(tag))
            }
            Op::ReserveDrop => {
                let sender = self.sender(seat)?;
                let result = between_markers(|| sender.try_reserve().map(drop));
                result.context("reserving")
            }
            Op::SendSlice => self.send_slice(seat),
            Op::TryRecv | Op::TryRecvEmpty => {
                let receiver = self.receiver()?;
                let result = between_markers(|| receiver.try_recv());
                self.tell_received(result)
            }
            Op::RecvWaiting => self.recv_within(LONG),
            Op::RecvTimeout => self.recv_within(IN_VAIN),
            Op::RecvPastClaim | Op::RecvTold => self.recv_within(JUST_ASK),
            Op::PeekConsume => {
                let receiver = self.receiver()?;
                let peeked = between_markers(|| {
                    let peeked = receiver.try_peek_copied();
                    receiver.consume();
                    peeked
                });
                self.tell_received(peeked)
            }
            Op::RecvSlice => self.recv_slice(),
            Op::Drain => {
                let receiver = self.receiver()?;
                let mut drained = Vec::with_capacity(receiver.capacity());
                between_markers(|| drained.extend(receiver.drain()));
                self.tell_all_received(&drained)
            }
            Op::SenderLeave | Op::SenderLeaveOpen | Op::LastLeave => {
                let sender = self.senders.remove(&seat).context("no such sender")?;
                between_markers(|| drop(sender));
                self.say(Event::Left(seat))
            }
            Op::ReceiverLeave => {
                let receiver = self.receiver.take().context("no receiver")?;
                between_markers(|| drop(receiver));
                self.say(Event::Left(RECEIVER))
            }
            Op::Clone => {
                let sender = self.senders.values().next().context("no sender")?;
                let clone = between_markers(|| K::clone_of(sender));
                let clone = clone.context("this kind has no clones")?;
                let clone = clone.context("joining once more")?;
                self.has_joined(seat, Handle::Sender(clone))
            }
            Op::Create
            | Op::SenderJoin
            | Op::JoinRemoved
            | Op::SenderTakeover
            | Op::SenderRecovery
            | Op::ReceiverJoin
            | Op::ReceiverTakeover
            | Op::ReceiverRecovery => self.come(operation, seat),
            Op::JoinRefused => {
                let builder = self.ring.creator::<Words<N>, K>();
                let refused = between_markers(|| builder.sender().map(drop));
                match refused {
                    Err(OpenError::RoleTaken { .. } | OpenError::TooManySenders { .. }) => {
                        self.say(Event::Refused)
                    }
                    other => {
                        other.context("coming as one sender too many")?;
                        bail!("one sender too many was let in")
                    }
                }
            }
            Op::Remove | Op::RemoveInUse => {
                let object = &self.ring.object;
                let removed = between_markers(|| remove_in(&object.namespace, &object.name));
                self.tell_removed(removed)
            }
        }
    }

    fn come(&mut self, operation: Operation, seat: Seat) -> Result<()> {
        // Both ways in: stating the capacity is "create or open", not stating it is "open".
        let creates = matches!(operation, Operation::Create | Operation::JoinRemoved);
        let builder = if creates || self.ring.start.is_multiple_of(2) {
            self.ring.creator::<Words<N>, K>()
        } else {
            self.ring.opener()
        };
        let handle = if seat == RECEIVER {
            let receiver = between_markers(|| builder.receiver());
            Handle::Receiver(receiver.context("coming as the receiver")?)
        } else {
            let sender = between_markers(|| builder.sender());
            Handle::Sender(sender.context("coming as a sender")?)
        };
        self.has_joined(seat, handle)
    }

    fn send_slice(&mut self, seat: Seat) -> Result<()> {
        let room = {
            let sender = self.sender(seat)?;
            sender.capacity() - sender.len()
        };
        let tags = (0..room.min(Operation::BATCH)).map(|_| self.next_tag(seat));
        let tags = tags.collect::<Vec<_>>();
        let batch = tags.iter().copied().map(Words::new).collect::<Vec<_>>();
        let sender = self.sender(seat)?;
        let result = between_markers(|| sender.try_send_slice(&batch));
        let count = result.context("try_send_slice")?;
        let sent = tags.into_iter().take(count);
        sent.map(Event::Sent).try_for_each(|event| self.say(event))
    }

    fn recv_slice(&mut self) -> Result<()> {
        let nothing = Tag {
            sender: u8::MAX,
            sequence: 0,
        };
        let mut batch = [Words::new(nothing); Operation::BATCH];
        let receiver = self.receiver()?;
        let count = between_markers(|| receiver.try_recv_slice(&mut batch));
        let count = count.context("try_recv_slice")?;
        self.tell_all_received(&batch[..count])
    }

    fn recv_within(&mut self, timeout: Duration) -> Result<()> {
        let receiver = self.receiver()?;
        let result = between_markers(|| receiver.recv_timeout(timeout));
        self.say(received(result)?)
    }

    fn tell_sent(&self, tag: Tag, result: Result<(), TrySendError<Words<N>>>) -> Result<()> {
        self.say(match result {
            Ok(()) => Event::Sent(tag),
            Err(TrySendError::Full(back)) => {
                ensure!(back.tag() == Ok(tag), "Full gave back another message");
                Event::Full(tag.sender)
            }
            Err(other) => bail!("try_send: {}", other.map(drop)),
        })
    }

    fn tell_received(&self, result: Result<Words<N>, TryRecvError>) -> Result<()> {
        self.say(match result {
            Ok(message) => Event::Received(whole(&message)?),
            Err(TryRecvError::Empty) => Event::Empty,
            Err(TryRecvError::Closed) => Event::Told(RECEIVER, Ending::Closed),
            Err(other) => return Err(other).context("try_recv"),
        })
    }

    fn tell_all_received(&self, messages: &[Words<N>]) -> Result<()> {
        messages
            .iter()
            .try_for_each(|message| self.say(Event::Received(whole(message)?)))
    }
}
