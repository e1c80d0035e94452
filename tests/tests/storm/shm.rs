//! `/dev/shm` before and after.

use ipc_ring_tests::{sandbox, skip};
use nix::sys::statvfs::statvfs;
use std::fs;

/// Room for all that a storm needs.
const BYTES: u64 = 64 << 20;

/// A `/dev/shm` for this thread and its children alone.
pub(crate) struct Shm {
    free: Option<(u64, u64)>,
}

impl Shm {
    /// Where the system does not allow that, others use it as well, and nothing can be said of what is free.
    pub(crate) fn own() -> Self {
        let free = match sandbox::own_mounts() {
            Ok(()) => {
                sandbox::small_shm(BYTES);
                Some(free())
            }
            Err(reason) => {
                skip(&format!("what is free in /dev/shm: {reason}"));
                None
            }
        };
        Self { free }
    }

    /// Nothing is left in it, with a name or without. True if that can be said.
    pub(crate) fn is_as_before(&self) -> bool {
        if let Some(before) = self.free {
            assert_eq!(fs::read_dir("/dev/shm").unwrap().count(), 0);
            assert_eq!(free(), before, "free blocks and files (right: before)");
        }
        self.free.is_some()
    }
}

fn free() -> (u64, u64) {
    let shm = statvfs("/dev/shm").unwrap();
    (shm.blocks_free(), shm.files_free())
}
