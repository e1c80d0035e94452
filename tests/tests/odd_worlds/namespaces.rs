//! Processes of several pid namespaces that all have the pid 1, seen from outside, where that is somebody else's.

use crate::survivors::{ROLES, arguments, survivors_of};
use crate::victim::waits;
use ipc_ring::{OpenError, Role};
use ipc_ring_tests::{
    AnyKind, Parent, Stage, for_kinds_without_a_mutex, of_any_kind, skip, state_of,
};
use std::process;

/// Everybody's.
const PID: u32 = 1;

/// Plays the survivors, as it is told.
/// Arguments: kind, ring, role of the victim.
fn survives(parent: &mut Parent) {
    of_any_kind!(parent.argument(0), survive(parent));
}

fn survive<K: AnyKind>(parent: &mut Parent) {
    assert_eq!(process::id(), PID);
    let victim = match parent.argument(2) {
        "sender" => Role::Sender,
        _ => Role::Receiver,
    };
    let mut survivors = survivors_of::<K>(victim, parent.argument(1));
    parent.tell("ready");
    loop {
        match &*parent.hear() {
            "look" => survivors.see_it_alive(PID),
            "listen" => survivors.are_told(PID),
            _ => break,
        }
        parent.tell("done");
    }
    survivors.go_on();
    parent.tell("done");
}

/// Whether the role can be had, from here.
fn is_free<K: AnyKind>(ring: &str, role: Role) -> bool {
    let refused = match role {
        Role::Sender => K::ring_for::<u64>(ring, K::SENDERS).sender().err(),
        _ => K::ring_for::<u64>(ring, K::SENDERS).receiver().err(),
    };
    match refused {
        None => true,
        Some(OpenError::RoleTaken { pid: PID, .. } | OpenError::TooManySenders { .. }) => false,
        Some(error) => panic!("{error}"),
    }
}

fn processes_of_equal_pids_in_several_namespaces_are_not_taken_for_each_other<K: AnyKind>(
    stage: &Stage,
) {
    for role in ROLES {
        let (ring, strangers) = (stage.ring(), stage.ring());
        let start = |plays: &str, ring: &str, role: Role| {
            let arguments = arguments(K::NAME, ring, role);
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            stage.start_with_own_pids(plays, &arguments)
        };
        let mut survivors = match start("survives", &ring, role) {
            Ok(survivors) => survivors,
            Err(reason) => return skip(&reason),
        };
        assert_eq!(survivors.hear(), "ready");
        let mut victim = start("waits", &ring, role).unwrap();
        assert_eq!(victim.hear(), "ready");
        // In the same place of another ring.
        let mut stranger = start("survives", &strangers, Role::Receiver).unwrap();
        assert_eq!(stranger.hear(), "ready");
        let mut ask = |word| {
            survivors.say(word);
            assert_eq!(survivors.hear(), "done");
        };
        ask("look");
        assert!(!is_free::<K>(&ring, role));
        victim.kill_unreaped();
        ask("listen");
        assert!(is_free::<K>(&ring, role));
        assert_ne!(state_of(stranger.id()), 'Z', "it lives all the while");
        ask("go on");
        assert!(!is_free::<K>(&strangers, Role::Sender), "so it is seen");
        survivors.finish();
        drop(stranger);
    }
}

for_kinds_without_a_mutex! {
    processes_of_equal_pids_in_several_namespaces_are_not_taken_for_each_other(survives, waits);
}
