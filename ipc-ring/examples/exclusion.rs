//! A classic exercise: several processes add to one counter in shared memory, and must not do so at the same time.
//!
//! ```text
//! cargo run --example exclusion -- semaphore    a binary semaphore in shared memory
//! cargo run --example exclusion -- token        a token in a message queue
//! cargo run --example exclusion -- nothing      and what comes of it without
//! ```
//!
//! Each process loads the counter, and stores one more: two steps, between which another one may do the same. Who has passed the
//! semaphore, or has taken the only token, is alone until it posts, or puts the token back.
//!
//! What neither tells is who died: a process that is killed between the two keeps all others out for ever. Where that can happen,
//! take what the kernel watches over: a robust mutex (`pthread_mutexattr_setrobust`), or a ring, of which no process needs to be
//! alone.
#![allow(unsafe_code, reason = "memory, semaphores and processes of the system")]

use anyhow::{Context as _, Result, bail, ensure};
use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_open, mq_receive, mq_send, mq_unlink};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const PROCESSES: u64 = 4;
const TIMES: u64 = 50_000;

/// Keeps all but one out.
trait Exclusion {
    fn enter(&self);
    fn leave(&self);
}

/// What the processes share: forked children inherit the mapping.
#[repr(C)]
struct Shared {
    counter: AtomicU64,
    /// How many have come: they begin together.
    here: AtomicU64,
    semaphore: UnsafeCell<libc::sem_t>,
}

impl Shared {
    /// New memory, all zero, that lives as long as the process.
    fn new() -> Result<&'static Self> {
        let len = NonZeroUsize::new(size_of::<Self>()).context("it has a size")?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, placed by the kernel, aliases nothing.
        let base = unsafe { mmap_anonymous(None, len, protection, MapFlags::MAP_SHARED) }?;
        // SAFETY: pages are aligned for it, zero is a value of all of it, and nobody unmaps it.
        Ok(unsafe { base.cast().as_ref() })
    }
}

/// `sem_wait` and `sem_post` of a semaphore that is never more than 1.
struct Semaphore(&'static Shared);

impl Semaphore {
    fn new(shared: &'static Shared) -> Result<Self> {
        // SAFETY: the place is valid, and nobody else's yet. Shared between processes, and free.
        let result = unsafe { libc::sem_init(shared.semaphore.get(), 1, 1) };
        ensure!(
            result == 0,
            "no semaphore: {}",
            std::io::Error::last_os_error()
        );
        Ok(Self(shared))
    }
}

impl Exclusion for Semaphore {
    fn enter(&self) {
        // Waits as long as somebody else has passed it. A signal interrupts it.
        loop {
            // SAFETY: it was initialised.
            let result = unsafe { libc::sem_wait(self.0.semaphore.get()) };
            if result == 0 {
                return;
            }
        }
    }

    fn leave(&self) {
        // SAFETY: it was initialised.
        unsafe { libc::sem_post(self.0.semaphore.get()) };
    }
}

/// A queue in which there is one message, or none.
struct Token(MqdT);

impl Token {
    fn new() -> Result<Self> {
        let name = format!("/ipc-ring.example.{}", process::id());
        let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR;
        let attributes = MqAttr::new(0, 1, 1, 0);
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let queue = mq_open(name.as_str(), flags, mode, Some(&attributes));
        let queue = queue.with_context(|| format!("no message queue {name}"))?;
        // The children inherit it; nobody needs its name.
        mq_unlink(name.as_str())?;
        let token = Self(queue);
        token.leave();
        Ok(token)
    }
}

impl Exclusion for Token {
    fn enter(&self) {
        let (mut message, mut priority) = ([0; 1], 0);
        // Waits as long as somebody else has it. A signal interrupts it.
        while mq_receive(&self.0, &mut message, &mut priority).is_err() {}
    }

    fn leave(&self) {
        mq_send(&self.0, b"!", 0).expect("there is room for the only message");
    }
}

struct Nothing;

impl Exclusion for Nothing {
    fn enter(&self) {}
    fn leave(&self) {}
}

/// What so many processes have counted that add to the counter, kept apart by `exclusion`.
fn count(shared: &Shared, exclusion: &dyn Exclusion) -> Result<u64> {
    let start = || {
        // SAFETY: the child does nothing but what a signal handler may do, and ends without what `exit` does.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(child),
            ForkResult::Child => {
                shared.here.fetch_add(1, Ordering::Relaxed);
                while shared.here.load(Ordering::Relaxed) < PROCESSES {
                    thread::yield_now();
                }
                for _ in 0..TIMES {
                    exclusion.enter();
                    // Two steps, on purpose: what may happen between them is what exclusion is for.
                    // Relaxed: entering and leaving is what orders.
                    let seen = shared.counter.load(Ordering::Relaxed);
                    shared.counter.store(seen + 1, Ordering::Relaxed);
                    exclusion.leave();
                }
                // SAFETY: ends this process.
                unsafe { libc::_exit(0) }
            }
        }
    };
    let children = (0..PROCESSES).map(|_| start());
    for child in children.collect::<Result<Vec<_>>>()? {
        let status = waitpid(child, None)?;
        let ended_well = matches!(status, WaitStatus::Exited(_, 0));
        ensure!(ended_well, "a child: {status:?}");
    }
    Ok(shared.counter.load(Ordering::Relaxed))
}

fn main() -> Result<()> {
    let shared = Shared::new()?;
    let exclusion: Box<dyn Exclusion> = match std::env::args().nth(1).as_deref() {
        Some("semaphore") => Box::new(Semaphore::new(shared)?),
        Some("token") => Box::new(Token::new()?),
        Some("nothing") => Box::new(Nothing),
        other => bail!("by what? semaphore, token or nothing; not {other:?}"),
    };
    let (counted, all) = (count(shared, &*exclusion)?, PROCESSES * TIMES);
    println!("{counted} of {all}: {} lost", all - counted);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_by_who_passes_a_semaphore_one_at_a_time() {
        let shared = Shared::new().unwrap();
        let semaphore = Semaphore::new(shared).unwrap();
        assert_eq!(count(shared, &semaphore).unwrap(), PROCESSES * TIMES);
    }

    #[test]
    fn nothing_is_lost_by_who_takes_the_only_token() {
        let shared = Shared::new().unwrap();
        let token = Token::new().unwrap();
        assert_eq!(count(shared, &token).unwrap(), PROCESSES * TIMES);
    }
}
