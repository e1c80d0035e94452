//! Several producers, one consumer, one total order. The slot itself is claimed, by compare-exchange on its stamp, so
//! that a claim carries its owner's name and can be settled when the owner dies. The stamp as a turn is that of Vyukov's bounded
//! queue (1024cores.net); claiming the slot and not the index is what makes a claim attributable.
//!
//! ```text
//!                          claim (by compare-exchange, if head > p − N)            publish
//! published, skipped or ───────────────────────────────────▶ claimed at p by o ──────────▶ published at p
//! initial at p − N                                                  │   give up (o), skip (the consumer, o being dead),
//!                                                                   │   sweep (who holds o's index after o's death)
//!                                                                   └────────────────────▶ skipped at p
//! ```
//!
//! | word        | written by          | ordering            | partner                                   |
//! |-------------|---------------------|---------------------|-------------------------------------------|
//! | stamp       | a producer: claim   | Relaxed, then a Release fence | Acquire fence in [`Observer::read`] |
//! | stamp       | its owner: publish  | Release             | Acquire in [`Consumer::slot`]             |
//! | stamp       | its owner: give up; its index's next holder: sweep | Release | Acquire in [`Consumer::slot`] |
//! | stamp       | the consumer: skip  | Relaxed: its own store of head follows | –                      |
//! | stamp       | the consumer: once more what is there, before it releases the slot | Release | Acquire in [`Observer::read`] |
//! | head        | the consumer        | Release             | Acquire in [`Producer::refresh`], [`Producer::join`] |
//! | hint        | a producer, after some of its claims | Relaxed, behind that fence | Acquire in [`Producer::later`]      |
//!
//! **Order.** A position is claimed only by who knows that the one before it was: a producer goes on from its own last claim,
//! from a slot that shows position P to P + 1, from the hint, which is stored after a claim, or from head, before which all is
//! settled. So positions are claimed in order, without a gap, and no gap can be left by who dies. A stale hint costs steps, not
//! order; only who finds several slots taken looks at it.
//!
//! **Death.** The kernel's word orders all that the dead did before what is done about it. A claim is settled exactly
//! once: its owner publishes, or is dead and can't. A position is claimed once in a ring's life, so a skip that comes late finds
//! another stamp. What is left is a claim whose owner's index has a new holder, which is alive: therefore **the new holder of an
//! index that was not left cleanly sweeps, before its first claim**.
//!
//! **A stopped claimant** keeps what it holds: messages behind its claim wait for it, and a ring full of such messages takes
//! no more. So this ring is not called lock-free.

use super::{
    Ahead, CLAIMED, Consume, End, OWNER, POSITION_SHIFT, Produce, Ring, SKIPPED, STATE_SHIFT,
    Slots, claimed, initial, published, skipped,
};
use crate::sync::{Fault, Ordering, fence, order, planted, prefetch_for_write};

const STATE: u64 = 3 << STATE_SHIFT;
/// The hint is stored each time that this divides the position, or the capacity does.
const HINT_EVERY: u64 = 16;
/// So often a search that nothing fits begins again at head.
const RETURNS: u32 = 2;
/// So many slots are looked at before the hint.
const STEPS: u64 = 8;
/// The slot that many positions behind a claimed one is fetched for writing: a compare-exchange waits for its line, and for all
/// stores before it, where a store would not. Much further on, the consumer's own prefetching takes the lines back.
const PREFETCH: u64 = 6;

/// After so many releases without a look in vain, a consumer hands lines on by a store. In a ping-pong, the answer would have
/// to wait for that store. Models are too short for that: there, always.
const RUN: u64 = if cfg!(loom) { 1 } else { 4 };

/// One producer's private side.
pub(crate) struct Producer<S> {
    ring: Ring<S>,
    /// The participant's index by which this producer claims.
    owner: u32,
    /// The last position is claimed and neither published nor given up.
    open: bool,
    /// All before this position was claimed, by us or others; our last claim is the one before, or none is open.
    tail: u64,
    /// As last seen.
    head: u64,
    /// With this head, slots showed what honest peers do not write: there is no use in looking until it changes.
    baffled: Option<u64>,
    /// The hint is stored when these bits of a position are 0.
    hint_mask: u64,
    /// How far ahead to prefetch.
    prefetch: u64,
}

