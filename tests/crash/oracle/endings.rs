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

/// Whether somebody has come in the place of a sender that ended. Of a place, the last session counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replaced {
    No,
    Perhaps,
    Surely,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    life: Life,
    /// When it joined and when it ended, in events.
    since: usize,
    until: usize,
    hears: Hears,
    replaced: Replaced,
    /// Of a sender: whether a receiver came when it had ended and left nothing. No successor of that one needs to hear of it.
    is_bygone: bool,
}

impl Record {
    fn begin(life: Life, since: usize, until: usize) -> Self {
        Self {
            life,
            since,
            until,
            hears: Hears::Must,
            replaced: Replaced::No,
            is_bygone: false,
        }
    }

    fn may_be_replaced(&mut self, surely: bool) {
        self.replaced = match self.replaced {
            Replaced::No | Replaced::Perhaps if !surely => Replaced::Perhaps,
            _ => Replaced::Surely,
        };
        self.hears = self.hears.of(self.replaced);
    }
}

impl Hears {
    fn of(self, replaced: Replaced) -> Self {
        match (self, replaced) {
            (_, Replaced::Surely) => Self::MustNot,
            (Self::Must, Replaced::Perhaps) => Self::May,
            (hears, _) => hears,
        }
    }
}

/// Everybody who has taken part since the ring was made, as far as the log knows.
#[derive(Clone, Debug)]
pub(super) struct Participants {
    kind: Kind,
    records: BTreeMap<Seat, Record>,
    /// How earlier receivers ended, and when.
    former_receivers: Vec<(Life, usize)>,
    /// When those fell asleep who sleep.
    asleep: BTreeMap<Seat, usize>,
    /// Somebody is in a call of which nobody can say yet whether he is there.
    pub(super) somebody_comes_or_leaves: bool,
    /// In events.
    now: usize,
}

