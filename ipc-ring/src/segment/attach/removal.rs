//! Taking the name from a ring that nobody uses.

use super::found::{Emptiness, read_header, unread};
use super::{Attempt, Patience};
use crate::error::{OpenError, RemoveError};
use crate::layout::{ABI_VERSION, LIFECYCLE_BYTE, MAX_PARTICIPANTS, REMOVE_WHEN_IDLE};
use crate::segment::doorbells::Queues;
use crate::segment::posix::{Object, refused, same_file};
use crate::sync::{Fault, planted};
use crate::sys::{fork, lock};
use nix::errno::Errno;
use nix::sys::stat::fstat;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long a spawned process may take to its exec before its copy of our lock is taken for a successor's lock.
const SPAWN_PATIENCE: Duration = Duration::from_millis(20);
/// How long `remove` tries to get hold of a ring that others are joining.
const REMOVE_PATIENCE: Duration = Duration::from_secs(1);

/// Takes the name from a ring that nobody uses. `file` holds the lifecycle byte shared.
pub(super) fn replace(
    object: &Object,
    file: &OwnedFd,
    condition: Option<Emptiness>,
) -> Result<Attempt, OpenError> {
    let refused = |errno| refused("replacing", object, errno);
    if hold_idle(object, file).map_err(refused)? != Held::Idle {
        return Ok(Attempt::Again);
    }
    // Somebody may have come, sent and left between the look and the lock.
    if let Some(Emptiness(header)) = condition
        && unread(object, file, &header)? > 0
    {
        return Ok(Attempt::Again);
    }
    take_name(object, file).map_err(refused)?;
    Ok(Attempt::Absent)
}

/// Takes the name away from the ring in `file`, which nobody uses and nobody can join, and before that those of its queues. Who is
/// killed in between leaves a ring that the next one can use, or remove.
fn take_name(object: &Object, file: &OwnedFd) -> Result<(), Errno> {
    if let Ok(header) = read_header(object, file)
        && header.is_consistent()
        && let Some(queues) = Queues::of(&fstat(file)?, &header)
    {
        queues.unlink(header.participants);
    }
    object.unlink()
}

/// What became of the attempt to hold a ring that nobody uses.
#[derive(PartialEq, Eq)]
pub(super) enum Held {
    /// It is named, idle, and stays so until `file` is closed.
    Idle,
    /// A participant is alive.
    InUse,
    /// Somebody is joining or removing it.
    Busy,
    /// The name is gone, or stands for something else.
    Gone,
}

/// Locks the lifecycle byte exclusively if nobody takes part in the ring behind `file`.
pub(super) fn hold_idle(object: &Object, file: &OwnedFd) -> Result<Held, Errno> {
    // Before the lock as well: whoever is refused, and stopped meanwhile, is in nobody's way.
    let is_asked = !planted(Fault::RemoveUnchecked) && !planted(Fault::RefusedLocked);
    if is_asked && is_in_use(file)? {
        return Ok(Held::InUse);
    }
    if !lock::set(file, LIFECYCLE_BYTE, lock::Mode::Exclusive)? {
        return Ok(Held::Busy);
    }
    let found = fstat(file)?;
    if found.st_nlink == 0 || !object.is(&found)? {
        return Ok(Held::Gone);
    }
    if is_in_use(file)? && !planted(Fault::RemoveUnchecked) {
        return Ok(Held::InUse);
    }
    Ok(Held::Idle)
}

/// Removes a ring that nobody uses, with what is in it.
pub(crate) fn remove(object: &Object) -> Result<(), RemoveError> {
    remove_where(object, |file| {
        match read_header(object, file) {
            // A ring of ours that is damaged is a ring of ours.
            Ok(_) | Err(OpenError::Truncated { .. }) => Ok(()),
            Err(OpenError::NotARing { path, found }) => Err(RemoveError::NotARing { path, found }),
            Err(OpenError::Os { source, .. }) => Err(RemoveError::Os {
                action: "reading",
                path: object.to_string(),
                source,
            }),
            Err(error) => Err(RemoveError::Os {
                action: "reading",
                path: object.to_string(),
                source: io::Error::other(error),
            }),
        }
    })
}

