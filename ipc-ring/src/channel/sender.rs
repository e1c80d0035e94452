//! The sending side.
#![allow(unsafe_code, reason = "messages are written into slots")]

use super::endpoint::{Endpoint, Habits, Stop, count};
use super::in_place::Reservation;
use super::participants::{Participant, Peer, participants};
use super::standoff::look_away;
use super::standstill::Standstill;
use super::{Kind, ManySenders, Spsc};
use crate::error::{OpenError, Role, SendError, SendTimeoutError, TrySendError};
use crate::layout::attention;
use crate::message::ShmMessage;
use crate::ring::{End, Look, Produce};
use crate::segment::attach;
use crate::segment::mapped::Segment;
use crate::sync::{Fault, Ordering, planted};
use crate::sys::fork::Token;
use crate::wait::{ALL, SLICE, Waker};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::{Duration, Instant};

/// Messages that take a receiver longer than a moment.
const FAR: usize = 128;

/// Sends messages into a ring. Dropping it is leaving: once no other sender is left, a receiver that has drained
/// the ring is told `Closed`.
///
/// A sender belongs to one thread at a time:
///
/// ```compile_fail
/// fn share<T: Sync>() {}
/// share::<ipc_ring::Sender<u64>>();
/// ```
pub struct Sender<T: ShmMessage, K: Kind = Spsc> {
    producer: K::Producer<T>,
    waker: Waker,
    token: Token,
    /// Messages sent, where that is counted.
    sent: u64,
    standstill: Standstill,
    endpoint: Endpoint,
    not_sync: PhantomData<Cell<()>>,
}

impl<T: ShmMessage, K: Kind> Sender<T, K> {
    pub(super) fn join(segment: Segment, habits: Habits) -> Self {
        let token = segment.token();
        let mut endpoint = Endpoint::new(segment, Role::Sender, habits);
        let segment = endpoint.segment();
        let (places, index) = (segment.places(), segment.index());
        // SAFETY: kind and header were checked against `K` and `T`; the segment lives in the endpoint, which is dropped with
        // the producer.
        let producer = unsafe { K::producer(places, index) };
        endpoint.join::<K>();
        Self {
            producer,
            waker: endpoint.waker(),
            token,
            sent: 0,
            standstill: Standstill::default(),
            endpoint,
            not_sync: PhantomData,
        }
    }

    /// Sends a message if there is room now. Makes no system call unless the receiver sleeps.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`], also if the receiver died, which [`peer`](Self::peer) and the waiting calls tell;
    /// [`TrySendError::Closed`] if the receiver has left (not if none has come yet: then messages are kept for it);
    /// [`TrySendError::Forked`].
    ///
    /// In [`locked`](crate::locked) it waits for the mutex, and says [`TrySendError::Stuck`] if that can't be had for a second; and after
    /// 50 ms without room it asks the kernel about those who have slots in hand.
    #[inline(always)]
    pub fn try_send(&mut self, message: T) -> Result<(), TrySendError<T>> {
        match self.try_slot() {
            Ok(index) => {
                self.fill(index, message);
                self.publish();
                Ok(())
            }
            Err(error) => Err(error.map(|()| message)),
        }
    }

    /// Like [`try_send`](Self::try_send), for a message that is kept.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Self::try_send).
    #[inline(always)]
    pub fn try_send_ref(&mut self, message: &T) -> Result<(), TrySendError<()>> {
        let index = self.try_slot()?;
        self.fill_from(index, message);
        self.publish();
        Ok(())
    }

    /// Sends a message, waiting for room.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if the receiver has left; [`SendError::ReceiverDied`] each time that the ring is full and the
    /// receiver died; [`SendError::NameLost`], once, if the ring is full and was removed; [`SendError::Forked`]; of
    /// [`locked`](crate::locked), [`SendError::Stuck`]. The message comes back. If no receiver has come yet, or the last one left before this sender came, a full ring is waited for
    /// without end.
    #[inline(always)]
    pub fn send(&mut self, message: T) -> Result<(), SendError<T>> {
        // The slow way does not see the message: were its address needed there, the compiler would have to put it into
        // memory first on the fast way, too.
        let index = match self.try_slot() {
            Ok(index) => index,
            // Not once more.
            Err(TrySendError::Stuck(())) => return Err(SendError::Stuck(message)),
            Err(_) => match self.slot(None) {
                Ok(index) => index,
                Err(error) => return Err(SendError::from_untimed(error).map(|()| message)),
            },
        };
        self.fill(index, message);
        self.publish();
        Ok(())
    }

