//! Negative controls: planted bugs, each of which the oracle or the watchdog must report.
//!
//! A bug is planted in the images rather than in the library: the images of a correct operation are taken apart
//! into their stores, and put together again in the order in which a wrong implementation would have made them.
//! Which word is the stamp and which the head is found by looking at what the operation changed, so the controls
//! know nothing about the layout. (Bugs in the library itself are planted by [`crate::planted`].)

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::act::Order;
use crate::event::{Event, FIRST};
use crate::explore::Explorer;
use crate::image::{Moment, Phase, changed_words};
use crate::message::Tag;
use crate::operation::Operation;
use crate::ring::{Kind, Way};
use crate::scenario::{self, Peer, Scenario};
use crate::walk::Exploration;

/// A planted bug and what came of it.
pub(crate) struct Control {
    pub(crate) name: &'static str,
    /// How it was reported; `None` if it was not.
    pub(crate) caught: Option<String>,
}

/// Slots that have seen three laps of another message, one unread message, and room for one.
const SENDING: Scenario = Scenario {
    kind: Kind::Spsc,
    operation: Operation::TrySend,
    words: 7,
    capacity: 2,
    start: 0,
    history: 6,
    backlog: 1,
    peer: Peer::Dies,
    advance: scenario::Advance::Never,
    by: 0,
    wreck: 0,
    way: Way::Futex,
};

const RECEIVING: Scenario = Scenario {
    operation: Operation::TryRecv,
    backlog: 2,
    ..SENDING
};

/// A store, as offset and word.
type Store = (usize, u64);

/// An operation taken apart.
struct Parts {
    exploration: Exploration,
    before: Vec<u8>,
    after: Vec<u8>,
    /// The words of the message that were stored.
    payload: Vec<Store>,
    /// The store by which the operation takes effect, which is its last one: the stamp or the head.
    effect: Store,
    /// What was there before.
    undo: Store,
}

/// Plants every bug and lets `explorer` look for it.
pub(crate) fn run(explorer: &mut Explorer) -> Result<Vec<Control>> {
    let sending = take_apart(explorer, &SENDING)?;
    ensure!(
        sending.payload.len() == SENDING.words,
        "try_send did not store a whole message"
    );
    let receiving = take_apart(explorer, &RECEIVING)?;
    ensure!(receiving.payload.is_empty(), "try_recv stored a message");

    let mut controls = Vec::new();
    for (name, parts, phase, bytes) in planted(&sending, &receiving)? {
        let scenario = if std::ptr::eq(parts, &raw const sending) {
            &SENDING
        } else {
            &RECEIVING
        };
        // Whoever recovers first, the broken promise must show.
        let mut reports = Vec::new();
        for order in Order::RECOVERIES {
            let moment = Moment {
                phase,
                advanced: false,
            };
            let exploration = &parts.exploration;
            let recovered = explorer.recover(scenario, exploration, moment, Some(&bytes), order)?;
            reports.extend(recovered.err());
        }
        let all = reports.len() == Order::RECOVERIES.len();
        let caught = reports
            .pop()
            .filter(|_| all)
            .map(|violation| violation.what);
        controls.push(Control { name, caught });
    }
    controls.push(head_before_copy(explorer, &receiving.before)?);
    controls.push(survivors_that_hang(explorer)?);
    Ok(controls)
}

/// A name, what was taken apart, and what it was put together to.
type Planted<'a> = (&'static str, &'a Parts, Phase, Vec<u8>);

