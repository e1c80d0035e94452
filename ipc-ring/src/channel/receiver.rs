//! The receiving side.
#![allow(unsafe_code, reason = "messages are read from slots")]

mod looking;

use super::endpoint::{Endpoint, Habits, Stop, count};
use super::iter::{Drain, Iter, TryIter};
use super::participants::{Participant, Peer, participants};
use super::standoff::StandOff;
use super::standstill::Standstill;
use super::{Kind, ManyReceivers, Spsc, TotalOrder};
use crate::error::{OpenError, RecvError, RecvTimeoutError, Role, TryRecvError};
use crate::message::{Invalid, ShmMessage};
use crate::ring::{Ahead, Consume, End};
use crate::segment::attach;
use crate::segment::mapped::Segment;
use crate::sync::{Fault, planted};
use crate::sys::fork::Token;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::atomic::{Ordering, compiler_fence};
use std::time::{Duration, Instant};

/// Receives messages from a ring. Dropping it is leaving: the senders are told `Closed`, once no other receiver is left.
///
/// *Receiving* copies the message out, gives its slot back, and returns it: a message arrives at most once, and a
/// receiver that is killed within the call leaves it to its successor. *Peeking* gives the slot back by
/// [`consume`](Self::consume), after the message was dealt with: it arrives at least once.
///
/// A receiver belongs to one thread at a time:
///
/// ```compile_fail
/// fn share<T: Sync>() {}
/// share::<ipc_ring::Receiver<u64>>();
/// ```
pub struct Receiver<T: ShmMessage, K: Kind = Spsc> {
    consumer: K::Consumer<T>,
    wakers: K::Wakers,
    token: Token,
    corrupt: u64,
    stand_off: StandOff,
    /// How often to look for a message before the slow way.
    looks: u32,
    standstill: Standstill,
    /// An iterator ended because the ring could not be had.
    is_stuck_untold: bool,
    endpoint: Endpoint,
    not_sync: PhantomData<Cell<()>>,
}

/// What is in a place of a batch.
pub(super) enum Copied<T> {
    Message(T),
    Corrupt,
    Skipped,
    Nothing,
}

impl<T: ShmMessage, K: Kind> Receiver<T, K> {
    pub(super) fn join(segment: Segment, habits: Habits) -> Self {
        let token = segment.token();
        let mut endpoint = Endpoint::new(segment, Role::Receiver, habits);
        let places = endpoint.segment().places();
        // SAFETY: kind and header were checked against `K` and `T`; the segment lives in the endpoint, which is dropped with
        // the consumer.
        let consumer =
            unsafe { K::consumer(places, endpoint.segment().index(), endpoint.session()) };
        let wakers = K::wakers(endpoint.waker(), places, &consumer);
        // A sender that ended before we came is ours to hear of only if it left messages.
        endpoint.join::<K>();
        Self {
            consumer,
            wakers,
            token,
            corrupt: 0,
            stand_off: StandOff::default(),
            looks: habits.looks(),
            standstill: Standstill::default(),
            is_stuck_untold: false,
            endpoint,
            not_sync: PhantomData,
        }
    }

