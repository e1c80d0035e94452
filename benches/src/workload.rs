//! What is measured: a pattern of messages of one size, from so many senders.

use std::fmt;

use clap::ValueEnum;

/// The way in which messages flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Pattern {
    /// A message there, the same message back, both sides spinning.
    RoundTrip,
    /// Messages in one direction, sent one at a time.
    Throughput,
    /// The same through rings that take several senders, however many there are.
    ManySenders,
    /// A message there, the same message back, both sides on one core, each asleep until it comes.
    Blocking,
}

impl Pattern {
    /// As it is written in reports and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RoundTrip => "round-trip",
            Self::Throughput => "throughput",
            Self::ManySenders => "many-senders",
            Self::Blocking => "blocking",
        }
    }

    /// What is measured.
    pub(crate) fn metric(self) -> &'static str {
        match self {
            Self::RoundTrip | Self::Blocking => "time",
            Self::Throughput | Self::ManySenders => "rate",
        }
    }

    /// The unit of `value`; `M/s` stands for millions of messages per second.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::RoundTrip | Self::Blocking => "ns",
            Self::Throughput | Self::ManySenders => "M/s",
        }
    }

    /// What a time per message is called in this pattern.
    pub(crate) fn value(self, nanoseconds_per_message: f64) -> f64 {
        match self {
            Self::RoundTrip | Self::Blocking => nanoseconds_per_message,
            Self::Throughput | Self::ManySenders => 1e3 / nanoseconds_per_message,
        }
    }

    /// Whether value `a` is better than value `b`.
    pub(crate) fn is_better(self, a: f64, b: f64) -> bool {
        match self {
            Self::RoundTrip | Self::Blocking => a < b,
            Self::Throughput | Self::ManySenders => a > b,
        }
    }
}

/// What contenders are compared in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Workload {
    pub(crate) pattern: Pattern,
    pub(crate) message_bytes: usize,
    /// One, unless the pattern says otherwise.
    pub(crate) senders: usize,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pattern,
            message_bytes,
            senders,
        } = self;
        write!(f, "{}/{message_bytes}", pattern.name())?;
        match pattern {
            Pattern::ManySenders => write!(f, "/{senders}"),
            Pattern::RoundTrip | Pattern::Throughput | Pattern::Blocking => Ok(()),
        }
    }
}
