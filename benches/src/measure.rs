//! Rounds: each runs every contender once, in random order, so that whatever drifts hits all of them alike.

use std::{io::IsTerminal, time::Duration};

use anyhow::{Context, Result};

use crate::{
    contender::{Outcome, Plan},
    contenders::{Cell, Entry, OURS, OURS_SLEEPING, many_senders},
    machine::Cores,
    stats::{Estimate, median},
    timed_loop::Layout,
    workload::{Pattern, Workload},
};

/// So many runs decide how long the others are.
const CALIBRATIONS: usize = 3;

/// How to measure.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) cores: Cores,
    pub(crate) rounds: usize,
    /// How long the timed part of a run takes, for each sender that shares a core with others: all get some slices of it.
    pub(crate) run_time: Duration,
    /// Decides on orders and layouts.
    pub(crate) seed: u64,
}

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Measurement {
    pub(crate) results: Vec<CellResult>,
    pub(crate) runs: usize,
    /// Runs during which a core was taken away from a side.
    pub(crate) disturbed_runs: usize,
}

/// What was measured in one workload.
#[derive(Debug)]
pub(crate) struct CellResult {
    pub(crate) workload: Workload,
    /// In the order of their first mention.
    pub(crate) standings: Vec<Standing>,
}

/// A contender with its best variant.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) contender: &'static str,
    pub(crate) variant: String,
    /// One value a round, in the pattern's unit.
    pub(crate) sample: Vec<f64>,
}

impl Standing {
    pub(crate) fn estimate(&self) -> Estimate {
        Estimate::of(&self.sample)
    }

    /// This contender's value divided by `other`'s, round by round.
    pub(crate) fn ratio_to(&self, other: &Self) -> Estimate {
        Estimate::of_paired_ratio(&self.sample, &other.sample)
    }
}

/// One contender's value divided by another's.
#[derive(Debug)]
pub(crate) struct Ratio {
    pub(crate) of: &'static str,
    pub(crate) to: &'static str,
    pub(crate) estimate: Estimate,
}

impl CellResult {
    pub(crate) fn standing(&self, contender: &str) -> Option<&Standing> {
        self.standings
            .iter()
            .find(|standing| standing.contender == contender)
    }

    /// The contenders whose values are divided by whose: one ring of this project by everybody's, or some by some.
    pub(crate) fn ratios(&self) -> Vec<Ratio> {
        let pairs: Vec<(&'static str, &'static str)> = match self.workload.pattern {
            Pattern::RoundTrip | Pattern::Throughput | Pattern::Blocking => {
                let ours = match self.workload.pattern {
                    Pattern::Blocking => OURS_SLEEPING,
                    _ => OURS,
                };
                let others = self.standings.iter().map(|other| (ours, other.contender));
                others.filter(|(ours, other)| ours != other).collect()
            }
            Pattern::ManySenders => many_senders::RATIOS.into(),
        };
        let ratio = |(of, to)| {
            Some(Ratio {
                of,
                to,
                estimate: self.standing(of)?.ratio_to(self.standing(to)?),
            })
        };
        pairs.into_iter().filter_map(ratio).collect()
    }

    fn new(cell: &Cell, samples: Vec<Vec<f64>>) -> Self {
        let mut standings: Vec<Standing> = Vec::new();
        for (entry, sample) in cell.entries.iter().zip(samples) {
            let candidate = Standing {
                contender: entry.contender,
                variant: entry.variant.clone(),
                sample,
            };
            match standings
                .iter_mut()
                .find(|known| known.contender == entry.contender)
            {
                None => standings.push(candidate),
                Some(known)
                    if cell
                        .workload
                        .pattern
                        .is_better(middle(&candidate), middle(known)) =>
                {
                    *known = candidate
                }
                Some(_) => {}
            }
        }
        Self {
            workload: cell.workload,
            standings,
        }
    }
}

fn middle(standing: &Standing) -> f64 {
    median(&mut standing.sample.clone())
}