    /// Receives a message if there is one now. Makes no system call but to wake a sender that sleeps and, in
    /// [`mpsc`](crate::mpsc), to ask about one whose message has been in the way for a millisecond. So it hears that
    /// senders left, and not that they died: [`recv`](Self::recv), [`recv_timeout`](Self::recv_timeout) and, in
    /// [`spsc`](crate::spsc), `peer` look for that.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]; once the ring is drained, [`TryRecvError::Closed`], and [`TryRecvError::SenderDied`] for a
    /// death that one of those, or an iterator, has found and not told; [`TryRecvError::Corrupt`] for a message that is not
    /// a value of `T`, which is dropped; [`TryRecvError::Forked`].
    ///
    /// In [`locked`](crate::locked) it waits for the mutex, and says [`TryRecvError::Stuck`] if that can't be had for a second; and after
    /// 50 ms without a message it asks the kernel about those who look at some.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let index = match self.slot_now() {
            Some(index) => index,
            None => self.slot_behind_claim_or_why_not()?,
        };
        self.take(0, index, TryRecvError::Corrupt)
    }

    /// Receives a message, waiting for one. Before the first sender comes, it waits for that.
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] and [`RecvError::SenderDied`] once the ring is drained; a later sender continues it.
    /// [`RecvError::Corrupt`] for a message that is not a value of `T`, which is dropped. [`RecvError::NameLost`], once, if
    /// the ring is empty and was removed. [`RecvError::Forked`]. Of [`locked`](crate::locked), [`RecvError::Stuck`].
    ///
    /// Once there is nothing to receive, a death is noticed within 50 ms, or 200 ms by who has waited for long; with more
    /// than 64 senders, so long for each 64 of them. While others keep the receiver busy without a gap, or a stopped sender
    /// of [`mpsc`](crate::mpsc) is in the way, it is not told: there may be messages of the dead one. Nor is any ending while somebody
    /// else looks at a message of [`locked`](crate::locked), which may come back; so a thread must not wait by one receiver for the
    /// end of what another one of its own looks at.
    ///
    /// Of several senders, each death is told, once, while others may go on; `Closed` comes when nobody is left and one of them has
    /// left cleanly. If all of them died, that was told, and `recv` waits for whoever comes in their place. The
    /// ring does not know how many senders will come: if one leaves before the next has joined, that is `Closed`; see
    /// [`keep_open`](super::Builder::keep_open).
    ///
    /// ```
    /// # use ipc_ring::RecvError;
    /// # let name = format!("doc-recv-{}", std::process::id());
    /// # let mut tx = ipc_ring::spsc::<u64>(&name).capacity(4).remove_when_idle().sender().unwrap();
    /// # let mut rx = ipc_ring::spsc::<u64>(&name).receiver().unwrap();
    /// # tx.send(1).unwrap();
    /// # drop(tx);
    /// loop {
    ///     match rx.recv() {
    ///         Ok(message) => println!("{message}"),
    ///         Err(RecvError::Closed) => break,
    ///         // The next `recv` waits for whoever is started in its place.
    ///         Err(RecvError::SenderDied { pid, program }) => eprintln!("{program} ({pid}) died"),
    ///         Err(error) => eprintln!("{error}"),
    ///     }
    /// }
    /// ```
    #[inline(always)]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        let index = match self.slot_soon() {
            Some(index) => index,
            None => self
                .wait_after_none(None)
                .map_err(RecvError::from_untimed)?,
        };
        self.take(0, index, RecvError::Corrupt)
    }

    /// Receives a message, waiting for one no longer than `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv), and [`RecvTimeoutError::Timeout`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        let index = match self.slot_soon() {
            Some(index) => index,
            None => self.wait_after_none(Instant::now().checked_add(timeout))?,
        };
        self.take(0, index, RecvTimeoutError::Corrupt)
    }

    /// Receives as many messages as there are now, at most `out.len()`, into the beginning of `out`, and answers how
    /// many. They are one unit: their slots are given back together. Of lanes, they are those of one lane, at most 64: less than
    /// `out.len()` does not mean that there are no more.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv), if there is no first one. A corrupt message ends the batch before it.
    pub fn try_recv_slice(&mut self, out: &mut [T]) -> Result<usize, TryRecvError> {
        if out.is_empty() {
            return Ok(0);
        }
        let mut next = self.slot_or_why_not()?;
        let (mut count, mut passed) = (0, 0);
        loop {
            match self.copy(next, |invalid| invalid) {
                Ok(message) => out[count] = message,
                Err(invalid) if count == 0 => {
                    self.drop_corrupt();
                    return Err(TryRecvError::Corrupt(invalid));
                }
                Err(_) => break,
            }
            count += 1;
            if count == out.len() {
                break;
            }
            match self.message_ahead(&mut passed, count as u64) {
                Some(index) => next = index,
                None => break,
            }
        }
        self.consumer.passed_over(passed);
        self.release(passed + count as u64);
        Ok(count)
    }

    /// The slot of the next message behind `count` messages and `passed` places without one, which grows by those in
    /// between.
    fn message_ahead(&mut self, passed: &mut u64, count: u64) -> Option<usize> {
        while *passed + count < self.consumer.turn() {
            match self.consumer.ahead(*passed + count) {
                Ahead::Message(index) => return Some(index),
                Ahead::Skipped => *passed += 1,
                Ahead::Nothing => return None,
            }
        }
        None
    }

    /// The messages that are there now, as one unit: their slots are given back together, when the iterator is dropped.
    /// Those that it was not asked for stay. A receiver that is killed before the drop, or forgets the iterator, leaves all
    /// of them to be received again: at least once, as with [`consume`](Self::consume). Of lanes, they are those of one
    /// lane, at most 64.
    ///
    /// Empty as well when there is an ending to tell: [`recv`](Self::recv) does.
    ///
    /// Corrupt messages are left out and counted by [`corrupt`](Self::corrupt).
    pub fn drain(&mut self) -> Drain<'_, T, K> {
        // Of several lanes, one has its turn.
        // An end is not told here: nobody would be there to hear it.
        let there = self.slot_now().is_some()
            || self.is_current() && self.slot_behind_claim_or_end().is_ok();
        let most = if there { self.consumer.turn() } else { 0 };
        Drain::new(self, most)
    }

    /// Looks at the message at the front where it is, waiting for one. It stays there until
    /// [`consume`](Self::consume).
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv); a corrupt message is dropped.
    ///
    /// # Safety
    ///
    /// The reference points into memory that the senders' processes can write. They must keep to the ring's rules, as this
    /// library does, for as long as the reference lives.
    pub unsafe fn peek(&mut self) -> Result<&T, RecvError> {
        let index = self.wait_for_slot(None).map_err(RecvError::from_untimed)?;
        // SAFETY: as the caller says.
        match unsafe { self.check_in_place(index) } {
            // SAFETY: as the caller says; the borrow is that of `self`.
            Ok(message) => Ok(unsafe { &*message }),
            Err(invalid) => Err(RecvError::Corrupt(invalid)),
        }
    }

    /// Like [`peek`](Self::peek), if there is a message now.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv).
    ///
    /// # Safety
    ///
    /// As for [`peek`](Self::peek).
    pub unsafe fn try_peek(&mut self) -> Result<&T, TryRecvError> {
        let index = self.slot_or_why_not()?;
        // SAFETY: as the caller says.
        match unsafe { self.check_in_place(index) } {
            // SAFETY: as the caller says; the borrow is that of `self`.
            Ok(message) => Ok(unsafe { &*message }),
            Err(invalid) => Err(TryRecvError::Corrupt(invalid)),
        }
    }

    /// # Safety
    ///
    /// As for `peek`.
    unsafe fn check_in_place(&mut self, index: usize) -> Result<*const T, Invalid> {
        // SAFETY: the slot is ours to read until it is released.
        let place = unsafe { self.consumer.ring().slots().read(index, |place| place) };
        // SAFETY: a slot of ours, and any bytes are a `MaybeUninit`.
        let candidate = unsafe { &*place };
        // SAFETY: the slot was filled before it was published; the caller vouches that nobody changes it.
        let checked = unsafe { T::check(candidate) };
        checked.inspect_err(|_| self.drop_corrupt())?;
        Ok(place.cast())
    }

    /// Copies the message at the front, waiting for one. It stays there until [`consume`](Self::consume).
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv); a corrupt message is dropped.
    pub fn peek_copied(&mut self) -> Result<T, RecvError> {
        let index = self.wait_for_slot(None).map_err(RecvError::from_untimed)?;
        let copied = self.copy(index, RecvError::Corrupt);
        copied.inspect_err(|_| self.drop_corrupt())
    }

    /// Like [`peek_copied`](Self::peek_copied), waiting no longer than `timeout` (CLOCK_MONOTONIC).
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout); a corrupt message is dropped.
    pub fn peek_copied_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        let index = self.wait_for_slot(Instant::now().checked_add(timeout))?;
        let copied = self.copy(index, RecvTimeoutError::Corrupt);
        copied.inspect_err(|_| self.drop_corrupt())
    }

    /// Like [`peek_copied`](Self::peek_copied), if there is a message now.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv).
    pub fn try_peek_copied(&mut self) -> Result<T, TryRecvError> {
        let index = self.slot_or_why_not()?;
        let copied = self.copy(index, TryRecvError::Corrupt);
        copied.inspect_err(|_| self.drop_corrupt())
    }

    /// Gives back the slot of the message at the front. False if there is none. To be called after a peek that returned
    /// `Ok`: what is at the front is dropped, seen or not.
    ///
    /// ```
    /// # let name = format!("doc-peek-{}", std::process::id());
    /// # let mut tx = ipc_ring::spsc::<u64>(&name).capacity(4).remove_when_idle().sender().unwrap();
    /// # let mut rx = ipc_ring::spsc::<u64>(&name).receiver().unwrap();
    /// # tx.send(7).unwrap();
    /// let message = rx.peek_copied()?;
    /// println!("{message}"); // killed here, a successor receives it again
    /// rx.consume();
    /// # Ok::<(), ipc_ring::RecvError>(())
    /// ```
    pub fn consume(&mut self) -> bool {
        let there =
            self.slot_now().is_some() || self.is_current() && self.slot_behind_claim().is_some();
        if there {
            self.release(1);
        }
        there
    }

    /// Receives until no sender is left, one has died (others may go on), or the ring has lost its name. Which of them, the
    /// next [`recv`](Self::recv) says; until then the iterator stays at its end.
    ///
    /// Corrupt messages are left out and counted by [`corrupt`](Self::corrupt).
    pub fn iter(&mut self) -> Iter<'_, T, K> {
        Iter::new(self)
    }

    /// Receives what is there, without waiting.
    pub fn try_iter(&mut self) -> TryIter<'_, T, K> {
        TryIter::new(self)
    }

    /// Messages in the ring; 0 in a forked child. Of lanes, those in all lanes; of [`mpsc`](crate::mpsc), places that are
    /// taken, so that there may be nothing to receive yet; of [`locked`](crate::locked), but for those that others look at.
    pub fn len(&self) -> usize {
        if self.is_current() {
            self.consumer.len() as usize
        } else {
            0
        }
    }

    /// Whether there is nothing to receive now. Does not ask the kernel: what lies behind the place of a dead sender is not seen
    /// until a call that receives has passed over that.
    pub fn is_empty(&self) -> bool {
        !self.is_current() || self.consumer.is_empty()
    }

    /// Whether a sender has no room for another message now.
    pub fn is_full(&self) -> bool {
        self.is_current() && self.consumer.is_full()
    }

    /// How many messages the ring, or each lane, holds: what was asked for, rounded up to a power of two.
    pub fn capacity(&self) -> usize {
        self.consumer.ring().capacity() as usize
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

    /// How many messages this handle has dropped because they were not values of `T`.
    pub fn corrupt(&self) -> u64 {
        self.corrupt
    }

    /// Whether this is the process that made the handle.
    #[inline(always)]
    pub(super) fn is_current(&self) -> bool {
        self.token.is_current()
    }

    /// The next message for an iterator, which leaves it to the next call to say what ended it. Corrupt messages are
    /// counted and left out.
    pub(super) fn next_message(&mut self, wait: bool) -> Option<T> {
        // Without waiting, a sender of nothing but corrupt messages is not followed for more than a lap.
        let last = self.corrupt.saturating_add(self.consumer.ring().capacity());
        while wait || self.corrupt < last {
            if !self.is_current() || self.is_stuck_untold {
                return None;
            }
            let soon = if wait {
                self.slot_soon()
            } else {
                self.slot_now()
            };
            let found = match soon {
                Some(index) => Ok(index),
                None => self.slot_behind_claim_or_end(),
            };
            let found = match found {
                Err(None) if wait => self.wait(None).map_err(Some),
                found => found,
            };
            let index = match found {
                Ok(index) => index,
                Err(stop) => {
                    // Other ends are still there when the next call looks.
                    self.is_stuck_untold = matches!(stop, Some(Stop::Stuck));
                    return None;
                }
            };
            if let Ok(message) = self.take(0, index, |invalid| invalid) {
                return Some(message);
            }
        }
        None
    }

    /// Copies a message out. `corrupt` makes the error, so that a message passes through one `Result` only: with each
    /// further one the compiler takes it apart, at odd offsets.
    #[inline(always)]
    fn copy<E>(&self, index: usize, corrupt: impl FnOnce(Invalid) -> E) -> Result<T, E> {
        let message = self.copy_unchecked(index);
        // What is checked is the copy: the compiler must not read the slot again in its place.
        compiler_fence(Ordering::SeqCst);
        // SAFETY: a copy of bytes that were written before they were published, which is ours alone.
        match unsafe { T::check(&message) } {
            // SAFETY: checked.
            Ok(()) => Ok(unsafe { message.assume_init() }),
            Err(invalid) => Err(corrupt(invalid)),
        }
    }

    #[inline(always)]
    fn copy_unchecked(&self, index: usize) -> MaybeUninit<T> {
        // SAFETY: the slot is ours to read until it is released, and is only asked for after that was answered.
        let read = |place: *const MaybeUninit<T>| unsafe { place.read() };
        // SAFETY: as above.
        unsafe { self.consumer.ring().slots().read(index, read) }
    }

    /// Copies out the message behind `older` ones, which are dropped, and gives the slots back.
    #[inline(always)]
    fn take<E>(
        &mut self,
        older: u64,
        index: usize,
        corrupt: impl FnOnce(Invalid) -> E,
    ) -> Result<T, E> {
        if planted(Fault::ReleaseEarly) {
            self.release(older + 1);
        }
        let message = self.copy_unchecked(index);
        // The Release store of `head` keeps the compiler from reading the slot again afterwards: what is checked is
        // what is returned, whatever the peer writes meanwhile.
        if !planted(Fault::ReleaseEarly) {
            self.release(older + 1);
        }
        // SAFETY: a copy of bytes that were written before they were published, which is ours alone.
        match unsafe { T::check(&message) } {
            // SAFETY: checked.
            Ok(()) => Ok(unsafe { message.assume_init() }),
            Err(invalid) => {
                self.count_corrupt(1);
                Err(corrupt(invalid))
            }
        }
    }

    /// What is `ahead` positions on in a batch.
    pub(super) fn copy_ahead(&mut self, ahead: u64) -> Copied<T> {
        match self.consumer.ahead(ahead) {
            Ahead::Message(index) => match self.copy(index, |invalid| invalid) {
                Ok(message) => Copied::Message(message),
                Err(_) => Copied::Corrupt,
            },
            Ahead::Skipped => Copied::Skipped,
            Ahead::Nothing => Copied::Nothing,
        }
    }

    /// Gives back a batch of `taken` positions, of which some had no message.
    pub(super) fn release_batch(&mut self, taken: u64, skipped: u64, corrupt: u64) {
        self.consumer.passed_over(skipped);
        self.count_corrupt(corrupt);
        self.release(taken);
    }

    #[cold]
    fn count_corrupt(&mut self, messages: u64) {
        self.corrupt += messages;
        let counter = &self.endpoint.counters().corrupt;
        counter.store(self.corrupt, Ordering::Relaxed);
    }

    #[cold]
    fn drop_corrupt(&mut self) {
        self.count_corrupt(1);
        self.release(1);
    }

    /// Leaves what was looked at and not consumed to other receivers.
    fn leave_to_fellows(&mut self) {
        if self.consumer.abandon() {
            self.endpoint
                .call_fellows(self.consumer.ring().to_receivers());
        }
    }

    /// Gives slots back to the sender.
    #[inline(always)]
    pub(super) fn release(&mut self, count: u64) {
        self.consumer.release(count);
        if self.consumer.has_stirred() {
            self.endpoint.call_everybody(self.consumer.ring());
        }
        if K::RECEIVERS_SHARE {
            let counter = &self.endpoint.counters().messages;
            counter.store(self.consumer.position(), Ordering::Relaxed);
            // It was had since.
            self.is_stuck_untold = false;
        }
        if K::notify_senders::<T>(&mut self.wakers, &self.consumer, count) {
            self::count(&self.endpoint.counters().wakes);
        }
    }

    /// The ring's name, without its namespace.
    pub fn name(&self) -> &str {
        self.endpoint.segment().object().name()
    }
}

