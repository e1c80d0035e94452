//! What this machine offers: two cores, a clock that both read, and memory that both map.

#![allow(unsafe_code)]

use std::{
    fs,
    num::NonZeroUsize,
    ops::Deref,
    ptr::NonNull,
    slice,
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

/// The two cores that the two sides are pinned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cores(pub(crate) usize, pub(crate) usize);

impl Cores {
    /// Two cores that this process may use, of different hardware cores if there are such.
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
        let apart = usable[1..]
            .iter()
            .copied()
            .find(|&core| !are_siblings(first, core));
        Ok(Self(first, apart.unwrap_or(second)))
    }

    /// Whether both are hardware threads of one core, which is another machine than two cores are.
    pub(crate) fn are_siblings(self) -> bool {
        are_siblings(self.0, self.1)
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

/// Where both sides meet before the clock starts.
#[derive(Debug)]
pub(crate) struct Meeting(Region);

/// One side's place at the meeting.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    First,
    Second,
}

impl Meeting {
    pub(crate) fn new() -> Result<Self> {
        // Two lines apart, for processors that fetch lines in pairs.
        Region::new(4).map(Self)
    }

    /// Waits, spinning, until the other side is here too. Once per meeting.
    pub(crate) fn meet(&self, side: Side) {
        let (own, other) = match side {
            Side::First => (&self.0[0], &self.0[2]),
            Side::Second => (&self.0[2], &self.0[0]),
        };
        // Release and Acquire: what a side did before the meeting is over for the other after it.
        own.0[0].store(1, Release);
        while other.0[0].load(Acquire) == 0 {
            std::hint::spin_loop();
        }
    }
}

/// Parses `A,B`.
impl std::str::FromStr for Cores {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (first, second) = text.split_once(',').context("two cores look like 0,1")?;
        let cores = Self(first.trim().parse()?, second.trim().parse()?);
        ensure!(cores.0 != cores.1, "the two sides need different cores");
        Ok(cores)
    }
}
