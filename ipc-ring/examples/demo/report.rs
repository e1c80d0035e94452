//! What a worker tells the demo in the last line it prints, and what must hold between the two.

use std::fmt;
use std::io::{self, Write};
use std::iter::Sum;

use anyhow::bail;
use serde::{Deserialize, Serialize};

use crate::sample::now_ns;
use crate::sequence::Sequence;

/// Marks the line with the report among what a worker prints.
pub(crate) const PREFIX: &str = "report: ";

/// Prints `report` for the demo to read.
pub(crate) fn print(report: &impl Serialize) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{PREFIX}{}", serde_json::to_string(report)?)?;
    Ok(())
}

/// What a sender did. Its messages are numbered from 0.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) messages: u64,
    /// When the first message was on its way, by [`now_ns`].
    pub(crate) started_ns: u64,
}

/// What a receiver saw, until the sender left.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Received {
    messages: u64,
    lost: u64,
    doubled: u64,
    reordered: u64,
    /// When the last message had arrived, by [`now_ns`].
    ended_ns: u64,
}

impl Received {
    /// The findings of `sequence`, which has just ended.
    pub(crate) fn new(sequence: &Sequence) -> Self {
        Self {
            messages: sequence.received(),
            lost: sequence.lost(),
            doubled: sequence.doubled(),
            reordered: sequence.reordered(),
            ended_ns: now_ns(),
        }
    }

    /// Fails unless every message that was sent has arrived, once and in order.
    pub(crate) fn check(&self, sent: &Sent) -> anyhow::Result<()> {
        if sent.messages == 0 {
            bail!("no message was sent, so nothing was shown");
        }
        // Between the first and the last number received there may be gaps; what is missing before
        // or behind them shows in the total only.
        let flawless = self.lost == 0 && self.doubled == 0 && self.reordered == 0;
        if !flawless || self.messages != sent.messages {
            bail!(
                "{} messages were sent, but {} arrived; {self}",
                sent.messages,
                self.messages
            );
        }
        Ok(())
    }
}

/// Of several senders' messages.
impl Sum for Received {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            messages: sum.messages + one.messages,
            lost: sum.lost + one.lost,
            doubled: sum.doubled + one.doubled,
            reordered: sum.reordered + one.reordered,
            ended_ns: sum.ended_ns.max(one.ended_ns),
        })
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lost,
            doubled,
            reordered,
            ..
        } = self;
        write!(f, "lost {lost}, doubled {doubled}, reordered {reordered}")
    }
}

/// Messages per second, from before the first send to after the last receive.
pub(crate) fn per_second(sent: &Sent, received: &Received) -> f64 {
    sent.messages as f64 / seconds(sent, received)
}

/// Millions of bytes per second over the same time.
pub(crate) fn megabytes_per_second(bytes: u64, sent: &Sent, received: &Received) -> f64 {
    bytes as f64 / 1e6 / seconds(sent, received)
}

fn seconds(sent: &Sent, received: &Received) -> f64 {
    received.ended_ns.saturating_sub(sent.started_ns).max(1) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(numbers: impl IntoIterator<Item = u64>) -> Received {
        let mut sequence = Sequence::default();
        numbers
            .into_iter()
            .for_each(|number| sequence.observe(number));
        Received::new(&sequence)
    }

    #[test]
    fn only_all_messages_once_and_in_order_pass() {
        let sent = Sent {
            messages: 5,
            started_ns: 0,
        };
        received(0..5).check(&sent).expect("all there");
        let flawed: [&[u64]; 7] = [
            &[],
            &[1, 2, 3, 4],
            &[0, 1, 2, 3],
            &[0, 1, 3, 4],
            &[0, 1, 1, 3, 4],
            &[0, 2, 1, 3, 4],
            &[0, 1, 2, 3, 4, 5],
        ];
        for numbers in flawed {
            let error = received(numbers.iter().copied())
                .check(&sent)
                .expect_err("flawed");
            assert!(
                error.to_string().starts_with("5 messages were sent, but "),
                "{error}"
            );
        }
        received([])
            .check(&Sent {
                messages: 0,
                started_ns: 0,
            })
            .expect_err("shows nothing");
    }

    #[test]
    fn a_sum_ends_with_the_last_of_its_parts() {
        let at = |ended_ns, numbers: &[u64]| Received {
            ended_ns,
            ..received(numbers.iter().copied())
        };
        let parts = [at(3, &[0, 2, 2]), at(5, &[0, 2, 1]), at(4, &[])];
        let Received {
            messages,
            lost,
            doubled,
            reordered,
            ended_ns,
        } = parts.into_iter().sum();
        assert_eq!([messages, lost, doubled, reordered], [6, 1, 1, 1]);
        assert_eq!(ended_ns, 5);
    }

    #[test]
    fn rates_span_both_sides() {
        let sent = Sent {
            messages: 300,
            started_ns: 1_000_000_000,
        };
        let received = Received {
            ended_ns: 4_000_000_000,
            ..received(0..300)
        };
        assert_eq!(per_second(&sent, &received), 100.0);
        assert_eq!(megabytes_per_second(6_000_000, &sent, &received), 2.0);
    }
}
