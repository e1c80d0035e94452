//! Killed at every instruction: the crash explorer.
//!
//! A victim is single-stepped through one operation. After each instruction the bytes of the segment are a crash image; from
//! each distinct image survivors recover, in two orders, and an oracle holds what they report against a log that never was in
//! the segment. Survivors are newcomers, who know nothing; or they were there, and remember what they saw, or sleep, or went
//! on while the victim stood still.
//!
//! The kernel's state is in no image. So real victims are killed at the entry and exit of every system call and at some
//! instructions, with their locks held, and stopped at others while everybody else goes round the ring.
//!
//! Then planted bugs show that the oracle can fail.
//!
//! `cargo test -p ipc-ring-tests --test crash` runs a version of under two minutes, with `-- --full` everything. Words behind
//! `--` select the scenarios whose names contain all of them; `-- --list` shows the names.

mod act;
mod aftermath;
mod controls;
mod event;
mod explore;
mod identity;
mod image;
mod leftover;
mod matrix;
mod message;
mod operate;
mod operation;
mod oracle;
#[cfg(planted)]
mod planted;
mod player;
mod recovery;
mod ring;
mod scenario;
mod step;
mod strike;
mod table;
mod troupe;
mod walk;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use ipc_ring_tests::step::{processors, stay_on, submit, supported};

use crate::controls::Control;
use crate::explore::{Explorer, Limits, Report};
use crate::image::leftovers;
use crate::matrix::{Planned, matrix};
use crate::table::Table;

/// How many failures are printed in full.
const SHOWN_FAILURES: usize = 20;

/// No new scenario is begun after this many failures.
const MOST_FAILURES: usize = 100;

fn main() -> Result<ExitCode> {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    match arguments.as_slice() {
        ["--player"] => troupe::serve().map(|()| ExitCode::SUCCESS),
        ["--victim"] => {
            submit()?;
            // What it failed of, it has said.
            Ok(match troupe::serve_until_failure() {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            })
        }
        _ => be_explorer(&arguments),
    }
}

fn be_explorer(arguments: &[&str]) -> Result<ExitCode> {
    if let Err(reason) = supported() {
        println!("skipped: {reason}\n0 passed, 0 failed");
        return Ok(ExitCode::SUCCESS);
    }
    let full = arguments.contains(&"--full");
    let filters = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect::<Vec<_>>();
    let mut planned = matrix(full);
    planned.retain(|planned| {
        let name = planned.scenario.to_string();
        filters.iter().all(|filter| name.contains(**filter))
    });
    if arguments.contains(&"--list") {
        for planned in &planned {
            println!("{}: test", planned.scenario);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if planned.is_empty() {
        println!("0 passed, 0 failed");
        return Ok(ExitCode::SUCCESS);
    }

    let namespace = format!("crash-{}", std::process::id());
    // Each library has its own: one that can be started with a fault is not what is promised.
    let found = match cfg!(planted) {
        true => Found {
            reports: Vec::new(),
            controls: plant_all(&namespace, full)?,
        },
        false => explore_all(&planned, &namespace, filters.is_empty())?,
    };
    Ok(found.show(leftovers(&namespace)))
}

#[cfg(planted)]
fn plant_all(namespace: &str, full: bool) -> Result<Vec<Control>> {
    planted::run(namespace, full)
}

#[cfg(not(planted))]
fn plant_all(_: &str, _: bool) -> Result<Vec<Control>> {
    bail!("nothing can be planted in this library")
}

/// What explorations came to.
struct Found {
    reports: Vec<Report>,
    controls: Vec<Control>,
}

impl Found {
    /// Prints it; whether all is well.
    fn show(&self, left_behind: Vec<PathBuf>) -> ExitCode {
        let Self { reports, controls } = self;
        if !reports.is_empty() {
            println!("{}", Table::of(reports));
        }
        let mut failures = reports
            .iter()
            .flat_map(|report| {
                let failures = report.failures.iter();
                failures.map(|failure| format!("{}\n    {failure}", report.scenario))
            })
            .collect::<Vec<_>>();
        if !controls.is_empty() {
            println!("planted bugs:");
        }
        for Control { name, caught } in controls {
            match caught {
                Some(how) => {
                    let how = how.replace("\n", " ");
                    println!("  {name:<44} caught: {how:.200}");
                }
                None => {
                    println!("  {name:<44} NOT CAUGHT");
                    failures.push(format!("the planted bug {name:?} was not caught"));
                }
            }
        }
        let left = left_behind.iter();
        failures.extend(left.map(|path| format!("{} is left behind", path.display())));
        for failure in failures.iter().take(SHOWN_FAILURES) {
            println!("\nFAILED: {failure}");
        }
        if failures.len() > SHOWN_FAILURES {
            println!("\n… and {} more failures", failures.len() - SHOWN_FAILURES);
        }

        let failed_scenarios = reports.iter().filter(|report| !report.failures.is_empty());
        let failed_controls = controls.iter().filter(|control| control.caught.is_none());
        let failed = failed_scenarios.count() + failed_controls.count();
        let failed = failed.max(usize::from(!failures.is_empty()));
        let passed = (reports.len() + controls.len()).saturating_sub(failed);
        println!("\n{passed} passed, {failed} failed");
        if failures.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Explores on every processor at once, each with victims and survivors of its own.
fn explore_all(planned: &[Planned], namespace: &str, with_controls: bool) -> Result<Found> {
    let started = Instant::now();
    let processors = processors();
    if processors.is_empty() {
        bail!("the system does not say which processors may be used");
    }
    let (next, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let reports = Mutex::new(Vec::new());
    let controls = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let workers = processors.iter().enumerate().map(|(worker, &processor)| {
            let (next, failures, reports, controls) = (&next, &failures, &reports, &controls);
            scope.spawn(move || -> Result<()> {
                stay_on(processor)?;
                let mut explorer =
                    Explorer::new(format!("{namespace}-{worker}"), None, Limits::OF_A_SEARCH)?;
                if worker == 0 && with_controls {
                    *controls.lock().expect("no holder panics") = controls::run(&mut explorer)?;
                }
                // Relaxed: handing out numbers orders nothing.
                while failures.load(Ordering::Relaxed) < MOST_FAILURES
                    && let Some(planned) = planned.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let report = explorer.explore(planned.scenario, planned.blows);
                    failures.fetch_add(report.failures.len(), Ordering::Relaxed);
                    reports.lock().expect("no holder panics").push(report);
                }
                Ok(())
            })
        });
        let workers = workers.collect::<Vec<_>>();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("an explorer panicked"))?
        })
    })
    .context("exploring")?;
    let found = Found {
        reports: reports.into_inner().expect("no holder panicked"),
        controls: controls.into_inner().expect("no holder panicked"),
    };
    let (explored, seconds) = (found.reports.len(), started.elapsed().as_secs_f64());
    println!(
        "{explored} of {} scenarios in {seconds:.1} s",
        planned.len()
    );
    Ok(found)
}
