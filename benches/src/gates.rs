//! What this ring has promised, and whether it holds.

use std::fmt;

use crate::{
    contenders::{
        Cell, FUTEX_ASLEEP, OURS, OURS_SLEEPING, PIPE_ASLEEP, RAW_FUTEX,
        many_senders::{ARRAY_QUEUE, LANES, MPSC, SPSC, THINGBUF},
    },
    measure::Measurement,
    stats::Estimate,
    workload::{Pattern, Workload},
};

/// Fewer rounds decide nothing.
pub(crate) const LEAST_ROUNDS: usize = 20;

/// A bound on the ratio of one of this project's rings to another contender.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Clone, Copy, Debug)]
struct Gate {
    workload: Workload,
    of: &'static str,
    to: &'static str,
    bound: Bound,
}

const GATES: [Gate; 13] = [
    Gate {
        workload: from_one_sender(Pattern::RoundTrip, 56),
        of: OURS,
        to: "floor",
        bound: Bound::AtMost(1.15),
    },
    at_least_as_fast_as_rtrb(8, 0.85),
    at_least_as_fast_as_rtrb(56, 1.0),
    at_least_as_fast_as_rtrb(64, 1.0),
    at_least_as_fast_as_rtrb(256, 1.0),
    may_sleep(8),
    may_sleep(56),
    // On one core, where nobody can help sleeping. (There, the bare futex takes nearly as long as a pipe.)
    waiting(Pattern::Blocking, RAW_FUTEX, 1.25),
    waiting(Pattern::RoundTrip, FUTEX_ASLEEP, 1.25),
    waiting(Pattern::RoundTrip, PIPE_ASLEEP, 0.7),
    for_many_but_with_one(MPSC, 1.0, ARRAY_QUEUE),
    for_many_but_with_one(MPSC, 1.0, THINGBUF),
    for_many_but_with_one(LANES, 0.9, SPSC),
];

const fn from_one_sender(pattern: Pattern, message_bytes: usize) -> Workload {
    Workload {
        pattern,
        message_bytes,
        senders: 1,
    }
}

const fn at_least_as_fast_as_rtrb(message_bytes: usize, times: f64) -> Gate {
    Gate {
        workload: from_one_sender(Pattern::Throughput, message_bytes),
        of: OURS,
        to: "rtrb",
        bound: Bound::AtLeast(times),
    }
}

/// What it may cost that a receiver may sleep, while it does not.
const fn may_sleep(message_bytes: usize) -> Gate {
    Gate {
        workload: from_one_sender(Pattern::Throughput, message_bytes),
        of: OURS_SLEEPING,
        to: OURS,
        bound: Bound::AtLeast(0.95),
    }
}

/// What a ring whose sides may sleep may take, beside those that do nothing but sleep.
const fn waiting(pattern: Pattern, to: &'static str, times: f64) -> Gate {
    Gate {
        workload: from_one_sender(pattern, 8),
        of: OURS_SLEEPING,
        to,
        bound: Bound::AtMost(times),
    }
}

/// What a ring for many senders may cost where there is one. With more, machines and their schedulers differ too much for a
/// promise.
const fn for_many_but_with_one(of: &'static str, times: f64, to: &'static str) -> Gate {
    Gate {
        workload: from_one_sender(Pattern::ManySenders, 8),
        of,
        to,
        bound: Bound::AtLeast(times),
    }
}

/// How far a gate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    /// The median misses, but chance may be the reason.
    Undecided,
    /// The whole interval misses.
    Misses,
}

impl Bound {
    fn verdict(self, ratio: Estimate) -> Verdict {
        let (holds, misses) = match self {
            Self::AtMost(bound) => (ratio.median <= bound, ratio.low > bound),
            Self::AtLeast(bound) => (ratio.median >= bound, ratio.high < bound),
        };
        match (holds, misses) {
            (true, _) => Verdict::Holds,
            (false, false) => Verdict::Undecided,
            (false, true) => Verdict::Misses,
        }
    }
}

/// A gate and what was measured.
#[derive(Debug)]
pub(crate) struct Checked {
    gate: Gate,
    ratio: Estimate,
    pub(crate) verdict: Verdict,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gate {
            workload,
            of,
            to,
            bound,
        } = self.gate;
        let verdict = match self.verdict {
            Verdict::Holds => "holds",
            Verdict::Undecided => "undecided",
            Verdict::Misses => "MISSES",
        };
        let (words, bound) = match bound {
            Bound::AtMost(bound) => ("at most", bound),
            Bound::AtLeast(bound) => ("at least", bound),
        };
        let Estimate { median, low, high } = self.ratio;
        write!(
            f,
            "{verdict:9}  {workload}: {of} {words} {bound} x {to}; is {median:.3} [{low:.3}, {high:.3}]"
        )
    }
}

/// Holds every gate against what was measured; what was not measured is not held against anybody.
pub(crate) fn check(measurement: &Measurement) -> Vec<Checked> {
    GATES
        .iter()
        .filter_map(|&gate| {
            let result = measurement
                .results
                .iter()
                .find(|result| result.workload == gate.workload)?;
            let ratio = result
                .standing(gate.of)?
                .ratio_to(result.standing(gate.to)?);
            Some(Checked {
                gate,
                ratio,
                verdict: gate.bound.verdict(ratio),
            })
        })
        .collect()
}

/// Whether a gate is about this cell.
pub(crate) fn concerns(cell: &Cell) -> bool {
    GATES.iter().any(|gate| gate.workload == cell.workload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(low: f64, median: f64, high: f64) -> Estimate {
        Estimate { median, low, high }
    }

    #[test]
    fn a_gate_misses_only_with_its_whole_interval() {
        let at_most = Bound::AtMost(1.15);
        assert_eq!(at_most.verdict(ratio(1.0, 1.15, 1.3)), Verdict::Holds);
        assert_eq!(at_most.verdict(ratio(1.1, 1.2, 1.3)), Verdict::Undecided);
        assert_eq!(at_most.verdict(ratio(1.16, 1.2, 1.3)), Verdict::Misses);

        let at_least = Bound::AtLeast(0.85);
        assert_eq!(at_least.verdict(ratio(0.7, 0.85, 0.9)), Verdict::Holds);
        assert_eq!(at_least.verdict(ratio(0.7, 0.8, 0.9)), Verdict::Undecided);
        assert_eq!(at_least.verdict(ratio(0.7, 0.8, 0.84)), Verdict::Misses);
    }

    #[test]
    fn every_gate_is_about_something_measured() {
        let cells = crate::contenders::cells();
        for gate in GATES {
            let cell = cells.iter().find(|cell| cell.workload == gate.workload);
            let cell = cell.unwrap_or_else(|| panic!("{gate:?}"));
            for name in [gate.of, gate.to] {
                assert!(
                    cell.entries.iter().any(|entry| entry.contender == name),
                    "{name}"
                );
            }
        }
    }
}
