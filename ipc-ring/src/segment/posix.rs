//! Objects of POSIX shared memory: names, creation that nobody sees half done, removal.
//!
//! An object is built without a name (`O_TMPFILE`) and published by `linkat`, which fails if the name is taken.
//! A creator that dies leaves nothing. Where that can't be had (no `/proc`, an old file system), it is built
//! under a temporary name, locked by its builder, and published by `renameat2(RENAME_NOREPLACE)`; the next
//! creator of that kind sweeps temporary names whose lock is free.

use crate::error::OpenError;
use crate::layout::LIFECYCLE_BYTE;
use crate::sys::map::page_size;
use crate::sys::{fork, lock};
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag, RenameFlags, posix_fallocate, renameat2};
use nix::sys::mman::shm_open;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, lstat};
use nix::sys::statvfs::statvfs;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs::read_dir;
use std::hash::{BuildHasher, Hasher};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// Where `shm_open` has its objects on Linux.
const DIRECTORY: &str = "/dev/shm";
/// This thread's descriptors; not those of `/proc/self`, which are its thread group leader's.
const DESCRIPTORS: &str = "/proc/thread-self/fd";
const PREFIX: &str = "ipc-ring.";
/// No ring's name contains a tilde.
const TEMPORARY: &str = "ipc-ring~";
/// An allocation that a signal interrupts starts again: a step must be short against the signals' distance.
const ALLOCATION_STEP: u64 = 16 << 20;

/// The name of a ring's object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Object {
    /// The file name below `/dev/shm`.
    file: String,
    /// Length of the part of `file` before the ring's own name.
    prefix: usize,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DIRECTORY}/{}", self.file)
    }
}

impl Object {
    /// Checks `name` and `namespace`; the error is the rule that is broken, and by which of them.
    pub(crate) fn new(namespace: Option<&str>, name: &str) -> Result<Self, (String, &'static str)> {
        for part in namespace.into_iter().chain([name]) {
            check(part).map_err(|rule| (part.to_owned(), rule))?;
        }
        let prefix = match namespace {
            None => PREFIX.to_owned(),
            // No name contains a colon, so no two pairs meet in one file name.
            Some(namespace) => format!("{PREFIX}{namespace}:"),
        };
        let file = format!("{prefix}{name}");
        if file.len() > 255 {
            return Err((file, "namespace and name together have at most 245 bytes"));
        }
        Ok(Self {
            prefix: prefix.len(),
            file,
        })
    }

    /// The ring's name, without its namespace.
    pub(crate) fn name(&self) -> &str {
        &self.file[self.prefix..]
    }

    /// A new description of the object.
    pub(crate) fn open(&self) -> Result<OwnedFd, Errno> {
        let name = format!("/{}", self.file);
        // Not blocking: somebody with a lease on the file must not hold us up.
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        shm_open(name.as_str(), flags, Mode::empty()).map_err(|errno| match errno {
            // What glibc makes of a directory; the name itself is valid.
            Errno::EINVAL => Errno::EISDIR,
            errno => errno,
        })
    }

    /// Whether the name stands for `file`.
    pub(crate) fn is(&self, file: &FileStat) -> Result<bool, Errno> {
        match lstat(self.to_string().as_str()) {
            Ok(named) => Ok(same_file(&named, file)),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Takes the name away.
    pub(crate) fn unlink(&self) -> Result<(), Errno> {
        unlinkat(
            fcntl::AT_FDCWD,
            self.to_string().as_str(),
            UnlinkatFlags::NoRemoveDir,
        )
    }
}

fn check(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        Err("it is empty")
    } else if part.len() > 200 {
        Err("it has more than 200 bytes")
    } else if part.starts_with('.') {
        Err("it starts with a dot")
    } else if !part
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        Err("only ASCII letters and digits, '-', '_' and '.' are allowed")
    } else {
        Ok(())
    }
}

