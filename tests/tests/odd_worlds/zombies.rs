//! A process that was killed and that nobody has waited for still has its pid.

use crate::survivors::scenes;
use crate::victim::waits;
use ipc_ring_tests::{AnyKind, Stage, for_all_kinds, state_of};

fn a_zombie_counts_as_dead<K: AnyKind>(stage: &Stage) {
    for mut scene in scenes::<K>(stage) {
        let mut victim = scene.start("waits", &[]);
        scene.survivors.see_it_alive(victim.id());
        victim.kill_unreaped();
        scene.survivors.are_told(victim.id());
        scene.survivors.go_on();
        assert_eq!(state_of(victim.id()), 'Z', "all the while");
    }
}

for_all_kinds! {
    a_zombie_counts_as_dead(waits);
}
