//! In the way of who joins a ring.

use nix::fcntl::{FcntlArg, fcntl};
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;

/// Holds the lifecycle byte of the ring at `path` exclusively, as who removes it does, until the result is dropped.
///
/// # Panics
///
/// If somebody joins or removes it now.
pub fn seize(path: &str) -> OwnedFd {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = OwnedFd::from(file.expect("it can be opened"));
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 1 << 32,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).expect("nobody holds it");
    file
}
