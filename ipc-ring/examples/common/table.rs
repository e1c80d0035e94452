//! A table of the busiest processes, made from samples.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::sample::{Sample, State};

/// A processor's share is measured over about this time. The kernel counts in ticks of 10 ms:
/// over a single round, a fifth of a second, the shares would jump by 5 %.
const WINDOW_NS: u64 = 1_000_000_000;

/// What is known of every process that was in the latest round.
#[derive(Default)]
pub(crate) struct Table {
    processes: HashMap<u32, Process>,
    rounds: u64,
}

struct Process {
    latest: Sample,
    /// When the process was looked at and the processor time it had used by then, oldest first;
    /// the first entry is the one to measure from.
    history: VecDeque<(u64, u64)>,
    /// The round of `latest`.
    round: u64,
}

impl Table {
    /// Adds a sample and says whether it ended a round.
    pub(crate) fn update(&mut self, sample: &Sample) -> bool {
        self.processes
            .entry(sample.pid)
            .and_modify(|process| process.update(sample, self.rounds))
            .or_insert_with(|| Process::new(sample, self.rounds));
        let complete = sample.remaining == 0;
        if complete {
            // Whoever was not in the round has ended.
            self.processes
                .retain(|_, process| process.round == self.rounds);
            self.rounds += 1;
        }
        complete
    }

    /// The `rows` busiest processes, ready to be printed.
    pub(crate) fn busiest(&self, rows: usize) -> Busiest<'_> {
        let mut processes: Vec<&Process> = self.processes.values().collect();
        processes.sort_unstable_by(|a, b| {
            let by_share = b.share().total_cmp(&a.share());
            let by_memory = b.latest.resident_bytes.cmp(&a.latest.resident_bytes);
            by_share
                .then(by_memory)
                .then(a.latest.pid.cmp(&b.latest.pid))
        });
        Busiest { processes, rows }
    }
}

impl Process {
    fn new(sample: &Sample, round: u64) -> Self {
        let history = VecDeque::from([(sample.taken_ns, used(sample))]);
        Self {
            latest: *sample,
            history,
            round,
        }
    }

    fn update(&mut self, sample: &Sample, round: u64) {
        if sample.started_ns != self.latest.started_ns {
            // The pid was reused.
            *self = Self::new(sample, round);
            return;
        }
        self.history.push_back((sample.taken_ns, used(sample)));
        // Drop the oldest as long as the next one is old enough to measure from.
        while let Some(&(taken_ns, _)) = self.history.get(1)
            && taken_ns + WINDOW_NS <= sample.taken_ns
        {
            self.history.pop_front();
        }
        self.latest = *sample;
        self.round = round;
    }

    /// The share of one processor that was used lately, from 0 to the number of threads.
    fn share(&self) -> f64 {
        let (from_ns, used_before) = self.history[0];
        let elapsed = self.latest.taken_ns.saturating_sub(from_ns);
        if elapsed == 0 {
            return 0.0; // seen only once
        }
        used(&self.latest).saturating_sub(used_before) as f64 / elapsed as f64
    }
}

fn used(sample: &Sample) -> u64 {
    sample.user_ns.saturating_add(sample.system_ns)
}

/// Prints as a heading and one line per process.
pub(crate) struct Busiest<'a> {
    /// All processes, the busiest first.
    processes: Vec<&'a Process>,
    rows: usize,
}

impl fmt::Display for Busiest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.processes.iter().map(|process| &process.latest);
        let running = all
            .clone()
            .filter(|sample| sample.state == State::Running)
            .count();
        let threads: u64 = all.map(|sample| u64::from(sample.threads)).sum();
        let count = self.processes.len();
        writeln!(f, "{count} processes, {running} running, {threads} threads")?;
        writeln!(
            f,
            "{:>7} S {:>6} {:>10} {:>10} {:>11} {:>7} NAME",
            "PID", "CPU %", "USER", "SYSTEM", "RESIDENT", "THREADS"
        )?;
        for process in self.processes.iter().take(self.rows) {
            let sample = &process.latest;
            writeln!(
                f,
                "{:>7} {} {:>6.1} {:>10} {:>10} {:>7.1} MiB {:>7} {}",
                sample.pid,
                sample.state,
                process.share() * 100.0,
                Clock(sample.user_ns),
                Clock(sample.system_ns),
                sample.resident_bytes as f64 / f64::from(1 << 20),
                sample.threads,
                Printable(&sample.name),
            )?;
        }
        Ok(())
    }
}

