//! Crash images: the bytes of a segment as a kill would leave them, and the store that merges equal ones.
#![allow(unsafe_code, reason = "the victim's segment is mapped")]

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::c_void;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{ErrorKind, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use anyhow::{Context as _, Result};
use nix::mqueue::mq_unlink;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::ring::MOST_SENDERS;
use crate::step::Victim;

/// A segment's name, and where the system keeps the object of that name.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Object {
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/dev/shm/ipc-ring.{}:{}",
            self.namespace, self.name
        ))
    }

    /// Puts `bytes` under this name. No participant's byte is locked in the new object: to everybody who opens it,
    /// the processes that wrote these bytes are dead.
    pub(crate) fn materialize(&self, bytes: &[u8]) -> Result<()> {
        let path = self.path();
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("creating {}", path.display()))?;
        file.write_all(bytes)
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Puts `bytes` in the place of what the object holds, whose participants live on. They stand still.
    pub(crate) fn overwrite(&self, bytes: &[u8]) -> Result<()> {
        let file = OpenOptions::new().write(true).open(self.path())?;
        file.write_all_at(bytes, 0)
            .with_context(|| format!("writing {}", self.path().display()))
    }

    /// The bytes as they are while those who take part stand still.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        let path = self.path();
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// Whether the victim holds its mutex. It stands still.
    pub(crate) fn is_locked_by(&self, victim: &Victim) -> Result<bool> {
        Ok(self.exists() && holds_mutex(&self.read()?, victim.thread()))
    }

    pub(crate) fn exists(&self) -> bool {
        fs::symlink_metadata(self.path()).is_ok()
    }

    /// Removes what may be left under this name; whether there was something.
    pub(crate) fn discard(&self) -> bool {
        let Ok(file) = fs::metadata(self.path()) else {
            return false;
        };
        // With its queues, of which our rings have no more.
        for index in 0..=MOST_SENDERS {
            let queue = format!("/ipc-ring.{:x}-{:x}.{index}", file.dev(), file.ino());
            // Most have none.
            let _ = mq_unlink(queue.as_str());
        }
        fs::remove_file(self.path()).is_ok()
    }
}

/// Where the header says which kind of ring it is, and where the senders' words begin, with the mutex of a locked ring.
const KIND: usize = 16;
const LOCKED: u32 = 4;
const SENDERS_OFFSET: usize = 96;

/// The word of the mutex in a segment by which the kernel knows its owner, if it has one.
fn mutex(bytes: &[u8]) -> Option<usize> {
    let kind = u32::from_ne_bytes(*bytes.get(KIND..)?.first_chunk()?);
    let senders = u64::from_ne_bytes(*bytes.get(SENDERS_OFFSET..)?.first_chunk()?);
    (kind == LOCKED).then_some(senders as usize)
}

/// Whether the thread with this number holds the mutex of the segment.
pub(crate) fn holds_mutex(bytes: &[u8], thread: u32) -> bool {
    let word = mutex(bytes).and_then(|at| bytes.get(at..)?.first_chunk());
    word.is_some_and(|word| u32::from_ne_bytes(*word) & libc::FUTEX_TID_MASK == thread)
}

/// The segment as the death of the thread with this number leaves it: the kernel says in a robust mutex that its owner has died.
fn as_its_death_leaves_it(bytes: &[u8], thread: u32) -> Cow<'_, [u8]> {
    let Some(at) = mutex(bytes).filter(|_| holds_mutex(bytes, thread)) else {
        return bytes.into();
    };
    let mut bytes = bytes.to_vec();
    let word = u32::from_ne_bytes(*bytes[at..].first_chunk().expect("it was read there"));
    let word = word & libc::FUTEX_WAITERS | libc::FUTEX_OWNER_DIED;
    bytes[at..at + size_of::<u32>()].copy_from_slice(&word.to_ne_bytes());
    bytes.into()
}

/// All objects that exist right now in namespaces that begin with `prefix`.
pub(crate) fn leftovers(prefix: &str) -> Vec<PathBuf> {
    let prefix = format!("ipc-ring.{prefix}");
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect()
}

/// A read-only mapping of the victim's segment.
pub(crate) struct View {
    start: NonNull<c_void>,
    len: NonZeroUsize,
}