impl<S: Slots> Producer<S> {
    /// Takes part in `ring` as `owner`. A predecessor by that index is gone, by the kernel's word, and what it claimed was
    /// settled: by itself when it left, or by [`sweep`].
    pub(crate) fn join(ring: Ring<S>, owner: u32) -> Self {
        let head = ring.receivers().position.0.load(Ordering::Acquire);
        let capacity = ring.capacity();
        Self {
            ring,
            owner,
            open: false,
            tail: head,
            head,
            baffled: None,
            hint_mask: capacity.min(HINT_EVERY) - 1,
            prefetch: if capacity >= 8 * PREFETCH {
                PREFETCH
            } else {
                0
            },
        }
    }

    /// Claims `position` if its slot is free, for which `head` must have passed the position a lap before.
    #[inline(always)]
    fn claim(&mut self, position: u64) -> Result<usize, u64> {
        let stamp = self.ring.stamp(position);
        // Relaxed, both: head (Acquire) orders us after the last reader, and through it after the last writer.
        let seen = stamp.load(Ordering::Relaxed);
        if !is_free(seen, position, self.ring.capacity()) {
            return Err(seen);
        }
        self.foretell(position);
        let claim = claimed(position, self.owner);
        if planted(Fault::ClaimByStore) {
            stamp.store(claim, Ordering::Relaxed);
        } else {
            stamp.compare_exchange(seen, claim, Ordering::Relaxed, Ordering::Relaxed)?;
        }
        // Whoever sees a byte of the message sees the claim. Pairs with the Acquire fence in `Observer::read`.
        if !planted(Fault::ClaimUnfenced) {
            fence(Ordering::Release);
        }
        self.open = true;
        self.tail = position.wrapping_add(1);
        if self.tail & self.hint_mask == 0 {
            // Relaxed: by the fence above, who starts from here sees our claim. Pairs with Acquire in `later`.
            let hint = &self.ring.senders().position.0;
            hint.store(self.tail, Ordering::Relaxed);
        }
        prefetch_for_write(self.ring.stamp(position.wrapping_add(self.prefetch)));
        Ok(self.ring.index(position))
    }

    /// Where a negative control stores the hint: too early.
    #[inline(always)]
    fn foretell(&self, position: u64) {
        if planted(Fault::HintBeforeClaim) {
            let hint = &self.ring.senders().position.0;
            hint.store(position.wrapping_add(1), Ordering::Release);
        }
    }

    /// The way when the slot behind the last claim that we know of is not free.
    #[cold]
    #[inline(never)]
    fn search(&mut self) -> Option<usize> {
        let capacity = self.ring.capacity();
        let mut position = self.tail;
        // Each step is forced by somebody's progress, or by a peer that breaks the rules, whom we follow no further than this.
        let mut returns = 0;
        for step in 0..capacity.saturating_mul(2).saturating_add(64) {
            if step == STEPS {
                position = self.later(position);
            }
            if position.wrapping_sub(self.head) >= capacity && !planted(Fault::ClaimUnread) {
                self.refresh();
                match position.wrapping_sub(self.head) {
                    ahead if ahead < capacity => {}
                    ahead if ahead == capacity => {
                        self.tail = position;
                        return None;
                    }
                    // Behind head: others went on without us. Or nonsense.
                    _ => position = self.head,
                }
            }
            match self.claim(position) {
                Ok(index) => return Some(index),
                Err(seen) => match self.after(position, seen) {
                    Some(next) => position = next,
                    None if returns < RETURNS => {
                        returns += 1;
                        position = self.head;
                    }
                    None => {
                        self.baffled = Some(self.head);
                        return None;
                    }
                },
            }
        }
        None
    }

    fn refresh(&mut self) {
        // Acquire: the consumer has read what it released. Pairs with Release in `Consumer::release`.
        let acquire = order(Ordering::Acquire, Fault::HeadRelaxed);
        self.head = self.ring.receivers().position.0.load(acquire);
    }

