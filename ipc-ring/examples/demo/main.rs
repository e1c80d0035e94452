//! Runs `sampler` and `monitor` as two processes, measures them, and checks that every message
//! arrived, once and in order; has several senders at once send to one receiver, by either kind of
//! ring for that; then streams a file from one process to another.
//!
//! ```sh
//! cargo run --release --example demo              # 4 senders; the largest library of the toolchain
//! cargo run --release --example demo -- FILE      # streams this file
//! cargo run --release --example demo -- --senders 16
//! ```
//!
//! The program starts itself for every sender and every receiver of each of its rings. What
//! either counted it reports in a line on its standard output, not through a ring. The exit code
//! is 0 only if all of it adds up and no ring is left behind; 2 if the arguments make no sense.

#[path = "../common/dashboard.rs"]
mod dashboard;
#[path = "../common/processes.rs"]
mod processes;
#[path = "../common/sample.rs"]
mod sample;
#[path = "../common/sampling.rs"]
mod sampling;
#[path = "../common/sequence.rs"]
mod sequence;
#[path = "../common/stop.rs"]
mod stop;
#[path = "../common/table.rs"]
mod table;

mod arguments;
mod burst;
mod crowd;
mod gate;
mod paced;
mod report;
mod rings;
mod source;
mod stream;
mod workers;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::arguments::{Arguments, USAGE};
use crate::crowd::{CrowdReceived, CrowdSent, Summary};
use crate::report::{Received, Sent, megabytes_per_second, per_second};
use crate::rings::Rings;
use crate::sample::Sample;
use crate::source::Source;
use crate::stop::Stop;
use crate::workers::{Interrupted, Worker};

/// A phase takes a few seconds; a worker that takes this long hangs.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (who, result) = match arguments.as_slice() {
        [as_worker, role, namespace, rest @ ..] if as_worker == workers::AS => {
            let role = role.to_string_lossy();
            let result = work(&role, &namespace.to_string_lossy(), rest);
            (format!("demo, as {role}"), result)
        }
        arguments => match Arguments::parse(arguments) {
            Ok(arguments) => ("demo".to_owned(), demonstrate(&arguments)),
            Err(wrong) => {
                eprintln!("demo: {wrong}\n{USAGE}");
                return ExitCode::from(2);
            }
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{who}: {error:#}");
            // As a shell reports a program that Ctrl-C ended.
            ExitCode::from(if error.is::<Interrupted>() { 130 } else { 1 })
        }
    }
}

/// What each of the processes that this one starts does.
fn work(role: &str, namespace: &str, rest: &[OsString]) -> anyhow::Result<()> {
    match (role, rest) {
        ("sampler", []) => report::print(&paced::send(namespace)?),
        ("monitor", [show]) => report::print(&paced::receive(namespace, show == paced::LIVE)?),
        ("burst-sender", []) => report::print(&burst::send(namespace)?),
        ("burst-receiver", []) => report::print(&burst::receive(namespace)?),
        ("crowd-sender", [kind]) => {
            let kind = kind.to_string_lossy();
            report::print(&crowd::send(namespace, &kind)?)
        }
        ("crowd-receiver", [kind, senders]) => {
            let (kind, senders) = (kind.to_string_lossy(), senders.to_string_lossy());
            report::print(&crowd::receive(namespace, &kind, senders.parse()?)?)
        }
        ("file-sender", [file]) => report::print(&stream::send(namespace, file.as_ref())?),
        ("file-receiver", []) => report::print(&stream::receive(namespace)?),
        _ => bail!("no such role\n{USAGE}"),
    }
}

/// The whole demonstration, as the user sees it.
fn demonstrate(arguments: &Arguments) -> anyhow::Result<()> {
    // Anything wrong with the file is said before the first phase.
    let source = Source::choose(arguments.file.as_ref())?;
    let stop = Stop::on_signals().context("cannot handle signals")?;
    let rings = Rings::new();
    let sampling = run_paced(&rings, &stop)?;
    let burst = run_burst(&rings, &stop)?;
    let crowds = run_crowds(&rings, &stop, arguments.senders)?;
    let streaming = run_stream(&rings, &stop, &source)?;
    rings.remove()?;
    let messages = sampling + burst + crowds + streaming;
    writeln!(
        io::stdout(),
        "\nAll {messages} messages arrived, once and in order; no ring is left behind."
    )?;
    Ok(())
}

