//! What the processes of the storm do, as long as they live.

use crate::ledger::{Ledger, Row};
use crate::{Numbered, ring};
use ipc_ring::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError, TrySendError,
};
use ipc_ring_tests::{Parent, Random, Several, of_kind};
use std::mem;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// So many messages are sent at once at most.
const BATCH: u64 = 5;
/// Some wait for so long where it would be worst to be killed.
const MOMENT: Duration = Duration::from_micros(300);
/// Of the message before nothing is known.
const UNKNOWN: u64 = u64::MAX;

/// Arguments: kind, ring, ledger, sender.
pub(crate) fn sends(parent: &mut Parent) {
    of_kind!(parent.argument(0), sends_without_end(parent));
}

fn sends_without_end<K: Several>(parent: &Parent) {
    let ledger = Ledger::of(parent.argument(2));
    let id = parent.number(3);
    let row = ledger.row(id);
    let mut random = Random::of_seed(id);
    let mut tx = ring::<K>(parent.argument(1)).sender().unwrap();
    let (mut next, mut before) = (0, UNKNOWN);
    while row.is_to_leave().load(Ordering::Relaxed) + ledger.finish().load(Ordering::Relaxed) == 0 {
        let count = if random.below(8) == 0 { BATCH } else { 1 };
        row.attempted().store(next + count, Ordering::SeqCst);
        let begun = ledger.now();
        let batch: Vec<_> = (next..next + count)
            .map(|sequence| {
                // Of a batch, nobody knows when each was sent.
                Numbered::of_words([id, sequence, begun, mem::replace(&mut before, UNKNOWN)])
            })
            .collect();
        send(&mut tx, &batch, &mut random, &row);
        before = ledger.tick();
        next += count;
        row.end().store(before, Ordering::SeqCst);
        row.returned().store(next, Ordering::SeqCst);
        if random.below(2_000) == 0 {
            thread::sleep(random.time(Duration::from_millis(2)));
        }
    }
}

/// Sends all of `batch`, in some way. Dead receivers have successors.
fn send<K: Several>(
    tx: &mut Sender<Numbered, K>,
    mut batch: &[Numbered],
    random: &mut Random,
    row: &Row<'_>,
) {
    while let Some(&message) = batch.first() {
        let sent = match random.below(if batch.len() == 1 { 6 } else { 2 }) {
            0 => match tx.send_slice(batch) {
                Ok(()) => batch.len(),
                Err(SendError::ReceiverDied(sent)) => sent,
                Err(error) => panic!("{error}"),
            },
            1 => match tx.try_send_slice(batch) {
                Ok(sent) => sent,
                Err(TrySendError::Full(())) => 0,
                Err(error) => panic!("{error}"),
            },
            2 => match tx.send(message) {
                Ok(()) => 1,
                Err(SendError::ReceiverDied(_)) => 0,
                Err(error) => panic!("{error}"),
            },
            3 => match tx.send_timeout(message, random.time(Duration::from_millis(1))) {
                Ok(()) => 1,
                Err(SendTimeoutError::ReceiverDied(_) | SendTimeoutError::Timeout(_)) => 0,
                Err(error) => panic!("{error}"),
            },
            4 => {
                if let Ok(place) = tx.try_reserve() {
                    let place = place.write(message);
                    if random.below(20) == 0 {
                        // A good moment to be killed.
                        row.holds_place().store(1, Ordering::SeqCst);
                        thread::sleep(random.time(MOMENT));
                        row.holds_place().store(0, Ordering::SeqCst);
                    }
                    place.publish();
                    1
                } else {
                    0
                }
            }
            _ => {
                // Sends nothing.
                if let Ok(place) = tx.try_reserve() {
                    mem::forget(place);
                }
                drop(tx.try_reserve());
                0
            }
        };
        batch = &batch[sent..];
        if sent == 0 {
            thread::yield_now();
        }
    }
}

/// Arguments: kind, ring, ledger, way, seed.
pub(crate) fn receives(parent: &mut Parent) {
    of_kind!(parent.argument(0), receives_to_the_end(parent));
}

fn receives_to_the_end<K: Several>(parent: &Parent) {
    let ledger = Ledger::of(parent.argument(2));
    let peeks = parent.argument(3) == "Peeks";
    let mut random = Random::of_seed(parent.number(4));
    let mut rx = ring::<K>(parent.argument(1)).receiver().unwrap();
    let short = Duration::from_micros(100);
    loop {
        let received = match random.below(3) {
            _ if peeks => rx.peek_copied(),
            0 => rx.recv(),
            1 => match rx.recv_timeout(short) {
                Err(RecvTimeoutError::Timeout) => continue,
                received => received.map_err(of_timeout),
            },
            _ => match rx.try_recv() {
                Err(TryRecvError::Empty) => continue,
                received => received.map_err(of_try),
            },
        };
        match received {
            Ok(message) => {
                assert_eq!(message, Numbered::of_words(message.words()), "torn");
                let dawdles = random.below(2_000) == 0;
                if dawdles && !peeks {
                    thread::sleep(random.time(MOMENT));
                }
                ledger.note(&message);
                if dawdles && peeks {
                    thread::sleep(random.time(MOMENT));
                }
                assert!(!peeks || rx.consume());
            }
            Err(RecvError::SenderDied { .. }) => {
                ledger.deaths_told().fetch_add(1, Ordering::Relaxed);
            }
            Err(RecvError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
        if random.below(10_000) == 0 {
            thread::sleep(random.time(Duration::from_millis(2)));
        }
    }
    assert!(
        ledger.finish().load(Ordering::SeqCst) != 0,
        "closed too soon"
    );
    assert!(rx.is_empty());
    assert_eq!(rx.len(), 0);
}

fn of_timeout(error: RecvTimeoutError) -> RecvError {
    match error {
        RecvTimeoutError::SenderDied { pid, program } => RecvError::SenderDied { pid, program },
        RecvTimeoutError::Closed => RecvError::Closed,
        error => panic!("{error}"),
    }
}

fn of_try(error: TryRecvError) -> RecvError {
    match error {
        TryRecvError::SenderDied { pid, program } => RecvError::SenderDied { pid, program },
        TryRecvError::Closed => RecvError::Closed,
        error => panic!("{error}"),
    }
}