    /// `position`, or the hint if that is further on. A hint that lies outside of what can be is stale, or a peer's mistake.
    fn later(&mut self, position: u64) -> u64 {
        self.refresh();
        // Acquire: the claim before it is visible. Pairs with the Release fence in `claim`.
        let hint = self.ring.senders().position.0.load(Ordering::Acquire);
        let ahead = |position: u64| {
            let ahead = position.wrapping_sub(self.head);
            if ahead <= self.ring.capacity() {
                ahead
            } else {
                0
            }
        };
        self.head.wrapping_add(ahead(hint).max(ahead(position)))
    }

    /// Where the hint leads now.
    #[cfg(all(test, loom))]
    pub(crate) fn hinted(&mut self) -> u64 {
        self.later(self.head)
    }

    /// Where to go on when the slot of `position` shows `seen`; nowhere, if that fits nothing.
    fn after(&mut self, position: u64, seen: u64) -> Option<u64> {
        // What the slot shows, as a distance: it has the low 52 bits of a position.
        let shown = seen & !(STATE | OWNER);
        let ahead = shown.wrapping_sub(initial(position)) >> POSITION_SHIFT;
        if ahead == 0 {
            return Some(position.wrapping_add(1));
        }
        self.refresh();
        if ahead & (self.ring.capacity() - 1) != 0 {
            return None;
        }
        let next = position.wrapping_add(ahead).wrapping_add(1);
        match next.wrapping_sub(self.head) {
            beyond if beyond <= self.ring.capacity() => Some(next),
            // Behind head: others went on without us.
            beyond if beyond > u64::MAX / 2 => Some(self.head),
            _ => None,
        }
    }
}

/// Whether the stamp `seen` leaves its slot to `position`.
#[inline(always)]
fn is_free(seen: u64, position: u64, capacity: u64) -> bool {
    let before = position.wrapping_sub(capacity);
    seen == published(before) || seen == skipped(before) || seen == initial(before)
}

impl<S: Slots> End for Producer<S> {
    type Slots = S;

    #[inline(always)]
    fn ring(&self) -> &Ring<S> {
        &self.ring
    }
}

impl<S: Slots> Produce for Producer<S> {
    /// Claims the next position. One that was claimed before and not published is given up; who wants that others are told
    /// does it before, by [`abandon`](Produce::abandon).
    #[inline(always)]
    fn slot(&mut self) -> Option<usize> {
        if self.open {
            self.abandon();
        }
        let position = self.tail;
        if position.wrapping_sub(self.head) < self.ring.capacity()
            && let Ok(index) = self.claim(position)
        {
            return Some(index);
        }
        self.search()
    }

    #[inline(always)]
    fn publish(&mut self) {
        debug_assert!(self.open);
        let position = self.tail.wrapping_sub(1);
        // A store suffices: nobody else changes a claim of who is alive. Release: the message is visible to whoever sees the
        // stamp. Pairs with Acquire in `Consumer::slot`.
        let release = order(Ordering::Release, Fault::PublishRelaxed);
        self.ring
            .stamp(position)
            .store(published(position), release);
        self.open = false;
    }

    #[inline(always)]
    fn is_open(&self) -> bool {
        self.open
    }

    #[cold]
    fn abandon(&mut self) -> bool {
        if !self.open || planted(Fault::ClaimForgotten) {
            return false;
        }
        let position = self.tail.wrapping_sub(1);
        // Release: what was written into the slot comes before what the next claimant writes.
        let release = order(Ordering::Release, Fault::GiveUpRelaxed);
        self.ring.stamp(position).store(skipped(position), release);
        self.open = false;
        true
    }

    fn has_room(&self) -> bool {
        let head = self.ring.receivers().position.0.load(Ordering::Acquire);
        let ahead = self.tail.wrapping_sub(head);
        // While we wait, others may have gone on, and head with them, past where we were.
        let is_behind = ahead > self.ring.capacity() && !planted(Fault::RoomNotBehind);
        (ahead < self.ring.capacity() || is_behind) && self.baffled != Some(head)
    }

    /// Counts messages that are being written as well.
    fn len(&self) -> u64 {
        len(&self.ring)
    }
}

