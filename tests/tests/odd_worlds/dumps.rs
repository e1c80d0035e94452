//! A process that dumps its core is there until that is done, or until it is killed in the middle of it.
#![allow(unsafe_code, reason = "memory of which there is no such amount")]

use crate::survivors::scenes;
use crate::victim::joins;
use ipc_ring_tests::{AnyKind, Parent, Stage, for_all_kinds, sandbox, skip, state_of};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::env;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process;
use std::thread;
use tempfile::TempDir;

/// Bytes of addresses that are dumped: so many that it takes a minute, a page being skipped in some nanoseconds.
const ADDRESSES: usize = 1 << 40;
/// Bytes from one page that is in memory to the next.
const DISTANCE: usize = 256 << 20;

/// Sees to it that a core can be dumped, and is seen by nobody else.
fn prepare(directory: &str) -> Result<(), String> {
    setrlimit(Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY)
        .map_err(|errno| format!("only root can raise the limit of core files: {errno}"))?;
    env::set_current_dir(directory).map_err(|error| error.to_string())?;
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern");
    let pattern = pattern.map_err(|error| error.to_string())?;
    // Into a program, that one reads it; into the current directory, that is ours.
    if pattern.starts_with('/') {
        let place = Path::new(pattern.trim_end()).parent();
        let place = place.and_then(Path::to_str).unwrap_or("/");
        sandbox::own_mounts()?;
        sandbox::cover(place, "size=64m");
    }
    Ok(())
}

/// Has pages all over the place, and dumps its core when told.
/// Arguments: kind, ring, role, directory.
fn dumps_its_core(parent: &mut Parent) {
    let victim = joins(parent);
    parent.tell("ready");
    parent.hear();
    if let Err(reason) = prepare(parent.argument(3)) {
        parent.tell(reason);
        parent.hear();
        return;
    }
    let len = NonZeroUsize::new(ADDRESSES).unwrap();
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // SAFETY: a new mapping, at an address of the system's choice.
    let base = unsafe { mmap_anonymous(None, len, access, flags) };
    let Ok(base) = base else {
        parent.tell("the system lends no addresses without memory (vm.overcommit_memory)");
        parent.hear();
        return;
    };
    // SAFETY: the mapping made above.
    unsafe { madvise(base, ADDRESSES, MmapAdvise::MADV_NOHUGEPAGE) }.unwrap();
    for offset in (0..ADDRESSES).step_by(DISTANCE) {
        // SAFETY: within the mapping.
        let page = unsafe { base.cast::<u8>().add(offset) };
        // SAFETY: writable, and nobody else's.
        unsafe { page.write_volatile(1) };
    }
    parent.tell("dumps");
    let _victim = victim;
    process::abort();
}

/// Whether the process is dumping its core.
fn is_dumping(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    status.lines().any(|line| line == "CoreDumping:\t1")
}

fn one_killed_while_it_dumps_its_core_is_dead_from_then_on_and_not_before<K: AnyKind>(
    stage: &Stage,
) {
    for mut scene in scenes::<K>(stage) {
        let directory = TempDir::new().unwrap();
        let mut victim = scene.start("dumps_its_core", &[directory.path().to_str().unwrap()]);
        let pid = victim.id();
        scene.survivors.see_it_alive(pid);
        victim.say("dump");
        let told = victim.hear();
        if told != "dumps" {
            victim.kill();
            return skip(&told);
        }
        while !is_dumping(pid) {
            if state_of(pid) == 'Z' {
                victim.reap();
                return skip("this system dumps no cores (kernel.core_pattern)");
            }
            thread::yield_now();
        }
        scene.survivors.see_it_alive(pid);
        assert!(is_dumping(pid), "all the while");
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
        let status = victim.reap();
        // Kernels differ in which of the two signals they tell.
        let signal = status
            .signal()
            .and_then(|signal| Signal::try_from(signal).ok());
        assert!(
            matches!(signal, Some(Signal::SIGKILL | Signal::SIGABRT)),
            "{status}"
        );
        assert!(!status.core_dumped(), "the dump was over before");
        scene.survivors.are_told(pid);
        scene.survivors.go_on();
    }
}

for_all_kinds! {
    one_killed_while_it_dumps_its_core_is_dead_from_then_on_and_not_before(dumps_its_core);
}
