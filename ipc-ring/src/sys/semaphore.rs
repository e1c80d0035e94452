//! A counting semaphore shared between processes: `sem_overview(7)`.
//!
//! A post is never lost: it lets the next wait pass, whenever that comes. It does not block, and a process killed amid any of
//! these calls holds nobody up: all state is one count, and one of waiters that decides only whether a post makes a system call.
//! (It trusts its memory, though: the C library keeps there how to call the kernel.)

use std::time::Duration;

/// The semaphore. In a segment it is the C library's own.
#[repr(C)]
pub(crate) struct Semaphore {
    #[cfg(not(loom))]
    inner: std::cell::UnsafeCell<libc::sem_t>,
    #[cfg(loom)]
    count: crate::sync::Mutex<u32>,
    #[cfg(loom)]
    posted: crate::sync::Condvar,
}

#[cfg(not(loom))]
mod real {
    #![allow(
        unsafe_code,
        reason = "the C library's semaphores have no safe wrapper"
    )]

    use super::{Duration, Semaphore};
    use crate::sys::clock::{self, deadline};

    // SAFETY: that several may use it at once is what it is for.
    unsafe impl Sync for Semaphore {}

    impl Semaphore {
        /// Gives it its first value, 0, where it lies: in memory that nobody else sees yet.
        pub(crate) fn begin(&self) {
            // SAFETY: the place is valid, and ours alone. It fails only for a value that is too large.
            unsafe { libc::sem_init(self.inner.get(), 1, 0) };
        }

        /// Lets one wait pass. (If as many posts are there as can be counted, which nobody here gets to, nothing.)
        pub(crate) fn post(&self) {
            // SAFETY: initialised before the segment was published.
            unsafe { libc::sem_post(self.inner.get()) };
        }

        /// How many posts are there that nobody has taken.
        pub(crate) fn value(&self) -> u32 {
            let mut value = 0;
            // SAFETY: as for `post`; the place is valid for the value.
            unsafe { libc::sem_getvalue(self.inner.get(), &raw mut value) };
            // Systems that count those who wait as less than nothing are not ours.
            u32::try_from(value).unwrap_or(0)
        }

        /// Takes one post, if there is one.
        pub(crate) fn try_wait(&self) -> bool {
            // SAFETY: as for `post`.
            unsafe { libc::sem_trywait(self.inner.get()) == 0 }
        }

        /// Waits for a post and takes it, for `timeout` at most. May return for no reason.
        pub(crate) fn wait(&self, timeout: Duration) {
            let until = deadline(timeout);
            // Posted, interrupted and timed out all mean "look again".
            // SAFETY: as for `post`; the deadline outlives the call.
            unsafe { sem_clockwait(self.inner.get(), clock::ID, &raw const until) };
        }
    }

    unsafe extern "C" {
        /// Since glibc 2.30.
        fn sem_clockwait(
            semaphore: *mut libc::sem_t,
            clock: libc::clockid_t,
            until: *const libc::timespec,
        ) -> libc::c_int;
    }
}

#[cfg(loom)]
mod model {
    use super::{Duration, Semaphore};
    use crate::sync::{Condvar, Mutex};

    impl Semaphore {
        pub(crate) fn new() -> Self {
            Self {
                count: Mutex::new(0),
                posted: Condvar::new(),
            }
        }

        pub(crate) fn post(&self) {
            *self.count.lock().unwrap() += 1;
            self.posted.notify_one();
        }

        pub(crate) fn value(&self) -> u32 {
            *self.count.lock().unwrap()
        }

        pub(crate) fn try_wait(&self) -> bool {
            let mut count = self.count.lock().unwrap();
            let is_there = *count > 0;
            *count -= u32::from(is_there);
            is_there
        }

        /// Waits without a timeout, so that a post that never comes is a deadlock, which is reported.
        pub(crate) fn wait(&self, _: Duration) {
            let mut count = self.count.lock().unwrap();
            while *count == 0 {
                count = self.posted.wait(count).unwrap();
            }
            *count -= 1;
        }
    }
}