impl<T: ShmMessage, K: TotalOrder> Receiver<T, K> {
    /// Receives the newest message that is there now, and drops the older ones, even if the newest is corrupt. Does not
    /// wait.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv).
    pub fn recv_latest(&mut self) -> Result<T, TryRecvError> {
        let (mut newest, mut older, mut passed) = (self.slot_or_why_not()?, 0, 0);
        let mut passed_on = 0;
        while let Some(index) = self.message_ahead(&mut passed_on, older + 1) {
            (newest, passed) = (index, passed_on);
            older += 1;
        }
        self.consumer.passed_over(passed);
        self.take(passed + older, newest, TryRecvError::Corrupt)
    }
}

impl<T: ShmMessage> Receiver<T, Spsc> {
    /// How the sender is, by the kernel's word. Makes system calls. [`Peer::Forked`] in a forked child. With several senders,
    /// [`participants`](Self::participants) tells.
    pub fn peer(&mut self) -> Peer {
        if self.is_current() {
            self.endpoint.peer()
        } else {
            Peer::Forked
        }
    }
}

impl<T: ShmMessage, K: ManyReceivers> Receiver<T, K> {
    /// Gives back what this receiver has looked at and not consumed: to the front of the queue, for whoever asks first, this one
    /// included.
    pub fn give_back(&mut self) {
        if self.is_current() {
            self.leave_to_fellows();
        }
    }