fn run_paced(rings: &Rings, stop: &Stop) -> anyhow::Result<u64> {
    let mut out = io::stdout();
    writeln!(
        out,
        "1. Every process of this machine, {} times a second, for {:?}\n",
        paced::ROUNDS_PER_SECOND,
        paced::DURATION,
    )?;
    let show = if io::stdout().is_terminal() {
        paced::LIVE
    } else {
        paced::LAST
    };
    let sampler = Worker::new("sampler", rings);
    let monitor = Worker::new("monitor", rings).argument(show);
    let (sent, paced): (Sent, paced::Report) = workers::run_pair(sampler, monitor, LIMIT, stop)?;
    paced.received.check(&sent)?;
    writeln!(
        out,
        "{} messages, {:.0} a second: as many as there are processes to look at",
        sent.messages,
        per_second(&sent, &paced.received),
    )?;
    writeln!(
        out,
        "latency from send to receive: p50 {:.1?}, p99 {:.1?}, max {:.1?}; \
         the monitor sleeps between rounds",
        Duration::from_nanos(paced.p50_ns),
        Duration::from_nanos(paced.p99_ns),
        Duration::from_nanos(paced.max_ns),
    )?;
    writeln!(out, "{}", paced.received)?;
    Ok(sent.messages)
}

fn run_burst(rings: &Rings, stop: &Stop) -> anyhow::Result<u64> {
    let mut out = io::stdout();
    writeln!(
        out,
        "\n2. One round of samples, over and over, as fast as the ring takes them, for {:?}\n",
        burst::DURATION,
    )?;
    let sender = Worker::new("burst-sender", rings);
    let receiver = Worker::new("burst-receiver", rings);
    let (sent, received): (Sent, Received) = workers::run_pair(sender, receiver, LIMIT, stop)?;
    received.check(&sent)?;
    writeln!(
        out,
        "{} messages of {} bytes, sent and received one by one: {:.1} million a second",
        sent.messages,
        size_of::<Sample>(),
        per_second(&sent, &received) / 1e6,
    )?;
    writeln!(out, "{received}")?;
    Ok(sent.messages)
}

fn run_crowds(rings: &Rings, stop: &Stop, senders: u32) -> anyhow::Result<u64> {
    let mut out = io::stdout();
    let plural = if senders == 1 { "" } else { "s" };
    writeln!(
        out,
        "\n3. {senders} sender{plural} at once, as fast as the ring takes it, each for {:?}",
        burst::DURATION,
    )?;
    let mut messages = 0;
    for (kind, meaning) in crowd::KINDS {
        let crowd = (0..senders).map(|_| Worker::new("crowd-sender", rings).argument(kind));
        let receiver = Worker::new("crowd-receiver", rings)
            .argument(kind)
            .argument(senders.to_string());
        let (sent, received): (Vec<CrowdSent>, CrowdReceived) =
            workers::run(crowd.collect(), receiver, LIMIT, stop)?;
        let summary = Summary::new(&sent, received).with_context(|| kind)?;
        writeln!(out, "\n{kind}, {meaning}\n{summary}")?;
        messages += summary.messages();
    }
    Ok(messages)
}

fn run_stream(rings: &Rings, stop: &Stop, source: &Source) -> anyhow::Result<u64> {
    let mut out = io::stdout();
    writeln!(
        out,
        "\n4. {source}, in messages of {} bytes\n",
        size_of::<stream::Block>()
    )?;
    // Even a file of many gigabytes, from the slowest of disks, gets its time.
    let limit = LIMIT + Duration::from_millis(source.bytes() / 10_000);
    let sender = Worker::new("file-sender", rings).argument(source.path());
    let receiver = Worker::new("file-receiver", rings);
    let (sent, received): (stream::FileSent, stream::FileReceived) =
        workers::run_pair(sender, receiver, limit, stop)?;
    received.received.check(&sent.sent)?;
    if (sent.bytes, sent.checksum) != (received.bytes, received.checksum) {
        bail!(
            "the file arrived damaged: {} bytes with CRC-32 {:08x} were sent, \
             {} bytes with CRC-32 {:08x} received",
            sent.bytes,
            sent.checksum,
            received.bytes,
            received.checksum,
        );
    }
    writeln!(
        out,
        "{} messages, {:.0} MB/s from the first read to the last checksum",
        sent.sent.messages,
        megabytes_per_second(sent.bytes, &sent.sent, &received.received),
    )?;
    writeln!(
        out,
        "{}; CRC-32 {:08x} on both sides",
        received.received, received.checksum
    )?;
    Ok(sent.sent.messages)
}