impl Participants {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            records: BTreeMap::new(),
            former_receivers: Vec::new(),
            asleep: BTreeMap::new(),
            somebody_comes_or_leaves: false,
            now: 0,
        }
    }

    /// From one event to the next.
    pub(super) fn time_passes(&mut self) {
        self.now += 1;
    }

    /// The ring is gone, and another one may come.
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.former_receivers.clear();
        self.asleep.clear();
    }

    pub(super) fn seats(&self) -> impl Iterator<Item = Seat> {
        self.records.keys().copied()
    }

    pub(super) fn living(&self) -> Vec<Seat> {
        let living = self.records.iter();
        let living = living.filter(|(_, record)| record.life == Life::Lives);
        living.map(|(&seat, _)| seat).collect()
    }

    /// Whether `seat` had ended when `other` came.
    pub(super) fn had_ended(&self, seat: Seat, other: Seat) -> bool {
        let came = self.records.get(&other).map_or(0, |record| record.since);
        let record = self.records.get(&seat);
        record.is_some_and(|record| record.life != Life::Lives && record.until < came)
    }

    pub(super) fn falls_asleep(&mut self, seat: Seat) {
        self.asleep.insert(seat, self.now);
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
                record.hears = hears.of(record.replaced);
            }
        }
        if let Some(former) = self.receiver().filter(|record| record.life != Life::Lives) {
            self.former_receivers.push((former.life, former.until));
        }
        self.join(RECEIVER);
    }

    pub(super) fn sender_joins(&mut self, seat: Seat) {
        self.join(seat);
        let living = self.senders().filter(|record| record.life == Life::Lives);
        let is_no_place_left = living.count() == self.kind.senders();
        self.somebody_may_have_come_in_place_of_senders(is_no_place_left);
    }

    fn join(&mut self, seat: Seat) {
        let record = Record::begin(Life::Lives, self.now, usize::MAX);
        self.records.insert(seat, record);
    }

    fn somebody_may_have_come_in_place_of_senders(&mut self, surely: bool) {
        let ended = self
            .records
            .iter_mut()
            .filter(|(seat, record)| **seat != RECEIVER && record.life != Life::Lives);
        ended.for_each(|(_, record)| record.may_be_replaced(surely));
    }

    fn senders(&self) -> impl Iterator<Item = &Record> {
        let senders = self.records.iter().filter(|(seat, _)| **seat != RECEIVER);
        senders.map(|(_, record)| record)
    }

    pub(super) fn end(&mut self, seat: Seat, life: Life) {
        let now = self.now;
        if life == Life::Unsure && seat != RECEIVER && !self.records.contains_key(&seat) {
            self.somebody_may_have_come_in_place_of_senders(false);
        }
        let record = Record::begin(life, now, now);
        let record = self.records.entry(seat).or_insert(record);
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
        let any = |lives: &[Life], hears: &[Hears]| {
            self.senders()
                .any(|record| lives.contains(&record.life) && hears.contains(&record.hears))
        };
        let must_die = any(&[Life::Died], &[Hears::Must]);
        let may_die = any(&[Life::Died, Life::Unsure], &[Hears::Must, Hears::May]);
        let must_close = any(&[Life::Left], &[Hears::Must]);
        let may_close = any(&[Life::Left, Life::Unsure], &[Hears::Must, Hears::May]);
        let is_one_there = self.senders().any(|record| record.life == Life::Lives);
        let is_fit = match ending {
            Ending::Died => may_die,
            // Whoever comes may be there, in the place of somebody dead; and whoever leaves may be gone.
            _ if self.somebody_comes_or_leaves => true,
            Ending::Closed => !must_die && !is_one_there && may_close,
            Ending::Timeout => !must_die && (is_one_there || !must_close),
        };
        self.is_told_to_receiver(ending, is_fit)
    }

    /// The receiver slept, and found no message. It was told this at some moment since it fell asleep.
    pub(super) fn told_to_sleeping_receiver(&mut self, ending: Ending) -> Result<(), String> {
        let since = self.asleep.remove(&RECEIVER).unwrap_or_default();
        let ended = |lives: &[Life]| {
            self.senders()
                .any(|record| lives.contains(&record.life) && record.until >= since)
        };
        let has_one_been_there = self
            .senders()
            .any(|record| record.life == Life::Lives && record.since < since);
        let is_fit = match ending {
            Ending::Died => ended(&[Life::Died, Life::Unsure]),
            Ending::Closed => !has_one_been_there && ended(&[Life::Left, Life::Unsure]),
            Ending::Timeout => false,
        };
        self.is_told_to_receiver(ending, is_fit)
    }

    fn is_told_to_receiver(&mut self, ending: Ending, is_fit: bool) -> Result<(), String> {
        if !is_fit {
            let records = &self.records;
            return Err(format!("the receiver was told {ending:?}, of {records:?}"));
        }
        if ending == Ending::Died {
            self.death_was_told();
        }
        Ok(())
    }

    /// Each death is told once.
    fn death_was_told(&mut self) {
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
    pub(super) fn sender_may_be_told(&self, seat: Seat, ending: Ending) -> bool {
        let came = self.records.get(&seat).map_or(0, |record| record.since);
        let left = self.records.get(&RECEIVER).map_or(0, |record| record.until);
        // The only sender, in the place of one that was there.
        let inherits = |lives: &[Life]| {
            self.records.iter().any(|(&other, record)| {
                let is_another = other != RECEIVER && other != seat;
                is_another && lives.contains(&record.life) && record.since < left
            }) && self.kind.senders() == 1
        };
        match self.records.get(&RECEIVER) {
            _ if self.somebody_comes_or_leaves => true,
            None => ending == Ending::Timeout,
            Some(receiver) => match receiver.life {
                Life::Lives => ending == Ending::Timeout,
                Life::Left if receiver.until < came => match ending {
                    Ending::Timeout => !inherits(&[Life::Died]),
                    Ending::Closed => inherits(&[Life::Died, Life::Unsure]),
                    Ending::Died => false,
                },
                Life::Left => ending == Ending::Closed,
                Life::Died => ending == Ending::Died,
                Life::Unsure => true,
            },
        }
    }

    /// Whether a sender that slept may have been told this at some moment since it fell asleep.
    pub(super) fn sleeping_sender_may_be_told(&mut self, seat: Seat, ending: Ending) -> bool {
        let since = self.asleep.remove(&seat).unwrap_or_default();
        let last = self.receiver().map(|record| (record.life, record.until));
        let receivers = self.former_receivers.iter().copied().chain(last);
        let mut ended = receivers.filter(|&(_, until)| until >= since);
        match ending {
            Ending::Died => ended.any(|(life, _)| matches!(life, Life::Died | Life::Unsure)),
            Ending::Closed => ended.any(|(life, _)| matches!(life, Life::Left | Life::Unsure)),
            Ending::Timeout => false,
        }
    }
}
