//! What a process can leave behind: descriptors, mappings, and names in `/dev/shm`.

use nix::fcntl::{FcntlArg, fcntl};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{self, File};

/// What there is at a time.
#[derive(PartialEq, Eq, Debug)]
pub struct Traces {
    descriptors: BTreeSet<String>,
    mappings: Vec<String>,
    names: BTreeSet<String>,
}

impl Traces {
    /// Looks. In a process of which nobody else uses descriptors; `/dev/shm` is searched for names with `part`.
    ///
    /// # Panics
    ///
    /// If `/proc` is not there.
    pub fn of_this_process(part: &str) -> Self {
        Self::of(Self::THIS, part)
    }

    /// The same for another one, which may go on meanwhile as long as it opens and maps nothing.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn of_process(pid: u32, part: &str) -> Self {
        Self::of(&pid.to_string(), part)
    }

    const THIS: &str = "self";

    fn of(process: &str, part: &str) -> Self {
        Self {
            descriptors: descriptors_of(process),
            mappings: mappings_of(process),
            names: names(part),
        }
    }
}

/// Runs `action` and checks that nothing is left of it. `part` is found in the names that it could leave.
///
/// # Panics
///
/// If something is.
pub fn leaves_none<R>(part: &str, action: impl FnOnce() -> R) -> R {
    let before = Traces::of_this_process(part);
    let result = action();
    assert_eq!(
        Traces::of_this_process(part),
        before,
        "left behind (right: before)"
    );
    result
}

/// What a process has of one file.
#[derive(PartialEq, Eq, Debug)]
pub struct Held {
    /// How many descriptors.
    pub descriptors: usize,
    /// How many mappings.
    pub mappings: usize,
}

/// What the process that `/proc` knows as `process` has of the file at `path`, whether the name is still there or not.
///
/// # Panics
///
/// If there is no such process.
pub fn held(process: impl Display, path: &str) -> Held {
    let of_it = |line: &&String| {
        let line = line.strip_suffix(" (deleted)").unwrap_or(line);
        line.ends_with(&format!(" {path}"))
    };
    Held {
        descriptors: descriptors_of(&process).iter().filter(of_it).count(),
        mappings: mappings_of(&process).iter().filter(of_it).count(),
    }
}

/// How many of the first bytes of the file at `path` are locked, whoever has locked them: the participants of a ring, by the
/// kernel's word.
///
/// # Panics
///
/// If there is no such file.
pub fn locks(path: &str) -> usize {
    // Not by `/proc/locks`, of which each part is read at another time.
    let file = File::open(path).expect("it can be opened");
    let is_locked = |&byte: &i64| {
        let mut lock = libc::flock {
            l_type: libc::F_RDLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).expect("F_OFD_GETLK");
        i32::from(lock.l_type) != libc::F_UNLCK
    };
    (0..64).filter(is_locked).count()
}

/// Open descriptors, with what they are of.
pub fn descriptors() -> BTreeSet<String> {
    descriptors_of(Traces::THIS)
}

fn descriptors_of(process: impl Display) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{process}/fd"))
        .expect("/proc is there")
        .flatten();
    let described = entries.filter_map(|entry| {
        // The descriptor of this very directory is gone when it is asked for.
        let target = fs::read_link(entry.path()).ok()?;
        Some(format!("{:?} {}", entry.file_name(), target.display()))
    });
    described.filter(|line| !line.ends_with("/fd")).collect()
}

/// Mappings of shared memory: the lines of `/proc/self/maps`.
pub fn mappings() -> Vec<String> {
    mappings_of(Traces::THIS)
}

fn mappings_of(process: impl Display) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("/proc is there");
    maps.lines()
        .filter(|line| line.contains("/dev/shm/"))
        .map(str::to_owned)
        .collect()
}

/// Names in `/dev/shm` that contain `part`, and temporary names.
pub fn names(part: &str) -> BTreeSet<String> {
    let temporary = format!("ipc-ring~{}-", std::process::id());
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.contains(part) || name.contains(&temporary))
        .collect()
}
