//! A process that executes another program takes part no more, whatever its pid says.

use crate::survivors::scenes;
use crate::victim::joins;
use ipc_ring_tests::{AnyKind, Parent, Stage, for_all_kinds, state_of, traces};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;

/// Executes a program, in the thread that joined or in one that it starts.
/// Arguments: kind, ring, role, which thread.
fn becomes_another_program(parent: &mut Parent) {
    let mut victim = joins(parent);
    parent.tell("ready");
    // One that is not there changes nothing.
    assert_eq!(parent.hear(), "try");
    let error = Command::new("/nowhere/to/be/found").exec();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    victim.one_more();
    parent.tell("one more");
    assert_eq!(parent.hear(), "execute");
    // It waits for the test to hang up.
    let execute = || panic!("exec: {}", Command::new("cat").exec());
    match parent.argument(3) {
        "another" => thread::scope(|scope| scope.spawn(execute).join().unwrap()),
        _ => execute(),
    }
}

/// Whether it has become that program, and waits.
fn is_at_work(process: u32, program: &str) -> bool {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap();
    name.trim_end() == program && state_of(process) == 'S'
}

fn a_process_that_executes_another_program_has_died_though_its_pid_lives<K: AnyKind>(
    stage: &Stage,
) {
    for thread in ["the same", "another"] {
        for mut scene in scenes::<K>(stage) {
            let mut victim = scene.start("becomes_another_program", &[thread]);
            let pid = victim.id();
            scene.survivors.see_it_alive(pid);
            victim.say("try");
            assert_eq!(victim.hear(), "one more");
            scene.survivors.one_more();
            scene.survivors.see_it_alive(pid);
            victim.say("execute");
            while !is_at_work(pid, "cat") {
                thread::yield_now();
            }
            scene.survivors.are_told(pid);
            let nothing = traces::Held {
                descriptors: 0,
                mappings: 0,
            };
            assert_eq!(traces::held(pid, &scene.ring.path()), nothing);
            scene.survivors.go_on();
            assert!(is_at_work(pid, "cat"), "all the while");
            victim.finish();
        }
    }
}

for_all_kinds! {
    a_process_that_executes_another_program_has_died_though_its_pid_lives(becomes_another_program);
}