/// Measures all `cells`.
pub(crate) fn measure(cells: &[Cell], settings: &Settings) -> Result<Measurement> {
    let mut rng = fastrand::Rng::with_seed(settings.seed);
    let mut runner = Runner {
        settings,
        rng: &mut rng,
        runs: 0,
        disturbed_runs: 0,
    };
    let lengths = cells
        .iter()
        .map(|cell| {
            cell.entries
                .iter()
                .map(|entry| runner.calibrate(cell, entry))
                .collect()
        })
        .collect::<Result<Vec<Vec<u64>>>>()?;
    (runner.runs, runner.disturbed_runs) = (0, 0);

    let mut samples: Vec<Vec<Vec<f64>>> = cells
        .iter()
        .map(|cell| vec![Vec::with_capacity(settings.rounds); cell.entries.len()])
        .collect();
    for round in 1..=settings.rounds {
        show_progress(round, settings.rounds);
        for (cell, (lengths, samples)) in cells.iter().zip(lengths.iter().zip(&mut samples)) {
            let mut order: Vec<usize> = (0..cell.entries.len()).collect();
            runner.rng.shuffle(&mut order);
            for idx in order {
                let outcome = runner.run(cell, &cell.entries[idx], lengths[idx])?;
                samples[idx].push(cell.workload.pattern.value(outcome.nanoseconds_per_message));
            }
        }
    }
    Ok(Measurement {
        runs: runner.runs,
        disturbed_runs: runner.disturbed_runs,
        results: cells
            .iter()
            .zip(samples)
            .map(|(cell, samples)| CellResult::new(cell, samples))
            .collect(),
    })
}

fn show_progress(round: usize, rounds: usize) {
    if std::io::stderr().is_terminal() {
        let end = if round == rounds { "\n" } else { "" };
        eprint!("\rround {round} of {rounds}{end}");
    }
}

struct Runner<'a> {
    settings: &'a Settings,
    rng: &'a mut fastrand::Rng,
    runs: usize,
    disturbed_runs: usize,
}

impl Runner<'_> {
    /// Finds out how many messages take the time of a run.
    fn calibrate(&mut self, cell: &Cell, entry: &Entry) -> Result<u64> {
        let sharing = self.settings.cores.senders_a_core(cell.workload.senders);
        let wanted = self.settings.run_time.as_nanos() as f64 * sharing as f64;
        let mut timed = 4 * entry.slots as u64;
        loop {
            let taken = self.run(cell, entry, timed)?.nanoseconds_per_message * timed as f64;
            let factor = wanted / taken;
            if factor < 3.0 {
                break;
            }
            // A short run may have been a slow one: approach.
            timed = (timed as f64 * factor.min(20.0) / 2.0) as u64;
        }
        // What came last may have been disturbed.
        let mut each = (0..CALIBRATIONS)
            .map(|_| Ok(self.run(cell, entry, timed)?.nanoseconds_per_message))
            .collect::<Result<Vec<f64>>>()?;
        Ok((wanted / median(&mut each)) as u64 + 1)
    }

    fn run(&mut self, cell: &Cell, entry: &Entry, timed: u64) -> Result<Outcome> {
        let plan = Plan {
            cores: &self.settings.cores,
            separation: entry.separation,
            timed,
            // Every slot of a ring has been written and read before the clock starts.
            warm_up: (timed / 4).max(2 * entry.slots as u64),
            layouts: [Layout::random(self.rng), Layout::random(self.rng)],
        };
        let outcome = (entry.run)(&plan).with_context(|| {
            let (contender, variant) = (entry.contender, &entry.variant);
            format!("{contender} ({variant}) in {}", cell.workload)
        })?;
        self.runs += 1;
        self.disturbed_runs += usize::from(outcome.preemptions > 0);
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::Separation;

    fn entry(contender: &'static str, variant: &'static str) -> Entry {
        Entry {
            contender,
            variant: variant.to_owned(),
            separation: Separation::Processes,
            slots: 1,
            run: |_| unreachable!("never run here"),
        }
    }

    #[test]
    fn the_better_variant_stands_for_its_contender() {
        let standing_of = |pattern| {
            let cell = Cell {
                workload: Workload {
                    pattern,
                    message_bytes: 8,
                    senders: 1,
                },
                entries: vec![entry("a", "x"), entry("b", "x"), entry("a", "y")],
            };
            let samples = vec![vec![1.0, 1.0, 9.0], vec![2.0; 3], vec![3.0; 3]];
            let result = CellResult::new(&cell, samples);
            assert_eq!(result.standings.len(), 2);
            result.standing("a").unwrap().variant.clone()
        };
        assert_eq!(standing_of(Pattern::RoundTrip), "x");
        assert_eq!(standing_of(Pattern::Throughput), "y");
    }
}
