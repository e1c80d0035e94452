//! Those who take part, how each of them ended, and what others may be told about that.

use std::collections::BTreeMap;

use crate::event::{Ending, RECEIVER, Seat};
use crate::ring::Kind;

/// How a participant is, as far as the log knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Lives,
    Left,
    Died,
    /// It was killed while it left, or while it came.
    Unsure,
}

/// Whether the receiver is to hear how a sender ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hears {
    Must,
    /// It left something if what is in flight is there; or somebody may have come in its place.
    May,
    /// It ended before the receiver came, and left nothing; or that was told.
    MustNot,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    life: Life,
    /// When it joined and when it ended, in events.
    since: usize,
    until: usize,
    hears: Hears,
    /// Whether somebody may have come in its place.
    may_be_replaced: bool,
    /// Of a sender: whether a receiver came when it had ended and left nothing. No successor of that one needs to hear of it.
    is_bygone: bool,
}

/// Everybody who has taken part since the ring was made, as far as the log knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Participants {
    records: BTreeMap<Seat, Record>,
    /// Somebody is in a call of which nobody can say yet whether he is there.
    pub(super) somebody_comes_or_leaves: bool,
    /// In events.
    now: usize,
}

impl Participants {
    /// From one event to the next.
    pub(super) fn time_passes(&mut self) {
        self.now += 1;
    }

    /// The ring is gone, and another one may come.
    pub(super) fn clear(&mut self) {
        self.records.clear();
    }

    pub(super) fn seats(&self) -> impl Iterator<Item = Seat> {
        self.records.keys().copied()
    }

    pub(super) fn living(&self) -> Vec<Seat> {
        let living = self.records.iter();
        let living = living.filter(|(_, record)| record.life == Life::Lives);
        living.map(|(&seat, _)| seat).collect()
    }

    pub(super) fn has_ended(&self, seat: Seat) -> bool {
        let record = self.records.get(&seat);
        record.is_some_and(|record| record.life != Life::Lives)
    }

    pub(super) fn receiver(&self) -> Option<&Record> {
        self.records.get(&RECEIVER)
    }

    /// `left` says of everybody whether a receiver is to hear of their end because of what they left in the ring.
    pub(super) fn receiver_joins(&mut self, left: &[(Seat, Hears)]) {
        // Who was killed may not have heard what it was to hear, and leaves that to its successor.
        let inherits = match self.receiver().map(|record| record.life) {
            Some(Life::Died) => Hears::Must,
            Some(Life::Unsure) => Hears::May,
            _ => Hears::MustNot,
        };
        for &(seat, left_something) in left {
            let record = self.records.get_mut(&seat).expect("just listed");
            if record.life != Life::Lives {
                let hears = match left_something {
                    Hears::MustNot if !record.is_bygone => inherits,
                    Hears::May if !record.is_bygone && inherits == Hears::Must => Hears::Must,
                    other => other,
                };
                record.is_bygone = hears == Hears::MustNot;
                record.hears = match hears {
                    Hears::Must if record.may_be_replaced => Hears::May,
                    other => other,
                };
            }
        }
        self.join(RECEIVER);
    }

    pub(super) fn sender_joins(&mut self, seat: Seat) {
        self.somebody_may_have_come_in_place_of_senders();
        self.join(seat);
    }

    fn join(&mut self, seat: Seat) {
        let record = Record {
            life: Life::Lives,
            since: self.now,
            until: usize::MAX,
            hears: Hears::Must,
            may_be_replaced: false,
            is_bygone: false,
        };
        self.records.insert(seat, record);
    }

    /// Of a place, the last session counts.
    fn somebody_may_have_come_in_place_of_senders(&mut self) {
        for (&seat, record) in &mut self.records {
            if seat != RECEIVER && record.life != Life::Lives {
                record.may_be_replaced = true;
                if record.hears == Hears::Must {
                    record.hears = Hears::May;
                }
            }
        }
    }

    pub(super) fn end(&mut self, seat: Seat, life: Life) {
        let now = self.now;
        if life == Life::Unsure && seat != RECEIVER && !self.records.contains_key(&seat) {
            self.somebody_may_have_come_in_place_of_senders();
        }
        let record = self.records.entry(seat).or_insert(Record {
            life,
            since: now,
            until: now,
            hears: Hears::Must,
            may_be_replaced: false,
            is_bygone: false,
        });
        // Whoever comes in the place of somebody dead and dies as well is somebody dead.
        if record.life != Life::Died {
            record.life = life;
            record.until = now;
        }
    }

