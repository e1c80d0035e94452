//! What is shown for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::explore::Report;
use crate::operation::Operation;
use crate::ring::{Kind, Way};
use crate::scenario::{Advance, Peer, Scenario};

/// What others were doing and remembered: the same ones on the same ring are one state.
type State = (Peer, Advance, usize, usize, usize);

/// The sums of all explorations of one operation of one kind.
#[derive(Default)]
struct Row {
    steps: u64,
    images: usize,
    states: BTreeSet<State>,
    kills: usize,
    stops: usize,
    recoveries: usize,
    failures: usize,
}

impl Row {
    fn add(&mut self, report: &Report) {
        let scenario = &report.scenario;
        self.steps += report.steps;
        self.images += report.images;
        self.states.insert((
            scenario.peer,
            scenario.advance,
            scenario.by,
            scenario.capacity,
            scenario.backlog,
        ));
        self.kills += report.strikes.at_system_calls + report.strikes.at_instructions;
        self.stops += report.strikes.stops;
        self.recoveries += report.recoveries;
        self.failures += report.failures.len();
    }

    fn cells(&self) -> [String; 7] {
        [
            self.steps.to_string(),
            self.images.to_string(),
            self.states.len().to_string(),
            self.kills.to_string(),
            self.stops.to_string(),
            self.recoveries.to_string(),
            self.failures.to_string(),
        ]
    }
}

/// Printed with `Display`.
pub(crate) struct Table {
    rows: BTreeMap<(Way, Kind, Operation), Row>,
    sum: Row,
}

impl Table {
    pub(crate) fn of(reports: &[Report]) -> Self {
        let mut table = Self {
            rows: BTreeMap::new(),
            sum: Row::default(),
        };
        for report in reports {
            let Scenario {
                way,
                kind,
                operation,
                ..
            } = report.scenario;
            let key = (way, kind, operation);
            table.rows.entry(key).or_default().add(report);
            table.sum.add(report);
        }
        table
    }
}

impl fmt::Display for Table {
    /// Markdown, aligned.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |way: &str, kind: &str, operation: &str, cells: [&str; 7]| {
            let [steps, images, states, kills, stops, recoveries, failures] = cells;
            writeln!(
                f,
                "| {way:<9} | {kind:<5} | {operation:<19} | {steps:>12} | {images:>8} | {states:>8} | {kills:>8} | {stops:>8} | {recoveries:>10} | {failures:>8} |"
            )
        };
        line(
            "wait",
            "kind",
            "operation",
            [
                "instructions",
                "images",
                "states",
                "killed",
                "stopped",
                "recoveries",
                "failures",
            ],
        )?;
        line(
            "---",
            "---",
            "---",
            ["---:", "---:", "---:", "---:", "---:", "---:", "---:"],
        )?;
        for ((way, kind, operation), row) in &self.rows {
            let cells = row.cells();
            line(
                &way.to_string(),
                &kind.to_string(),
                operation.name(),
                cells.each_ref().map(String::as_str),
            )?;
        }
        let cells = self.sum.cells();
        line("all", "", "", cells.each_ref().map(String::as_str))
    }
}