fn planted<'a>(sending: &'a Parts, receiving: &'a Parts) -> Result<[Planted<'a>; 9]> {
    use Phase::{After, Before, During};

    let (sent, received) = (sending, receiving);
    let publish = sending.effect;
    let half_and_publish = sending.payload[..SENDING.words / 2]
        .iter()
        .copied()
        .chain([publish]);
    let other_stamp = (publish.0, publish.1.wrapping_add(1));
    let release = receiving.effect;
    let release_again = (
        release.0,
        release
            .1
            .wrapping_add(release.1.wrapping_sub(receiving.undo.1)),
    );
    let overtaken = later_half(&receiving.before)?;
    let no_header = (0..64).map(|word| (word * 8, 0));
    Ok([
        (
            "publish before payload",
            sent,
            During,
            with(&sending.before, [publish]),
        ),
        (
            "publish amid payload",
            sent,
            During,
            with(&sending.before, half_and_publish),
        ),
        (
            "return before publish",
            sent,
            After,
            with(&sending.after, [sending.undo]),
        ),
        (
            "publish under another stamp",
            sent,
            After,
            with(&sending.after, [other_stamp]),
        ),
        (
            "head before the call",
            received,
            Before,
            with(&receiving.before, [release]),
        ),
        (
            "return before head",
            received,
            After,
            with(&receiving.after, [receiving.undo]),
        ),
        (
            "head moved twice",
            received,
            After,
            with(&receiving.after, [release_again]),
        ),
        (
            "a waiting message overwritten",
            received,
            Before,
            with(&receiving.before, overtaken),
        ),
        (
            "segment visible before its header",
            sent,
            Before,
            with(&sending.before, no_header),
        ),
    ])
}

fn take_apart(explorer: &mut Explorer, scenario: &Scenario) -> Result<Parts> {
    let exploration = explorer.step_through(scenario, |_| Ok(()))?;
    let distinct = exploration.images.distinct();
    let bytes = |index: usize| distinct[index].bytes.clone().context("there is a ring");
    let (before, after) = (bytes(0)?, bytes(distinct.len() - 1)?);
    let stored = changed_words(&before, &after)
        .into_iter()
        .map(|(offset, _, new)| (offset, new));
    let is_payload = |&(_, word): &Store| match Tag::of_word(word) {
        Some((tag, _)) => exploration.result == [Event::Sent(tag)],
        None => false,
    };
    let payload = stored.filter(is_payload).collect();
    let mut last = Vec::new();
    for pair in exploration.images.timeline().windows(2).rev() {
        last = changed_words(&bytes(pair[0].0)?, &bytes(pair[1].0)?);
        // From one phase to the next, the bytes may be the same.
        if !last.is_empty() {
            break;
        }
    }
    let [(offset, old, new)] = last[..] else {
        bail!("the last store of {scenario} is not of one word");
    };
    Ok(Parts {
        exploration,
        before,
        after,
        payload,
        effect: (offset, new),
        undo: (offset, old),
    })
}

fn with(image: &[u8], stores: impl IntoIterator<Item = Store>) -> Vec<u8> {
    let mut bytes = image.to_vec();
    for (offset, word) in stores {
        bytes[offset..offset + 8].copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// The stores of a sender that took the slot of the next message to receive for free, and is half way.
fn later_half(image: &[u8]) -> Result<Vec<Store>> {
    let waiting = Tag {
        sender: FIRST,
        sequence: u16::try_from(RECEIVING.history + 1)?,
    };
    let later = Tag {
        sequence: waiting.sequence + u16::try_from(RECEIVING.capacity)?,
        ..waiting
    };
    let first_word = waiting.word(0).to_ne_bytes();
    let message = image
        .windows(8)
        .position(|bytes| bytes == first_word)
        .context("the waiting message is not in the image")?;
    let words = RECEIVING.words as u8;
    let half = words / 2..words;
    Ok(half
        .map(|place| (message + usize::from(place) * 8, later.word(place)))
        .collect())
}

/// A receiver that moved its head first would share the slot with the sender of the next lap. The sender's stores
/// are made in its stead; the victim, which looks at what it was handed, must refuse it.
fn head_before_copy(explorer: &mut Explorer, before: &[u8]) -> Result<Control> {
    let stores = later_half(before)?;
    let explored = explorer.step_through(&RECEIVING, |object| {
        let segment = OpenOptions::new().write(true).open(object.path())?;
        for (offset, word) in &stores {
            segment.write_all_at(&word.to_ne_bytes(), *offset as u64)?;
        }
        Ok(())
    });
    Ok(Control {
        name: "head before copy",
        caught: explored.err().map(|error| format!("{error:#}")),
    })
}

fn survivors_that_hang(explorer: &mut Explorer) -> Result<Control> {
    let events = explorer.stall(Duration::from_millis(300), &SENDING)?;
    let caught = match events.as_slice() {
        [Event::Failed(text)] => Some(text.clone()),
        _ => None,
    };
    Ok(Control {
        name: "survivors that hang",
        caught,
    })
}
