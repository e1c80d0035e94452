//! What a forked child may do with the handles of its parent: nothing, harmlessly.
#![allow(unsafe_code, reason = "memory of one's own")]

use ipc_ring::{
    OpenError, Peer, Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender,
    TryRecvError, TrySendError, spsc,
};
use ipc_ring_tests::{RingName, forked, in_a_child, traces};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::num::NonZeroUsize;
use std::time::Duration;

fn ends_well(child: Pid) {
    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
}

fn pair(ring: &RingName) -> (Sender<u64>, Receiver<u64>) {
    let tx = spsc(ring).capacity(4).sender().unwrap();
    (tx, spsc(ring).receiver().unwrap())
}

/// Where this process has mapped shared memory.
fn ranges() -> Vec<(usize, usize)> {
    let parse = |line: &String| {
        let (range, _) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        Some((
            usize::from_str_radix(start, 16).ok()?,
            usize::from_str_radix(end, 16).ok()?,
        ))
    };
    traces::mappings().iter().filter_map(parse).collect()
}

/// Memory of the child's own where the parent had its ring.
struct Own(*mut u8, usize);

impl Own {
    fn at((start, end): (usize, usize)) -> Self {
        let len = NonZeroUsize::new(end - start).unwrap();
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // MAP_FIXED_NOREPLACE fails if the ring itself had been inherited.
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_ANONYMOUS | MapFlags::MAP_FIXED_NOREPLACE;
        // SAFETY: it replaces no mapping.
        let base = unsafe { mmap_anonymous(NonZeroUsize::new(start), len, access, flags) };
        let base = base
            .expect("nothing is where the parent has its ring")
            .as_ptr();
        // SAFETY: as long as the mapping made just now.
        unsafe { base.cast::<u8>().write_bytes(0xA5, len.get()) };
        Self(base.cast(), len.get())
    }

    fn is_untouched(&self) -> bool {
        // SAFETY: mapped above; if it were not any more, this is where it shows.
        let bytes = unsafe { std::slice::from_raw_parts(self.0, self.1) };
        bytes.iter().all(|&byte| byte == 0xA5)
    }
}

/// Every call of an inherited sender.
fn answers_forked_to_send(tx: &mut Sender<u64>) {
    let second = Duration::from_secs(1);
    assert_eq!(tx.try_send(9), Err(TrySendError::Forked(9)));
    assert_eq!(tx.try_send_ref(&9), Err(TrySendError::Forked(())));
    assert_eq!(tx.send(9), Err(SendError::Forked(9)));
    assert_eq!(tx.send_ref(&9), Err(SendError::Forked(())));
    assert_eq!(tx.send_timeout(9, second), Err(SendTimeoutError::Forked(9)));
    assert_eq!(tx.try_send_slice(&[9]), Err(TrySendError::Forked(())));
    assert_eq!(tx.send_slice(&[9]), Err(SendError::Forked(0)));
    assert!(matches!(tx.try_reserve(), Err(TrySendError::Forked(()))));
    assert!(matches!(tx.reserve(), Err(SendError::Forked(()))));
    let text = tx.send(9).unwrap_err().to_string();
    assert!(
        text.contains("parent process") && text.contains("after the fork"),
        "{text}"
    );
    assert_eq!(
        (tx.len(), tx.is_empty(), tx.is_full(), tx.capacity()),
        (0, true, false, 4)
    );
    assert_eq!(tx.peer(), Peer::Forked);
    assert!(!tx.name().is_empty() && !format!("{tx:?}").is_empty());
}

/// Every call of an inherited receiver.
fn answers_forked_to_recv(rx: &mut Receiver<u64>) {
    let second = Duration::from_secs(1);
    assert_eq!(rx.try_recv(), Err(TryRecvError::Forked));
    assert_eq!(rx.recv(), Err(RecvError::Forked));
    assert_eq!(rx.recv_timeout(second), Err(RecvTimeoutError::Forked));
    assert_eq!(rx.recv_latest(), Err(TryRecvError::Forked));
    assert_eq!(rx.try_recv_slice(&mut [0; 4]), Err(TryRecvError::Forked));
    assert_eq!(rx.peek_copied(), Err(RecvError::Forked));
    assert_eq!(rx.try_peek_copied(), Err(TryRecvError::Forked));
    // SAFETY: the sender is of this library.
    assert_eq!(unsafe { rx.try_peek() }, Err(TryRecvError::Forked));
    // SAFETY: as above.
    assert_eq!(unsafe { rx.peek() }, Err(RecvError::Forked));
    assert!(!rx.consume());
    assert_eq!(rx.drain().next(), None);
    assert_eq!(rx.iter().next(), None);
    assert_eq!(rx.try_iter().next(), None);
    assert_eq!(
        (rx.len(), rx.is_empty(), rx.is_full(), rx.capacity()),
        (0, true, false, 4)
    );
    assert_eq!((rx.peer(), rx.corrupt()), (Peer::Forked, 0));
    assert!(!rx.name().is_empty() && !format!("{rx:?}").is_empty());
}

