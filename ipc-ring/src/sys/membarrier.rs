//! The heavy half of the asymmetric store→load barrier: `membarrier(2)`, expedited and global.
//!
//! The process that sleeps pays about 4 µs; a process that sends and has registered pays nothing but a
//! compiler fence. The command reaches only registered processes, whichever they are.

/// Asks the kernel to include this process in everybody's [`global`] barriers. False where it can't (an old
/// kernel, a seccomp filter): then this process must fence for itself.
#[cfg(not(loom))]
pub(crate) fn register() -> bool {
    command(libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)
}

/// A full barrier on this thread and on every running thread of every registered process. False if the kernel
/// did not do it.
#[cfg(not(loom))]
pub(crate) fn global() -> bool {
    command(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED)
}

#[cfg(not(loom))]
#[allow(unsafe_code, reason = "membarrier has no safe wrapper")]
fn command(command: libc::c_int) -> bool {
    // SAFETY: membarrier takes three integers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

#[cfg(loom)]
pub(crate) fn global() -> bool {
    crate::sync::fence(crate::sync::Ordering::SeqCst);
    true
}