/// Removes the ring that is behind `file`, if nobody uses it. Through a description of its own: one that was there before
/// may have been copied by a fork, and would keep the lifecycle byte locked beyond our death.
///
/// The caller was participant `index` and has unmapped it.
pub(crate) fn remove_if_idle(
    object: &Object,
    file: &OwnedFd,
    index: u32,
) -> Result<(), RemoveError> {
    // A process that was just being spawned when we joined has a copy of our lock until its exec.
    let mut patience = Patience::new(Some(SPAWN_PATIENCE));
    while lock::is_held(file, i64::from(index), 1) == Ok(true) && patience.pause() {}
    let gone = || RemoveError::NotFound {
        path: object.to_string(),
    };
    let ours = fstat(file).map_err(|_| gone())?;
    remove_where(object, |found| match fstat(found) {
        Ok(found) if same_file(&found, &ours) => Ok(()),
        _ => Err(gone()),
    })
}

/// Removes a ring that nobody uses and that holds nothing, if we have created it or it goes when idle.
pub(super) fn remove_if_empty(object: &Object, created: bool) -> Result<(), RemoveError> {
    let in_use = || RemoveError::InUse {
        path: object.to_string(),
    };
    let may_go = |file: &OwnedFd| {
        let may = may_go(object, file, created) && !is_in_use(file).unwrap_or(true);
        may.then_some(()).ok_or_else(in_use)
    };
    // First without the lock, which keeps joiners out for as long as we hold it, even if we are stopped: most rings that somebody
    // fails to open stay.
    if !planted(Fault::RefusedLocked) {
        may_go(&object.open().map_err(|_| in_use())?)?;
    }
    remove_where(object, may_go)
}

/// Whether a ring is whole and holds nothing, and goes when nobody uses it or was just created by us.
fn may_go(object: &Object, file: &OwnedFd, created: bool) -> bool {
    let Ok(header) = read_header(object, file) else {
        return false;
    };
    let is_ours = header.abi_version == ABI_VERSION && header.is_consistent();
    let goes = created || header.flags & REMOVE_WHEN_IDLE != 0;
    let whole = || fstat(file).is_ok_and(|file| file.st_size as u64 >= header.segment_size);
    let empty = || unread(object, file, &header).is_ok_and(|unread| unread == 0);
    is_ours && goes && whole() && empty()
}

/// Whether anybody takes part in the ring behind `file`, which holds none of its locks.
fn is_in_use(file: &OwnedFd) -> Result<bool, Errno> {
    lock::is_held(file, 0, i64::from(MAX_PARTICIPANTS))
}

/// Removes a ring that nobody uses, if `condition` holds once it is locked against joiners.
pub(super) fn remove_where(
    object: &Object,
    condition: impl Fn(&OwnedFd) -> Result<(), RemoveError>,
) -> Result<(), RemoveError> {
    let path = || object.to_string();
    let failed = |action, errno: Errno| RemoveError::Os {
        action,
        path: path(),
        source: errno.into(),
    };
    let mut patience = Patience::new(Some(REMOVE_PATIENCE));
    loop {
        let hold = fork::hold();
        let file = match object.open() {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Err(RemoveError::NotFound { path: path() }),
            Err(errno) => {
                return Err(match refused("opening", object, errno) {
                    OpenError::NotARing { path, found } => RemoveError::NotARing { path, found },
                    _ => failed("opening", errno),
                });
            }
        };
        match hold_idle(object, &file).map_err(|errno| failed("locking", errno))? {
            Held::Idle => {
                condition(&file)?;
                return take_name(object, &file).map_err(|errno| failed("removing", errno));
            }
            Held::InUse => return Err(RemoveError::InUse { path: path() }),
            Held::Gone | Held::Busy => {}
        }
        drop(file);
        drop(hold);
        if !patience.pause() {
            return Err(RemoveError::InUse { path: path() });
        }
    }
}