    /// Sends a message, waiting for room no longer than `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`SendTimeoutError::Timeout`].
    pub fn send_timeout(
        &mut self,
        message: T,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<T>> {
        let deadline = Instant::now().checked_add(timeout);
        match self.slot(deadline) {
            Ok(index) => {
                self.fill(index, message);
                self.publish();
                Ok(())
            }
            Err(error) => Err(error.map(|()| message)),
        }
    }

    /// Sends as many of `messages` as there is room for, and answers how many: at least one, unless there are none.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Self::try_send), if there is no room for the first.
    pub fn try_send_slice(&mut self, messages: &[T]) -> Result<usize, TrySendError<()>> {
        let mut sent = 0;
        while let Some(message) = messages.get(sent) {
            let index = match self.try_slot() {
                Ok(index) => index,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            };
            self.fill_from(index, message);
            self.publish_untold();
            sent += 1;
        }
        if sent > 0 {
            self.notify(sent as u64);
        }
        Ok(sent)
    }

    /// Sends all of `messages`, waiting for room. In [`mpsc`](crate::mpsc), messages of others may come in between.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send); what comes back is how many were sent.
    pub fn send_slice(&mut self, messages: &[T]) -> Result<(), SendError<usize>> {
        let mut sent = 0;
        while sent < messages.len() {
            sent += match self.try_send_slice(&messages[sent..]) {
                Ok(count) => count,
                Err(TrySendError::Full(())) => {
                    self.send_ref(&messages[sent])
                        .map_err(|error| error.map(|()| sent))?;
                    1
                }
                Err(TrySendError::Closed(())) => return Err(SendError::Closed(sent)),
                Err(TrySendError::Forked(())) => return Err(SendError::Forked(sent)),
                Err(TrySendError::Stuck(())) => return Err(SendError::Stuck(sent)),
            };
        }
        Ok(())
    }

    /// Like [`send`](Self::send), for a message that is kept.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub fn send_ref(&mut self, message: &T) -> Result<(), SendError<()>> {
        let index = self.slot(None).map_err(SendError::from_untimed)?;
        self.fill_from(index, message);
        self.publish();
        Ok(())
    }

