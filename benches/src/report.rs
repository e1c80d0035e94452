//! What was measured, for people and for programs.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

use crate::{
    machine,
    measure::{CellResult, Measurement, Settings},
    stats::Estimate,
    workload::Pattern,
};

/// How each contender was set up; without it no figure means anything.
const NOTES: &str = "\
Medians over paired rounds with 95 % bootstrap intervals; `ratio` is ipc-ring divided by the contender, round by
round. One call a message on either side; every message is filled word by word and checked byte by byte, by all
contenders alike. Pinned processes, except for rtrb, ArrayQueue and thingbuf: pinned threads. Of several variants the best
is shown. ipc-ring is used by send and recv, told to spin; `…, futex`: told to sleep after a while; `…, try` and the threads'
rings by calls that do not wait, repeated.
round-trip: one message there and back, both sides spinning (pipe and socket: non-blocking calls, repeated); `…, futex` and
  `…, asleep` may sleep.
  floor: one flag on each line that the message and an 8-byte stamp need, and no payload.
  floor with payload: one flag and the payload behind it, filled and checked, in a single slot that is no ring.
throughput: numbered messages in one direction.
  ceiling: blocks of messages, each with 8 bytes for a stamp, a block handed over with one flag.
  pipe: enlarged to 1 MiB; Unix socket: stream, buffers as the system makes them; both with message-sized calls.
blocking: one message there and back, both sides on one core, so that each must sleep until the message comes; nobody polls
  before. Ratios are `ipc-ring, futex`'s.
  futex, semaphore, eventfd: bare, and the message in one slot of shared memory; message queue, pipe, Unix socket: it is copied.
many-senders: the same for rings that take several; ipc-ring's are called mpsc, lanes and spsc here, ratios are rows of
  their own. With so many senders that they share cores, their slices of time decide; the receiver has a core for itself.
  lanes: one for each sender; `16 of them`: the others stay empty.
  spinning, sleeping: what ipc-ring was told; busy, pause, yielding: what is done between two tries.
";

