//! One producer, one consumer. After FastForward (Giacomoni, Moseley, Vachharajani: "FastForward for Efficient
//! Pipeline Parallelism", PPoPP 2008), where the slot itself says that it is full; with a stamp in place of
//! its null, and a cached `head` in place of its second look at the slot, so that slots have one writer.
//!
//! | word        | written by          | ordering            | partner                                   |
//! |-------------|---------------------|---------------------|-------------------------------------------|
//! | stamp of p  | the producer        | Release             | Acquire in [`Consumer::slot`]             |
//! | head        | the consumer        | Release             | Acquire in [`Producer::extend`]           |
//! | announced   | the producer        | Relaxed, then a Release fence | Acquire fence in [`Observer::read`] |
//! | message     | the producer, between [`Producer::slot`] and [`Producer::publish`] | – | –              |
//!
//! There is no shared tail. A producer that takes over finds it in the stamps: positions from `head` on are
//! published without a gap, and nothing beyond is. A producer that died within a message leaves the slot as it
//! was, unpublished, and the successor fills it again.
//!
//! A consumer that takes over starts at `head`: what its predecessor copied out without saying so arrives again.

use super::{Ahead, Consume, End, Produce, Ring, Slots, published};
use crate::sync::{Fault, Ordering, fence, order, planted};

/// The producer's private side.
pub(crate) struct Producer<S> {
    ring: Ring<S>,
    /// The next position to publish.
    tail: u64,
    /// Up to here (exclusive) the slots are free and announced.
    limit: u64,
}

impl<S: Slots> Producer<S> {
    /// Takes the producer's side of `ring`. The caller is the only producer from now on: a predecessor is gone,
    /// by the kernel's word, and its stores are visible.
    pub(crate) fn take_over(ring: Ring<S>) -> Self {
        // Acquire: the consumer has read what it released. Read once; a concurrent consumer may move it on,
        // which only makes the walk below start behind it.
        let head = ring.receivers().position.0.load(Ordering::Acquire);
        let mut tail = head;
        // At most one lap, whatever a peer writes.
        while tail.wrapping_sub(head) < ring.capacity()
            && ring.stamp(tail).load(Ordering::Acquire) == published(tail)
            && !planted(Fault::TakeOverAtHead)
        {
            tail = tail.wrapping_add(1);
        }
        Self {
            ring,
            tail,
            limit: tail,
        }
    }

    /// Looks for more room, and announces the part of it that will be used next.
    #[cold]
    fn extend(&mut self) -> bool {
        let capacity = self.ring.capacity();
        // Acquire: the consumer has read what it released. Pairs with Release in `Consumer::release`.
        let acquire = order(Ordering::Acquire, Fault::HeadRelaxed);
        let head = self.ring.receivers().position.0.load(acquire);
        // A head outside of what can be is a peer's mistake; "full" is the answer that harms nobody.
        let used = self.tail.wrapping_sub(head);
        if used >= capacity {
            return false;
        }
        // Announcing a part of the ring at a time leaves an observer the rest to read in peace.
        let step = (capacity / 4).max(1).min(capacity - used);
        self.limit = self.tail.wrapping_add(step);
        self.announce();
        true
    }

    /// Says how far this producer may write, before it does. A producer fills one slot at a time, at its tail; so
    /// what a predecessor may have begun is covered by a successor's first announcement.
    fn announce(&self) {
        if !planted(Fault::NoAnnouncement) {
            self.ring
                .senders()
                .position
                .0
                .store(self.limit, Ordering::Relaxed);
        }
        // Whoever sees a byte of a message sees the announcement that covers it. Pairs with the Acquire fence in
        // `Observer::read`.
        if !planted(Fault::AnnounceUnfenced) {
            fence(Ordering::Release);
        }
    }
}

impl<S: Slots> End for Producer<S> {
    type Slots = S;

    #[inline(always)]
    fn ring(&self) -> &Ring<S> {
        &self.ring
    }
}

impl<S: Slots> Produce for Producer<S> {
    /// Asked again without a publish in between, it answers the same slot.
    #[inline(always)]
    fn slot(&mut self) -> Option<usize> {
        if self.tail == self.limit && !self.extend() {
            return None;
        }
        Some(self.ring.index(self.tail))
    }

    #[inline(always)]
    fn publish(&mut self) {
        debug_assert_ne!(self.tail, self.limit);
        // Release: the message is visible to whoever sees the stamp. Pairs with Acquire in `Consumer::slot`.
        let release = order(Ordering::Release, Fault::PublishRelaxed);
        self.ring
            .stamp(self.tail)
            .store(published(self.tail), release);
        self.tail = self.tail.wrapping_add(1);
    }

    fn has_room(&self) -> bool {
        self.tail != self.limit || self.len() < self.ring.capacity()
    }

