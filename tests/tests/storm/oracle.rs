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
        let what = match way {
            Way::Takes => "lost",
            Way::Peeks => "doubled",
        };
        let is_accounted_for = self.use_death(way, from, to);
        assert!(
            is_accounted_for,
            "{what} between {from} and {to}: {about:?}"
        );
    }

    fn use_death(&self, way: Way, from: u64, to: u64) -> bool {
        let mut deaths = self.deaths.lock().unwrap();
        // They come one after the other, and so do the notes.
        let first = deaths.partition_point(|death| death.at < from);
        let death = deaths[first..]
            .iter_mut()
            .take_while(|death| death.at <= to)
            .find(|death| death.way == way && !death.is_used);
        death.map(|death| death.is_used = true).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use tempfile::NamedTempFile;

    /// Of a message of which times say nothing.
    fn numbered(sender: u64, sequence: u64) -> Numbered {
        Numbered::of_words([sender, sequence, 0, u64::MAX])
    }

    fn death(at: u64, way: Way) -> Death {
        Death {
            at,
            way,
            is_used: false,
        }
    }

    /// What the oracle says of messages that were noted in this order, after so many of sender 0 were sent for certain.
    fn judge(deaths: Vec<Death>, messages: &[Numbered], sent: u64) -> (u64, u64) {
        let deaths = Mutex::new(deaths);
        let mut oracle = Oracle::new(&deaths, true);
        for (at, message) in messages.iter().enumerate() {
            message.assert_whole();
            oracle.check(at as u64, message);
        }
        let file = NamedTempFile::new().unwrap();
        let ledger = Ledger::of(&file);
        let row = ledger.row(0);
        row.attempted().store(sent, Ordering::Relaxed);
        row.returned().store(sent, Ordering::Relaxed);
        oracle.check_end(messages.len() as u64, 0, &row);
        (oracle.lost, oracle.repeated)
    }

    fn sequences<const N: usize>(sequences: [u64; N]) -> [Numbered; N] {
        sequences.map(|sequence| numbered(0, sequence))
    }

    #[test]
    fn what_arrives_in_order_is_good() {
        let messages = [numbered(0, 0), numbered(1, 0), numbered(0, 1)];
        assert_eq!(judge(vec![], &messages, 2), (0, 0));
    }

    #[test]
    #[should_panic(expected = "lost between 1 and 1")]
    fn a_lost_message_is_noticed() {
        judge(vec![], &sequences([0, 2]), 3);
    }

    #[test]
    #[should_panic(expected = "lost between 0 and 0")]
    fn a_lost_first_message_is_noticed() {
        judge(vec![], &sequences([1]), 2);
    }

    #[test]
    #[should_panic(expected = "lost between 2 and 2")]
    fn a_lost_last_message_is_noticed() {
        judge(vec![], &sequences([0, 1]), 3);
    }

    #[test]
    #[should_panic(expected = "doubled between 1 and 1")]
    fn a_doubled_message_is_noticed() {
        judge(vec![], &sequences([0, 0]), 1);
    }

    #[test]
    #[should_panic(expected = "lost between 1 and 1")]
    fn messages_that_changed_places_are_noticed() {
        judge(vec![], &sequences([0, 2, 1]), 3);
    }

    #[test]
    #[should_panic(expected = "doubled or reordered")]
    fn messages_that_changed_places_are_noticed_even_if_a_loss_is_accounted_for() {
        judge(vec![death(1, Way::Takes)], &sequences([0, 2, 3, 1]), 4);
    }

    #[test]
    #[should_panic(expected = "torn")]
    fn a_torn_message_is_noticed() {
        let torn = Numbered {
            sequence: 1,
            ..numbered(0, 0)
        };
        judge(vec![], &[torn], 1);
    }

    #[test]
    #[should_panic(expected = "2 received")]
    fn a_message_that_nobody_sent_is_noticed() {
        judge(vec![], &sequences([0, 1]), 1);
    }

    #[test]
    #[should_panic(expected = "came first")]
    fn a_message_that_overtakes_one_of_another_sender_is_noticed() {
        // Sender 0 had sent its first message at 5, sender 1 began at 7.
        let overtaking = Numbered::of_words([1, 0, 7, u64::MAX]);
        let overtaken = numbered(0, 0);
        let next = Numbered::of_words([0, 1, 8, 5]);
        judge(vec![], &[overtaking, overtaken, next], 2);
    }

    #[test]
    fn a_killed_receiver_accounts_for_one_message_of_its_way() {
        let takes = || vec![death(1, Way::Takes)];
        let peeks = || vec![death(1, Way::Peeks)];
        assert_eq!(judge(takes(), &sequences([0, 2]), 3), (1, 0));
        assert_eq!(judge(peeks(), &sequences([0, 0, 1]), 2), (0, 1));
        // In its way, one message, and in its time.
        let unaccounted: [(Vec<Death>, &[u64]); 6] = [
            (peeks(), &[0, 2]),
            (takes(), &[0, 0]),
            (takes(), &[0, 3]),
            (peeks(), &[0, 0, 0]),
            (takes(), &[0, 1, 3]),
            (peeks(), &[0, 1, 1]),
        ];
        for (deaths, noted) in unaccounted {
            let messages: Vec<_> = noted
                .iter()
                .map(|&sequence| numbered(0, sequence))
                .collect();
            let sent = noted.last().unwrap() + 1;
            let said = std::panic::catch_unwind(|| judge(deaths, &messages, sent));
            assert!(said.is_err(), "{noted:?}");
        }
    }
}