impl View {
    /// None if there is no such object.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.with_context(|| format!("opening {}", path.display()))?,
        };
        let len = usize::try_from(file.metadata()?.len())?;
        let len = NonZeroUsize::new(len).context("the segment is empty")?;
        // SAFETY: a new mapping at an address of the kernel's choice invalidates no existing one.
        let start = unsafe {
            mmap(
                None,
                len,
                ProtFlags::PROT_READ,
                MapFlags::MAP_SHARED,
                file,
                0,
            )
        };
        let start = start.with_context(|| format!("mapping {}", path.display()))?;
        Ok(Some(Self { start, len }))
    }

    /// The bytes as they would be if the victim, which stands still, died here.
    pub(crate) fn left_by<'a>(&'a self, victim: &'a Victim) -> Cow<'a, [u8]> {
        as_its_death_leaves_it(self.bytes(victim), victim.thread())
    }

    /// The bytes as they are while the victim stands still.
    pub(crate) fn bytes<'a>(&'a self, _stopped: &'a Victim) -> &'a [u8] {
        // SAFETY: the mapping is `len` bytes long and lives as long as `self`. Its only writer is the victim: it is
        // stopped whenever somebody holds a reference to it, and stepping it needs an exclusive one.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len.get()) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are those of the mapping made in `open`, and no slice of it outlives `self`.
        let unmapped = unsafe { munmap(self.start, self.len.get()) };
        debug_assert!(unmapped.is_ok());
    }
}

/// Which part of the victim's life an image belongs to: what the log outside the segment promises about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// The operation has not begun.
    Before,
    /// The operation has begun and not returned.
    During,
    /// The operation has returned.
    After,
}

/// What an image is one of: equal bytes of different moments are different images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Moment {
    pub(crate) phase: Phase,
    /// Whether the others had gone on amid the operation: what they remember belongs to the state.
    pub(crate) advanced: bool,
}

/// A distinct crash image.
pub(crate) struct Image {
    pub(crate) moment: Moment,
    /// None where there was no object of the name.
    pub(crate) bytes: Option<Vec<u8>>,
    /// The number of instructions after which it was seen for the first time.
    pub(crate) first_step: u64,
    /// The number of instructions after which it was seen at all.
    pub(crate) seen: u64,
    /// Where the victim stood when it was seen for the first time.
    pub(crate) address: String,
}

/// The distinct images of one exploration, in the order in which they were first seen.
#[derive(Default)]
pub(crate) struct Images {
    distinct: Vec<Image>,
    by_hash: HashMap<(Moment, u64), Vec<usize>>,
    hasher: RandomState,
    /// An index into `distinct` and the number of instructions, for each change of the image.
    timeline: Vec<(usize, u64)>,
}

impl Images {
    /// Notes what the segment looked like after `step` instructions; `address` is asked for only if it is news. Whether the
    /// bytes have changed.
    pub(crate) fn record(
        &mut self,
        moment: Moment,
        step: u64,
        bytes: Option<&[u8]>,
        address: impl FnOnce() -> String,
    ) -> bool {
        let mut has_changed = false;
        if let Some(&(last, _)) = self.timeline.last() {
            let last = &mut self.distinct[last];
            has_changed = last.bytes.as_deref() != bytes;
            if last.moment == moment && !has_changed {
                last.seen += 1;
                return false;
            }
        }
        let index = self.index_of(moment, step, bytes, address);
        self.timeline.push((index, step));
        has_changed
    }

    fn index_of(
        &mut self,
        moment: Moment,
        step: u64,
        bytes: Option<&[u8]>,
        address: impl FnOnce() -> String,
    ) -> usize {
        let known = self
            .by_hash
            .entry((moment, self.hasher.hash_one(bytes)))
            .or_default();
        if let Some(&index) = known
            .iter()
            .find(|&&index| self.distinct[index].bytes.as_deref() == bytes)
        {
            self.distinct[index].seen += 1;
            return index;
        }
        known.push(self.distinct.len());
        self.distinct.push(Image {
            moment,
            bytes: bytes.map(<[u8]>::to_vec),
            first_step: step,
            seen: 1,
            address: address(),
        });
        self.distinct.len() - 1
    }

    pub(crate) fn distinct(&self) -> &[Image] {
        &self.distinct
    }

    pub(crate) fn timeline(&self) -> &[(usize, u64)] {
        &self.timeline
    }
}

/// The 64-bit words in which two images of one segment differ, as offset, word there, word here.
pub(crate) fn changed_words(there: &[u8], here: &[u8]) -> Vec<(usize, u64, u64)> {
    let words = |bytes: &[u8]| {
        let (words, rest) = bytes.as_chunks::<8>();
        debug_assert!(rest.is_empty(), "segments are whole pages");
        words
            .iter()
            .map(|&word| u64::from_ne_bytes(word))
            .collect::<Vec<_>>()
    };
    let pairs = words(there).into_iter().zip(words(here)).enumerate();
    pairs
        .filter(|(_, (there, here))| there != here)
        .map(|(index, (there, here))| (index * 8, there, here))
        .collect()
}
