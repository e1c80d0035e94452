//! The one place that knows about `cfg(loom)` and `cfg(planted)`: atomics, cells, fences, hints, faults.
//!
//! Under `cfg(loom)` atomics are handles to a model of memory; otherwise they are the standard library's types. The
//! rest of the crate names only this module, so the code that is explored is the code that ships. `cfg(shuttle)`, on top of
//! `cfg(loom)`, has shuttle run the models in place of loom: many threads in random schedules, on sequentially consistent memory.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

#[cfg(all(loom, not(shuttle)))]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};

#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicU32, AtomicU64, fence};

/// For the model of a futex.
#[cfg(all(loom, not(shuttle)))]
pub(crate) use loom::sync::{Condvar, Mutex};

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Condvar, Mutex};

pub(crate) use std::sync::atomic::Ordering;

#[cfg(all(loom, not(shuttle)))]
pub(crate) use loom::cell::UnsafeCell;

/// A cell whose contents are reached only through closures, as loom's are, so that an access which the model
/// checker could not see cannot be written.
#[cfg(not(loom))]
#[repr(transparent)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    #[cfg(test)]
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

#[cfg(shuttle)]
pub(crate) use cell::UnsafeCell;

/// A cell whose accesses take time and must not overlap.
#[cfg(shuttle)]
mod cell {
    use std::cell::Cell;
    use std::time::Duration;

    pub(crate) struct UnsafeCell<T> {
        value: std::cell::UnsafeCell<T>,
        /// How many read now; or [`WRITTEN`].
        readers: Cell<u32>,
    }

    const WRITTEN: u32 = u32::MAX;

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self {
                value: std::cell::UnsafeCell::new(value),
                readers: Cell::new(0),
            }
        }

        pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            assert_ne!(self.readers.get(), WRITTEN, "read while it is written");
            self.readers.set(self.readers.get() + 1);
            let result = slowly(|| read(self.value.get()));
            self.readers.set(self.readers.get() - 1);
            result
        }

        pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            assert_eq!(self.readers.replace(WRITTEN), 0, "written while it is used");
            let result = slowly(|| write(self.value.get()));
            self.readers.set(0);
            result
        }
    }

    /// Lets others run before and after. By a sleep, which takes no time here and is a choice of the scheduler's like any other;
    /// a yield would tell it to put this thread last.
    fn slowly<R>(access: impl FnOnce() -> R) -> R {
        shuttle::thread::sleep(Duration::ZERO);
        let result = access();
        shuttle::thread::sleep(Duration::ZERO);
        result
    }
}

mod faults;

#[cfg(loom)]
pub(crate) use faults::plant;
pub(crate) use faults::{Fault, order, planted};

/// A moment at which a thread of a test may end: `ends` says when.
#[inline(always)]
pub(crate) fn may_end() {
    #[cfg(all(test, not(loom)))]
    ends::may_end();
}

/// Threads that end in the middle of what they do, for tests of what they leave.
#[cfg(all(test, not(loom)))]
pub(crate) mod ends {
    use std::cell::Cell;
    use std::panic::{self, AssertUnwindSafe};

    std::thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// What such a thread unwinds with.
    struct Ended;

    pub(super) fn may_end() {
        match LEFT.get() {
            None => {}
            Some(0) => {
                LEFT.set(None);
                panic::resume_unwind(Box::new(Ended));
            }
            Some(left) => LEFT.set(Some(left - 1)),
        }
    }

    /// Lets this thread do `act` up to its `moments`-th moment at which it may end. Whether it ended there.
    pub(crate) fn ends(moments: u32, act: impl FnOnce()) -> bool {
        LEFT.set(Some(moments));
        let ended = panic::catch_unwind(AssertUnwindSafe(act));
        LEFT.set(None);
        match ended {
            Ok(()) => false,
            Err(payload) if payload.is::<Ended>() => true,
            Err(payload) => panic::resume_unwind(payload),
        }
    }
}

/// Tells the processor that this thread polls a line which another one writes.
#[inline(always)]
pub(crate) fn spin_loop() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(all(loom, not(shuttle)))]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
}

/// Asks for the line of `word`, to write it soon. As an instruction of its own: the compiler's hint for it becomes a prefetch
/// for reading on processors that need not have it.
#[inline(always)]
#[allow(unsafe_code, reason = "a prefetch has no safe wrapper")]
pub(crate) fn prefetch_for_write(word: &AtomicU64) {
    #[cfg(all(not(loom), target_arch = "x86_64"))]
    // SAFETY: a prefetch changes nothing and never faults; processors without this one take it for nothing to do.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) word.as_ptr(), options(nostack, preserves_flags, readonly));
    }
    #[cfg(all(not(loom), target_arch = "aarch64"))]
    // SAFETY: a prefetch changes nothing and never faults.
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) word.as_ptr(), options(nostack, preserves_flags, readonly));
    }
    #[cfg(loom)]
    let _ = word;
}

/// The monotonic clock. A model has none: what depends on it must not matter for correctness.
pub(crate) fn now() -> Option<std::time::Instant> {
    if cfg!(loom) {
        None
    } else {
        Some(std::time::Instant::now())
    }
}

/// The cheap half of the asymmetric store→load barrier: keeps the compiler from moving the load up, and
/// relies on `membarrier` in the process that sleeps for the processor's share.
///
/// Loom has no asymmetric barrier: there both halves are SeqCst fences.
#[inline(always)]
pub(crate) fn light_barrier() {
    #[cfg(not(loom))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(loom)]
    if !planted(Fault::NoLightBarrier) {
        fence(Ordering::SeqCst);
    }
}
