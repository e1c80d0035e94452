//! A futex shared between processes: a word that one side bumps and the other sleeps on.
//!
//! `futex(2)`. The operations are the shared ones (no `FUTEX_PRIVATE_FLAG`): the kernel keys them by the file
//! and offset behind the mapping, so a mapping that is read-only for the sleeper would do as well.

use std::time::Duration;

/// The word. In a segment it is exactly four bytes; under loom and shuttle it carries a model of the kernel's queue.
#[repr(C)]
pub(crate) struct Futex {
    word: crate::sync::AtomicU32,
    /// How many sleep.
    #[cfg(loom)]
    queue: crate::sync::Mutex<u64>,
    #[cfg(loom)]
    woken: crate::sync::Condvar,
    /// Who goes to sleep next returns at once.
    #[cfg(shuttle)]
    slice_is_over: std::sync::atomic::AtomicBool,
}

#[cfg(not(loom))]
mod real {
    #![allow(unsafe_code, reason = "the futex system call has no safe wrapper")]

    use super::{Duration, Futex};
    use crate::sync::Ordering;
    use std::ptr;

    impl Futex {
        #[cfg(test)]
        pub(crate) fn new() -> Self {
            Self {
                word: crate::sync::AtomicU32::new(0),
            }
        }

        /// Gives the word of a new segment its first value.
        pub(crate) fn begin(&self) {
            self.word.store(0, Ordering::Relaxed);
        }

        /// The value to hand to [`wait`](Futex::wait), taken before the sleeper says that it will sleep.
        pub(crate) fn ticket(&self) -> u32 {
            self.word.load(Ordering::Acquire)
        }

        /// Sleeps until [`wake`](Futex::wake), at most for `timeout` on the monotonic clock. Returns
        /// at once if the word is no longer `ticket`; may return for no reason.
        pub(crate) fn wait(&self, ticket: u32, timeout: Duration) {
            let timeout = libc::timespec {
                tv_sec: timeout.as_secs().min(i64::MAX as u64) as libc::time_t,
                tv_nsec: timeout.subsec_nanos() as libc::c_long,
            };
            // The result does not matter: woken, changed, interrupted and timed out all mean "look again".
            // SAFETY: the word is a live, aligned u32 for as long as `self` is borrowed, and the timeout
            // outlives the call.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.word.as_ptr(),
                    libc::FUTEX_WAIT,
                    ticket,
                    ptr::from_ref(&timeout),
                );
            }
        }

        /// Changes the word, so that nobody who took a ticket before goes to sleep. Answers what it was.
        pub(crate) fn bump(&self) -> u32 {
            self.word.fetch_add(1, Ordering::Release)
        }

        /// Changes the word, and wakes at most `count` of those who sleep. Answers how many.
        pub(crate) fn wake(&self, count: u64) -> u64 {
            self.bump();
            let count = i32::try_from(count).unwrap_or(i32::MAX);
            // SAFETY: the word is a live, aligned u32; waking reads no other memory.
            let woken = unsafe {
                libc::syscall(libc::SYS_futex, self.word.as_ptr(), libc::FUTEX_WAKE, count)
            };
            u64::try_from(woken).unwrap_or(0)
        }
    }
}

#[cfg(loom)]
mod model {
    use super::{Duration, Futex};
    use crate::sync::{AtomicU32, Ordering};

    impl Futex {
        pub(crate) fn new() -> Self {
            Self {
                word: AtomicU32::new(0),
                queue: crate::sync::Mutex::new(0),
                woken: crate::sync::Condvar::new(),
                #[cfg(shuttle)]
                slice_is_over: false.into(),
            }
        }

        pub(crate) fn ticket(&self) -> u32 {
            self.word.load(Ordering::Acquire)
        }

        /// Sleeps without a timeout, so that a wake that never comes is a deadlock, which is reported.
        pub(crate) fn wait(&self, ticket: u32, _: Duration) {
            let mut asleep = self.queue.lock().unwrap();
            #[cfg(shuttle)]
            if self.slice_is_over.swap(false, Ordering::Relaxed) {
                return;
            }
            if self.word.load(Ordering::Relaxed) == ticket {
                *asleep += 1;
                drop(self.woken.wait(asleep).unwrap());
            }
        }

        /// Has the slices end of all who sleep, or else of who is about to. For where a wake was owed by who died.
        #[cfg(shuttle)]
        pub(crate) fn end_slices(&self) {
            let mut asleep = self.queue.lock().unwrap();
            self.slice_is_over.store(*asleep == 0, Ordering::Relaxed);
            *asleep = 0;
            self.woken.notify_all();
        }

        pub(crate) fn bump(&self) -> u32 {
            self.word.fetch_add(1, Ordering::Release)
        }

        pub(crate) fn wake(&self, count: u64) -> u64 {
            self.bump();
            // The kernel compares and enqueues under the lock that the waker takes.
            let mut asleep = self.queue.lock().unwrap();
            let woken = count.min(*asleep);
            *asleep -= woken;
            for _ in 0..woken {
                self.woken.notify_one();
            }
            woken
        }
    }
}
