//! Names of rings, each used once.

use ipc_ring::RemoveError;
use std::fs;
use std::ops::Deref;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than a process takes from its making to its program, on a busy machine.
const SPAWN: Duration = Duration::from_secs(1);

/// The name of a ring. The ring is removed when this is dropped, which must be possible by then.
#[derive(Debug)]
pub struct RingName(String);

impl RingName {
    /// A name that no other test, process or run has, with `test` in it.
    pub fn of(test: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let test = test.replace(':', ".");
        Self(format!("{test:.100}-{}-{count}", process::id()))
    }

    /// Where the ring is in the file system.
    pub fn path(&self) -> String {
        format!("/dev/shm/ipc-ring.{}", self.0)
    }

    /// Whether anything has the name.
    pub fn exists(&self) -> bool {
        fs::symlink_metadata(self.path()).is_ok()
    }
}

impl Deref for RingName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for RingName {
    fn drop(&mut self) {
        // A process that another test was just starting when somebody here joined has a copy of the lock until it executes its
        // program: a documented limit.
        let until = Instant::now() + SPAWN;
        let removed = loop {
            match ipc_ring::remove(&self.0) {
                Err(RemoveError::InUse { .. }) if Instant::now() < until => thread::yield_now(),
                removed => break removed,
            }
        };
        let _ = fs::remove_file(self.path()).or_else(|_| fs::remove_dir(self.path()));
        match removed {
            Ok(()) | Err(RemoveError::NotFound { .. }) => {}
            Err(_) if thread::panicking() => {}
            Err(error) => panic!("what was left could not be removed: {error}"),
        }
    }
}
