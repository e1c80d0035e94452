//! Finds what was lost, doubled or reordered among numbered messages.

use std::ops::Range;

/// Watches the sequence numbers of one sender, beginning with the first that arrives.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    /// The number after the highest seen so far; `None` before the first.
    next: Option<u64>,
    received: u64,
    doubled: u64,
    reordered: u64,
    /// The gaps: numbers below `next` that have not arrived. Stays empty while all is well.
    missing: Vec<Range<u64>>,
}

impl Sequence {
    /// Notes that message `number` has arrived.
    pub(crate) fn observe(&mut self, number: u64) {
        self.received += 1;
        let next = *self.next.get_or_insert(number);
        if number >= next {
            if number > next {
                self.missing.push(next..number);
            }
            self.next = Some(number + 1);
        } else {
            self.observe_late(number);
        }
    }

    /// A number below `next` is either one that was missed, or one that was here already.
    #[cold]
    fn observe_late(&mut self, number: u64) {
        let Some(at) = self.missing.iter().position(|gap| gap.contains(&number)) else {
            self.doubled += 1;
            return;
        };
        self.reordered += 1;
        let gap = self.missing.swap_remove(at);
        let parts = [gap.start..number, number + 1..gap.end];
        self.missing
            .extend(parts.into_iter().filter(|part| !part.is_empty()));
    }

    /// Messages that arrived, doubled ones included.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Messages between the first and the latest that never arrived.
    pub(crate) fn lost(&self) -> u64 {
        self.missing.iter().map(|gap| gap.end - gap.start).sum()
    }

    /// Messages that arrived more than once, without their first arrival.
    pub(crate) fn doubled(&self) -> u64 {
        self.doubled
    }

    /// Messages that arrived after a later one.
    pub(crate) fn reordered(&self) -> u64 {
        self.reordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Received, lost, doubled, reordered.
    fn watch(numbers: impl IntoIterator<Item = u64>) -> [u64; 4] {
        let mut sequence = Sequence::default();
        for number in numbers {
            sequence.observe(number);
        }
        [
            sequence.received(),
            sequence.lost(),
            sequence.doubled(),
            sequence.reordered(),
        ]
    }

    #[test]
    fn order_without_gaps_is_no_finding() {
        assert_eq!(watch([]), [0, 0, 0, 0]);
        assert_eq!(watch(0..1000), [1000, 0, 0, 0]);
        assert_eq!(watch(77..80), [3, 0, 0, 0]);
    }

    #[test]
    fn each_gap_is_counted() {
        assert_eq!(watch([0, 1, 5, 6, 8]), [5, 4, 0, 0]);
    }

    #[test]
    fn the_same_number_again_is_doubled() {
        assert_eq!(watch([0, 0, 1, 2, 1]), [5, 0, 2, 0]);
        assert_eq!(
            watch([5, 3, 3]),
            [3, 0, 2, 0],
            "nothing before the first was awaited"
        );
    }

    #[test]
    fn a_late_number_is_reordered_once_and_doubled_after_that() {
        assert_eq!(watch([0, 2, 1, 3]), [4, 0, 0, 1]);
        assert_eq!(watch([0, 4, 2, 2, 1, 3]), [6, 0, 1, 3]);
        assert_eq!(watch([0, 9, 5]), [3, 7, 0, 1]);
    }
}
