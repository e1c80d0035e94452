//! What one side knows of those on the other.

use super::endpoint::Stop;
use crate::error::Role;
use crate::layout::Entry;
use crate::participant::{Dead, Session, at_one_moment, sessions};
use crate::segment::mapped::Segment;
use crate::sync::{AtomicU64, Fault, Ordering, planted};
use std::ops::Range;

/// So many are asked for at a time, since each question is a system call; the others in the next slices.
const QUESTIONS: usize = 64;

/// One participant of the other side.
#[derive(Clone, Default)]
struct Peer {
    /// A session that had ended before we joined and left us nothing: as if there had been none.
    bygone: Option<u64>,
    /// The session that is known to be dead, and whether the user was told.
    dead: Option<Dead>,
    told: bool,
}

/// Those whom a participant hears of.
pub(super) struct Peers {
    role: Role,
    first: u32,
    /// We go on where a predecessor ended, and have heard what it had: each side is one. Of several, others may have heard, and
    /// which place a newcomer gets is chance.
    inherits: bool,
    list: Box<[Peer]>,
    /// Who is asked for next.
    turn: usize,
}

impl Peers {
    /// Those that a participant of `segment` with the role `own` hears of.
    pub(super) fn of(own: Role, segment: &Segment) -> Self {
        let header = &segment.places().header;
        let role = own.other();
        let indices = header.indices(role);
        Self {
            role,
            first: indices.start,
            inherits: header.receivers == 1 && header.indices(own).len() == 1,
            list: vec![Peer::default(); indices.len()].into(),
            turn: 0,
        }
    }

    fn indices(&self) -> Range<u32> {
        self.first..self.first + self.list.len() as u32
    }

    fn entries<'a>(&self, segment: &'a Segment) -> impl Iterator<Item = &'a Entry> + use<'a> {
        self.indices().map(|index| segment.places().entry(index))
    }

    /// Notes who ended before we joined and left us nothing. Such a session is not ours to hear of; unless a predecessor of ours
    /// died, to whom it was not bygone: then nobody may have heard.
    pub(super) fn join(&mut self, segment: &Segment, left_nothing: impl Fn(u32) -> bool) {
        let must_inherit =
            segment.own_entry().is_dirty() && self.inherits && !planted(Fault::EndingsForgotten);
        let word = |index| bygone_word(self.role, segment, index);
        // Relaxed: the kernel's lock is between our predecessor and us.
        let is_known_as_bygone =
            |index, number| word(index).is_some_and(|word| word.load(Ordering::Relaxed) == number);
        let ended = |index| match segment.places().entry(index).session() {
            Session::Left(number) => Some(number),
            Session::Joined(number) if is_known_as_bygone(index, number) => Some(number),
            // A sender that finds a full ring and a dead receiver wants to know.
            Session::Joined(number) if self.role == Role::Sender => {
                ask(segment, index).map(|_| number)
            }
            _ => None,
        };
        let ended: Vec<_> = self.indices().map(ended).collect();
        // Looked at after all endings: what they did before is visible.
        for (place, peer) in self.list.iter_mut().enumerate() {
            let index = self.first + place as u32;
            let is_bygone = |&number: &u64| {
                (!must_inherit || is_known_as_bygone(index, number)) && left_nothing(index)
            };
            peer.bygone = ended[place].filter(is_bygone);
            if let Some((number, word)) = peer.bygone.zip(word(index)) {
                word.store(number, Ordering::Relaxed);
            }
        }
    }

    /// Changes whenever one of them joins or leaves.
    pub(super) fn sessions(&self, segment: &Segment) -> u64 {
        sessions(self.entries(segment))
    }

    /// What is known of their end without asking the kernel.
    pub(super) fn known_ending(&self, segment: &Segment) -> Option<Stop> {
        let look = || self.ending_at_a_look(segment);
        match look()? {
            // What one sender came to is so, whatever others do.
            died @ Stop::Died(_) if self.role == Role::Sender => Some(died),
            // That nobody is left was perhaps never so.
            _ => at_one_moment(|| self.sessions(segment), look)?,
        }
    }

    fn ending_at_a_look(&self, segment: &Segment) -> Option<Stop> {
        let (mut left, mut alive, mut died) = (false, false, None);
        for (entry, peer) in self.entries(segment).zip(&self.list) {
            match entry.session() {
                Session::Never => {}
                Session::Left(number) => left |= peer.bygone != Some(number),
                Session::Joined(number) if peer.bygone == Some(number) => {}
                Session::Joined(number) => match peer.dead.filter(|dead| dead.number == number) {
                    None => alive = true,
                    // A receiver is told once, a sender each time that the ring is full.
                    Some(_) if peer.told && self.role == Role::Sender => {}
                    Some(dead) if self.role == Role::Sender => return Some(Stop::Died(dead)),
                    // Others may receive.
                    Some(dead) => died = Some(dead),
                },
            }
        }
        match died {
            _ if alive => None,
            _ if left => Some(Stop::Closed),
            died => died.map(Stop::Died),
        }
    }

    /// Notes that the user is about to be told of a death.
    pub(super) fn told(&mut self, told: &Dead) {
        // By its index: several handles of one process died as one, and look alike.
        let peer = &mut self.list[(told.index - self.first) as usize];
        peer.told |= peer.dead == Some(*told);
    }

    /// Asks the kernel about those who may have died, and keeps what it says.
    pub(super) fn learn(&mut self, segment: &Segment) {
        let mut questions = 0;
        for _ in 0..self.list.len() {
            let place = self.turn;
            self.turn = (place + 1) % self.list.len();
            let index = self.first + place as u32;
            let peer = &mut self.list[place];
            let Session::Joined(number) = segment.places().entry(index).session() else {
                continue;
            };
            if peer.dead.is_some_and(|dead| dead.number == number) {
                continue;
            }
            if let Some(dead) = ask(segment, index) {
                peer.dead = Some(dead);
                peer.told = false;
            }
            questions += 1;
            if questions == QUESTIONS {
                break;
            }
        }
    }

    /// The death of the current session of the participant with this index, as far as it was learned.
    pub(super) fn death(&self, segment: &Segment, index: u32) -> Option<Dead> {
        let session = segment.places().entry(index).session();
        let peer = self.list.get(index.checked_sub(self.first)? as usize)?;
        peer.dead
            .filter(|dead| session == Session::Joined(dead.number))
    }
}

/// Where it is written which session of the participant with this index, which has `role`, our own role need not hear of. Nowhere,
/// if there are several receivers, who may each have heard something else.
fn bygone_word(role: Role, segment: &Segment, index: u32) -> Option<&AtomicU64> {
    if segment.places().header.receivers > 1 {
        return None;
    }
    Some(match role {
        Role::Sender => &segment.places().entry(index).bygone_to_receiver,
        Role::Receiver => &segment.own_entry().bygone_to_sender,
    })
}

fn ask(segment: &Segment, index: u32) -> Option<Dead> {
    let entry = segment.places().entry(index);
    entry.death(index, segment.index(), segment.file())
}
