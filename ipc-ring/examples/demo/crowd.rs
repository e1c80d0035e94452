//! Phase 3: many senders and one receiver.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, bail};
use ipc_ring::{Builder, Counters, Lanes, ManySenders, Mpsc, RecvError, Role};
use procfs::process::Process;
use serde::{Deserialize, Serialize};

use crate::burst;
use crate::processes;
use crate::report::{Received, Sent, per_second};
use crate::rings;
use crate::sample::Sample;
use crate::sequence::Sequence;

/// The kinds of ring for several senders, as workers are told, and what they are.
pub(crate) const KINDS: [(&str, &str); 2] = [
    (MPSC, "one order of all messages"),
    (LANES, "a lane for each sender"),
];

const MPSC: &str = "mpsc";
const LANES: &str = "lanes";

const RING: &str = "crowd";

/// Slots of the one ring, or of all lanes together.
const SLOTS: usize = 4096;
/// What a lane has at least.
const FEWEST_SLOTS: usize = 64;

/// Samples between two glances at the clock.
const BATCH: usize = 64;

/// What one sender did. Its messages are samples of itself, so their pid says whose they are.
#[derive(Serialize, Deserialize)]
pub(crate) struct CrowdSent {
    pid: u32,
    sent: Sent,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CrowdReceived {
    by_sender: BTreeMap<u32, Received>,
    /// What the ring says of the senders, in total.
    senders: Activity,
    /// What it says of the receiver.
    receiver: Activity,
}

/// What participants did, as the ring itself counts.
#[derive(Default, Serialize, Deserialize)]
struct Activity {
    messages: u64,
    waits: u64,
    sleeps: u64,
    wakes: u64,
}

impl Activity {
    fn add(&mut self, counters: &Counters) {
        self.messages += counters.messages;
        self.waits += counters.waits;
        self.sleeps += counters.sleeps;
        self.wakes += counters.wakes;
    }
}

pub(crate) fn send(namespace: &str, kind: &str) -> anyhow::Result<CrowdSent> {
    match kind {
        MPSC => send_into(one_order(namespace)),
        LANES => send_into(in_lanes(namespace)),
        _ => bail!("no such kind: {kind:?}"),
    }
}

pub(crate) fn receive(namespace: &str, kind: &str, senders: u32) -> anyhow::Result<CrowdReceived> {
    match kind {
        MPSC => receive_from(one_order(namespace).capacity(SLOTS), senders),
        LANES => {
            let slots = (SLOTS / senders as usize).max(FEWEST_SLOTS);
            receive_from(in_lanes(namespace).capacity(slots), senders)
        }
        _ => bail!("no such kind: {kind:?}"),
    }
}

fn one_order(namespace: &str) -> Builder<Sample, Mpsc> {
    ipc_ring::mpsc(RING).namespace(namespace)
}

fn in_lanes(namespace: &str) -> Builder<Sample, Lanes> {
    ipc_ring::lanes(RING).namespace(namespace)
}

fn send_into<K: ManySenders>(ring: Builder<Sample, K>) -> anyhow::Result<CrowdSent> {
    let sample = Process::myself().and_then(|this| processes::look_at(&this));
    let sample = sample.context("cannot read this process from /proc")?;
    let mut tx = rings::sender(ring)?;
    Ok(CrowdSent {
        pid: sample.pid,
        sent: burst::send_over_and_over(&mut tx, &[sample; BATCH])?,
    })
}

fn receive_from<K: ManySenders>(
    ring: Builder<Sample, K>,
    senders: u32,
) -> anyhow::Result<CrowdReceived> {
    let mut rx = rings::receiver(rings::made(ring.max_senders(senders)))?;
    let mut sequences: BTreeMap<u32, Sequence> = BTreeMap::new();
    loop {
        match rx.recv() {
            Ok(sample) => sequences
                .entry(sample.pid)
                .or_default()
                .observe(sample.sequence),
            // All senders have joined before the first one sent, and so all of them have left.
            Err(RecvError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let by_sender = sequences
        .iter()
        .map(|(&pid, sequence)| (pid, Received::new(sequence)))
        .collect();
    let (mut senders, mut receiver) = (Activity::default(), Activity::default());
    for participant in rx.participants() {
        let side = if participant.role == Role::Sender {
            &mut senders
        } else {
            &mut receiver
        };
        side.add(&participant.counters);
    }
    Ok(CrowdReceived {
        by_sender,
        senders,
        receiver,
    })
}

/// What all of them did, if it adds up.
pub(crate) struct Summary {
    sent: Sent,
    fewest: u64,
    most: u64,
    received: Received,
    senders: Activity,
    receiver: Activity,
}

impl Summary {
    /// Fails unless every message of every sender has arrived, once and in that sender's order,
    /// and the ring has counted as many.
    pub(crate) fn new(sent: &[CrowdSent], received: CrowdReceived) -> anyhow::Result<Self> {
        let CrowdReceived {
            by_sender,
            senders,
            receiver,
        } = received;
        for CrowdSent { pid, sent } in sent {
            let of = || format!("of the sender with pid {pid}");
            let received = by_sender.get(pid).context("nothing has arrived");
            received
                .and_then(|received| received.check(sent))
                .with_context(of)?;
        }
        if by_sender.len() != sent.len() {
            bail!(
                "{} have sent, but messages of {} arrived",
                sent.len(),
                by_sender.len()
            );
        }
        let messages = || sent.iter().map(|sender| sender.sent.messages);
        let sum = Sent {
            messages: messages().sum(),
            started_ns: sent
                .iter()
                .map(|sender| sender.sent.started_ns)
                .min()
                .unwrap_or(0),
        };
        if [senders.messages, receiver.messages] != [sum.messages; 2] {
            bail!(
                "{} messages were sent and received, but the ring has counted {} and {}",
                sum.messages,
                senders.messages,
                receiver.messages,
            );
        }
        Ok(Self {
            sent: sum,
            fewest: messages().min().unwrap_or(0),
            most: messages().max().unwrap_or(0),
            received: by_sender.into_values().sum(),
            senders,
            receiver,
        })
    }

    pub(crate) fn messages(&self) -> u64 {
        self.sent.messages
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            fewest,
            most,
            received,
            senders,
            receiver,
        } = self;
        writeln!(
            f,
            "{} messages, {:.1} million a second; by sender, {fewest} to {most}",
            sent.messages,
            per_second(sent, received) / 1e6,
        )?;
        writeln!(
            f,
            "senders: {} waits, {} sleeps, {} wakes; receiver: {} waits, {} sleeps, {} wakes",
            senders.waits,
            senders.sleeps,
            senders.wakes,
            receiver.waits,
            receiver.sleeps,
            receiver.wakes,
        )?;
        write!(f, "{received}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Senders with pids from 1 on sent so many messages, and all of them arrived.
    fn crowd(messages: &[u64]) -> (Vec<CrowdSent>, CrowdReceived) {
        let sent = (1..).zip(messages).map(|(pid, &messages)| CrowdSent {
            pid,
            sent: Sent {
                messages,
                started_ns: 0,
            },
        });
        let by_sender = (1..).zip(messages).map(|(pid, &messages)| {
            let mut sequence = Sequence::default();
            (0..messages).for_each(|number| sequence.observe(number));
            (pid, Received::new(&sequence))
        });
        let activity = || Activity {
            messages: messages.iter().sum(),
            ..Activity::default()
        };
        let received = CrowdReceived {
            by_sender: by_sender.collect(),
            senders: activity(),
            receiver: activity(),
        };
        (sent.collect(), received)
    }

    fn text(sent: &[CrowdSent], received: CrowdReceived) -> String {
        match Summary::new(sent, received) {
            Ok(summary) => summary.to_string(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn all_of_every_sender_passes() {
        let (sent, received) = crowd(&[5, 7, 3]);
        let text = text(&sent, received);
        assert!(text.starts_with("15 messages, "), "{text}");
        assert!(text.contains("by sender, 3 to 7\n"), "{text}");
        assert!(text.ends_with("\nlost 0, doubled 0, reordered 0"), "{text}");
    }

    #[test]
    fn a_flaw_of_one_sender_is_not_made_good_by_another() {
        let (mut sent, received) = crowd(&[5, 7, 3]);
        sent[0].sent.messages += 1;
        sent[1].sent.messages -= 1;
        let text = text(&sent, received);
        let expected = "of the sender with pid 1: 6 messages were sent, but 5 arrived";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn nobody_is_missing_or_too_many() {
        let (mut sent, mut received) = crowd(&[5, 7, 3]);
        received.by_sender.remove(&2);
        let missing = text(&sent, received);
        assert_eq!(missing, "of the sender with pid 2: nothing has arrived");
        let (_, received) = crowd(&[5, 7, 3]);
        sent.pop();
        let too_many = text(&sent, received);
        assert_eq!(too_many, "2 have sent, but messages of 3 arrived");
    }

    #[test]
    fn the_ring_must_have_counted_the_same() {
        let flaws: [fn(&mut CrowdReceived); 2] = [
            |received| received.senders.messages += 1,
            |received| received.receiver.messages -= 1,
        ];
        for flaw in flaws {
            let (sent, mut received) = crowd(&[5, 7]);
            flaw(&mut received);
            let text = text(&sent, received);
            assert!(text.contains("but the ring has counted"), "{text}");
        }
    }
}
