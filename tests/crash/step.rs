//! The stepping engine: a process that runs one instruction at a time.
//!
//! The victim asks to be traced and raises [`MARKER`] right before and right after the operation under test, and once
//! more when it has found the result to be right. Between the first two it moves only when [`Victim::step`] says so: one instruction, or one whole system call, whose effects
//! on the segment no other process can see half of either. At every stop all stores of the instructions so far
//! are in memory and none of a later one is, which is exactly what SIGKILL at this place would leave behind.
//!
//! Ptrace binds a tracee to one *thread*: the one that spawned it. `Victim` is therefore not `Send`.

use std::fs;
use std::io::Read as _;
use std::marker::PhantomData;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, alarm};

/// Raised by the victim around the operation. A stop signal, so that a victim that nobody traces stands still
/// instead of running into the operation unseen.
const MARKER: Signal = Signal::SIGSTOP;

/// How long a victim may live. The alarm interrupts a system call that would block for ever, which single steps
/// alone would never come back from.
const LIFETIME_SECONDS: u32 = 300;

/// Whether this machine can be single-stepped through a lock-free ring; otherwise why not.
pub(crate) fn supported() -> Result<(), &'static str> {
    #[cfg(target_arch = "x86_64")]
    return Ok(());
    // Every stop clears the exclusive monitor, so a load-exclusive/store-exclusive loop never ends under
    // single-stepping. With LSE there are no such loops: the outlined atomics of the target pick it at run time.
    #[cfg(target_arch = "aarch64")]
    return if std::arch::is_aarch64_feature_detected!("lse") {
        Ok(())
    } else {
        Err(
            "this processor has no LSE atomics, and exclusive-access loops do not end under single-stepping",
        )
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return Err("single-stepping is set up for x86-64 and aarch64 only");
}

/// To be called by the victim before anything else.
pub(crate) fn submit() -> Result<()> {
    ptrace::traceme().context("asking to be traced")?;
    alarm::set(LIFETIME_SECONDS);
    Ok(())
}

/// Called by the victim on both sides of the operation, and at the end.
#[inline(always)]
pub(crate) fn marker() {
    raise(MARKER).expect("raising a signal in this thread cannot fail");
}

/// A traced process that is stopped whenever nobody is inside one of the methods below. Holding a `&Victim`
/// therefore proves that its memory stands still.
pub(crate) struct Victim {
    child: Child,
    pid: Pid,
    bound_to_thread: PhantomData<*const ()>,
}

/// Where a step has led.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Into the operation, one instruction further.
    Inside,
    /// To the marker behind the operation.
    Through,
}

impl Victim {
    /// Starts `command` and lets it run freely up to its first marker.
    pub(crate) fn launch(command: &mut Command) -> Result<Self> {
        let child = command
            .stderr(Stdio::piped())
            .spawn()
            .context("starting the victim")?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let mut victim = Self {
            child,
            pid,
            bound_to_thread: PhantomData,
        };
        match victim.next_stop()? {
            MARKER => {}
            signal => bail!("the victim was stopped by {signal} before its first marker"),
        }
        ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL)
            .context("tying the victim to the explorer")?;
        Ok(victim)
    }

    /// Executes one instruction.
    pub(crate) fn step(&mut self) -> Result<Progress> {
        loop {
            ptrace::step(self.pid, None).context("stepping the victim")?;
            match self.next_stop()? {
                Signal::SIGTRAP => return Ok(Progress::Inside),
                MARKER => return Ok(Progress::Through),
                // What a terminal sends to everybody in front of it. Nothing was executed.
                Signal::SIGWINCH | Signal::SIGCONT => {}
                Signal::SIGALRM => bail!(
                    "the victim was still not through after {LIFETIME_SECONDS} s: it waits for ever"
                ),
                signal => bail!("{signal} inside the operation, at {}", self.address()),
            }
        }
    }

    /// Lets the victim run freely from the marker behind the operation to a last one: in between it examines what the
    /// operation returned, and gives up if that was wrong.
    pub(crate) fn confirm(&mut self) -> Result<()> {
        ptrace::cont(self.pid, None).context("letting the victim examine its result")?;
        match self.next_stop()? {
            MARKER => Ok(()),
            signal => bail!("{signal} while the victim examined its result"),
        }
    }

    /// Where the victim stands, as file and offset: what `addr2line` asks for.
    pub(crate) fn address(&self) -> String {
        match self.program_counter() {
            Some(address) => {
                mapped_file(self.pid, address).unwrap_or_else(|| format!("{address:#x}"))
            }
            None => "an unknown address".to_owned(),
        }
    }

    #[cfg(all(
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ))]
    fn program_counter(&self) -> Option<u64> {
        let registers = ptrace::getregset::<ptrace::regset::NT_PRSTATUS>(self.pid).ok()?;
        #[cfg(target_arch = "x86_64")]
        return Some(registers.rip);
        #[cfg(target_arch = "aarch64")]
        return Some(registers.pc);
    }

    #[cfg(not(all(
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )))]
    fn program_counter(&self) -> Option<u64> {
        None
    }

    /// What a victim that has ended wrote to its standard error. It is short, so it never blocks on the pipe.
    fn last_words(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            // Whatever could be read is better than nothing.
            let _ = stderr.read_to_string(&mut text);
        }
        text.trim_end().to_owned()
    }

    fn next_stop(&mut self) -> Result<Signal> {
        match waitpid(self.pid, None).context("waiting for the victim")? {
            WaitStatus::Stopped(_, signal) => Ok(signal),
            WaitStatus::Exited(_, code) => {
                bail!(
                    "the victim gave up with exit code {code}: {}",
                    self.last_words()
                )
            }
            WaitStatus::Signaled(_, signal, _) => bail!("the victim was killed by {signal}"),
            other => bail!("the victim is in an unexpected state: {other:?}"),
        }
    }
}

impl Drop for Victim {
    /// SIGKILL. On return the kernel has torn the process down, its locks included.
    fn drop(&mut self) {
        // Both fail only for a victim that has ended by itself and was already waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file that is mapped at `address`, and how far behind its first mapping that is.
fn mapped_file(pid: Pid, address: u64) -> Option<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mappings = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let file = rest.split_ascii_whitespace().nth(4)?;
        Some((
            u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?,
            file,
        ))
    });
    let mappings = mappings.collect::<Vec<_>>();
    let (_, file) = mappings
        .iter()
        .find(|(range, _)| range.contains(&address))?;
    let (first, _) = mappings.iter().find(|(_, other)| other == file)?;
    let name = file.rsplit('/').next()?;
    Some(format!("{name}+{:#x}", address - first.start))
}

/// The processors that this process may run on.
pub(crate) fn processors() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count())
        .filter(|&processor| allowed.is_set(processor).unwrap_or(false))
        .collect()
}

/// Keeps the calling thread, and the victims it spawns, on one processor. A step is two context switches; across
/// processors each of them would be an interrupt and a wake-up from idle as well.
pub(crate) fn stay_on(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("staying on one processor")
}
