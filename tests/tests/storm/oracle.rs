//! What may have been received, given who was killed when.

use crate::Numbered;
use crate::ledger::Row;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

/// How a receiver takes messages.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Way {
    /// At most once: one that was received and not noted is lost.
    Takes,
    /// At least once: one that was noted and not consumed comes again.
    Peeks,
}

/// The death of a receiver that had noted all before `at`. It accounts for one message at most.
#[derive(Debug)]
pub(crate) struct Death {
    pub(crate) at: u64,
    pub(crate) way: Way,
    pub(crate) is_used: bool,
}

#[derive(Default)]
struct Sender {
    /// The sequence to come.
    next: u64,
    /// Behind the last note.
    from: u64,
    /// The latest beginning of all that had arrived before its last message.
    overtaken_by: u64,
}

/// Follows the notes. Panics at the first that can't be.
pub(crate) struct Oracle<'a> {
    deaths: &'a Mutex<Vec<Death>>,
    senders: HashMap<u64, Sender>,
    /// Whether what was sent before another message was begun must arrive before it.
    has_one_order: bool,
    /// The latest beginning of all that have arrived.
    begun: u64,
    /// Messages that arrived before others that had been sent before they were begun.
    pub(crate) overtaken: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
}

impl<'a> Oracle<'a> {
    pub(crate) fn new(deaths: &'a Mutex<Vec<Death>>, has_one_order: bool) -> Self {
        Self {
            deaths,
            senders: HashMap::new(),
            has_one_order,
            begun: 0,
            overtaken: 0,
            lost: 0,
            repeated: 0,
        }
    }

    pub(crate) fn check(&mut self, at: u64, message: &Numbered) {
        let begun = self.begun;
        let sender = self.senders.entry(message.sender).or_default();
        let (next, from, overtaken_by) = (sender.next, sender.from, sender.overtaken_by);
        sender.from = at + 1;
        if message.sequence < next {
            assert_eq!(
                message.sequence + 1,
                next,
                "doubled or reordered: {message:?} at {at}"
            );
            assert!(
                at == from || !self.has_one_order,
                "what comes again comes first: {message:?} at {at}, before at {from}"
            );
            self.account(Way::Peeks, from, from, message);
            self.repeated += 1;
            return;
        }
        sender.next = message.sequence + 1;
        sender.overtaken_by = begun;
        self.begun = begun.max(message.begun);
        for _ in next..message.sequence {
            self.account(Way::Takes, from, at, message);
            self.lost += 1;
        }
        if message.sequence == next && next > 0 {
            self.check_order(message.before, overtaken_by, message);
        }
    }

    /// All have left or died, and nothing is left: nothing of this sender's may be missing.
    pub(crate) fn check_end(&mut self, at: u64, id: u64, row: &Row<'_>) {
        let sender = self.senders.remove(&id).unwrap_or_default();
        let attempted = row.attempted().load(Ordering::Acquire);
        let returned = row.returned().load(Ordering::Acquire);
        let about = format!("sender {id}: {attempted} attempted, {returned} sent");
        assert!(
            sender.next <= attempted,
            "{} received, {about}",
            sender.next
        );
        for _ in sender.next..returned {
            self.account(Way::Takes, sender.from, at, &about);
            self.lost += 1;
        }
        if sender.next == returned && returned > 0 {
            self.check_order(
                row.end().load(Ordering::Acquire),
                sender.overtaken_by,
                &about,
            );
        }
    }

    /// A message that had been sent at `end` arrived behind one that was begun at `overtaken_by`.
    fn check_order(&mut self, end: u64, overtaken_by: u64, about: &dyn std::fmt::Debug) {
        if end < overtaken_by {
            assert!(
                !self.has_one_order,
                "sent by {end}, and one begun at {overtaken_by} came first; before {about:?}"
            );
            self.overtaken += 1;
        }
    }

    /// Finds the death that accounts for a message, among those between two notes.
    fn account(&self, way: Way, from: u64, to: u64, about: &dyn std::fmt::Debug) {
        let mut deaths = self.deaths.lock().unwrap();
        let death = deaths
            .iter_mut()
            .find(|death| death.way == way && !death.is_used && (from..=to).contains(&death.at));
        let what = match way {
            Way::Takes => "lost",
            Way::Peeks => "doubled",
        };
        let death = death.unwrap_or_else(|| panic!("{what} between {from} and {to}: {about:?}"));
        death.is_used = true;
    }
}