    /// Joins the same ring once more: as a participant of its own, for another thread, say. Takes one of the
    /// [`max_receivers`](super::Builder::max_receivers) places. Keeps [`keep_open`](super::Builder::keep_open) and
    /// [`poll_before_sleep`](super::Builder::poll_before_sleep), and of the other options none.
    ///
    /// # Errors
    ///
    /// As for [`Builder::receiver`](super::Builder::receiver); [`OpenError::NotFound`] if the ring has lost its name.
    pub fn try_clone(&self) -> Result<Self, OpenError> {
        let segment = attach::attach_again(self.endpoint.segment(), Role::Receiver)?;
        Ok(Self::join(segment, self.endpoint.habits()))
    }
}

impl RecvError {
    fn from_untimed(error: RecvTimeoutError) -> Self {
        match error {
            RecvTimeoutError::Closed => Self::Closed,
            RecvTimeoutError::SenderDied { pid, program } => Self::SenderDied { pid, program },
            RecvTimeoutError::NameLost => Self::NameLost,
            RecvTimeoutError::Forked => Self::Forked,
            RecvTimeoutError::Stuck => Self::Stuck,
            RecvTimeoutError::Corrupt(invalid) => Self::Corrupt(invalid),
            RecvTimeoutError::Timeout => unreachable!("no deadline"),
        }
    }
}

impl<'a, T: ShmMessage, K: Kind> IntoIterator for &'a mut Receiver<T, K> {
    type Item = T;
    type IntoIter = Iter<'a, T, K>;

    fn into_iter(self) -> Iter<'a, T, K> {
        self.iter()
    }
}

impl<T: ShmMessage, K: Kind> Drop for Receiver<T, K> {
    fn drop(&mut self) {
        if self.token.is_current() {
            self.leave_to_fellows();
            let (wakers, consumer) = (&self.wakers, &self.consumer);
            self.endpoint
                .leave::<K>(|| K::notify_all_senders::<T>(wakers, consumer));
        }
    }
}

impl<T: ShmMessage, K: Kind> fmt::Debug for Receiver<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}
