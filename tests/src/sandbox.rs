//! Places of its own for a process: mounts, pids, another user, lower limits.

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, getegid, geteuid, setgroups, setresgid, setresuid};
use std::fs;

/// Gives this process mounts of its own, by a user namespace of its own if it is not privileged. To be called while
/// it has one thread.
///
/// # Errors
///
/// Why the system does not allow it.
pub fn own_mounts() -> Result<(), String> {
    unshare_with(CloneFlags::CLONE_NEWNS)?;
    let recursive = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, recursive, None::<&str>)
        .map_err(|errno| format!("mounts can't be made private: {errno}"))
}

/// Puts the children that this process starts from now on into a pid namespace of their own.
///
/// # Errors
///
/// Why the system does not allow it.
pub fn own_pids() -> Result<(), String> {
    unshare_with(CloneFlags::CLONE_NEWPID)
}

fn unshare_with(flags: CloneFlags) -> Result<(), String> {
    let refusal = match unshare(flags) {
        Ok(()) => return Ok(()),
        Err(Errno::EPERM) => "not permitted".to_owned(),
        Err(errno) => return Err(format!("unshare({flags:?}): {errno}")),
    };
    let (uid, gid) = (geteuid(), getegid());
    let user = unshare(flags | CloneFlags::CLONE_NEWUSER);
    user.map_err(|errno| format!("namespaces are {refusal}, user namespaces: {errno}"))?;
    let map = |file: &str, line: String| {
        let path = format!("/proc/self/{file}");
        fs::write(path, line).map_err(|error| format!("{file}: {error}"))
    };
    map("setgroups", "deny".to_owned())?;
    map("uid_map", format!("0 {uid} 1"))?;
    map("gid_map", format!("0 {gid} 1"))
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

fn cover(directory: &str, options: &str) {
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
