//! The receiving half: a live view of what a sampler sends.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::sample::{Sample, now_ns};
use crate::sequence::Sequence;
use crate::table::Table;

/// What is known from the samples so far; prints as one frame.
pub(crate) struct Dashboard {
    /// What became of the numbered samples.
    pub(crate) sequence: Sequence,
    /// Nanoseconds from send to receive.
    pub(crate) latency: Histogram<u64>,
    table: Table,
    rows: usize,
}

impl Dashboard {
    /// A dashboard that shows this many processes.
    pub(crate) fn new(rows: usize) -> Self {
        let hour_ns = 3_600_000_000_000;
        let latency = Histogram::new_with_max(hour_ns, 3).expect("bounds that hdrhistogram takes");
        Self {
            sequence: Sequence::default(),
            latency,
            table: Table::default(),
            rows,
        }
    }

    /// Takes a sample that was received just now, and says whether it ended a round: then there is
    /// a frame to show.
    pub(crate) fn take(&mut self, sample: &Sample) -> bool {
        self.latency
            .saturating_record(now_ns().saturating_sub(sample.sent_ns));
        self.sequence.observe(sample.sequence);
        self.table.update(sample)
    }
}

impl fmt::Display for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.table.busiest(self.rows))?;
        let latency = |quantile| Duration::from_nanos(self.latency.value_at_quantile(quantile));
        writeln!(
            f,
            "{} samples: {} lost, {} doubled, {} reordered; \
             latency p50 {:.1?}, p99 {:.1?}, max {:.1?}",
            self.sequence.received(),
            self.sequence.lost(),
            self.sequence.doubled(),
            self.sequence.reordered(),
            latency(0.5),
            latency(0.99),
            latency(1.0),
        )
    }
}

/// Prints frames: each in place of the last on a terminal, below it elsewhere.
pub(crate) struct Screen {
    in_place: bool,
    /// How many lines the last frame has.
    lines: usize,
}

impl Screen {
    pub(crate) fn new(in_place: bool) -> Self {
        Self { in_place, lines: 0 }
    }

    pub(crate) fn show(&mut self, frame: &impl fmt::Display) -> io::Result<()> {
        let text = self.text(frame.to_string());
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn text(&mut self, frame: String) -> String {
        if !self.in_place {
            return frame + "\n";
        }
        let back = match self.lines {
            0 => String::new(),
            lines => format!("\x1b[{lines}A"),
        };
        self.lines = frame.lines().count();
        // Without wrapping, one line of text is one line of the terminal. Each is cleared behind
        // its end, the last one with all below it: to clear everything first would flicker.
        let lines = frame.trim_end().replace('\n', "\x1b[K\n");
        format!("\x1b[?7l{back}{lines}\x1b[J\x1b[?7h\n")
    }
}

#[cfg(test)]
mod tests {
    use ipc_ring::FixedStr;

    use super::*;
    use crate::sample::State;

    #[test]
    fn a_frame_tells_samples_losses_and_latency() {
        let mut dashboard = Dashboard::new(5);
        for (sequence, remaining) in [(10, 1), (12, 0)] {
            let complete = dashboard.take(&Sample {
                sequence,
                sent_ns: now_ns(),
                taken_ns: 0,
                started_ns: 0,
                user_ns: 0,
                system_ns: 0,
                resident_bytes: 0,
                pid: sequence as u32,
                threads: 1,
                remaining,
                state: State::Running,
                name: FixedStr::truncated("name"),
            });
            assert_eq!(complete, remaining == 0);
        }
        let text = dashboard.to_string();
        assert!(
            text.starts_with("2 processes, 2 running, 2 threads\n"),
            "{text}"
        );
        assert!(
            text.contains("\n2 samples: 1 lost, 0 doubled, 0 reordered; latency p50 "),
            "{text}"
        );
        assert_eq!(dashboard.latency.len(), 2);
    }

    #[test]
    fn a_terminal_gets_each_frame_in_place_of_the_last() {
        let mut screen = Screen::new(true);
        let first = screen.text("a\nb\n".to_owned());
        assert_eq!(first, "\x1b[?7la\x1b[K\nb\x1b[J\x1b[?7h\n");
        let second = screen.text("c\n".to_owned());
        assert_eq!(second, "\x1b[?7l\x1b[2Ac\x1b[J\x1b[?7h\n");
        assert!(
            screen
                .text("d\n".to_owned())
                .starts_with("\x1b[?7l\x1b[1Ad")
        );
    }

    #[test]
    fn a_pipe_gets_plain_frames() {
        let mut screen = Screen::new(false);
        assert_eq!(screen.text("a\n".to_owned()), "a\n\n");
        assert_eq!(screen.text("b\n".to_owned()), "b\n\n");
    }
}
