//! A child that shares the memory of its parent until it executes a program: what `vfork` and `posix_spawn` make.
#![allow(unsafe_code, reason = "children that share memory")]

use crate::survivors::{ring, scenes};
use crate::victim::joins;
use ipc_ring_tests::{AnyKind, Parent, Stage, for_all_kinds, of_any_kind, state_of, traces};
use nix::sched::{CloneFlags, clone};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, execvp, getpid};
use std::ffi::CStr;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Bytes of a stack.
const STACK: usize = 1 << 20;

const NOTHING: traces::Held = traces::Held {
    descriptors: 0,
    mappings: 0,
};

/// Has a child by `vfork`, which does what it is told to, and goes on only after that.
/// Arguments: kind, ring, role, whether the child shares the descriptors, and is to end with its parent.
fn has_a_vfork_child(parent: &mut Parent) {
    let mut victim = joins(parent);
    parent.tell("ready");
    parent.hear();
    let child = vforked(parent);
    parent.tell("back");
    parent.hear();
    victim.one_more();
    parent.tell("one more");
    if parent.hear() == "wait" {
        let ended = waitpid(child, None);
        assert_eq!(ended, Ok(WaitStatus::Exited(child, 0)));
        parent.tell("ended");
        parent.hear();
    }
}

fn vforked(parent: &mut Parent) -> Pid {
    let mut flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
    flags.set(CloneFlags::CLONE_FILES, parent.argument(3) == "files");
    let ends_with_parent = parent.argument(4) == "ends with its parent";
    // It must not take what is said to its parent.
    let program: &[&CStr] = match ends_with_parent {
        true => &[c"sleep", c"1000"],
        false => &[c"cat"],
    };
    let mut stack = vec![0; STACK];
    let child = Box::new(|| {
        if ends_with_parent {
            set_pdeathsig(Signal::SIGKILL).unwrap();
        }
        // In the place of our thread, which stands still meanwhile.
        parent.tell(getpid());
        if hears_line() == b"execute" {
            let _ = execvp(program[0], program);
        }
        // SAFETY: ends the child; the parent's exit handlers are not its business.
        unsafe { libc::_exit(0) }
    });
    // SAFETY: the stack is large enough, and kept until the child shares our memory no more: CLONE_VFORK waits for that.
    unsafe { clone(child, &mut stack, flags, Some(libc::SIGCHLD)) }.unwrap()
}

/// A line that is not read ahead of: what comes after it may be the parent's. Empty if the test has hung up.
fn hears_line() -> Vec<u8> {
    let (mut line, mut byte) = (Vec::new(), 0_u8);
    // SAFETY: reads into a byte of our own.
    while unsafe { libc::read(0, (&raw mut byte).cast(), 1) } > 0 && byte != b'\n' {
        line.push(byte);
    }
    line
}

/// Whether it has become that program, and waits.
fn is_at_work(process: u32, program: &str) -> bool {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    name.trim_end() == program && state_of(process) == 'S'
}

/// What the child does in the end, and whether it shares the descriptors until then.
const WAYS: [(&str, &str); 4] = [
    ("execute", "files"),
    ("execute", ""),
    ("exit", "files"),
    ("exit", ""),
];

fn a_process_lives_while_its_vfork_child_shares_its_memory_and_afterwards<K: AnyKind>(
    stage: &Stage,
) {
    for (way, files) in WAYS {
        for mut scene in scenes::<K>(stage) {
            let arguments = [files, "ends with its parent"];
            let mut victim = scene.start("has_a_vfork_child", &arguments);
            let pid = victim.id();
            victim.say("vfork");
            let child: u32 = victim.hear().parse().unwrap();
            scene.survivors.see_it_alive(pid);
            victim.say(way);
            assert_eq!(victim.hear(), "back");
            scene.survivors.see_it_alive(pid);
            scene.let_go_on(&mut victim);
            if way == "exit" {
                victim.say("wait");
                assert_eq!(victim.hear(), "ended");
            } else {
                while !is_at_work(child, "sleep") {
                    thread::yield_now();
                }
                assert_eq!(traces::held(child, &scene.ring.path()), NOTHING);
            }
            scene.survivors.see_it_alive(pid);
            scene.kill(&mut victim);
        }
    }
}

fn a_killed_process_is_dead_once_its_vfork_child_shares_its_memory_no_more<K: AnyKind>(
    stage: &Stage,
) {
    for (way, files) in WAYS {
        for mut scene in scenes::<K>(stage) {
            let mut victim = scene.start("has_a_vfork_child", &[files, "outlives its parent"]);
            let pid = victim.id();
            victim.say("vfork");
            let child: u32 = victim.hear().parse().unwrap();
            victim.kill_now();
            // There is no such process any more. But its memory is there, and somebody who could write by it.
            assert_eq!(state_of(pid), '?');
            scene.survivors.see_it_alive(pid);
            victim.say(way);
            if way == "execute" {
                while !is_at_work(child, "cat") {
                    thread::yield_now();
                }
                assert_eq!(traces::held(child, &scene.ring.path()), NOTHING);
            } else {
                while !matches!(state_of(child), '?' | 'Z') {
                    thread::yield_now();
                }
            }
            scene.survivors.are_told(pid);
            scene.survivors.go_on();
            if way == "execute" {
                assert!(is_at_work(child, "cat"), "all the while");
            }
        }
    }
}

/// So many programs are run in one process.
const PROGRAMS: u64 = 100;

/// Runs programs while another thread joins rings and leaves them.
/// Arguments: kind, ring, role, another ring.
fn runs_programs(parent: &mut Parent) {
    of_any_kind!(parent.argument(0), run_programs(parent));
}

fn run_programs<K: AnyKind>(parent: &mut Parent) {
    let mut victim = joins(parent);
    parent.tell("ready");
    parent.hear();
    let programs = AtomicU64::new(0);
    thread::scope(|scope| {
        let joiner = scope.spawn(|| {
            let mut rounds = 0;
            while programs.load(Ordering::Relaxed) < PROGRAMS {
                let mut tx = ring::<K>(parent.argument(3)).sender().unwrap();
                let mut rx = ring::<K>(parent.argument(3)).receiver().unwrap();
                tx.send(rounds).unwrap();
                assert_eq!(rx.recv(), Ok(rounds));
                rounds += 1;
            }
            rounds
        });
        while programs.load(Ordering::Relaxed) < PROGRAMS {
            assert!(Command::new("true").status().unwrap().success());
            programs.fetch_add(1, Ordering::Relaxed);
        }
        assert!(joiner.join().unwrap() >= PROGRAMS, "that was no race");
    });
    parent.tell("ran");
    parent.hear();
    victim.one_more();
    parent.tell("one more");
    parent.hear();
}

fn a_process_that_runs_programs_lives_and_can_join_rings_meanwhile<K: AnyKind>(stage: &Stage) {
    for mut scene in scenes::<K>(stage) {
        let other = stage.ring();
        let mut victim = scene.start("runs_programs", &[&other]);
        victim.say("run");
        scene.survivors.see_it_alive(victim.id());
        assert_eq!(victim.hear(), "ran");
        scene.let_go_on(&mut victim);
        scene.survivors.see_it_alive(victim.id());
        scene.kill(&mut victim);
    }
}

for_all_kinds! {
    a_process_lives_while_its_vfork_child_shares_its_memory_and_afterwards(has_a_vfork_child);
    a_killed_process_is_dead_once_its_vfork_child_shares_its_memory_no_more(has_a_vfork_child);
    a_process_that_runs_programs_lives_and_can_join_rings_meanwhile(runs_programs);
}
