//! What this machine offers: cores, a clock that all sides read, and memory that all of them map.

#![allow(unsafe_code)]

use std::{
    fmt, fs,
    io::{self, PipeReader, PipeWriter, Read, Write},
    num::NonZeroUsize,
    ops::Deref,
    ptr::NonNull,
    slice,
    str::FromStr,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Release},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    errno::Errno,
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use crate::idle::{Idle, Yield};

/// The cores that the sides are pinned to: at least two, all different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cores(Vec<usize>);

impl Cores {
    /// One for the receiver, and one for each of as many senders as there are in any pattern.
    const MOST: usize = 5;

    /// Cores that this process may use, of different hardware cores if there are such.
    pub(crate) fn choose() -> Result<Self> {
        let allowed =
            sched_getaffinity(Pid::from_raw(0)).context("cannot ask for the usable cores")?;
        let usable: Vec<usize> = (0..CpuSet::count())
            .filter(|&core| allowed.is_set(core).unwrap_or(false))
            .collect();
        let &[first, second, ..] = usable.as_slice() else {
            bail!(
                "only one core is usable here, and two sides that spin need one each: run this on a machine with \
                 two cores, or widen the affinity mask (taskset, cpuset, --cpuset-cpus)"
            );
        };
        let mut apart: Vec<usize> = Vec::new();
        for core in usable {
            if apart.iter().all(|&other| !are_siblings(other, core)) {
                apart.push(core);
            }
        }
        apart.truncate(Self::MOST);
        Ok(Self(match apart.len() {
            1 => vec![first, second],
            _ => apart,
        }))
    }

    /// The receiver's, which it has for itself.
    pub(crate) fn of_receiver(&self) -> usize {
        self.0[1]
    }

    /// The nth sender's. Senders share cores if there are not enough of them.
    pub(crate) fn of_sender(&self, nth: usize) -> usize {
        match nth % (self.0.len() - 1) {
            0 => self.0[0],
            further => self.0[further + 1],
        }
    }

    /// How many of so many senders run on one core.
    pub(crate) fn senders_a_core(&self, senders: usize) -> usize {
        senders.div_ceil(self.0.len() - 1)
    }

    /// Whether some are hardware threads of one core, which is another machine than as many cores are.
    pub(crate) fn are_siblings(&self) -> bool {
        let pairs = self.0.iter().enumerate();
        pairs
            .flat_map(|(idx, &core)| self.0[..idx].iter().map(move |&other| (core, other)))
            .any(|(core, other)| are_siblings(core, other))
    }
}

/// As [`FromStr`] takes it.
impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&cores.join(","))
    }
}

/// Parses `A,B` or more.
impl FromStr for Cores {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let cores = text.split(',').map(|core| core.trim().parse());
        let cores: Vec<usize> = cores
            .collect::<Result<_, _>>()
            .context("two cores look like 0,1")?;
        ensure!(cores.len() >= 2, "two cores look like 0,1");
        let different = (1..cores.len()).all(|idx| !cores[..idx].contains(&cores[idx]));
        ensure!(different, "the sides need different cores");
        Ok(Self(cores))
    }
}

fn are_siblings(a: usize, b: usize) -> bool {
    let siblings = |core: usize| {
        fs::read_to_string(format!(
            "/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"
        ))
        .ok()
    };
    siblings(a).is_some_and(|of_a| siblings(b) == Some(of_a))
}

/// Pins the calling thread to `core`.
pub(crate) fn pin_to(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .with_context(|| format!("cannot pin a worker to core {core}"))
}

/// One line about the machine, for the report.
pub(crate) fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{model}, Linux {}, {}",
        kernel.trim(),
        std::env::consts::ARCH
    )
}

/// How many processes were runnable on average in the last minute.
pub(crate) fn load() -> Option<f64> {
    let loadavg = fs::read_to_string("/proc/loadavg").ok()?;
    loadavg.split(' ').next()?.parse().ok()
}

/// A point in time that every process of this machine agrees on.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub(crate) struct Moment(Duration);

impl Moment {
    /// Now. (`std::time::Instant` promises nothing between processes.)
    pub(crate) fn now() -> Self {
        Self(
            clock_gettime(ClockId::CLOCK_MONOTONIC)
                .expect("CLOCK_MONOTONIC is always there")
                .into(),
        )
    }