    /// The place of the next message, to write it there, if there is room now.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Self::try_send).
    #[inline]
    pub fn try_reserve(&mut self) -> Result<Reservation<'_, T, K>, TrySendError<()>> {
        let index = self.try_slot()?;
        Ok(Reservation::new(self, index))
    }

    /// The place of the next message, to write it there, waiting for room.
    ///
    /// A reservation that is dropped or forgotten sends nothing: the next one has the same place. (In a ring of
    /// [`mpsc`](crate::mpsc) it is given up when it is dropped, or by the next call if it was forgotten; its place then
    /// stays empty until the receiver has passed over it.)
    ///
    /// ```
    /// # let name = format!("doc-reserve-{}", std::process::id());
    /// # let mut tx = ipc_ring::spsc::<[u8; 4096]>(&name).capacity(4).remove_when_idle().sender().unwrap();
    /// tx.reserve()?.write([1; 4096]).publish();
    /// # Ok::<(), ipc_ring::SendError<()>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub fn reserve(&mut self) -> Result<Reservation<'_, T, K>, SendError<()>> {
        let index = self.slot(None).map_err(SendError::from_untimed)?;
        Ok(Reservation::new(self, index))
    }

    /// Messages that the receiver has not taken yet; 0 in a forked child. Of lanes, those in this sender's lane; of
    /// [`mpsc`](crate::mpsc) and [`locked`](crate::locked), places that are taken, for messages still being written, or given up, or
    /// looked at, as well.
    pub fn len(&self) -> usize {
        if self.is_current() {
            self.producer.len() as usize
        } else {
            0
        }
    }

    /// Whether the receiver has taken all messages.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no room for another message now.
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// How many messages the ring, or each lane, holds: what was asked for, rounded up to a power of two.
    pub fn capacity(&self) -> usize {
        self.producer.ring().capacity() as usize
    }

    /// How the receiver is, by the kernel's word. Makes system calls. [`Peer::Forked`] in a forked child. Of several receivers, one
    /// who lives; if none does, one who died; [`participants`](Self::participants) tells of all.
    pub fn peer(&mut self) -> Peer {
        if self.is_current() {
            self.endpoint.peer()
        } else {
            Peer::Forked
        }
    }

    /// All who take part in the ring, by the kernel's word, or were the last in a place that nobody has taken since. Makes a
    /// system call or two for each. Empty in a forked child.
    pub fn participants(&self) -> Vec<Participant> {
        if self.is_current() {
            participants::<K>(self.endpoint.segment())
        } else {
            Vec::new()
        }
    }

    /// The slot to fill next.
    #[inline(always)]
    fn try_slot(&mut self) -> Result<usize, TrySendError<()>> {
        if !self.is_current() {
            return Err(TrySendError::Forked(()));
        }
        if self.producer.is_open() {
            self.abandon();
        }
        // Relaxed: it says what the receiver wants, and publishes nothing.
        let word = self.producer.call().attention.load(Ordering::Relaxed);
        if word & attention::LEFT != 0 && self.endpoint.is_closed() {
            return Err(TrySendError::Closed(()));
        }
        let slot = self.producer.slot();
        if planted(Fault::PublishEarly) && slot.is_some() {
            self.producer.publish();
        }
        match slot {
            Some(index) => Ok(index),
            None if K::RECEIVERS_SHARE => self.slot_of_the_dead(),
            None => Err(TrySendError::Full(())),
        }
    }

    /// The slot to fill next, after there was none: if there has been none for some time, and the dead have some. For kinds in which
    /// no receiver would come upon that.
    #[cold]
    fn slot_of_the_dead(&mut self) -> Result<usize, TrySendError<()>> {
        if self.producer.is_stuck() {
            return Err(TrySendError::Stuck(()));
        }
        if !self.standstill.lasts(self.sent, SLICE) {
            return Err(TrySendError::Full(()));
        }
        match look::<T, K>(&mut self.producer, &self.endpoint) {
            Look::Stuck => Err(TrySendError::Stuck(())),
            _ => self.producer.slot().ok_or(TrySendError::Full(())),
        }
    }

    /// The slot to fill next, waited for.
    #[cold]
    #[inline(never)]
    fn slot(&mut self, deadline: Option<Instant>) -> Result<usize, SendTimeoutError<()>> {
        let mut found_room = false;
        loop {
            match self.try_slot() {
                Ok(index) => return Ok(index),
                Err(TrySendError::Closed(())) => return Err(SendTimeoutError::Closed(())),
                Err(TrySendError::Forked(())) => return Err(SendTimeoutError::Forked(())),
                Err(TrySendError::Stuck(())) => return Err(SendTimeoutError::Stuck(())),
                Err(TrySendError::Full(())) => {}
            }
            // Others were faster; or a peer breaks the rules, for whom no deadline is missed.
            if found_room && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(SendTimeoutError::Timeout(()));
            }
            self.wait_for_room(deadline).map_err(|stop| match stop {
                Stop::TimedOut => SendTimeoutError::Timeout(()),
                Stop::Closed => SendTimeoutError::Closed(()),
                Stop::NameLost => SendTimeoutError::NameLost(()),
                Stop::Stuck => SendTimeoutError::Stuck(()),
                Stop::Died(_) => SendTimeoutError::ReceiverDied(()),
            })?;
            found_room = true;
        }
    }

    /// Moves a message into the slot that was answered last.
    #[inline(always)]
    fn fill(&mut self, index: usize, message: T) {
        let place = self.place(index);
        // SAFETY: the slot is ours until it is published.
        unsafe { place.write(MaybeUninit::new(message)) };
    }

    /// Copies a message into the slot that was answered last.
    #[inline(always)]
    fn fill_from(&mut self, index: usize, message: &T) {
        let place = self.place(index);
        // SAFETY: the slot is ours until it is published and overlaps no message of the caller's; a copy of a message's
        // bytes is a message, by the contract of `ShmMessage`.
        unsafe { ptr::copy_nonoverlapping(message, place.cast(), 1) };
    }

    /// Whether this is the process that made the handle.
    #[inline(always)]
    pub(super) fn is_current(&self) -> bool {
        self.token.is_current()
    }

    /// The place of the slot that was answered last.
    #[inline(always)]
    pub(super) fn place(&mut self, index: usize) -> *mut MaybeUninit<T> {
        // SAFETY: the slot is ours until it is published, by whoever holds us exclusively.
        unsafe { self.producer.ring().slots().fill(index, |slot| slot) }
    }

    /// Publishes the slot that was filled.
    #[inline(always)]
    pub(super) fn publish(&mut self) {
        self.publish_untold();
        self.notify(1);
    }

    /// The same, but for waking the receiver.
    #[inline(always)]
    fn publish_untold(&mut self) {
        if !planted(Fault::PublishEarly) {
            self.producer.publish();
        }
        self.count();
    }

    /// Gives up the slot that was answered last, if it was not published.
    #[cold]
    pub(super) fn abandon(&mut self) {
        if self.producer.abandon() {
            self.call_who_waited_for_it();
        }
    }

    #[inline(always)]
    fn count(&mut self) {
        if K::SENDERS_SHARE {
            self.sent += 1;
            let counter = &self.endpoint.counters().messages;
            counter.store(self.sent, Ordering::Relaxed);
        }
    }

    /// After a slot was given up: the receiver, who then gets past it, or those who can have it.
    #[cold]
    fn call_who_waited_for_it(&mut self) {
        if K::RECEIVERS_SHARE {
            self.endpoint
                .call_fellows(self.producer.ring().to_senders());
        } else {
            self.notify(1);
        }
    }

    /// Wakes who waits for so many messages: a receiver for each, if several wait by the same words.
    #[inline(always)]
    fn notify(&mut self, messages: u64) {
        let most = if K::RECEIVERS_SHARE { messages } else { ALL };
        if self.producer.has_stirred() {
            self.endpoint.call_everybody(self.producer.ring());
        }
        if self.waker.notify(self.producer.call(), most) {
            count(&self.endpoint.counters().wakes);
        }
    }

    #[cold]
    fn wait_for_room(&mut self, deadline: Option<Instant>) -> Result<(), Stop> {
        if self.capacity() >= FAR {
            // The receiver has a long way to go: meanwhile, leave `head` to it.
            look_away();
            if self.producer.has_room() {
                return Ok(());
            }
        }
        let waker = &self.waker;
        let waited = self.endpoint.wait(
            &mut self.producer,
            deadline,
            |producer| producer.has_room(),
            look::<T, K>,
            |producer| waker.notify_surely(producer.call()),
        );
        if let Err(stop @ Stop::NameLost) = &waited {
            self.endpoint.told(stop);
        }
        waited
    }

    /// The ring's name, without its namespace.
    pub fn name(&self) -> &str {
        self.endpoint.segment().object().name()
    }
}

