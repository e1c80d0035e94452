//! What was measured, for people and for programs.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

use crate::{
    contenders::{OURS, Pattern},
    machine,
    measure::{CellResult, Measurement, Settings, Standing},
    stats::Estimate,
};

/// How each contender was set up; without it no figure means anything.
const NOTES: &str = "\
Medians over paired rounds with 95 % bootstrap intervals; `ratio` is ipc-ring divided by the contender, round by
round. One call a message on either side; every message is filled word by word and checked byte by byte, by all
contenders alike. Two pinned processes, except for rtrb: two pinned threads. Of several variants the best is shown.
ipc-ring is used by send and recv; `ipc-ring, try` and rtrb by calls that do not wait, repeated.
round-trip: one message there and back, both sides spinning (pipe and socket: non-blocking calls, repeated).
  floor: one flag on each line that the message and an 8-byte stamp need, and no payload.
  floor with payload: one flag and the payload behind it, filled and checked, in a single slot that is no ring.
throughput: numbered messages in one direction.
  ceiling: blocks of messages, each with 8 bytes for a stamp, a block handed over with one flag.
  pipe: enlarged to 1 MiB; Unix socket: stream, buffers as the system makes them; both with message-sized calls.
";

/// The table.
pub(crate) fn text(measurement: &Measurement, settings: &Settings) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "pattern",
        "bytes",
        "contender",
        "variant",
        "unit",
        "median",
        "95 %",
        "ratio",
        "95 %",
    ]);
    for column in [1, 5, 6, 7, 8] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for result in &measurement.results {
        let ours = result.standing(OURS);
        for standing in &result.standings {
            let digits = if result.pattern == Pattern::RoundTrip {
                0
            } else {
                1
            };
            let (median, interval) = show(standing.estimate(), digits);
            let (ratio, ratio_interval) = match ours {
                Some(ours) if standing.contender != OURS => show(ours.ratio_to(standing), 2),
                _ => Default::default(),
            };
            table.add_row([
                result.pattern.name().to_owned(),
                result.message_bytes.to_string(),
                standing.contender.to_owned(),
                standing.variant.to_owned(),
                result.pattern.unit().to_owned(),
                median,
                interval,
                ratio,
                ratio_interval,
            ]);
        }
    }
    let mut text = format!("{}\n\n{table}\n\n{NOTES}", about(measurement, settings));
    if settings.cores.are_siblings() {
        text +=
            "These two are hardware threads of one core: lines do not move between caches here.\n";
    }
    let disturbed = measurement.disturbed_runs;
    if disturbed > 0 {
        let _ = writeln!(
            text,
            "In {disturbed} of {} runs a core was taken away for a while: this machine was not quiet.",
            measurement.runs
        );
    }
    text
}

fn about(measurement: &Measurement, settings: &Settings) -> String {
    format!(
        "{}; cores {} and {}; {} rounds of {} ms a run, {} runs; seed {}",
        machine::describe(),
        settings.cores.0,
        settings.cores.1,
        settings.rounds,
        settings.run_time.as_millis(),
        measurement.runs,
        settings.seed,
    )
}

fn show(estimate: Estimate, digits: usize) -> (String, String) {
    let Estimate { median, low, high } = estimate;
    (
        format!("{median:.digits$}"),
        format!("{low:.digits$}–{high:.digits$}"),
    )
}

#[derive(Serialize)]
struct Document {
    about: String,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    contender: &'static str,
    pattern: &'static str,
    message_bytes: usize,
    metric: String,
    unit: &'static str,
    median: f64,
    low: f64,
    high: f64,
}

/// The rows as JSON: each contender's value, and the ratio of this ring to it.
pub(crate) fn json(measurement: &Measurement, settings: &Settings) -> serde_json::Result<String> {
    let mut rows = Vec::new();
    for result in &measurement.results {
        for standing in &result.standings {
            let value = standing.estimate();
            rows.push(row(
                result,
                standing.contender,
                result.pattern.metric().to_owned(),
                result.pattern.unit(),
                value,
            ));
        }
        rows.extend(ratios(result));
    }
    serde_json::to_string_pretty(&Document {
        about: about(measurement, settings),
        rows,
    })
}

fn ratios(result: &CellResult) -> Vec<Row> {
    let Some(ours) = result.standing(OURS) else {
        return Vec::new();
    };
    let others = result
        .standings
        .iter()
        .filter(|standing| standing.contender != OURS);
    others
        .map(|other: &Standing| {
            let metric = format!(
                "{} relative to {}",
                result.pattern.metric(),
                other.contender
            );
            row(result, OURS, metric, "ratio", ours.ratio_to(other))
        })
        .collect()
}

fn row(
    result: &CellResult,
    contender: &'static str,
    metric: String,
    unit: &'static str,
    estimate: Estimate,
) -> Row {
    let Estimate { median, low, high } = estimate;
    Row {
        contender,
        pattern: result.pattern.name(),
        message_bytes: result.message_bytes,
        metric,
        unit,
        median,
        low,
        high,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Cores;
    use std::time::Duration;

    #[test]
    fn the_json_has_the_promised_keys() {
        let standing = |contender, value| Standing {
            contender,
            variant: "",
            sample: vec![value; 20],
        };
        let measurement = Measurement {
            results: vec![CellResult {
                pattern: Pattern::RoundTrip,
                message_bytes: 8,
                standings: vec![standing("floor", 100.0), standing(OURS, 110.0)],
            }],
            runs: 40,
            disturbed_runs: 0,
        };
        let settings = Settings {
            cores: Cores(0, 1),
            rounds: 20,
            run_time: Duration::from_millis(1),
            seed: 1,
        };
        let document: serde_json::Value =
            serde_json::from_str(&json(&measurement, &settings).unwrap()).unwrap();
        assert_eq!(
            document["rows"][0],
            serde_json::json!({
                "contender": "floor", "pattern": "round-trip", "message_bytes": 8, "metric": "time", "unit": "ns",
                "median": 100.0, "low": 100.0, "high": 100.0,
            })
        );
        assert_eq!(document["rows"][2]["metric"], "time relative to floor");
        assert_eq!(document["rows"][2]["median"], 1.1);
        assert!(text(&measurement, &settings).contains("1.10"));
    }
}