/// What was claimed and not released: from head on, over the hint, as far as slots show it.
fn len<S: Slots>(ring: &Ring<S>) -> u64 {
    let hint = ring.senders().position.0.load(Ordering::Acquire);
    let head = ring.receivers().position.0.load(Ordering::Acquire);
    let known = hint.wrapping_sub(head);
    // A stale hint lies behind head.
    let known = if known <= ring.capacity() { known } else { 0 };
    let is_taken = |&ahead: &u64| {
        let position = head.wrapping_add(ahead);
        let shown = ring.stamp(position).load(Ordering::Relaxed);
        shown & !(STATE | OWNER) == initial(position)
    };
    known + (known..ring.capacity()).take_while(is_taken).count() as u64
}

/// Settles what a dead holder of the index `owner` claimed. To be called by the index's new holder, before its first claim.
/// True if there was something.
pub(crate) fn sweep<S: Slots>(ring: &Ring<S>, owner: u32) -> bool {
    if planted(Fault::NoSweep) {
        return false;
    }
    let mut swept = false;
    for index in 0..ring.capacity() {
        let stamp = ring.slots.stamp(index as usize);
        let seen = stamp.load(Ordering::Relaxed);
        if seen & (STATE | OWNER) == CLAIMED | u64::from(owner) {
            let settled = seen ^ seen & (STATE | OWNER) | SKIPPED;
            // The consumer may be doing the same. Release: the dead one's writes, which the kernel ordered before us, come
            // before those of the next claimant.
            let release = order(Ordering::Release, Fault::SweepRelaxed);
            let _ = stamp.compare_exchange(seen, settled, release, Ordering::Relaxed);
            swept = true;
        }
    }
    swept
}

/// The consumer's private side.
pub(crate) struct Consumer<S> {
    ring: Ring<S>,
    /// The next position to receive; its own copy of the shared word.
    head: u64,
    /// Releases since we last found nothing.
    run: u64,
}

impl<S: Slots> Consumer<S> {
    /// Takes the consumer's side of `ring`. The caller is the only consumer from now on: a predecessor is gone, by the
    /// kernel's word, and its stores are visible.
    pub(crate) fn take_over(ring: Ring<S>) -> Self {
        let head = ring.receivers().position.0.load(Ordering::Acquire);
        Self { ring, head, run: 0 }
    }

    #[inline(always)]
    fn stamp_at(&self, position: u64) -> u64 {
        // Acquire: the message is as it was when the stamp was stored. Pairs with Release in `Producer::publish`.
        let acquire = order(Ordering::Acquire, Fault::StampRelaxed);
        self.ring.stamp(position).load(acquire)
    }

    /// Stores what is there once more, and so has the slot's line handed to the next claimant as one that is to be written.
    ///
    /// A line that the consumer has only read is held by both; a claimant's compare-exchange then has to wait until the
    /// other copy is given up, once a line, which neither its own prefetching nor the processor's can begin earlier.
    /// Whoever asks for a line that is held by one who has written it gets it for itself. So this store, which nobody waits
    /// for, gives one sender about 200 million messages of 8 bytes a second instead of about 85 (medians of runs by turns of
    /// `cargo run --release -p ipc-ring-benches -- --quick --only many-senders/8/1`, on two cores of an AMD EPYC; at times
    /// when that virtual machine was slow, both gave about 30). At 56 bytes, a line a message, it makes no difference yet.
    ///
    /// The slot is ours until `head` has passed it, and nobody sees a change. Of a batch, the first line is handed back so.
    #[inline(always)]
    fn touch(&self, position: u64) {
        let stamp = self.ring.stamp(position);
        let shown = stamp.load(Ordering::Relaxed);
        // Release, in the place of the producer's, which this store hides: an observer takes the message from us. We have
        // seen it by Acquire in `slot`.
        stamp.store(shown, order(Ordering::Release, Fault::TouchRelaxed));
    }

    #[inline(always)]
    fn seen_ahead(&self, ahead: u64) -> Ahead {
        let position = self.head.wrapping_add(ahead);
        let stamp = self.stamp_at(position);
        if stamp == published(position) {
            Ahead::Message(self.ring.index(position))
        } else if stamp == skipped(position) {
            Ahead::Skipped
        } else {
            Ahead::Nothing
        }
    }