/// Looks for room, past the dead.
fn look<T: ShmMessage, K: Kind>(producer: &mut K::Producer<T>, endpoint: &Endpoint) -> Look {
    let look = producer.look(|owner| endpoint.is_dead::<K>(owner));
    if producer.has_stirred() {
        endpoint.call_everybody(producer.ring());
    }
    look
}

impl<T: ShmMessage, K: ManySenders> Sender<T, K> {
    /// Joins the same ring once more: as a participant of its own, for another thread, say. Takes one of the
    /// [`max_senders`](super::Builder::max_senders) places. Keeps [`keep_open`](super::Builder::keep_open) and
    /// [`poll_before_sleep`](super::Builder::poll_before_sleep), and of the other options none.
    ///
    /// # Errors
    ///
    /// As for [`Builder::sender`](super::Builder::sender); [`OpenError::NotFound`] if the ring has lost its name.
    pub fn try_clone(&self) -> Result<Self, OpenError> {
        let segment = attach::attach_again(self.endpoint.segment(), Role::Sender)?;
        Ok(Self::join(segment, self.endpoint.habits()))
    }
}

impl<T: ShmMessage, K: Kind> Drop for Sender<T, K> {
    fn drop(&mut self) {
        if self.token.is_current() {
            if !planted(Fault::EntryClearedEarly) && self.producer.abandon() && K::RECEIVERS_SHARE {
                self.call_who_waited_for_it();
            }
            let (waker, producer) = (&self.waker, &self.producer);
            self.endpoint
                .leave::<K>(|| waker.notify_surely(producer.call()));
            if planted(Fault::EntryClearedEarly) {
                self.producer.abandon();
            }
        }
    }
}

impl<T: ShmMessage, K: Kind> fmt::Debug for Sender<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl SendError<()> {
    fn from_untimed(error: SendTimeoutError<()>) -> Self {
        match error {
            SendTimeoutError::Closed(()) => Self::Closed(()),
            SendTimeoutError::ReceiverDied(()) => Self::ReceiverDied(()),
            SendTimeoutError::NameLost(()) => Self::NameLost(()),
            SendTimeoutError::Forked(()) => Self::Forked(()),
            SendTimeoutError::Stuck(()) => Self::Stuck(()),
            SendTimeoutError::Timeout(()) => unreachable!("no deadline"),
        }
    }
}
