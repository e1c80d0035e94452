//! Words in a file that several processes have mapped: what one of them has stored is there, whatever becomes of it.
#![allow(unsafe_code, reason = "mapped files")]

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::path::Path;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

/// A file as words.
#[derive(Debug)]
pub struct Words {
    base: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: it is a slice of atomics that nobody moves.
unsafe impl Send for Words {}

// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// The first `count` words of the file, which grows to that if it is shorter. New ones are 0.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn of(path: impl AsRef<Path>, count: usize) -> Self {
        let file = File::options().read(true).write(true).open(path);
        let file = file.expect("the file is there");
        let bytes = count * size_of::<u64>();
        if file.metadata().expect("fstat").len() < bytes as u64 {
            file.set_len(bytes as u64).expect("there is room");
        }
        let len = NonZeroUsize::new(bytes).expect("one word at least");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address of the system's choice.
        let base = unsafe { mmap(None, len, protection, MapFlags::MAP_SHARED, &file, 0) };
        let base = base.expect("the file can be mapped").cast();
        Self { base, count }
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: so many words are mapped, as long as we are; any bytes are an atomic.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.count) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: mapped in `of`, and nobody has a reference any more.
        let _ = unsafe { munmap(self.base.cast(), self.count * size_of::<u64>()) };
    }
}