/// Minutes, seconds and hundredths, as `top` shows processor time.
struct Clock(u64);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = Duration::from_nanos(self.0).as_millis() / 10;
        let (seconds, hundredths) = (hundredths / 100, hundredths % 100);
        f.pad(&format!(
            "{}:{:02}.{hundredths:02}",
            seconds / 60,
            seconds % 60
        ))
    }
}

/// A process chooses its own name: it must not get to send commands to the terminal.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.0
            .chars()
            .try_for_each(|c| f.write_char(if c.is_control() { '?' } else { c }))
    }
}

#[cfg(test)]
mod tests {
    use ipc_ring::FixedStr;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn sample(pid: u32, taken_ns: u64, user_ns: u64, remaining: u32) -> Sample {
        Sample {
            sequence: 0,
            sent_ns: 0,
            taken_ns,
            started_ns: 7,
            user_ns,
            system_ns: 0,
            resident_bytes: 3 << 20,
            pid,
            threads: 2,
            remaining,
            state: State::Sleeping,
            name: FixedStr::truncated("name"),
        }
    }

    fn shares(table: &Table) -> Vec<(u32, f64)> {
        let busiest = table.busiest(10);
        busiest
            .processes
            .iter()
            .map(|process| (process.latest.pid, process.share()))
            .collect()
    }

    #[test]
    fn shares_are_differences_over_the_window() {
        let mut table = Table::default();
        // Half a processor in the first two seconds, then a whole one: five rounds a second.
        for round in 0..=20 {
            let now = round * SECOND / 5;
            let used = if now <= 2 * SECOND {
                now / 2
            } else {
                now - SECOND
            };
            assert!(table.update(&sample(1, 50 * SECOND + now, 90 * SECOND + used, 0)));
            match now / SECOND {
                0 if now == 0 => assert_eq!(shares(&table), [(1, 0.0)], "seen only once"),
                0 | 1 => assert_eq!(shares(&table), [(1, 0.5)]),
                3.. => assert_eq!(shares(&table), [(1, 1.0)], "older than the window"),
                _ => {}
            }
        }
        assert!(table.processes[&1].history.len() <= 6);
    }

    #[test]
    fn the_busiest_comes_first() {
        let mut table = Table::default();
        for now in [0, SECOND] {
            table.update(&sample(1, now, now / 4, 2));
            table.update(&sample(2, now, now / 2, 1));
            table.update(&sample(3, now, 0, 0));
        }
        assert_eq!(shares(&table), [(2, 0.5), (1, 0.25), (3, 0.0)]);
        let text = table.busiest(1).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "3 processes, 0 running, 6 threads");
        assert_eq!(
            lines[2],
            "      2 S   50.0    0:00.50    0:00.00     3.0 MiB       2 name"
        );
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_process_that_ended_leaves_the_table() {
        let mut table = Table::default();
        assert!(!table.update(&sample(1, 0, 0, 1)));
        assert!(table.update(&sample(2, 0, 0, 0)));
        assert!(table.update(&sample(2, SECOND, 0, 0)));
        assert_eq!(shares(&table), [(2, 0.0)]);
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let mut table = Table::default();
        table.update(&sample(1, 0, 0, 0));
        let newcomer = Sample {
            started_ns: 8,
            ..sample(1, SECOND, SECOND, 0)
        };
        table.update(&newcomer);
        assert_eq!(shares(&table), [(1, 0.0)]);
    }

    #[test]
    fn a_name_can_not_command_the_terminal() {
        assert_eq!(Printable("a\x1b[2Jb\nc\u{9b}é").to_string(), "a?[2Jb?c?é");
    }

    #[test]
    fn processor_time_reads_like_a_clock() {
        let clock = |ns| Clock(ns).to_string();
        assert_eq!(clock(0), "0:00.00");
        assert_eq!(clock(61 * SECOND + 239_000_000), "1:01.23");
        assert_eq!(clock(6_000 * SECOND), "100:00.00");
    }
}
