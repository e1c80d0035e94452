//! Loom models of the production ring, and for each the faults that must make it fail.
//!
//! Run by plain `cargo test` through the member `tests/loom`, or by
//! `RUSTFLAGS="--cfg loom" cargo test -p ipc-ring --lib`.

mod alarms;
mod ending;
mod exchange;
mod lanes;
mod locked;
mod mpsc;
mod observer;
mod sharing;
mod takeover;
mod waking;

use crate::sync::{Fault, plant};
use std::cell::Cell;
use std::env;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Tells a child which control it is: `<number of the check in its test>:<number of the fault in that check>`.
const CONTROL: &str = "IPC_RING_NEGATIVE_CONTROL";

/// Explores `model`, then again with each fault planted, and insists that it fails each time. A failing model may abort
/// its process, so each control has one of its own.
fn check(model: impl Fn() + Send + Sync + 'static, faults: &[Fault]) {
    check_within(3, model, faults);
}

/// The same with another bound on preemptions, for models of more threads.
fn check_within(bound: usize, model: impl Fn() + Send + Sync + 'static, faults: &[Fault]) {
    std::thread_local! {
        static CHECKS: Cell<usize> = const { Cell::new(0) };
    }
    let this_check = CHECKS.replace(CHECKS.get() + 1);
    if let Ok(control) = env::var(CONTROL) {
        let (check, fault) = control.split_once(':').unwrap();
        if check == this_check.to_string() {
            plant(Some(faults[fault.parse::<usize>().unwrap()]));
            explore(bound, model);
            plant(None);
        }
        return;
    }
    explore(bound, model);
    for (number, fault) in faults.iter().enumerate() {
        let test = thread::current();
        let control = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                test.name().unwrap(),
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CONTROL, format!("{this_check}:{number}"))
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&control.stderr);
        assert!(
            !control.status.success() && said.contains("panicked at"),
            "the model holds with {fault:?}: it shows nothing about it"
        );
    }
}

/// Loom reorders an access against the last access to the same word only. A thread that loads a word right before it
/// stores to it hides an earlier load of another thread, and executions are missed. So the models take over a side before
/// they spawn a thread, or yield in between.
fn explore(bound: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // None of the planted faults needs more, and without a bound the larger models take hours.
    builder.preemption_bound = builder.preemption_bound.or(Some(bound));
    // Three threads that wait for each other take longer ways than the thousand steps that loom allows by itself.
    builder.max_branches = 20_000;
    let executions = Arc::new(AtomicU64::new(0));
    let count = executions.clone();
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let executions = executions.load(Ordering::Relaxed);
    println!(
        "{}: {executions} executions",
        thread::current().name().unwrap()
    );
    assert!(executions > 1, "a model that is not explored shows nothing");
}
