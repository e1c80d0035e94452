//! Open-file-description locks on single bytes of a file: `fcntl(2)`, `F_OFD_SETLK` and `F_OFD_GETLK`.
//!
//! Such a lock belongs to the description, not to the process: a mapping that is the description's last user
//! holds it exactly as long as the mapping lives.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::os::fd::AsFd;

/// How a byte is locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
    Unlock,
}

fn flock(kind: libc::c_int, start: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: len,
        // Must be zero: the owner is a description.
        l_pid: 0,
    }
}

/// Locks or unlocks one byte without waiting. `Ok(false)`: another description is in the way.
pub(crate) fn set(file: impl AsFd, byte: i64, mode: Mode) -> Result<bool, Errno> {
    let kind = match mode {
        Mode::Shared => libc::F_RDLCK,
        Mode::Exclusive => libc::F_WRLCK,
        Mode::Unlock => libc::F_UNLCK,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&flock(kind, byte, 1))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether another description holds an exclusive lock on any byte of `start..start + len`.
pub(crate) fn is_held(file: impl AsFd, start: i64, len: i64) -> Result<bool, Errno> {
    let mut probe = flock(libc::F_RDLCK, start, len);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe))?;
    Ok(i32::from(probe.l_type) != libc::F_UNLCK)
}
