//! Shared mappings of a file.
#![allow(unsafe_code, reason = "mmap and its relatives")]

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap, munmap};
use nix::unistd::{SysconfVar, sysconf};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// The size of a page, in bytes.
pub(crate) fn page_size() -> usize {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| usize::try_from(size).ok())
        .unwrap_or(4096)
}

/// A readable and writable shared mapping that a forked child does not inherit. Unmapped on drop.
pub(crate) struct Mapping {
    base: NonNull<c_void>,
    len: NonZeroUsize,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `file`.
    pub(crate) fn new(file: impl AsFd, len: NonZeroUsize) -> Result<Self, Errno> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing; nobody has a Rust
        // reference to its bytes yet.
        let base = unsafe { mmap(None, len, access, MapFlags::MAP_SHARED, file, 0) }?;
        let mapping = Self { base, len };
        // SAFETY: the range is the mapping made above.
        unsafe { madvise(base, len.get(), MmapAdvise::MADV_DONTFORK) }?;
        Ok(mapping)
    }

    /// The first byte; the mapping is page-aligned and `len` bytes long.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base.cast()
    }

    /// Makes every page present and writable now, so that no later store faults.
    pub(crate) fn prefault(&self) -> Result<(), Errno> {
        // SAFETY: populating changes no byte of the mapping.
        match unsafe { madvise(self.base, self.len.get(), MmapAdvise::MADV_POPULATE_WRITE) } {
            // Before Linux 5.14: touch each page instead. Reading suffices, the file's space is allocated.
            Err(Errno::EINVAL) => {
                for offset in (0..self.len.get()).step_by(page_size()) {
                    // SAFETY: `offset` is below the mapping's length.
                    let byte = unsafe { self.base().add(offset) };
                    // SAFETY: mapped readable; volatile, since peers may be writing.
                    unsafe { byte.read_volatile() };
                }
                Ok(())
            }
            other => other,
        }
    }

    /// Keeps every page in memory (`mlock`).
    pub(crate) fn lock_memory(&self) -> Result<(), Errno> {
        // SAFETY: the range is ours; locking changes no byte.
        unsafe { mlock(self.base, self.len.get()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: handles that point into the mapping are gone: each owns its mapping and drops it last.
        let unmapped = unsafe { munmap(self.base, self.len.get()) };
        debug_assert!(
            unmapped.is_ok(),
            "munmap of a mapping of ours: {unmapped:?}"
        );
    }
}