    /// The time from `earlier` to this moment.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// What the caches exchange.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [AtomicU64; 8]);

impl Line {
    /// Size in bytes.
    pub(crate) const BYTES: usize = size_of::<Self>();
}

/// Anonymous shared memory, the same in every process forked after it was made.
#[derive(Debug)]
pub(crate) struct Region {
    lines: NonNull<Line>,
    count: usize,
}

// SAFETY: the mapping belongs to no thread, and lines are atomics.
unsafe impl Send for Region {}
// SAFETY: as above; whoever writes through `as_ptr` answers for it there.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `count` lines, all zero.
    pub(crate) fn new(count: usize) -> Result<Self> {
        let len = NonZeroUsize::new(count * Line::BYTES).context("a region needs a line")?;
        let (protection, flags) = (
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_SHARED,
        );
        // SAFETY: a new mapping, placed by the kernel, aliases nothing.
        let base = unsafe { mmap_anonymous(None, len, protection, flags) }
            .context("cannot map shared memory")?;
        Ok(Self {
            lines: base.cast(),
            count,
        })
    }

    /// Maps every page into this process, so that no page fault falls into a run.
    pub(crate) fn populate(&self) {
        // SAFETY: changes nothing but page tables, for exactly what `new` mapped.
        let populated = unsafe {
            madvise(
                self.lines.cast(),
                self.count * Line::BYTES,
                MmapAdvise::MADV_POPULATE_WRITE,
            )
        };
        // Kernels before 5.14 cannot do it, and leave the pages to the warm-up.
        debug_assert!(matches!(populated, Ok(()) | Err(Errno::EINVAL)));
    }

    /// The first line, for those who lay plain memory over some of them.
    pub(crate) fn as_ptr(&self) -> NonNull<Line> {
        self.lines
    }
}

impl Deref for Region {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        // SAFETY: the mapping holds `count` lines, page-aligned and zeroed, which are valid atomics, as long as `self`.
        unsafe { slice::from_raw_parts(self.lines.as_ptr(), self.count) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped, and `&mut self` says that nobody borrows from it.
        let unmapped = unsafe { munmap(self.lines.cast(), self.count * Line::BYTES) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

/// Where all sides meet before the clock starts.
#[derive(Debug)]
pub(crate) struct Meeting {
    /// Two lines a side, for processors that fetch lines in pairs.
    here: Region,
    /// A byte for each that waits for the end.
    over: (PipeReader, PipeWriter),
}

impl Meeting {
    pub(crate) fn new(sides: usize) -> Result<Self> {
        Ok(Self {
            here: Region::new(2 * sides)?,
            over: io::pipe().context("cannot make a pipe")?,
        })
    }

    /// Waits, spinning, until the other sides are here too. Once per meeting.
    pub(crate) fn meet(&self, own: usize) {
        let flag = |side: usize| &self.here[2 * side].0[0];
        // Release and Acquire: what a side did before the meeting is over for the others after it.
        flag(own).store(1, Release);
        for side in 0..self.here.len() / 2 {
            // Sides may share a core.
            let mut idle = Yield::default();
            while flag(side).load(Acquire) == 0 {
                idle.idle();
            }
        }
    }

    /// Sleeps until some side says that the run is over.
    pub(crate) fn await_end(&self) -> Result<()> {
        Ok((&self.over.0).read_exact(&mut [0])?)
    }

    /// Says to so many sleepers that the run is over.
    pub(crate) fn end(&self, sleepers: usize) -> Result<()> {
        Ok((&self.over.1).write_all(&vec![0; sleepers])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sender_shares_the_receivers_core() {
        let cores: Cores = "4, 2, 7".parse().unwrap();
        assert_eq!(cores.to_string(), "4,2,7");
        assert_eq!(cores.of_receiver(), 2);
        assert_eq!([0, 1, 2, 3].map(|nth| cores.of_sender(nth)), [4, 7, 4, 7]);
        assert_eq!(
            [1, 2, 3, 4].map(|all| cores.senders_a_core(all)),
            [1, 1, 2, 2]
        );
    }

    #[test]
    fn cores_are_two_or_more_and_different() {
        for text in ["", "0", "0,0", "1,2,1", "0,x"] {
            assert!(text.parse::<Cores>().is_err(), "{text}");
        }
    }
}
