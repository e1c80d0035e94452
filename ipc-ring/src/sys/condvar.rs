//! A condition variable shared between processes, with its mutex: `pthread_cond_init(3)`.
//!
//! The mutex is robust ([`crate::sys::mutex`]): who dies with it held leaves it to the next one. The condition variable is not, and
//! can't be made so: the C library keeps a lock and counts of waiters inside it, and a process killed in one of those few instructions leaves them as
//! they are. Then a call on it can wait for ever; and so can a sleeper that was woken, as long as somebody is stopped with the
//! mutex held. So there is one for each sleeper, which the next owner of it makes anew, if nobody is stuck inside.

use std::time::Duration;

/// The pair. In a segment both are the C library's own.
#[repr(C)]
pub(crate) struct Condvar {
    #[cfg(not(loom))]
    mutex: crate::sys::mutex::Mutex,
    #[cfg(not(loom))]
    inner: std::cell::UnsafeCell<libc::pthread_cond_t>,
    #[cfg(loom)]
    mutex: crate::sync::Mutex<()>,
    #[cfg(loom)]
    inner: crate::sync::Condvar,
}

#[cfg(not(loom))]
mod real {
    #![allow(
        unsafe_code,
        reason = "the C library's condition variables have no safe wrapper for shared memory"
    )]

    use super::{Condvar, Duration};
    use crate::sys::clock::{self, deadline};
    use crate::sys::mutex::{Held, Sort};
    use std::mem::MaybeUninit;

    /// How long who notifies waits for the mutex: a sleeper holds it for a few instructions, unless it is stopped there.
    const PATIENCE: Duration = Duration::from_millis(1);

    // SAFETY: that several may use it at once is what it is for.
    unsafe impl Sync for Condvar {}

    impl Condvar {
        /// Makes it where it lies: in memory that nobody else sees yet.
        pub(crate) fn begin(&self) {
            self.mutex.begin(Sort::default());
            self.begin_condition();
        }

        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one initialisation")]
        fn begin_condition(&self) {
            let mut attributes = MaybeUninit::uninit();
            let place = attributes.as_mut_ptr();
            // None of these fails where there are processes to share with.
            // SAFETY: the attributes are initialised first and destroyed last; the place of the condition is ours alone.
            unsafe {
                libc::pthread_condattr_init(place);
                libc::pthread_condattr_setpshared(place, libc::PTHREAD_PROCESS_SHARED);
                libc::pthread_condattr_setclock(place, clock::ID);
                libc::pthread_cond_init(self.inner.get(), place);
                libc::pthread_condattr_destroy(place);
            }
        }

        /// Makes the condition anew for the next owner, whose predecessor may have died in it. Under the mutex, so that nobody
        /// is in the middle of notifying.
        pub(crate) fn renew(&self) {
            if let Some(_held) = self.lock() {
                self.begin_condition();
            }
        }

        /// With the mutex held: sleeps if `may_sleep`, until somebody notifies, for `timeout` at most; then, `wakes_up`. May
        /// return for no reason.
        pub(crate) fn wait(
            &self,
            timeout: Duration,
            may_sleep: impl FnOnce() -> bool,
            wakes_up: impl FnOnce(),
        ) {
            let Some(mut held) = self.lock() else {
                return;
            };
            if may_sleep() {
                let until = deadline(timeout);
                // Notified, interrupted and timed out all mean "look again".
                // SAFETY: initialised before the segment was published; this thread holds the mutex; the deadline outlives the
                // call.
                let result = unsafe {
                    libc::pthread_cond_timedwait(self.inner.get(), held.as_ptr(), &raw const until)
                };
                held.locked_again(result);
                held.make_consistent();
            }
            wakes_up();
        }

        /// With the mutex held: wakes who sleeps, if he `is_to_wake`. Whether he was; none if
        /// the mutex can't be had in time, since its holder stands still, and nobody is woken.
        pub(crate) fn notify_if(&self, is_to_wake: impl FnOnce() -> bool) -> Option<bool> {
            let _held = self.lock()?;
            let wakes = is_to_wake();
            if wakes {
                // SAFETY: initialised before the segment was published.
                unsafe { libc::pthread_cond_signal(self.inner.get()) };
            }
            Some(wakes)
        }

        /// The mutex, if it can be had in a moment. There is nothing to repair: it guards no data.
        fn lock(&self) -> Option<Held<'_>> {
            let mut held = self.mutex.lock(Sort::default(), PATIENCE).ok()?;
            held.make_consistent();
            Some(held)
        }
    }
}

#[cfg(loom)]
mod model {
    use super::{Condvar, Duration};
    use crate::sync::{Fault, Mutex, planted};

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self {
                mutex: Mutex::new(()),
                inner: crate::sync::Condvar::new(),
            }
        }

        /// Waits without a timeout, so that a notification that never comes is a deadlock, which is reported.
        pub(crate) fn wait(
            &self,
            _: Duration,
            may_sleep: impl FnOnce() -> bool,
            wakes_up: impl FnOnce(),
        ) {
            let mut held = self.mutex.lock().unwrap();
            if may_sleep() {
                held = self.inner.wait(held).unwrap();
            }
            wakes_up();
            drop(held);
        }

        pub(crate) fn notify_if(&self, is_to_wake: impl FnOnce() -> bool) -> Option<bool> {
            let held = (!planted(Fault::NotifyUnlocked)).then(|| self.mutex.lock().unwrap());
            let wakes = is_to_wake();
            if wakes {
                self.inner.notify_one();
            }
            drop(held);
            Some(wakes)
        }
    }
}
