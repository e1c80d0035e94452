//! Whose memory takes long to tear down is dead after that, and not before.

use crate::survivors::scenes;
use crate::victim::joins;
use ipc_ring_tests::{AnyKind, Parent, Stage, for_all_kinds, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

const GIB: usize = 1 << 30;

/// One such process at a time: there must be room for it.
static ROOM: Mutex<()> = Mutex::new(());

/// Bytes of memory that are free for a new process.
fn available() -> usize {
    let info = fs::read_to_string("/proc/meminfo").unwrap();
    let available = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = available.and_then(|rest| rest.trim().strip_suffix(" kB"));
    kibibytes.unwrap().parse::<usize>().unwrap() << 10
}

/// Bytes of a process that are in memory: none once it has begun to end.
fn resident(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    resident.map_or(0, |rest| {
        let kibibytes = rest.trim().strip_suffix(" kB").unwrap();
        kibibytes.parse::<usize>().unwrap() << 10
    })
}

/// Has a gibibyte in memory, and goes on and on.
fn is_large_and_busy(parent: &mut Parent) {
    let memory = black_box(vec![0xA5_u8; GIB]);
    let mut victim = joins(parent);
    parent.tell("ready");
    parent.hear();
    loop {
        victim.one_more();
        black_box(&memory);
    }
}

fn one_with_a_gibibyte_in_memory_is_dead_when_it_can_store_no_more_and_not_before<K: AnyKind>(
    stage: &Stage,
) {
    let _room = ROOM.lock().unwrap_or_else(PoisonError::into_inner);
    if available() < GIB + GIB / 2 {
        return skip("less than 1.5 GiB of memory are available");
    }
    for mut scene in scenes::<K>(stage) {
        let mut victim = scene.start("is_large_and_busy", &[]);
        let pid = victim.id();
        scene.survivors.see_it_alive(pid);
        assert!(resident(pid) >= GIB);
        victim.say("go on");
        scene.survivors.exchange();
        let begun = Instant::now();
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
        scene.survivors.hear_of_its_death(pid);
        let told = begun.elapsed();
        let at_that_time = fs::read(scene.ring.path()).unwrap();
        assert_eq!(resident(pid), 0, "told while it could still store");
        victim.kill_now();
        println!("told after {told:.1?}, gone after {:.1?}", begun.elapsed());
        assert!(at_that_time == fs::read(scene.ring.path()).unwrap());
        scene.survivors.go_on();
    }
}

for_all_kinds! {
    one_with_a_gibibyte_in_memory_is_dead_when_it_can_store_no_more_and_not_before(is_large_and_busy);
}
