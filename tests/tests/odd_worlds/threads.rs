//! Threads end while their process lives: a handle belongs to the process, whoever has opened it.
#![allow(unsafe_code, reason = "threads that end by a system call")]

use crate::survivors::scenes;
use crate::victim::{Victim, joins};
use ipc_ring_tests::{AnyKind, Parent, Stage, for_all_kinds, state_of};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::gettid;
use std::cell::RefCell;
use std::fs;
use std::mem;
use std::process;
use std::sync::mpsc::channel;
use std::thread;

/// Ends the calling thread without any of its destructors.
fn end_abruptly() -> ! {
    // SAFETY: as if it did nothing for ever, to all others.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("a thread that has ended")
}

/// Waits until this process has no thread with this id.
fn wait_until_gone(thread: i32) {
    while fs::exists(format!("/proc/self/task/{thread}")).unwrap() {
        thread::yield_now();
    }
}

/// Has a thread join and end, and keeps what that one has returned.
fn is_opened_by_a_thread(parent: &mut Parent) {
    let opened = thread::scope(|scope| scope.spawn(|| joins(parent)).join());
    let mut victim = opened.unwrap();
    parent.tell("ready");
    parent.hear();
    victim.one_more();
    parent.tell("one more");
    parent.hear();
    // It is for any thread to end.
    thread::spawn(move || drop(victim)).join().unwrap();
    parent.tell("left");
    parent.hear();
}

fn a_handle_outlives_the_thread_that_opened_it<K: AnyKind>(stage: &Stage) {
    for mut scene in scenes::<K>(stage) {
        let mut victim = scene.start("is_opened_by_a_thread", &[]);
        scene.survivors.see_it_alive(victim.id());
        scene.let_go_on(&mut victim);
        scene.survivors.see_it_alive(victim.id());
        victim.say("leave");
        assert_eq!(victim.hear(), "left");
        scene.survivors.see_it_leave();
        scene.survivors.go_on();
    }
}

/// Has a thread join, and end without dropping its handle.
/// Arguments: kind, ring, role, how it ends.
fn is_left_by_a_thread(parent: &mut Parent) {
    let joiner = parent.clone();
    let (sender, thread) = channel();
    // Nobody waits for what it says in the end, which may be nothing.
    thread::spawn(move || {
        let victim = joins(&joiner);
        sender.send(gettid().as_raw()).unwrap();
        if joiner.argument(3) == "abruptly" {
            end_abruptly();
        }
        mem::forget(victim);
    });
    wait_until_gone(thread.recv().unwrap());
    parent.tell("ready");
    parent.hear();
}

fn a_handle_that_an_ended_thread_has_left_holds_its_place_until_the_process_ends<K: AnyKind>(
    stage: &Stage,
) {
    for way in ["by forgetting", "abruptly"] {
        for mut scene in scenes::<K>(stage) {
            let mut victim = scene.start("is_left_by_a_thread", &[way]);
            scene.survivors.see_it_alive(victim.id());
            scene.kill(&mut victim);
        }
    }
}

thread_local! {
    static KEPT: RefCell<Option<Box<dyn Victim>>> = const { RefCell::new(None) };
}

/// Has a thread join that keeps its handle among its own variables.
fn is_kept_by_a_thread(parent: &mut Parent) {
    thread::scope(|scope| {
        scope.spawn(|| {
            KEPT.set(Some(joins(parent)));
            parent.tell("ready");
            parent.hear();
        });
    });
    parent.tell("left");
    parent.hear();
}

fn a_handle_among_the_variables_of_a_thread_leaves_with_it<K: AnyKind>(stage: &Stage) {
    for mut scene in scenes::<K>(stage) {
        let mut victim = scene.start("is_kept_by_a_thread", &[]);
        scene.survivors.see_it_alive(victim.id());
        victim.say("end");
        // The scope does not wait for the destructors of such variables.
        assert_eq!(victim.hear(), "left");
        scene.survivors.see_it_leave();
        scene.survivors.go_on();
    }
}

/// Goes on in another thread, after the first one of its process has ended.
fn loses_its_first_thread(parent: &mut Parent) {
    extern "C" fn ends(_: i32) {
        end_abruptly();
    }
    let ends = SigAction::new(SigHandler::Handler(ends), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler makes a system call and nothing else.
    unsafe { sigaction(Signal::SIGUSR1, &ends) }.unwrap();
    let process = process::id() as libc::pid_t;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut victim = joins(parent);
            // SAFETY: takes integers only. The first thread has the id of its process.
            let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, process, libc::SIGUSR1) };
            assert_eq!(sent, 0);
            parent.tell("ready");
            loop {
                parent.hear();
                victim.one_more();
                parent.tell("one more");
            }
        });
    });
}

fn a_process_whose_first_thread_has_ended_lives_though_it_looks_like_a_zombie<K: AnyKind>(
    stage: &Stage,
) {
    for mut scene in scenes::<K>(stage) {
        let mut victim = scene.start("loses_its_first_thread", &[]);
        while state_of(victim.id()) != 'Z' {
            thread::yield_now();
        }
        scene.survivors.see_it_alive(victim.id());
        scene.let_go_on(&mut victim);
        scene.survivors.see_it_alive(victim.id());
        scene.kill(&mut victim);
    }
}

for_all_kinds! {
    a_handle_outlives_the_thread_that_opened_it(is_opened_by_a_thread);
    a_handle_that_an_ended_thread_has_left_holds_its_place_until_the_process_ends(is_left_by_a_thread);
    a_handle_among_the_variables_of_a_thread_leaves_with_it(is_kept_by_a_thread);
    a_process_whose_first_thread_has_ended_lives_though_it_looks_like_a_zombie(loses_its_first_thread);
}