    /// Passes over what was skipped.
    #[cold]
    #[inline(never)]
    fn slot_behind_skipped(&mut self) -> Option<usize> {
        // At most one lap: further on, a producer would have to skip as fast as we go.
        for _ in 0..self.ring.capacity() {
            let stamp = self.stamp_at(self.head);
            if stamp == published(self.head) {
                return Some(self.ring.index(self.head));
            }
            if stamp != skipped(self.head) {
                return None;
            }
            self.passed_over(1);
            self.release(1);
        }
        None
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
        let stamp = self.stamp_at(self.head);
        if stamp == published(self.head) {
            return Some(self.ring.index(self.head));
        }
        self.run = 0;
        if stamp == skipped(self.head) {
            return self.slot_behind_skipped();
        }
        None
    }

    #[inline(always)]
    fn ahead(&mut self, ahead: u64) -> Ahead {
        self.seen_ahead(ahead)
    }

    #[inline(always)]
    fn release(&mut self, count: u64) {
        self.run += 1;
        if self.run >= RUN && !planted(Fault::TouchLate) {
            self.touch(self.head);
        }
        let touched = self.head;
        self.head = self.head.wrapping_add(count);
        // Release: the reads of the messages are over. Pairs with Acquire in `Producer::refresh`.
        let release = order(Ordering::Release, Fault::ReleaseRelaxed);
        self.ring.receivers().position.0.store(self.head, release);
        if planted(Fault::TouchLate) {
            self.touch(touched);
        }
    }

    #[inline(always)]
    fn position(&self) -> u64 {
        self.head
    }

    fn is_empty(&self) -> bool {
        let mut ahead = (0..self.ring.capacity()).map(|ahead| self.seen_ahead(ahead));
        !matches!(
            ahead.find(|&ahead| ahead != Ahead::Skipped),
            Some(Ahead::Message(_))
        )
    }

    /// Counts messages that are being written as well.
    fn len(&self) -> u64 {
        len(&self.ring)
    }

    fn claimant(&self) -> Option<u32> {
        let stamp = self.stamp_at(self.head);
        let owner = (stamp & OWNER) as u32;
        (stamp == claimed(self.head, owner)).then_some(owner)
    }

    fn skip(&mut self, owner: u32) {
        let stamp = self.ring.stamp(self.head);
        let (claim, skip) = (claimed(self.head, owner), skipped(self.head));
        if planted(Fault::PassUnsettled) {
            self.release(1);
            return;
        }
        if planted(Fault::SkipByStore) {
            stamp.store(skip, Ordering::Relaxed);
            return;
        }
        // It fails if the owner published before it died, or its successor has swept. Relaxed: the next claimant is ordered
        // after the dead one's writes by our store of head.
        let _ = stamp.compare_exchange(claim, skip, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn passed_over(&self, count: u64) {
        let skipped = &self.ring.receivers().bell.0.skipped;
        // Relaxed: for people to read.
        let before = skipped.load(Ordering::Relaxed);
        skipped.store(before.wrapping_add(count), Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
impl<S: Slots> Ring<S> {
    /// Whether the slot of `position` shows it.
    pub(crate) fn is_claimed(&self, position: u64) -> bool {
        self.stamp(position).load(Ordering::Relaxed) & !(STATE | OWNER) == initial(position)
    }
}

/// Somebody who looks on and changes nothing.
#[cfg(test)]
#[cfg_attr(not(loom), allow(dead_code, reason = "for the models, so far"))]
pub(crate) struct Observer<S> {
    ring: Ring<S>,
}

#[cfg(test)]
#[cfg_attr(not(loom), allow(dead_code, reason = "as for Observer"))]
impl<S: Slots> Observer<S> {
    pub(crate) fn new(ring: Ring<S>) -> Self {
        Self { ring }
    }

    /// Copies the message at `position` by `copy`, which must bear being raced (atomic or volatile reads), and answers it if
    /// it is whole. A slot is claimed before it is written over, so here the stamp tells.
    pub(crate) fn read<R>(&self, position: u64, copy: impl FnOnce(usize) -> R) -> Option<R> {
        let stamp = self.ring.stamp(position);
        if stamp.load(Ordering::Acquire) != published(position) {
            return None;
        }
        let copied = copy(self.ring.index(position));
        // Had the copy seen a byte of a later message, then this would see its claim. Pairs with the Release fence in
        // `Producer::claim`.
        fence(Ordering::Acquire);
        (stamp.load(Ordering::Relaxed) == published(position)).then_some(copied)
    }
}