pub(crate) fn same_file(one: &FileStat, other: &FileStat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// An object that nobody can open yet.
pub(crate) struct Unpublished {
    file: OwnedFd,
    /// Its temporary path, if it could not do without.
    temporary: Option<Temporary>,
}

/// A path that is locked by its builder. Not to be forked: a child's copy of the descriptor would keep the lock.
struct Temporary {
    path: String,
    _hold: fork::Hold,
}

impl Unpublished {
    /// Makes an object of `size` zero bytes, all of them allocated.
    pub(crate) fn new(object: &Object, size: u64, mode: Mode) -> Result<Self, OpenError> {
        check_file_size_limit(size)?;
        let refused = |action, errno| refused(action, object, errno);
        let (file, temporary) = match unnamed() {
            Ok(file) => (file, None),
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT | Errno::EINVAL) => {
                let (file, temporary) = named().map_err(|errno| refused("creating", errno))?;
                (file, Some(temporary))
            }
            Err(errno) => return Err(refused("creating", errno)),
        };
        let unpublished = Self { file, temporary };
        // Not left to the umask: what was asked for is what it becomes.
        fchmod(&unpublished.file, mode).map_err(|errno| refused("setting the mode of", errno))?;
        unpublished.allocate(object, size)?;
        Ok(unpublished)
    }

    /// `posix_fallocate`, since a hole is filled by the first store, and that by a signal on a full file system.
    fn allocate(&self, object: &Object, size: u64) -> Result<(), OpenError> {
        let no_space = |free| OpenError::NoSpace {
            path: object.to_string(),
            needed: size,
            free,
        };
        // Said before the file system is filled for it.
        if let Some(free) = free_space().filter(|&free| free < size) {
            return Err(no_space(free));
        }
        let (mut done, mut step) = (0, ALLOCATION_STEP);
        while done < size {
            step = step.min(size - done);
            match posix_fallocate(&self.file, done as i64, step as i64) {
                Ok(()) => done += step,
                // Old kernels undo what an interrupted call did: make it so short that it gets through.
                Err(Errno::EINTR) => step = (step / 2).max(page_size() as u64),
                // What this allocation took so far is free again once it fails.
                Err(Errno::ENOSPC) => return Err(no_space(free_space().unwrap_or(0) + done)),
                Err(errno) => return Err(refused("allocating", object, errno)),
            }
        }
        Ok(())
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Gives the object its name. `Ok(false)`: the name is taken.
    pub(crate) fn publish(mut self, object: &Object) -> Result<bool, OpenError> {
        let path = object.to_string();
        let published = match &self.temporary {
            Some(temporary) => renameat2(
                fcntl::AT_FDCWD,
                temporary.path.as_str(),
                fcntl::AT_FDCWD,
                path.as_str(),
                RenameFlags::RENAME_NOREPLACE,
            ),
            None => {
                let unnamed = format!("{DESCRIPTORS}/{}", self.file.as_raw_fd());
                linkat(
                    fcntl::AT_FDCWD,
                    unnamed.as_str(),
                    fcntl::AT_FDCWD,
                    path.as_str(),
                    AtFlags::AT_SYMLINK_FOLLOW,
                )
            }
        };
        match published {
            Ok(()) => {
                // Forks are held off until the lock is gone.
                if let Some(_temporary) = self.temporary.take() {
                    let unlocked = lock::set(&self.file, LIFECYCLE_BYTE, lock::Mode::Unlock);
                    unlocked.map_err(|errno| refused("unlocking", object, errno))?;
                }
                Ok(true)
            }
            Err(Errno::EEXIST) => Ok(false),
            Err(errno) => Err(refused("publishing", object, errno)),
        }
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        if let Some(Temporary { path, .. }) = &self.temporary {
            // Nothing more can be done about a name that stays: the next creator sweeps it.
            let _ = unlinkat(fcntl::AT_FDCWD, path.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

fn unnamed() -> Result<OwnedFd, Errno> {
    // Publishing needs it.
    if !Path::new(DESCRIPTORS).exists() {
        return Err(Errno::EOPNOTSUPP);
    }
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    fcntl::open(DIRECTORY, flags, Mode::S_IRUSR | Mode::S_IWUSR)
}

/// A file under a temporary name, locked by us.
fn named() -> Result<(OwnedFd, Temporary), Errno> {
    let hold = fork::hold();
    sweep();
    loop {
        // Pids don't tell builders in two pid namespaces apart.
        let random = RandomState::new().build_hasher().finish();
        let path = format!("{DIRECTORY}/{TEMPORARY}{random:016x}");
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let file = match fcntl::open(path.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Err(Errno::EEXIST) => continue,
            other => other?,
        };
        // A sweeper may have come between the two lines above and taken it for abandoned.
        if lock::set(&file, LIFECYCLE_BYTE, lock::Mode::Exclusive)? && fstat(&file)?.st_nlink > 0 {
            return Ok((file, Temporary { path, _hold: hold }));
        }
    }
}

/// Removes what creators that died under a temporary name left.
fn sweep() {
    for entry in read_dir(DIRECTORY).into_iter().flatten().flatten() {
        if !entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(TEMPORARY.as_bytes())
        {
            continue;
        }
        let path = entry.path();
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        // Another user's, or gone by now: not ours to sweep.
        let Ok(file) = fcntl::open(&path, flags, Mode::empty()) else {
            continue;
        };
        if let Ok(true) = lock::set(&file, LIFECYCLE_BYTE, lock::Mode::Exclusive) {
            // A name that stays is for the next sweep.
            let _ = unlinkat(fcntl::AT_FDCWD, &path, UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// What the file system has left, in bytes.
fn free_space() -> Option<u64> {
    let fs = statvfs(DIRECTORY).ok()?;
    // A file system without a limit reports no blocks at all.
    (fs.blocks() > 0).then(|| fs.blocks_available().saturating_mul(fs.fragment_size()))
}

/// Beyond this limit the system does not return an error but kills by SIGXFSZ.
fn check_file_size_limit(needed: u64) -> Result<(), OpenError> {
    match getrlimit(Resource::RLIMIT_FSIZE) {
        Ok((limit, _)) if limit < needed => Err(OpenError::FileSizeLimit { needed, limit }),
        _ => Ok(()),
    }
}

/// What the system's refusal means to the user.
pub(crate) fn refused(action: &'static str, object: &Object, errno: Errno) -> OpenError {
    let path = object.to_string();
    match errno {
        Errno::EACCES | Errno::EPERM => OpenError::PermissionDenied { path },
        Errno::EMFILE | Errno::ENFILE => OpenError::TooManyFiles { path },
        Errno::EISDIR => not_a_ring(object, "a directory"),
        Errno::ELOOP => not_a_ring(object, "a symbolic link"),
        Errno::ENXIO => not_a_ring(object, "a socket or a device"),
        errno => OpenError::Os {
            action,
            path,
            source: errno.into(),
        },
    }
}

pub(crate) fn not_a_ring(object: &Object, found: impl Into<String>) -> OpenError {
    OpenError::NotARing {
        path: object.to_string(),
        found: found.into(),
    }
}

/// Reads exactly `buffer.len()` bytes from `offset` on; `Ok(false)` if the file ends before.
pub(crate) fn read_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<bool, Errno> {
    let mut done = 0;
    while done < buffer.len() {
        match nix::sys::uio::pread(&file, &mut buffer[done..], (offset + done as u64) as i64) {
            Ok(0) => return Ok(false),
            Ok(read) => done += read,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_after_namespace_and_name() {
        let plain = Object::new(None, "ticks").unwrap();
        assert_eq!(plain.to_string(), "/dev/shm/ipc-ring.ticks");
        assert_eq!(plain.name(), "ticks");
        let spaced = Object::new(Some("desk-1"), "ticks").unwrap();
        assert_eq!(spaced.to_string(), "/dev/shm/ipc-ring.desk-1:ticks");
        assert_eq!(spaced.name(), "ticks");
    }

    #[test]
    fn a_name_that_breaks_a_rule_is_refused_with_the_rule() {
        for name in [
            "",
            ".hidden",
            "a/b",
            "a b",
            "ü",
            "a:b",
            "a~b",
            "a\0b",
            &"x".repeat(201),
        ] {
            assert!(Object::new(None, name).is_err(), "{name:?}");
            assert!(Object::new(Some(name), "ticks").is_err(), "{name:?}");
        }
        let long = "x".repeat(200);
        assert!(Object::new(None, &long).is_ok());
        assert!(Object::new(Some(&long), &long).is_err());
    }
}
