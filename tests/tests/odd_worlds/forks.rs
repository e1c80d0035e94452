//! A forked child has copies of all that its parent had, and outlives it.
#![allow(unsafe_code, reason = "forking")]

use crate::survivors::{ring, scenes};
use crate::victim::joins;
use ipc_ring::OpenError;
use ipc_ring_tests::{
    AnyKind, Parent, Stage, for_all_kinds, forked, of_any_kind, state_of, traces,
};
use nix::sched::{CloneFlags, clone};
use nix::unistd::Pid;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Bytes of a stack.
const STACK: usize = 1 << 20;

/// Like [`forked`], but behind the back of the C library, as some runtimes do it.
fn cloned(mut action: impl FnMut()) -> Pid {
    let mut stack = vec![0; STACK];
    let child = Box::new(|| {
        let done = catch_unwind(AssertUnwindSafe(&mut action));
        isize::from(done.is_err())
    });
    // SAFETY: the child has a copy of the stack, which is large enough. No other thread is in the middle of anything.
    unsafe { clone(child, &mut stack, CloneFlags::empty(), Some(libc::SIGCHLD)) }.unwrap()
}

/// Stays until the test hangs up, whatever becomes of the parent. Takes whatever is said meanwhile.
fn stays() {
    let mut byte = 0_u8;
    // SAFETY: reads into a byte of our own. Not by a lock, which a thread that is not here may hold.
    while unsafe { libc::read(0, (&raw mut byte).cast(), 1) } > 0 {}
}

/// Has a child that goes on after the parent's end, with all that it has inherited.
/// Arguments: kind, ring, role, way to fork.
fn has_a_child(parent: &mut Parent) {
    let mut victim = Some(joins(parent));
    let fork_it = parent.argument(3) == "fork";
    let lives = || {
        parent.tell("ready");
        assert_eq!(parent.hear(), "try");
        let mut victim = victim.take().unwrap();
        victim.answers_forked();
        drop(victim);
        parent.tell("forked");
        assert_eq!(parent.hear(), "still there?");
        parent.tell("still there");
        stays();
    };
    let child = if fork_it {
        forked(lives)
    } else {
        cloned(lives)
    };
    // All lines are the child's from now on.
    nix::sys::wait::waitpid(child, None).unwrap();
    unreachable!("a child that has ended before its parent");
}

fn a_child_that_outlives_its_killed_parent_does_not_keep_it_alive<K: AnyKind>(stage: &Stage) {
    for way in ["fork", "clone"] {
        for mut scene in scenes::<K>(stage) {
            let mut victim = scene.start("has_a_child", &[way]);
            scene.survivors.see_it_alive(victim.id());
            victim.kill_now();
            scene.survivors.are_told(victim.id());
            // Its child tries what it has inherited, and then drops it.
            let before = fs::read(scene.ring.path()).unwrap();
            victim.say("try");
            assert_eq!(victim.hear(), "forked");
            assert!(before == fs::read(scene.ring.path()).unwrap());
            scene.survivors.go_on();
            victim.say("still there?");
            assert_eq!(victim.hear(), "still there");
        }
    }
}

/// So many are forked in one process.
const CHILDREN: usize = 60;

/// Forks and forks, while another thread joins rings and leaves them, and joins the victim's in the end. The children stay.
/// Arguments: kind, ring, role, two other rings.
fn forks_while_it_joins(parent: &mut Parent) {
    of_any_kind!(parent.argument(0), fork_while_joining(parent));
}

fn fork_while_joining<K: AnyKind>(parent: &mut Parent) {
    let (rounds, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (mut done, been_there) = io::pipe().unwrap();
    let mut children = Vec::new();
    let told: &Parent = parent;
    let victim = thread::scope(|scope| {
        let joiner = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // A copy of the lock in one of the children would refuse the next round.
                let mut tx = ring::<K>(told.argument(3)).sender().unwrap();
                let mut rx = ring::<K>(told.argument(3)).receiver().unwrap();
                tx.send(1).unwrap();
                assert_eq!(rx.recv(), Ok(1));
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            joins(told)
        });
        while !joiner.is_finished() {
            children.push(forked(|| {
                // No lock of the library was left locked by the thread that is not here.
                let tx = ring::<K>(told.argument(4)).sender();
                assert!(matches!(
                    tx,
                    Ok(_) | Err(OpenError::RoleTaken { .. } | OpenError::TooManySenders { .. })
                ));
                drop(tx);
                (&been_there).write_all(b".").unwrap();
                stays();
            }));
            // The thread has begun and ended a round in the presence of that copy.
            let seen = rounds.load(Ordering::Relaxed);
            let enough = children.len() >= CHILDREN;
            stop.store(enough, Ordering::Relaxed);
            while !enough && rounds.load(Ordering::Relaxed) < seen + 2 && !joiner.is_finished() {
                thread::yield_now();
            }
        }
        joiner.join().unwrap()
    });
    done.read_exact(&mut vec![0; children.len()]).unwrap();
    parent.tell("ready");
    let children: Vec<_> = children.iter().map(Pid::to_string).collect();
    parent.tell(children.join(" "));
    stays();
    drop(victim);
}

fn forks_while_another_thread_joins_rings_keep_none_of_its_places<K: AnyKind>(stage: &Stage) {
    for mut scene in scenes::<K>(stage) {
        let others = [stage.ring(), stage.ring()];
        let mut victim = scene.start("forks_while_it_joins", &[&others[0], &others[1]]);
        scene.survivors.see_it_alive(victim.id());
        let children = victim.hear();
        scene.kill(&mut victim);
        assert_eq!(traces::locks(&others[0].path()), 0);
        let children: Vec<u32> = children
            .split(' ')
            .map(|pid| pid.parse().unwrap())
            .collect();
        assert!(children.len() >= CHILDREN);
        for child in children {
            assert_eq!(state_of(child), 'S', "all the while");
        }
    }
}

for_all_kinds! {
    a_child_that_outlives_its_killed_parent_does_not_keep_it_alive(has_a_child);
    forks_while_another_thread_joins_rings_keep_none_of_its_places(forks_while_it_joins);
}