    /// It was killed; `is_unsure`: while it came or left.
    pub(super) fn killed(&mut self, seat: Seat, is_unsure: bool) {
        let lives = self.records.get(&seat).map(|record| record.life);
        if is_unsure {
            self.end(seat, Life::Unsure);
        } else if lives == Some(Life::Lives) {
            self.end(seat, Life::Died);
        }
    }

    /// A sender that was there before found the ring open: the receiver that was killed while it came or left has not left.
    pub(super) fn is_open_to(&mut self, seat: Seat) {
        let since = self.records.get(&seat).map(|record| record.since);
        if let Some(receiver) = self.records.get_mut(&RECEIVER)
            && receiver.life == Life::Unsure
            // Or nobody had ever come.
            && receiver.since < receiver.until
            && since.is_some_and(|since| since < receiver.until)
        {
            receiver.life = Life::Died;
        }
    }

    /// The receiver found no message, and asked about everybody.
    pub(super) fn told_to_receiver(&mut self, ending: Ending) -> Result<(), String> {
        let senders = || {
            self.records
                .iter()
                .filter(|(seat, _)| **seat != RECEIVER)
                .map(|(_, r)| r)
        };
        let any = |lives: &[Life], hears: &[Hears]| {
            senders().any(|record| lives.contains(&record.life) && hears.contains(&record.hears))
        };
        let must_die = any(&[Life::Died], &[Hears::Must]);
        let may_die = any(&[Life::Died, Life::Unsure], &[Hears::Must, Hears::May]);
        let must_close = any(&[Life::Left], &[Hears::Must]);
        let may_close = any(&[Life::Left, Life::Unsure], &[Hears::Must, Hears::May]);
        let is_one_there = senders().any(|record| record.life == Life::Lives);
        let is_fit = match ending {
            Ending::Died => may_die,
            // Whoever comes may be there, in the place of somebody dead; and whoever leaves may be gone.
            _ if self.somebody_comes_or_leaves => true,
            Ending::Closed => !must_die && !is_one_there && may_close,
            Ending::Timeout => !must_die && (is_one_there || !must_close),
        };
        if !is_fit {
            return Err(format!(
                "the receiver was told {ending:?}, of {:?}",
                self.records
            ));
        }
        if ending == Ending::Died {
            self.death_was_told();
        }
        Ok(())
    }

    /// Each death is told once.
    pub(super) fn death_was_told(&mut self) {
        let untold = self.records.iter_mut().filter(|(seat, record)| {
            **seat != RECEIVER
                && matches!(record.life, Life::Died | Life::Unsure)
                && record.hears != Hears::MustNot
        });
        let mut untold = untold.map(|(_, record)| record).collect::<Vec<_>>();
        let is_certain =
            |record: &&mut Record| record.life == Life::Died && record.hears == Hears::Must;
        let first = untold.iter().position(is_certain).unwrap_or(0);
        if let Some(record) = untold.get_mut(first) {
            record.hears = Hears::MustNot;
        }
    }

    /// Whether a sender that was awake may be told this.
    pub(super) fn sender_may_be_told(&self, seat: Seat, ending: Ending, kind: Kind) -> bool {
        let came = self.records.get(&seat).map_or(0, |record| record.since);
        let left = self.records.get(&RECEIVER).map_or(0, |record| record.until);
        let inherits = |lives: &[Life]| {
            self.records.iter().any(|(&other, record)| {
                let is_another = other != RECEIVER && other != seat;
                is_another && lives.contains(&record.life) && record.since < left
            })
        };
        let must_inherit = kind == Kind::Spsc && inherits(&[Life::Died]);
        match self.records.get(&RECEIVER) {
            _ if self.somebody_comes_or_leaves => true,
            None => ending == Ending::Timeout,
            Some(receiver) => match receiver.life {
                Life::Lives => ending == Ending::Timeout,
                // Unless a sender was killed that was there, and in whose place this one may have come.
                Life::Left if receiver.until < came => match ending {
                    Ending::Timeout => !must_inherit,
                    Ending::Closed => inherits(&[Life::Died, Life::Unsure]),
                    Ending::Died => false,
                },
                Life::Left => ending == Ending::Closed,
                Life::Died => ending == Ending::Died,
                Life::Unsure => true,
            },
        }
    }
}
