//! A child that is a copy of the process that runs the test.
#![allow(unsafe_code, reason = "forking")]

use nix::unistd::{ForkResult, Pid, fork};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Forks a child that does `action` and nothing else. That must wait for no lock that another thread may hold: it would be held
/// for ever.
///
/// # Panics
///
/// If the system refuses.
pub fn forked(action: impl FnOnce()) -> Pid {
    // SAFETY: glibc makes its allocator usable in the child, and other locks are none of `action`'s business: not even those of
    // the harness, since the child's output is not captured.
    match unsafe { fork() }.expect("the process can be copied") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let done = catch_unwind(AssertUnwindSafe(action));
            // SAFETY: ends the process; the parent's exit handlers are not the child's business.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
    }
}
