//! The stepping engine: a thread of another process that runs one instruction at a time.
//!
//! The thread asks to be traced and raises a marker right before and right after the operation under test. Between the two
//! it moves only when [`Tracee::step`] says so: one instruction, or one whole system call, whose effects
//! on the segment no other process can see half of either. At every stop all stores of the instructions so far
//! are in memory and none of a later one is, which is exactly what SIGKILL at this place would leave behind.
//!
//! Ptrace binds a tracee to one *thread*: the one that spawned its process. `Tracee` is therefore not `Send`.

use std::fmt;
use std::fs::{self, File};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, alarm};

/// Raised by the tracee around the operation. A stop signal, so that a tracee that nobody traces stands still
/// instead of running into the operation unseen.
const MARKER: Signal = Signal::SIGSTOP;

/// How long a tracee may live. The alarm interrupts a system call that would block for ever, which single steps
/// alone would never come back from.
const LIFETIME_SECONDS: u32 = 300;

/// Bytes of the longest instruction that there is.
const LONGEST_INSTRUCTION: usize = 15;

/// Whether this machine can be single-stepped through a lock-free ring.
///
/// # Errors
///
/// Why not.
pub fn supported() -> Result<(), &'static str> {
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

/// To be called by the tracee before anything else.
///
/// # Errors
///
/// If the system does not allow it.
pub fn submit() -> Result<()> {
    ptrace::traceme().context("asking to be traced")?;
    alarm::set(LIFETIME_SECONDS);
    Ok(())
}

/// Called by the tracee where it is to stand still.
#[inline(always)]
pub fn marker() {
    raise(MARKER).expect("raising a signal in this thread cannot fail");
}

/// A traced thread that is stopped whenever nobody is inside one of the methods below. Left alone, its process is killed.
#[derive(Debug)]
pub struct Tracee {
    thread: Pid,
    memory: File,
    bound_to_thread: PhantomData<*const ()>,
}

/// Where a step has led.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Into the operation, one instruction further.
    Inside,
    /// To the marker behind the operation.
    Through,
}

/// The error if the tracee has ended by itself.
#[derive(Debug)]
pub struct GaveUp {
    code: i32,
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it gave up with exit code {}", self.code)
    }
}

impl std::error::Error for GaveUp {}

impl Tracee {
    /// Waits until the thread with this id comes to its first marker. Its process is a child of this very thread, and it has
    /// submitted, unless it is the first thread there.
    ///
    /// # Errors
    ///
    /// If it comes to something else, or the system refuses.
    pub fn meet(thread: i32) -> Result<Self> {
        let thread = Pid::from_raw(thread);
        match next_stop(thread)? {
            Stop::Signal(MARKER) => {}
            stop => bail!("stopped by {stop:?} before the first marker"),
        }
        let options = ptrace::Options::PTRACE_O_EXITKILL | ptrace::Options::PTRACE_O_TRACESYSGOOD;
        ptrace::setoptions(thread, options).context("tying the tracee to its tracer")?;
        let memory = File::open(format!("/proc/{thread}/mem")).context("opening its memory")?;
        Ok(Self {
            thread,
            memory,
            bound_to_thread: PhantomData,
        })
    }

    /// Executes one instruction.
    ///
    /// # Errors
    ///
    /// If it led elsewhere, or the system refuses.
    pub fn step(&mut self) -> Result<Progress> {
        let stop = self.advance(|thread| ptrace::step(thread, None))?;
        self.progress(stop, Signal::SIGTRAP)
    }

    /// Lets it run freely up to the entry of its next system call, or from there to the exit.
    ///
    /// # Errors
    ///
    /// If it led elsewhere, or the system refuses.
    pub fn run_to_system_call(&mut self) -> Result<Progress> {
        match self.advance(|thread| ptrace::syscall(thread, None))? {
            Stop::SystemCall => Ok(Progress::Inside),
            stop => self.progress(stop, MARKER),
        }
    }

    fn progress(&self, stop: Stop, inside: Signal) -> Result<Progress> {
        match stop {
            Stop::Signal(MARKER) => Ok(Progress::Through),
            Stop::Signal(signal) if signal == inside => Ok(Progress::Inside),
            Stop::Signal(Signal::SIGALRM) => {
                bail!("still not through after {LIFETIME_SECONDS} s: the operation waits for ever")
            }
            stop => bail!("{stop:?} inside the operation, at {}", self.address()),
        }
    }

    /// Lets it run freely up to its next marker.
    ///
    /// # Errors
    ///
    /// If it comes to something else, or the system refuses.
    pub fn run_to_marker(&mut self) -> Result<()> {
        self.run_to(MARKER)
    }

    /// Lets it run freely up to its next breakpoint instruction, and past it.
    ///
    /// # Errors
    ///
    /// As for [`run_to_marker`](Self::run_to_marker).
    pub fn run_to_breakpoint(&mut self) -> Result<()> {
        self.run_to(Signal::SIGTRAP)
    }

    fn run_to(&mut self, wanted: Signal) -> Result<()> {
        match self.advance(|thread| ptrace::cont(thread, None))? {
            Stop::Signal(signal) if signal == wanted => Ok(()),
            stop => bail!("{stop:?} where {wanted} was due, at {}", self.address()),
        }
    }

    fn advance(&mut self, resume: impl Fn(Pid) -> nix::Result<()>) -> Result<Stop> {
        loop {
            resume(self.thread).context("letting it go on")?;
            match next_stop(self.thread)? {
                // What a terminal sends to everybody in front of it. Nothing was executed.
                Stop::Signal(Signal::SIGWINCH | Signal::SIGCONT) => {}
                stop => return Ok(stop),
            }
        }
    }

