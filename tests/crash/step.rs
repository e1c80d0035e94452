//! The victim, as the explorer holds it: a process that is stepped through an operation, and dies.
//!
//! It raises a marker right before and right after the operation, and once more when it has found the result to be right.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Error, Result, anyhow};
use ipc_ring_tests::step::{GaveUp, Progress, Tracee};

/// A traced process that is stopped whenever nobody is inside one of the methods below. Holding a `&Victim`
/// therefore proves that its memory stands still.
pub(crate) struct Victim {
    process: Process,
    tracee: Tracee,
}

/// A process that does not outlive this.
struct Process(Child);

impl Victim {
    /// Starts `command` and lets it run freely up to its first marker.
    pub(crate) fn launch(command: &mut Command) -> Result<Self> {
        let child = command
            .stderr(Stdio::piped())
            .spawn()
            .context("starting the victim")?;
        let mut process = Process(child);
        let tracee = Tracee::meet(process.0.id().cast_signed());
        let tracee = tracee.map_err(|error| process.explain(error))?;
        Ok(Self { process, tracee })
    }

    /// Executes one instruction.
    pub(crate) fn step(&mut self) -> Result<Progress> {
        let progress = self.tracee.step();
        progress.map_err(|error| self.process.explain(error))
    }

    /// Lets the victim run freely from the marker behind the operation to a last one: in between it examines what the
    /// operation returned, and gives up if that was wrong.
    pub(crate) fn confirm(&mut self) -> Result<()> {
        let confirmed = self.tracee.run_to_marker();
        confirmed.map_err(|error| self.process.explain(error))
    }

    /// Where the victim stands, as file and offset: what `addr2line` asks for.
    pub(crate) fn address(&self) -> String {
        self.tracee.address()
    }
}

impl Process {
    /// `error`, with what a victim that gave up has said. That is short, so it never blocked on the pipe.
    fn explain(&mut self, error: Error) -> Error {
        let mut text = format!("the victim: {error:#}: ");
        if error.is::<GaveUp>()
            && let Some(stderr) = &mut self.0.stderr
        {
            // Whatever could be read is better than nothing.
            let _ = stderr.read_to_string(&mut text);
        }
        anyhow!(text.trim_end_matches([':', ' ', '\n']).to_owned())
    }
}

impl Drop for Process {
    /// SIGKILL. On return the kernel has torn the process down, its locks included.
    fn drop(&mut self) {
        // Both fail only for a victim that has ended by itself and was already waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
