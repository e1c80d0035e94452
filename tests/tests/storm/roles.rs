//! What the processes of the storm do, as long as they live.

use crate::ledger::{Doing, Ledger, Row};
use crate::{Numbered, ring};
use ipc_ring::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError, TrySendError,
};
use ipc_ring_tests::{AnyKind, Parent, Random, of_any_kind};
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
    of_any_kind!(parent.argument(0), sends_without_end(parent));
}

fn sends_without_end<K: AnyKind>(parent: &Parent) {
    let ledger = Ledger::of(parent.argument(2));
    let id = parent.number(3);
    let row = ledger.row(id);
    let mut random = Random::of_seed(id);
    row.begins(Doing::Joining);
    let mut tx = ring::<K>(parent.argument(1)).sender().unwrap();
    row.begins(Doing::Other);
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
            // Others fall asleep.
            thread::sleep(random.time(Duration::from_millis(2)));
        }
    }
    row.begins(Doing::Leaving);
    drop(tx);
    row.begins(Doing::HasLeft);
}

/// Sends all of `batch`, in some way. Receivers that died or left have successors.
fn send<K: AnyKind>(
    tx: &mut Sender<Numbered, K>,
    mut batch: &[Numbered],
    random: &mut Random,
    row: &Row<'_>,
) {
    let mut is_refused = false;
    while let Some(&message) = batch.first() {
        row.begins(Doing::Calling);
        // Where there was no room, the first ways wait for it.
        let sent = match random.below(if is_refused { 3 } else { 6 }) {
            0 => match tx.send_slice(batch) {
                Ok(()) => batch.len(),
                Err(SendError::ReceiverDied(sent) | SendError::Closed(sent)) => sent,
                Err(error) => panic!("{error}"),
            },
            1 => match tx.send(message) {
                Ok(()) => 1,
                Err(SendError::ReceiverDied(_) | SendError::Closed(_)) => 0,
                Err(error) => panic!("{error}"),
            },
            2 => match tx.send_timeout(message, random.time(Duration::from_millis(1))) {
                Ok(()) => 1,
                Err(
                    SendTimeoutError::ReceiverDied(_)
                    | SendTimeoutError::Closed(_)
                    | SendTimeoutError::Timeout(_),
                ) => 0,
                Err(error) => panic!("{error}"),
            },
            3 => match tx.try_send_slice(batch) {
                Ok(sent) => sent,
                Err(TrySendError::Full(()) | TrySendError::Closed(())) => 0,
                Err(error) => panic!("{error}"),
            },
            4 => {
                if let Ok(place) = tx.try_reserve() {
                    row.begins(Doing::Holding);
                    let place = place.write(message);
                    if random.below(20) == 0 {
                        // A good moment to be killed.
                        thread::sleep(random.time(MOMENT));
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
        row.begins(Doing::Other);
        batch = &batch[sent..];
        // Refused even where it would wait: nobody receives, until a successor comes.
        if mem::replace(&mut is_refused, sent == 0) && is_refused {
            thread::yield_now();
        }
    }
}

/// Arguments: kind, ring, ledger, life, way, seed.
pub(crate) fn receives(parent: &mut Parent) {
    of_any_kind!(parent.argument(0), receives_to_the_end(parent));
}

fn receives_to_the_end<K: AnyKind>(parent: &Parent) {
    let ledger = Ledger::of(parent.argument(2));
    let row = ledger.row(parent.number(3));
    let peeks = parent.argument(4) == "Peeks";
    let mut random = Random::of_seed(parent.number(5));
    row.begins(Doing::Joining);
    let mut rx = ring::<K>(parent.argument(1)).receiver().unwrap();
    let short = Duration::from_micros(100);
    let mut ended = 0;
    while row.is_to_leave().load(Ordering::Relaxed) == 0 {
        row.begins(Doing::Calling);
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
                row.begins(Doing::Holding);
                message.assert_whole();
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
            Err(RecvError::Closed) => {
                if ledger.finish().load(Ordering::SeqCst) != 0 {
                    assert!(rx.is_empty());
                    assert_eq!(rx.len(), 0);
                    break;
                }
                // Of several senders, one stays to the end.
                let leavers = ledger.leavers().load(Ordering::SeqCst);
                assert!(K::NAME == "spsc" && leavers > 0, "closed too soon");
                // It is said again until the successor is there.
                if mem::replace(&mut ended, leavers) != leavers {
                    ledger.endings_told().fetch_add(1, Ordering::Relaxed);
                }
                thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
        row.begins(Doing::Other);
        if random.below(10_000) == 0 {
            thread::sleep(random.time(Duration::from_millis(2)));
        }
    }
    row.begins(Doing::Leaving);
    drop(rx);
    row.begins(Doing::HasLeft);
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