    /// The system call that the next instruction makes, if it makes one: its number and arguments.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn next_system_call(&self) -> Result<Option<[u64; 4]>> {
        let code = self.next_instruction()?;
        #[cfg(target_arch = "x86_64")]
        let makes_one = code[..2] == [0x0f, 0x05];
        #[cfg(target_arch = "aarch64")]
        let makes_one = code[..4] == 0xd400_0001_u32.to_le_bytes();
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let makes_one = false;
        if !makes_one {
            return Ok(None);
        }
        self.system_call_registers().map(Some)
    }

    #[cfg(all(
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ))]
    fn system_call_registers(&self) -> Result<[u64; 4]> {
        let registers = ptrace::getregset::<ptrace::regset::NT_PRSTATUS>(self.thread);
        let registers = registers.context("reading registers")?;
        #[cfg(target_arch = "x86_64")]
        return Ok([registers.rax, registers.rdi, registers.rsi, registers.rdx]);
        #[cfg(target_arch = "aarch64")]
        return Ok([
            registers.regs[8],
            registers.regs[0],
            registers.regs[1],
            registers.regs[2],
        ]);
    }

    #[cfg(not(all(
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )))]
    fn system_call_registers(&self) -> Result<[u64; 4]> {
        bail!("this system does not tell what a tracee calls")
    }

    /// Lets go of it, and has it stand still (SIGSTOP) where it is.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn leave_stopped(self) -> Result<()> {
        ptrace::detach(self.thread, Signal::SIGSTOP).context("leaving it stopped")
    }

    /// Lets it run for good, untraced.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn release(self) -> Result<()> {
        ptrace::detach(self.thread, None).context("letting it go")
    }

    /// Lets it end where it is, by exit(2), while its process lives on. A function of its that makes a system call begins at
    /// `makes_one`.
    ///
    /// # Errors
    ///
    /// If the system refuses, or there is no system call.
    #[cfg(all(
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ))]
    pub fn end_thread(self, makes_one: u64) -> Result<()> {
        let mut code = [0; 128];
        self.memory
            .read_exact_at(&mut code, makes_one)
            .context("reading its code")?;
        #[cfg(target_arch = "x86_64")]
        let instruction: &[u8] = &[0x0f, 0x05];
        #[cfg(target_arch = "aarch64")]
        let instruction: &[u8] = &0xd400_0001_u32.to_le_bytes();
        let found = code
            .windows(instruction.len())
            .position(|window| window == instruction);
        let address = makes_one + found.context("no system call is made there")? as u64;
        let registers = ptrace::getregset::<ptrace::regset::NT_PRSTATUS>(self.thread);
        let mut registers = registers.context("reading registers")?;
        #[cfg(target_arch = "x86_64")]
        {
            registers.rip = address;
            registers.rax = libc::SYS_exit as u64;
            // None that is to be made again.
            registers.orig_rax = u64::MAX;
            registers.rdi = 0;
        }
        #[cfg(target_arch = "aarch64")]
        {
            registers.pc = address;
            registers.regs[8] = libc::SYS_exit as u64;
            registers.regs[0] = 0;
        }
        ptrace::setregset::<ptrace::regset::NT_PRSTATUS>(self.thread, registers)
            .context("writing registers")?;
        self.release()
    }

    /// Where it stands, as file and offset: what `addr2line` asks for.
    pub fn address(&self) -> String {
        match self.program_counter() {
            Some(address) => {
                mapped_file(self.thread, address).unwrap_or_else(|| format!("{address:#x}"))
            }
            None => "an unknown address".to_owned(),
        }
    }

    /// The bytes from the next instruction on, as many as the longest one may have; behind the instruction there may be others,
    /// or zeros.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn next_instruction(&self) -> Result<[u8; LONGEST_INSTRUCTION]> {
        let address = self
            .program_counter()
            .context("this system does not tell where a tracee stands")?;
        let mut code = [0; LONGEST_INSTRUCTION];
        // It reads less at the end of a mapping.
        self.memory
            .read_at(&mut code, address)
            .context("reading the next instruction")?;
        Ok(code)
    }

    #[cfg(all(
        target_env = "gnu",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ))]
    fn program_counter(&self) -> Option<u64> {
        let registers = ptrace::getregset::<ptrace::regset::NT_PRSTATUS>(self.thread).ok()?;
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
}

impl Drop for Tracee {
    /// SIGKILL. Whoever holds the process and waits for its end can do so afterwards: a traced thread that is not the first of
    /// its process would not be gone before its tracer knew.
    fn drop(&mut self) {
        // Fails if it was released or is gone.
        let _ = ptrace::detach(self.thread, Signal::SIGKILL);
    }
}

/// Why a tracee stands still.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    Signal(Signal),
    /// At the entry or the exit of one.
    SystemCall,
}

fn next_stop(thread: Pid) -> Result<Stop> {
    // Threads that are not the first of their process are waited for only if that is asked for.
    let status = waitpid(thread, Some(WaitPidFlag::__WALL)).context("waiting for a stop")?;
    match status {
        WaitStatus::Stopped(_, signal) => Ok(Stop::Signal(signal)),
        WaitStatus::PtraceSyscall(_) => Ok(Stop::SystemCall),
        WaitStatus::Exited(_, code) => Err(GaveUp { code }.into()),
        WaitStatus::Signaled(_, signal, _) => bail!("killed by {signal}"),
        other => bail!("in an unexpected state: {other:?}"),
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
pub fn processors() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count())
        .filter(|&processor| allowed.is_set(processor).unwrap_or(false))
        .collect()
}

/// Keeps the calling thread, and the processes it spawns, on one processor. A step is two context switches; across
/// processors each of them would be an interrupt and a wake-up from idle as well.
///
/// # Errors
///
/// If the system refuses.
pub fn stay_on(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("staying on one processor")
}
