//! Who takes part in a ring, for people and programs that watch over it.

use super::kind::{Kind, Mechanism};
use crate::error::Role;
use crate::layout;
use crate::participant::Session;
use crate::ring::{Consume, spsc};
use crate::segment::mapped::{Places, Segment};
use crate::sync::Ordering;

/// How the other side is, as [`Sender::peer`](super::Sender::peer) and [`Receiver::peer`](super::Receiver::peer) tell.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Peer {
    /// Nobody has taken that role yet.
    Never,
    /// The handle was inherited by a forked child, which has no part in the ring.
    Forked,
    /// Its process lives.
    Alive {
        /// Its pid, in its own pid namespace.
        pid: u32,
        /// The file name of its program.
        program: String,
    },
    /// The last one has left.
    Left,
    /// The last one ended without leaving.
    Died {
        /// Its pid, in its own pid namespace.
        pid: u32,
        /// The file name of its program.
        program: String,
    },
}

/// Somebody who takes part in a ring, or was the last one in a place that nobody has taken since.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Participant {
    /// Which side it is on.
    pub role: Role,
    /// Which of the places for participants it holds: senders from 0 on, receivers the last ones.
    pub index: u32,
    /// How it is, by the kernel's word.
    pub state: State,
    /// Its pid, in its own pid namespace.
    pub pid: u32,
    /// The file name of its program.
    pub program: String,
    /// When its process started, in clock ticks after the machine did (`starttime` of `/proc/PID/stat`).
    pub start_time: u64,
    /// What it did since it joined.
    pub counters: Counters,
}

/// How a participant is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum State {
    /// Its process lives.
    Alive,
    /// It has left.
    Left,
    /// Its process ended, or forgot it, without leaving.
    Died,
}

/// What a participant did since it joined. Read while it goes on, so these need not fit together.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Counters {
    /// Messages sent, or received.
    pub messages: u64,
    /// How often it had to wait for room, or for a message, for longer than some looks.
    pub waits: u64,
    /// How often it slept.
    pub sleeps: u64,
    /// How often it found the other side asleep and woke it.
    pub wakes: u64,
    /// Places for messages that a receiver passed over, since their senders died or gave up while writing.
    pub skipped: u64,
    /// Messages that a receiver dropped because they were not values of their type.
    pub corrupt: u64,
}

/// All who take part in the ring or did so last.
pub(super) fn participants<K: Kind>(segment: &Segment) -> Vec<Participant> {
    let indices = 0..segment.places().header.participants;
    indices
        .filter_map(|index| participant::<K>(segment, index))
        .collect()
}

fn participant<K: Kind>(segment: &Segment, index: u32) -> Option<Participant> {
    let places = segment.places();
    let entry = places.entry(index);
    // Before the session, which a successor writes after its own.
    let who = entry.identity();
    let state = match entry.session() {
        Session::Never => return None,
        Session::Left(_) => State::Left,
        Session::Joined(_) if index == segment.index() => State::Alive,
        Session::Joined(_) => match entry.death(index, segment.index(), segment.file()) {
            Some(_) => State::Died,
            None => State::Alive,
        },
    };
    let role = if places.header.receivers().contains(&index) {
        Role::Receiver
    } else {
        Role::Sender
    };
    Some(Participant {
        role,
        index,
        state,
        pid: who.pid,
        program: who.program(),
        start_time: entry.start_time.load(Ordering::Relaxed),
        counters: counters::<K>(places, role, index),
    })
}

fn counters<K: Kind>(places: &Places, role: Role, index: u32) -> Counters {
    let layout::Counters {
        messages,
        waits,
        sleeps,
        wakes,
        skipped,
        corrupt,
    } = &places.entry(index).counters;
    let [messages, waits, sleeps, wakes, skipped, corrupt] =
        [messages, waits, sleeps, wakes, skipped, corrupt].map(|word| word.load(Ordering::Relaxed));
    let counted = K::counts(role);
    let skipped = match role {
        Role::Sender => 0,
        Role::Receiver => since(skipped, passed_over(places)),
    };
    Counters {
        messages: if counted {
            messages
        } else {
            // It began at that position.
            let begun = messages.wrapping_add(skipped);
            since(begun, position(places, role, index))
        },
        waits,
        sleeps,
        wakes,
        skipped,
        corrupt,
    }
}

/// How far it is from `begun` to `now`. What was read while it changed, or was left by who died between two stores, may seem
/// to lie behind where it began.
fn since(begun: u64, now: u64) -> u64 {
    let distance = now.wrapping_sub(begun);
    if distance > u64::MAX / 2 { 0 } else { distance }
}

/// Where a participant is that has a lane for itself, or all of them. Of several lanes, the sum.
pub(super) fn position(places: &Places, role: Role, index: u32) -> u64 {
    match role {
        Role::Sender => {
            let lane = spsc::Consumer::take_over(places.untyped_ring(index));
            lane.position().wrapping_add(lane.len())
        }
        Role::Receiver => {
            let lanes = 0..places.header.lanes();
            let heads = lanes.map(|lane| {
                let head = &places.receiver_words(lane).position.0;
                head.load(Ordering::Relaxed)
            });
            heads.fold(0, u64::wrapping_add)
        }
    }
}

/// Places without a message that receivers passed over.
fn passed_over(places: &Places) -> u64 {
    let skipped = &places.receiver_words(0).bell.0.skipped;
    skipped.load(Ordering::Relaxed)
}

/// Notes where we begin, for those of our counters that follow from positions.
pub(super) fn begin_counting<K: Mechanism>(segment: &Segment, role: Role) {
    if !K::counts(role) {
        let begun = position(segment.places(), role, segment.index());
        let counters = &segment.own_entry().counters;
        counters.messages.store(begun, Ordering::Relaxed);
        counters
            .skipped
            .store(passed_over(segment.places()), Ordering::Relaxed);
    }
}
