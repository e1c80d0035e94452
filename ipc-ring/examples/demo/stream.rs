//! Phase 4: a file, from one process to another.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use anyhow::Context;
use ipc_ring::{FixedVec, RecvError, ShmMessage};
use serde::{Deserialize, Serialize};

use crate::report::{Received, Sent};
use crate::rings;
use crate::sample::now_ns;
use crate::sequence::Sequence;

const RING: &str = "file";

/// What fits a message beside its number and its length.
const BLOCK: usize = 4096 - size_of::<u64>() - size_of::<u16>();

/// A piece of a file; the message is one page, as long as the piece may be.
#[derive(Clone, Copy, ShmMessage)]
#[repr(C)]
pub(crate) struct Block {
    sequence: u64,
    bytes: FixedVec<u8, BLOCK>,
}

const _: () = assert!(size_of::<Block>() == 4096);

#[derive(Serialize, Deserialize)]
pub(crate) struct FileSent {
    pub(crate) sent: Sent,
    pub(crate) bytes: u64,
    pub(crate) checksum: u32,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct FileReceived {
    pub(crate) received: Received,
    pub(crate) bytes: u64,
    pub(crate) checksum: u32,
}

/// Length and checksum of what passes.
#[derive(Default)]
struct Digest {
    bytes: u64,
    crc: crc32fast::Hasher,
}

impl Digest {
    fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.crc.update(bytes);
    }
}

pub(crate) fn send(namespace: &str, path: &Path) -> anyhow::Result<FileSent> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    // A MiB of blocks in flight: what a core's own cache still holds.
    let ring = ipc_ring::spsc(RING).namespace(namespace).capacity(256);
    let mut tx = rings::sender(rings::made(ring))?;
    let mut digest = Digest::default();
    let mut block = Block {
        sequence: 0,
        bytes: [0; BLOCK].into(),
    };
    let started_ns = now_ns();
    while block.bytes.is_full() {
        let len = fill(&mut block.bytes, &mut file)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if len == 0 {
            break;
        }
        // Only the last block is shorter.
        block.bytes.truncate(len);
        digest.update(&block.bytes);
        // By reference: a message this large is worth not copying it on the way to `send`.
        tx.send_ref(&block)?;
        block.sequence += 1;
    }
    let sent = Sent {
        messages: block.sequence,
        started_ns,
    };
    Ok(FileSent {
        sent,
        bytes: digest.bytes,
        checksum: digest.crc.finalize(),
    })
}

/// Reads until `buffer` is full or the file ends, and returns how much that was.
fn fill(buffer: &mut [u8], file: &mut impl Read) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

pub(crate) fn receive(namespace: &str) -> anyhow::Result<FileReceived> {
    let mut rx = rings::receiver(ipc_ring::spsc::<Block>(RING).namespace(namespace))?;
    let mut digest = Digest::default();
    let mut sequence = Sequence::default();
    loop {
        match rx.recv() {
            Ok(block) => {
                sequence.observe(block.sequence);
                digest.update(&block.bytes);
            }
            Err(RecvError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let received = Received::new(&sequence);
    Ok(FileReceived {
        received,
        bytes: digest.bytes,
        checksum: digest.crc.finalize(),
    })
}
