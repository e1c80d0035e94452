//! The names of this run's rings, and their removal.

use std::fs;
use std::time::Duration;

use anyhow::{Context, bail};
use ipc_ring::{Builder, Kind, Receiver, Sender, ShmMessage};

use crate::gate;
use crate::sample::now_ns;

/// How long the side that makes a ring may keep the others waiting for it.
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

/// For the side that makes the ring, which goes with its last participant.
pub(crate) fn made<T: ShmMessage, K: Kind>(ring: Builder<T, K>) -> Builder<T, K> {
    ring.create_new().remove_when_idle()
}

/// Joins as a sender, once the ring is made, and waits until all others have joined.
pub(crate) fn sender<T: ShmMessage, K: Kind>(ring: Builder<T, K>) -> anyhow::Result<Sender<T, K>> {
    let tx = ring.open_timeout(PATIENCE).sender();
    let tx = tx.context("cannot join the ring as a sender")?;
    gate::pass()?;
    Ok(tx)
}

/// Joins as the receiver, likewise.
pub(crate) fn receiver<T: ShmMessage, K: Kind>(
    ring: Builder<T, K>,
) -> anyhow::Result<Receiver<T, K>> {
    let rx = ring.open_timeout(PATIENCE).receiver();
    let rx = rx.context("cannot join the ring as its receiver")?;
    gate::pass()?;
    Ok(rx)
}