#[test]
fn inherited_handles_answer_forked_to_every_call_and_are_dropped_without_harm() {
    in_a_child!(|_| {
        let ring = RingName::of("inherited");
        let (mut tx, rx) = pair(&ring);
        tx.send_slice(&[1, 2]).unwrap();
        let ranges = ranges();
        assert_eq!(ranges.len(), 2);
        let (mut tx, mut rx) = {
            let mut handles = Some((tx, rx));
            let child = forked(|| {
                let own: Vec<Own> = ranges.iter().map(|&range| Own::at(range)).collect();
                let (mut tx, mut rx) = handles.take().unwrap();
                answers_forked_to_send(&mut tx);
                answers_forked_to_recv(&mut rx);
                assert!(own.iter().all(Own::is_untouched), "written over");
                drop((tx, rx));
                assert!(
                    own.iter().all(Own::is_untouched),
                    "written over or unmapped"
                );
            });
            ends_well(child);
            handles.take().unwrap()
        };
        // Nothing has happened.
        assert_eq!(
            (tx.len(), rx.recv(), rx.recv(), rx.try_recv()),
            (2, Ok(1), Ok(2), Err(TryRecvError::Empty))
        );
        assert!(matches!(tx.peer(), Peer::Alive { .. }) && matches!(rx.peer(), Peer::Alive { .. }));
        tx.send(3).unwrap();
        assert_eq!(rx.recv(), Ok(3));
    });
}

#[test]
fn a_reservation_and_a_batch_that_a_fork_interrupts_go_on_in_the_parent_alone() {
    in_a_child!(|_| {
        let ring = RingName::of("interrupted");
        let (mut tx, mut rx) = pair(&ring);
        tx.send_slice(&[1, 2]).unwrap();
        {
            let mut written = Some(tx.reserve().unwrap().write(3));
            let mut drain = Some(rx.drain());
            assert_eq!(drain.as_mut().unwrap().next(), Some(1));
            let child = forked(|| {
                written.take().unwrap().publish();
                assert_eq!(drain.take().unwrap().next(), None);
            });
            ends_well(child);
            written.take().unwrap().publish();
            assert_eq!(drain.as_mut().unwrap().next(), Some(2));
        }
        assert_eq!(
            (rx.recv(), rx.try_recv()),
            (Ok(3), Err(TryRecvError::Empty))
        );
    });
}

#[test]
fn a_child_opens_rings_of_its_own_beside_inherited_handles() {
    in_a_child!(|_| {
        let (ring, other) = (RingName::of("parents"), RingName::of("childs"));
        let mut tx = spsc::<u64>(&ring).capacity(4).sender().unwrap();
        let child = forked(|| {
            assert_eq!(tx.try_send(9), Err(TrySendError::Forked(9)));
            // The other role of the same ring, and both of another.
            let mut rx = spsc::<u64>(&ring).receiver().unwrap();
            assert!(
                matches!(rx.peer(), Peer::Alive { pid, .. } if pid == std::os::unix::process::parent_id())
            );
            let taken = spsc::<u64>(&ring).sender();
            assert!(
                matches!(taken, Err(OpenError::RoleTaken { .. })),
                "the parent lives"
            );
            let (mut own_tx, mut own_rx) = pair(&other);
            own_tx.send(5).unwrap();
            assert_eq!(own_rx.recv(), Ok(5));
            // Still not its own.
            assert_eq!(tx.try_send(9), Err(TrySendError::Forked(9)));
            assert_eq!(rx.recv(), Ok(7));
            // A grandchild is as far from these as the child is from its parent's.
            ends_well(forked(|| {
                answers_forked_to_send(&mut own_tx);
                answers_forked_to_recv(&mut own_rx);
                answers_forked_to_send(&mut tx);
            }));
            own_tx.send(6).unwrap();
            assert_eq!(own_rx.recv(), Ok(6));
        });
        tx.send(7).unwrap();
        ends_well(child);
        assert!(matches!(tx.peer(), Peer::Left | Peer::Died { .. }));
    });
}
