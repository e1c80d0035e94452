//! The victim, as the explorer holds it: a process that is stepped through an operation, and dies.
//!
//! It raises a marker right before and right after the operation, and once more when it has found the result to be right.

use std::process::{Child, Command};

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use ipc_ring_tests::step::{Progress, Tracee};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::act::Act;
use crate::event::{Event, Seat};
use crate::operation::Operation;
use crate::player::{Line, Silence, WATCHDOG};

/// A process that will be killed.
pub(crate) struct Staged {
    process: Process,
    line: Line,
}

/// The same, amid its operation: it is stopped whenever nobody is inside one of the methods below. Holding a `&Victim`
/// therefore proves that its memory stands still.
pub(crate) struct Victim {
    staged: Staged,
    /// None once it is no longer traced.
    tracee: Option<Tracee>,
}

/// A process that does not outlive this.
struct Process(Child);

impl Process {
    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
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

impl Staged {
    pub(crate) fn launch(command: &mut Command) -> Result<Self> {
        let (process, line) = Line::to(command)?;
        Ok(Self {
            process: Process(process),
            line,
        })
    }

    /// Acts on the way to the operation, freely.
    pub(crate) fn stage(&mut self, act: &Act) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        let answered = self.line.say(act);
        let answered = answered.and_then(|()| self.line.hear(WATCHDOG, &mut events));
        match (answered, events.last()) {
            (Ok(()), Some(Event::Failed(text))) => bail!("the victim, staging {act}: {text}"),
            (Ok(()), _) => Ok(events),
            (Err(silence), _) => bail!("the victim, staging {act}: {silence:?}"),
        }
    }

    /// Begins the operation: the victim runs up to its first marker.
    pub(crate) fn operate(mut self, operation: Operation, seat: Seat) -> Result<Victim> {
        let said = self.line.say(&Act::Operate(operation, seat));
        said.map_err(|silence| anyhow!("the victim: {silence:?}"))?;
        match Tracee::meet(self.process.0.id().cast_signed()) {
            Ok(tracee) => Ok(Victim {
                staged: self,
                tracee: Some(tracee),
            }),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// `error`, with what a victim that gave up has said.
    fn explain(&mut self, error: Error) -> Error {
        let mut events = Vec::new();
        // Whatever could be heard is better than nothing.
        let _ = self.line.hear(WATCHDOG, &mut events);
        match events.last() {
            Some(Event::Failed(text)) => anyhow!("the victim: {text}"),
            _ => error.context("the victim"),
        }
    }
}

impl Victim {
    fn tracee(&mut self) -> Result<&mut Tracee> {
        self.tracee.as_mut().context("it is no longer traced")
    }

    /// The number of the thread that operates.
    pub(crate) fn thread(&self) -> u32 {
        self.staged.process.0.id()
    }

    /// Executes one instruction.
    pub(crate) fn step(&mut self) -> Result<Progress> {
        let progress = self.tracee()?.step();
        progress.map_err(|error| self.staged.explain(error))
    }

    /// Runs to the entry or exit of a system call.
    pub(crate) fn run_to_system_call(&mut self) -> Result<Progress> {
        let progress = self.tracee()?.run_to_system_call();
        progress.map_err(|error| self.staged.explain(error))
    }

    /// Whether the next instruction makes a system call.
    pub(crate) fn makes_system_call(&self) -> Result<bool> {
        let tracee = self.tracee.as_ref().context("it is no longer traced")?;
        Ok(tracee.next_system_call()?.is_some())
    }

    /// The call by which the next instruction waits or wakes, if it makes one: of a futex, or of a message queue.
    pub(crate) fn next_call(&self) -> Result<Option<Call>> {
        let tracee = self.tracee.as_ref().context("it is no longer traced")?;
        let Some([number, _, operation, _]) = tracee.next_system_call()? else {
            return Ok(None);
        };
        Ok(match number as libc::c_long {
            libc::SYS_futex => match operation as libc::c_int & !libc::FUTEX_CLOCK_REALTIME {
                libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET => Some(Call::Wait),
                libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET => Some(Call::Wake),
                _ => None,
            },
            libc::SYS_ppoll => Some(Call::Wait),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll => Some(Call::Wait),
            libc::SYS_mq_timedsend => Some(Call::Wake),
            _ => None,
        })
    }

    /// Lets the victim run freely from the marker behind the operation to the last one; what it says that the operation came
    /// to. In between it examines that, and gives up if it was wrong.
    pub(crate) fn confirm(&mut self) -> Result<Vec<Event>> {
        let confirmed = self.tracee()?.run_to_marker();
        confirmed.map_err(|error| self.staged.explain(error))?;
        self.hear()
    }

    /// Where the victim stands, as file and offset: what `addr2line` asks for.
    pub(crate) fn address(&self) -> String {
        let tracee = self.tracee.as_ref();
        tracee.map_or_else(String::new, Tracee::address)
    }

    /// Has it stand still by SIGSTOP, and no longer be traced.
    pub(crate) fn leave_stopped(&mut self) -> Result<()> {
        let tracee = self.tracee.take().context("it is no longer traced")?;
        tracee.leave_stopped()?;
        self.wait_until_stopped()
    }

    /// Lets it go on by SIGCONT, from where it was left to its end; what it says that the operation came to.
    pub(crate) fn go_on_to_the_end(&mut self) -> Result<Vec<Event>> {
        // Past the marker behind the operation, then to the last one.
        for _ in 0..2 {
            kill(self.staged.process.pid(), Signal::SIGCONT)?;
            self.wait_until_stopped()?;
        }
        self.hear()
    }

    fn wait_until_stopped(&mut self) -> Result<()> {
        let status = waitpid(self.staged.process.pid(), Some(WaitPidFlag::WUNTRACED))?;
        let error = match status {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => return Ok(()),
            other => anyhow!("in an unexpected state: {other:?}"),
        };
        Err(self.staged.explain(error))
    }

    fn hear(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        let heard = self.staged.line.hear(WATCHDOG, &mut events);
        ensure!(
            !matches!(heard, Err(Silence::Hung | Silence::Ended)),
            "the victim says nothing"
        );
        Ok(events)
    }
}

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Wait,
    Wake,
}