/// The table.
pub(crate) fn text(measurement: &Measurement, settings: &Settings) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "pattern",
        "bytes",
        "senders",
        "contender",
        "variant",
        "unit",
        "median",
        "95 %",
        "ratio",
        "95 %",
    ]);
    for column in [1, 2, 6, 7, 8, 9] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for result in &measurement.results {
        add_rows(&mut table, result);
    }
    let mut text = format!("{}\n\n{table}\n\n{NOTES}", about(measurement, settings));
    if settings.cores.are_siblings() {
        text += "Some of these are hardware threads of one core: lines do not move between caches there.\n";
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

fn add_rows(table: &mut Table, result: &CellResult) {
    let pattern = result.workload.pattern;
    let ratios = result.ratios();
    let ratios_have_rows = pattern == Pattern::ManySenders;
    let mut add_row = |contender: &str, variant: &str, unit: &str, value, ratio| {
        let ((median, interval), (ratio, ratio_interval)) = (value, ratio);
        table.add_row([
            pattern.name().to_owned(),
            result.workload.message_bytes.to_string(),
            result.workload.senders.to_string(),
            contender.to_owned(),
            variant.to_owned(),
            unit.to_owned(),
            median,
            interval,
            ratio,
            ratio_interval,
        ]);
    };
    let nothing = <(String, String)>::default;
    for standing in &result.standings {
        let digits = match pattern {
            Pattern::RoundTrip | Pattern::Blocking => 0,
            Pattern::Throughput | Pattern::ManySenders => 1,
        };
        let ratio = ratios
            .iter()
            .find(|ratio| !ratios_have_rows && ratio.to == standing.contender)
            .map_or_else(nothing, |ratio| show(ratio.estimate, 2));
        let value = show(standing.estimate(), digits);
        add_row(
            standing.contender,
            &standing.variant,
            pattern.unit(),
            value,
            ratio,
        );
    }
    for ratio in ratios.iter().filter(|_| ratios_have_rows) {
        let pair = format!("{} / {}", ratio.of, ratio.to);
        add_row(&pair, "", "ratio", nothing(), show(ratio.estimate, 2));
    }
}

fn about(measurement: &Measurement, settings: &Settings) -> String {
    format!(
        "{}; cores {}; {} rounds of {} ms a run, {} runs; seed {}",
        machine::describe(),
        settings.cores,
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
    senders: usize,
    metric: String,
    unit: &'static str,
    median: f64,
    low: f64,
    high: f64,
}

/// The rows as JSON: each contender's value, and the ratios of this project's rings to others.
pub(crate) fn json(measurement: &Measurement, settings: &Settings) -> serde_json::Result<String> {
    let mut rows = Vec::new();
    for result in &measurement.results {
        let pattern = result.workload.pattern;
        for standing in &result.standings {
            let (metric, value) = (pattern.metric().to_owned(), standing.estimate());
            rows.push(row(
                result,
                standing.contender,
                metric,
                pattern.unit(),
                value,
            ));
        }
        for ratio in result.ratios() {
            let metric = format!("{} relative to {}", pattern.metric(), ratio.to);
            rows.push(row(result, ratio.of, metric, "ratio", ratio.estimate));
        }
    }
    serde_json::to_string_pretty(&Document {
        about: about(measurement, settings),
        rows,
    })
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
        pattern: result.workload.pattern.name(),
        message_bytes: result.workload.message_bytes,
        senders: result.workload.senders,
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
    use crate::{
        contenders::{
            OURS,
            many_senders::{ARRAY_QUEUE, MPSC},
        },
        measure::Standing,
        workload::Workload,
    };
    use std::time::Duration;

    /// Two contenders, one value each.
    fn measured(pattern: Pattern, values: [(&'static str, f64); 2]) -> (Measurement, Settings) {
        let standing = |(contender, value)| Standing {
            contender,
            variant: String::new(),
            sample: vec![value; 20],
        };
        let measurement = Measurement {
            results: vec![CellResult {
                workload: Workload {
                    pattern,
                    message_bytes: 8,
                    senders: 1,
                },
                standings: values.map(standing).into(),
            }],
            runs: 40,
            disturbed_runs: 0,
        };
        let settings = Settings {
            cores: "0,1".parse().unwrap(),
            rounds: 20,
            run_time: Duration::from_millis(1),
            seed: 1,
        };
        (measurement, settings)
    }

    #[test]
    fn the_json_has_the_promised_keys() {
        let (measurement, settings) =
            measured(Pattern::RoundTrip, [("floor", 100.0), (OURS, 110.0)]);
        let document: serde_json::Value =
            serde_json::from_str(&json(&measurement, &settings).unwrap()).unwrap();
        assert_eq!(
            document["rows"][0],
            serde_json::json!({
                "contender": "floor", "pattern": "round-trip", "message_bytes": 8, "senders": 1, "metric": "time",
                "unit": "ns", "median": 100.0, "low": 100.0, "high": 100.0,
            })
        );
        assert_eq!(document["rows"][2]["metric"], "time relative to floor");
        assert_eq!(document["rows"][2]["median"], 1.1);
        assert!(text(&measurement, &settings).contains("1.10"));
    }

    #[test]
    fn rings_for_many_senders_have_their_ratios_in_rows() {
        let (measurement, settings) =
            measured(Pattern::ManySenders, [(MPSC, 90.0), (ARRAY_QUEUE, 60.0)]);
        let document: serde_json::Value =
            serde_json::from_str(&json(&measurement, &settings).unwrap()).unwrap();
        let ratio = &document["rows"][2];
        assert_eq!(ratio["contender"], MPSC);
        assert_eq!(ratio["metric"], "rate relative to ArrayQueue");
        assert_eq!(ratio["median"], 1.5);
        let text = text(&measurement, &settings);
        let row = text.lines().find(|line| line.contains("mpsc / ArrayQueue"));
        assert!(row.unwrap().contains("1.50"), "{text}");
    }
}
