//! Places of its own for a process: mounts, pids, another user, lower limits.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use std::process::{Child, Command};
use std::sync::mpsc::channel;
use std::thread;

/// Gives this thread mounts of its own.
///
/// # Errors
///
/// Why the system does not allow it.
pub fn own_mounts() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|errno| format!("only root gets mounts of its own: {errno}"))?;
    let recursive = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, recursive, None::<&str>)
        .map_err(|errno| format!("mounts can't be made private: {errno}"))
}

/// Starts a child as the first process of a pid namespace of its own.
///
/// # Errors
///
/// Why the system does not allow it.
pub(crate) fn spawn_with_own_pids(mut command: Command) -> Result<Child, String> {
    let (sender, started) = channel();
    thread::spawn(move || {
        // A thread that has done this can't start threads any more; so it is not the caller's.
        let allowed = unshare(CloneFlags::CLONE_NEWPID);
        let started = allowed
            .map_err(|errno| format!("only root gets pids of its own: {errno}"))
            .and_then(|()| {
                command
                    .spawn()
                    .map_err(|error| format!("the test binary did not start: {error}"))
            });
        // The signal that a child gets at its parent's death is about the thread that started it.
        let _ = sender.send(started);
        loop {
            thread::park();
        }
    });
    started.recv().expect("the thread sends before it parks")
}

/// Gives this process message queues of its own, which are then to be seen as files in `directory`.
///
/// # Errors
///
/// Why the system does not allow it.
///
/// # Panics
///
/// If it allows the one and refuses the other.
pub fn own_queues(directory: &str) -> Result<(), String> {
    own_mounts()?;
    unshare(CloneFlags::CLONE_NEWIPC)
        .map_err(|errno| format!("only root gets message queues of its own: {errno}"))?;
    let (kind, none) = (Some("mqueue"), None::<&str>);
    mount(kind, directory, kind, MsFlags::empty(), none)
        .unwrap_or_else(|errno| panic!("mqueue on {directory}: {errno}"));
    Ok(())
}

/// Covers `/dev/shm` by an empty file system of so many bytes. After [`own_mounts`].
///
/// # Panics
///
/// If the system refuses.
pub fn small_shm(bytes: u64) {
    let options = format!("size={bytes},mode=1777");
    cover("/dev/shm", &options);
}

/// Covers `/proc` by an empty directory. After [`own_mounts`].
///
/// # Panics
///
/// If the system refuses.
pub fn no_proc() {
    cover("/proc", "size=4k");
}

/// Covers a directory by an empty file system with these options. After [`own_mounts`].
///
/// # Panics
///
/// If the system refuses.
pub fn cover(directory: &str, options: &str) {
    mount(
        Some("tmpfs"),
        directory,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )
    .unwrap_or_else(|errno| panic!("tmpfs on {directory}: {errno}"));
}

/// Becomes another user, for good.
///
/// # Errors
///
/// Why the system does not allow it.
pub fn become_user(uid: u32) -> Result<(), String> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[])
        .and_then(|()| setresgid(group, group, group))
        .and_then(|()| setresuid(user, user, user))
        .map_err(|errno| format!("only root can become another user: {errno}"))
}

/// Lowers a limit of this process.
///
/// # Panics
///
/// If the system refuses.
pub fn limit(resource: Resource, to: u64) {
    let (_, hard) = getrlimit(resource).expect("getrlimit");
    setrlimit(resource, to, hard).expect("setrlimit");
}
