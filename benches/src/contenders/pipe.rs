//! The kernel's pipe, one system call a message on either side.

use std::{
    io::{self, PipeReader, PipeWriter},
    marker::PhantomData,
};

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::bytes::{Mode, Whole};
use crate::contender::Channel;

/// As much as an unprivileged process may ask for.
const BYTES: i32 = 1 << 20;

/// A pipe whose ends wait as `W` says.
#[derive(Debug)]
pub(crate) struct Pipe<W> {
    reader: PipeReader,
    writer: PipeWriter,
    how: PhantomData<fn() -> W>,
}

impl<W: Mode> Channel for Pipe<W> {
    type Sender<'a> = Whole<&'a PipeWriter>;
    type Receiver<'a> = Whole<&'a PipeReader>;

    fn prepare() -> Result<Self> {
        let (reader, writer) = io::pipe()?;
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(BYTES)).context("cannot enlarge a pipe")?;
        if W::SPINS {
            fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Self {
            reader,
            writer,
            how: PhantomData,
        })
    }

    fn sender(&self) -> Result<Self::Sender<'_>> {
        Ok(Whole(&self.writer))
    }

    fn receiver(&self) -> Result<Self::Receiver<'_>> {
        Ok(Whole(&self.reader))
    }
}
