//! Reads the processes of this machine from `/proc`.

use anyhow::Context;
use ipc_ring::FixedStr;
use procfs::ProcError;
use procfs::process::{Process, Stat, all_processes};

use crate::sample::{Sample, State, now_ns};

/// Reads every process once, into `round`, which is cleared first.
///
/// A process that ends while it is being read, or that this user may not look at, is left out.
pub(crate) fn read_round(round: &mut Vec<Sample>) -> anyhow::Result<()> {
    round.clear();
    for process in all_processes().context("cannot list /proc")? {
        match process.and_then(|process| look_at(&process)) {
            Ok(sample) => round.push(sample),
            Err(ProcError::NotFound(_) | ProcError::PermissionDenied(_)) => {}
            Err(error) => return Err(error).context("cannot read a process from /proc"),
        }
    }
    for (sample, remaining) in round.iter_mut().rev().zip(0..) {
        sample.remaining = remaining;
    }
    Ok(())
}

/// What `process` is doing now, as a round of its own.
///
/// `sequence` and `sent_ns` stay 0: they belong to whoever sends the sample.
pub(crate) fn look_at(process: &Process) -> Result<Sample, ProcError> {
    Ok(to_sample(&process.stat()?, now_ns()))
}

fn to_sample(stat: &Stat, taken_ns: u64) -> Sample {
    // A tick is a hundredth of a second on every Linux that one meets, but the kernel decides.
    let ns_per_tick = 1_000_000_000 / procfs::ticks_per_second();
    Sample {
        sequence: 0,
        sent_ns: 0,
        taken_ns,
        started_ns: stat.starttime.saturating_mul(ns_per_tick),
        user_ns: stat.utime.saturating_mul(ns_per_tick),
        system_ns: stat.stime.saturating_mul(ns_per_tick),
        resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
        pid: stat.pid.unsigned_abs(),
        threads: u32::try_from(stat.num_threads).unwrap_or(0),
        remaining: 0,
        state: State::from(stat.state),
        name: FixedStr::truncated(&stat.comm),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use procfs::FromRead;

    use super::*;

    /// A line of `/proc/<pid>/stat` for a process of this name.
    fn stat_of(name: &[u8]) -> Stat {
        let mut line = b"4321 (".to_vec();
        line.extend_from_slice(name);
        line.extend_from_slice(
            b") S 1 4321 4321 0 -1 4194304 900 0 3 0 250 75 0 0 20 0 7 0 1200 50000000 2048 \
              18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
        );
        Stat::from_read(line.as_slice()).expect("a line as the kernel writes it")
    }

    #[test]
    fn every_field_arrives_in_its_unit() {
        let tick = 1_000_000_000 / procfs::ticks_per_second();
        let sample = to_sample(&stat_of(b"cat"), 99);
        assert_eq!(&*sample.name, "cat");
        assert_eq!((sample.pid, sample.threads, sample.taken_ns), (4321, 7, 99));
        assert_eq!(sample.state, State::Sleeping);
        assert_eq!((sample.user_ns, sample.system_ns), (250 * tick, 75 * tick));
        assert_eq!(sample.started_ns, 1200 * tick);
        assert_eq!(sample.resident_bytes, 2048 * procfs::page_size());
    }

    #[test]
    fn a_name_may_hold_spaces_and_parentheses() {
        for name in [
            "a b",
            "(sd-pam)",
            "a) R 1 (b",
            ") ) )",
            "kworker/0:1-events",
        ] {
            let sample = to_sample(&stat_of(name.as_bytes()), 0);
            assert_eq!((&*sample.name, sample.pid), (name, 4321));
        }
    }

    #[test]
    fn a_name_may_be_no_text_or_too_long() {
        let sample = to_sample(&stat_of(b"\xff\xfe name"), 0);
        assert_eq!(&*sample.name, "\u{fffd}\u{fffd} name");
        let long = "é".repeat(40);
        let sample = to_sample(&stat_of(long.as_bytes()), 0);
        assert_eq!(&*sample.name, "é".repeat(24), "cut between characters");
    }

    #[test]
    fn a_round_holds_this_process_and_counts_down_to_zero() {
        let mut round = Vec::new();
        read_round(&mut round).expect("/proc can be read");
        assert!(round.iter().any(|sample| sample.pid == std::process::id()));
        let countdown: Vec<u32> = round.iter().map(|sample| sample.remaining).collect();
        let expected: Vec<u32> = (0..round.len() as u32).rev().collect();
        assert_eq!(countdown, expected);
    }

    #[test]
    fn processes_that_vanish_while_being_read_are_left_out() {
        let mut round = Vec::new();
        let mut children = Vec::new();
        for _ in 0..50 {
            // Each ends at once, at any moment of the reading.
            let child = Command::new("true")
                .stdin(Stdio::null())
                .spawn()
                .expect("true starts");
            children.push(child);
            read_round(&mut round).expect("a vanishing process is no error");
            // Reaped only every other time, so that zombies are read as well.
            if children.len() % 2 == 0 {
                for mut child in children.drain(..) {
                    child.wait().expect("the child ends");
                }
            }
        }
    }
}
