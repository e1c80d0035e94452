//! The names of this run's rings, and their removal.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ipc_ring::{Builder, Peer, Receiver, Sender, ShmMessage, Spsc};

use crate::sample::now_ns;

/// How long the one side may keep the other waiting at the start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A namespace of this run's own. What is left in it is removed when this goes: nothing, where
/// all went well, since a ring goes with its last participant; a ring, where one was killed.
pub(crate) struct Rings {
    namespace: String,
}

impl Rings {
    pub(crate) fn new() -> Self {
        // The time tells this run from an earlier one of the same pid.
        Self {
            namespace: format!("demo-{}-{:x}", std::process::id(), now_ns()),
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Removes what is left, and fails if something stays.
    pub(crate) fn remove(self) -> anyhow::Result<()> {
        self.remove_all()?;
        let left = self.names()?;
        if !left.is_empty() {
            bail!("left behind in /dev/shm: {left:?}");
        }
        Ok(())
    }

    fn remove_all(&self) -> anyhow::Result<()> {
        for name in self.names()? {
            ipc_ring::remove_in(&self.namespace, &name)
                .with_context(|| format!("cannot remove ring {name:?}"))?;
        }
        Ok(())
    }

    /// The rings of this run that exist.
    fn names(&self) -> anyhow::Result<Vec<String>> {
        let prefix = format!("ipc-ring.{}:", self.namespace);
        let mut names = Vec::new();
        for entry in fs::read_dir("/dev/shm").context("cannot list /dev/shm")? {
            let name = entry.context("cannot list /dev/shm")?.file_name();
            names.extend(
                name.to_string_lossy()
                    .strip_prefix(&prefix)
                    .map(str::to_owned),
            );
        }
        Ok(names)
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        if let Err(error) = self.remove_all() {
            eprintln!("demo: {error:#}");
        }
    }
}

/// Makes a ring and waits until its receiver has come, so that what is measured is the ring and
/// not the start of a process.
pub(crate) fn sender<T: ShmMessage>(ring: Builder<T, Spsc>) -> anyhow::Result<Sender<T, Spsc>> {
    let mut tx = ring
        .create_new()
        .remove_when_idle()
        .sender()
        .context("cannot make the ring")?;
    let deadline = Instant::now() + PATIENCE;
    while !matches!(tx.peer(), Peer::Alive { .. }) {
        if Instant::now() > deadline {
            bail!("no receiver came within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(tx)
}

/// Waits until the sender has made the ring, and joins it.
pub(crate) fn receiver<T: ShmMessage>(ring: Builder<T, Spsc>) -> anyhow::Result<Receiver<T, Spsc>> {
    ring.open_timeout(PATIENCE)
        .receiver()
        .context("cannot join the ring")
}
