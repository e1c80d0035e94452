//! The message queues by which participants of a ring call each other, if that is how it waits: one an attention word, under a name
//! that follows from the ring's file. Whoever needs one makes it, so that a process which is killed leaves nothing that the next
//! one would not find; who takes the ring's name takes theirs, before. They are all of one user: whoever takes part could not open
//! the others' otherwise, nor remove them.

use crate::layout::Header;
use crate::sys::doorbell::Doorbell;
use crate::wait::Wait;
use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode};
use nix::unistd::geteuid;
use std::ops::Range;

/// The queues of the ring in one file.
#[derive(Clone, Copy)]
pub(crate) struct Queues {
    device: u64,
    inode: u64,
    owner: u32,
}

impl Queues {
    /// Those of `file`, if the ring in it has any.
    pub(crate) fn of(file: &FileStat, header: &Header) -> Option<Self> {
        (Wait::from_id(header.wait) == Some(Wait::MessageQueue)).then_some(Self {
            device: file.st_dev,
            inode: file.st_ino,
            owner: file.st_uid,
        })
    }

    /// The name of the queue by which participants from this index on are called.
    pub(crate) fn name(&self, index: u32) -> String {
        let Self { device, inode, .. } = self;
        format!("/ipc-ring.{device:x}-{inode:x}.{index}")
    }

    /// Opens the one by which these participants are called. EPERM if the ring is another user's.
    pub(crate) fn open(&self, called: &Range<u32>) -> Result<Doorbell, Errno> {
        if geteuid().as_raw() != self.owner {
            return Err(Errno::EPERM);
        }
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        Doorbell::open(&self.name(called.start), called.len() as u32, mode)
    }

    /// Takes the names away of the queues of `participants`.
    pub(crate) fn unlink(&self, participants: u32) {
        for index in 0..participants {
            // Most were never made.
            let _ = Doorbell::unlink(&self.name(index));
        }
    }
}
