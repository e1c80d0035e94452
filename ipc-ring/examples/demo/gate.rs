//! The common start of workers: none begins before all have joined their ring, so that what is
//! measured is the ring and not the start of processes.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::process::Stdio;

use anyhow::Context;

/// The line that a worker prints at the gate.
pub(crate) const READY: &str = "ready";

/// The demo's side: shut until it is dropped. So it opens as well if the demo is killed, and no
/// worker waits there for ever.
pub(crate) struct Gate {
    way: PipeReader,
    /// The workers read the end of their input once this is closed.
    _bar: PipeWriter,
}

impl Gate {
    pub(crate) fn new() -> io::Result<Self> {
        let (way, bar) = io::pipe()?;
        Ok(Self { way, _bar: bar })
    }

    /// A worker's standard input.
    pub(crate) fn stdin(&self) -> io::Result<Stdio> {
        Ok(self.way.try_clone()?.into())
    }
}

/// The worker's side: says that it is ready, and waits until all are.
pub(crate) fn pass() -> anyhow::Result<()> {
    writeln!(io::stdout(), "{READY}")?;
    let read = io::stdin().read(&mut [0]);
    read.context("cannot wait for the others")?;
    Ok(())
}
