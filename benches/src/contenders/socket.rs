//! The kernel's Unix stream socket, one system call a message on either side.

use std::{marker::PhantomData, os::unix::net::UnixStream};

use anyhow::Result;

use super::bytes::{Mode, Whole};
use crate::contender::Channel;

/// A connected pair, used in one direction; its buffers are as large as the system makes them.
#[derive(Debug)]
pub(crate) struct Socket<W> {
    near: UnixStream,
    far: UnixStream,
    how: PhantomData<fn() -> W>,
}

impl<W: Mode> Channel for Socket<W> {
    type Sender<'a> = Whole<&'a UnixStream>;
    type Receiver<'a> = Whole<&'a UnixStream>;

    fn prepare() -> Result<Self> {
        let (near, far) = UnixStream::pair()?;
        near.set_nonblocking(W::SPINS)?;
        far.set_nonblocking(W::SPINS)?;
        Ok(Self {
            near,
            far,
            how: PhantomData,
        })
    }

    fn sender(&self) -> Result<Self::Sender<'_>> {
        Ok(Whole(&self.near))
    }

    fn receiver(&self) -> Result<Self::Receiver<'_>> {
        Ok(Whole(&self.far))
    }
}