    fn len(&self) -> u64 {
        let head = self.ring.receivers().position.0.load(Ordering::Acquire);
        self.tail.wrapping_sub(head).min(self.ring.capacity())
    }
}

/// The consumer's private side.
#[derive(Clone)]
pub(crate) struct Consumer<S> {
    ring: Ring<S>,
    /// The next position to receive; its own copy of the shared word.
    head: u64,
}

impl<S: Slots> Consumer<S> {
    /// Takes the consumer's side of `ring`. The caller is the only consumer from now on, as above.
    pub(crate) fn take_over(ring: Ring<S>) -> Self {
        let head = ring.receivers().position.0.load(Ordering::Acquire);
        Self { ring, head }
    }

    #[inline(always)]
    pub(super) fn slot_ahead(&self, ahead: u64) -> Option<usize> {
        let position = self.head.wrapping_add(ahead);
        // Acquire: the message is as it was when the stamp was stored. Pairs with Release in
        // `Producer::publish`.
        let acquire = order(Ordering::Acquire, Fault::StampRelaxed);
        let stamp = self.ring.stamp(position).load(acquire);
        (stamp == published(position)).then(|| self.ring.index(position))
    }

    /// The slot at the front, without a claim to it.
    #[inline(always)]
    pub(super) fn front(&self) -> Option<usize> {
        self.slot_ahead(0)
    }
}

impl<S: Slots> End for Consumer<S> {
    type Slots = S;

    #[inline(always)]
    fn ring(&self) -> &Ring<S> {
        &self.ring
    }
}

impl<S: Slots> Consume for Consumer<S> {
    #[inline(always)]
    fn slot(&mut self) -> Option<usize> {
        self.slot_ahead(0)
    }

    #[inline(always)]
    fn ahead(&mut self, ahead: u64) -> Ahead {
        match self.slot_ahead(ahead) {
            Some(index) => Ahead::Message(index),
            None => Ahead::Nothing,
        }
    }

    #[inline(always)]
    fn position(&self) -> u64 {
        self.head
    }

    #[inline(always)]
    fn release(&mut self, count: u64) {
        self.head = self.head.wrapping_add(count);
        // Release: the reads of the messages are over. Pairs with Acquire in `Producer::extend`.
        let release = order(Ordering::Release, Fault::ReleaseRelaxed);
        self.ring.receivers().position.0.store(self.head, release);
    }

    /// Published positions have no gap, so their number is found by bisection.
    fn is_empty(&self) -> bool {
        self.front().is_none()
    }

    fn len(&self) -> u64 {
        let (mut published, mut beyond) = (0, self.ring.capacity());
        // The answer lies in published..=beyond.
        while published < beyond {
            let middle = published + (beyond - published) / 2;
            if self.slot_ahead(middle).is_some() {
                published = middle + 1;
            } else {
                beyond = middle;
            }
        }
        published
    }
}

/// Somebody who looks on and changes nothing.
#[cfg_attr(
    not(test),
    allow(
        dead_code,
        reason = "for the tap, a later part; modelled now, as it decides the layout"
    )
)]
pub(crate) struct Observer<S> {
    ring: Ring<S>,
}

/// What an observer found at a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(test), allow(dead_code, reason = "as for Observer"))]
pub(crate) enum Sighting<R> {
    /// A whole message.
    Whole(R),
    /// Another lap's stamp: not published yet, or long gone.
    Absent,
    /// The producer may have begun to write over it.
    Overtaken,
}

#[cfg_attr(not(test), allow(dead_code, reason = "as for Observer"))]
impl<S: Slots> Observer<S> {
    pub(crate) fn new(ring: Ring<S>) -> Self {
        Self { ring }
    }

    /// Copies the message at `position` by `copy`, which must bear being raced (atomic or volatile reads), and
    /// says whether the copy is whole.
    pub(crate) fn read<R>(&self, position: u64, copy: impl FnOnce(usize) -> R) -> Sighting<R> {
        let stamp = self.ring.stamp(position);
        // Acquire: the copy sees this lap's message or a later one.
        if stamp.load(Ordering::Acquire) != published(position) {
            return Sighting::Absent;
        }
        let copied = copy(self.ring.index(position));
        // Had the copy seen a byte of `position + capacity`, then this would see its announcement. Pairs with
        // the Release fence in `Producer::announce`.
        fence(Ordering::Acquire);
        let whole = if planted(Fault::ObserveStampOnly) {
            stamp.load(Ordering::Relaxed) == published(position)
        } else {
            let announced = self.ring.senders().position.0.load(Ordering::Relaxed);
            announced.wrapping_sub(position) <= self.ring.capacity()
        };
        if whole {
            Sighting::Whole(copied)
        } else {
            Sighting::Overtaken
        }
    }
}
