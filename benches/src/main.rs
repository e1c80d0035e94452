//! ipc-ring beside its rivals and the kernel's channels, in one run.
//!
//!     cargo run --release -p ipc-ring-benches -- --help

mod contender;
mod contenders;
mod gates;
mod idle;
mod machine;
mod measure;
mod message;
mod report;
mod stats;
mod timed_loop;
mod worker;
mod workload;

use std::{fs, path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use crate::{
    contenders::{Cell, cells},
    gates::{LEAST_ROUNDS, Verdict},
    machine::Cores,
    measure::{Settings, measure},
    workload::Pattern,
};

/// Measures ipc-ring beside rtrb, ArrayQueue, thingbuf, a pipe, a Unix socket, the machine's floor and its ceiling.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Takes two or three minutes, under one without many-senders, instead of a quarter of an hour: short runs, and the fewest
    /// rounds that decide anything
    #[arg(long)]
    quick: bool,

    /// How many paired rounds [default: 40; with --quick: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,

    /// Only these: a pattern, a size of message, a number of senders, or some of them (round-trip, /56, throughput/8,
    /// many-senders/8/4); may be given several times
    #[arg(long, value_name = "PATTERN/SIZE/SENDERS")]
    only: Vec<Only>,

    /// Fails if this ring misses one of its promises
    #[arg(long)]
    check: bool,

    /// Writes the figures to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// The cores of sender, receiver and further senders, which share what there is [default: as many as are needed, if
    /// possible no two of one hardware core]
    #[arg(long, value_name = "A,B[,…]")]
    cores: Option<Cores>,

    /// Repeats the order of an earlier run [default: another one every time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// A choice of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Only {
    pattern: Option<Pattern>,
    message_bytes: Option<usize>,
    senders: Option<usize>,
}

impl Only {
    fn includes(self, cell: &Cell) -> bool {
        let workload = cell.workload;
        self.pattern
            .is_none_or(|pattern| pattern == workload.pattern)
            && self
                .message_bytes
                .is_none_or(|bytes| bytes == workload.message_bytes)
            && self
                .senders
                .is_none_or(|senders| senders == workload.senders)
    }
}

impl FromStr for Only {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let (pattern, size, senders) = (next(), next(), next());
        let number = |part: &str| part.parse().map_err(|_| format!("`{part}` is no number"));
        Ok(Self {
            pattern: pattern
                .map(|name| Pattern::from_str(name, true))
                .transpose()?,
            message_bytes: size.map(number).transpose()?,
            senders: senders.map(number).transpose()?,
        })
    }
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let chosen: Vec<Cell> = cells()
        .into_iter()
        .filter(|cell| {
            options.only.is_empty() || options.only.iter().any(|only| only.includes(cell))
        })
        .collect();
    ensure!(
        !chosen.is_empty(),
        "nothing is measured at that size of message, or with so many senders"
    );

    let (default_rounds, run_time) = if options.quick { (20, 8) } else { (40, 30) };
    let settings = Settings {
        cores: options.cores.map_or_else(Cores::choose, Ok)?,
        rounds: options.rounds.map_or(default_rounds, usize::from),
        run_time: Duration::from_millis(run_time),
        seed: options.seed.unwrap_or_else(|| fastrand::u64(..)),
    };
    if options.check {
        ensure!(
            settings.rounds >= LEAST_ROUNDS,
            "--check needs at least {LEAST_ROUNDS} rounds: fewer decide nothing"
        );
        ensure!(
            chosen.iter().any(gates::concerns),
            "nothing is promised about what --only leaves"
        );
    }
    if let Some(load) = machine::load().filter(|&load| load > 0.5) {
        eprintln!("Others are at work on this machine (load {load}): the intervals will be wide.");
    }

    let measurement = measure(&chosen, &settings)?;
    println!("{}", report::text(&measurement, &settings));
    if let Some(path) = &options.json {
        fs::write(path, report::json(&measurement, &settings)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }

    if !options.check {
        return Ok(ExitCode::SUCCESS);
    }
    let checked = gates::check(&measurement);
    for gate in &checked {
        println!("{gate}");
    }
    let missed = checked.iter().any(|gate| gate.verdict == Verdict::Misses);
    Ok(ExitCode::from(u8::from(missed)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_options_are_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_choice_names_a_pattern_a_size_or_senders() {
        let parsed = |text: &str| {
            text.parse::<Only>()
                .map(|only| (only.pattern, only.message_bytes, only.senders))
        };
        let throughput = Some(Pattern::Throughput);
        let many_senders = Some(Pattern::ManySenders);
        assert_eq!(parsed("throughput"), Ok((throughput, None, None)));
        assert_eq!(parsed("/64"), Ok((None, Some(64), None)));
        assert_eq!(parsed("throughput/8"), Ok((throughput, Some(8), None)));
        let all = (many_senders, Some(8), Some(4));
        assert_eq!(parsed("many-senders/8/4"), Ok(all));
        assert_eq!(parsed("//4"), Ok((None, None, Some(4))));
        for wrong in ["round-trip/x", "sideways", "//x", "throughput/8/1/1"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
