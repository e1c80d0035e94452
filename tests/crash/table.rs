//! What is shown for it.

use std::collections::BTreeMap;
use std::fmt;

use crate::explore::Report;
use crate::scenario::Operation;

/// The sums of all explorations of one operation at one capacity.
#[derive(Default)]
struct Row {
    scenarios: usize,
    steps: u64,
    images: usize,
    recoveries: usize,
    failures: usize,
}

impl Row {
    fn add(&mut self, report: &Report) {
        self.scenarios += 1;
        self.steps += report.steps;
        self.images += report.images;
        self.recoveries += report.recoveries;
        self.failures += report.failures.len();
    }
}

/// Printed with `Display`.
pub(crate) struct Table {
    rows: BTreeMap<(Operation, usize), Row>,
    sum: Row,
}

impl Table {
    pub(crate) fn of(reports: &[Report]) -> Self {
        let mut table = Self {
            rows: BTreeMap::new(),
            sum: Row::default(),
        };
        for report in reports {
            let key = (report.scenario.operation, report.scenario.capacity);
            table.rows.entry(key).or_default().add(report);
            table.sum.add(report);
        }
        table
    }

    pub(crate) fn steps(&self) -> u64 {
        self.sum.steps
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |operation: &str, capacity: &str, row: [&str; 5]| {
            let [scenarios, steps, images, recoveries, failures] = row;
            writeln!(
                f,
                "{operation:<20} {capacity:>8} {scenarios:>9} {steps:>12} {images:>15} {recoveries:>10} {failures:>8}"
            )
        };
        line(
            "operation",
            "capacity",
            [
                "scenarios",
                "instructions",
                "distinct images",
                "recoveries",
                "failures",
            ],
        )?;
        let rows = self
            .rows
            .iter()
            .map(|((operation, capacity), row)| (operation.name(), capacity.to_string(), row));
        for (operation, capacity, row) in rows.chain([("all", String::new(), &self.sum)]) {
            let numbers = [
                row.scenarios.to_string(),
                row.steps.to_string(),
                row.images.to_string(),
                row.recoveries.to_string(),
                row.failures.to_string(),
            ];
            line(operation, &capacity, numbers.each_ref().map(String::as_str))?;
        }
        Ok(())
    }
}
