//! The system's ways to wait, bare: a message in shared memory, and a signal that it is there. There is no ring: the next message
//! is written once the answer is here.

#![allow(unsafe_code)]

use std::{
    cell::UnsafeCell,
    marker::PhantomData,
    os::fd::{AsFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Release},
    },
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    mqueue::{MQ_OFlag, MqAttr, MqdT, mq_open, mq_receive, mq_send, mq_unlink},
    sys::{
        eventfd::{EfdFlags, EventFd},
        stat::Mode,
    },
    unistd::{read, write},
};

use crate::{
    contender::{Channel, Receive, Send},
    machine::{Line, Region},
    message::Message,
};

/// Says that a message is there, and waits for that, asleep.
pub(crate) trait Signal: Sync + Sized + 'static {
    /// Before the sides part. `line` is theirs, zero, and as long-lived as the result.
    fn prepare(line: NonNull<Line>) -> Result<Self>;

    /// Says that message number `position` is there.
    fn raise(&self, position: u32);

    /// Waits until that was said.
    fn wait(&self, position: u32);
}

/// A slot for one message, and a signal.
#[derive(Debug)]
pub(crate) struct Signalled<const WORDS: usize, S> {
    /// Dropped before the region that it is in.
    signal: S,
    region: Region,
}

/// One end of it.
#[derive(Debug)]
pub(crate) struct SignalledEnd<'a, const WORDS: usize, S> {
    signal: &'a S,
    payload: NonNull<Message<WORDS>>,
    position: u32,
    how: PhantomData<&'a Region>,
}

impl<const WORDS: usize, S: Signal> Signalled<WORDS, S> {
    fn end(&self) -> SignalledEnd<'_, WORDS, S> {
        SignalledEnd {
            signal: &self.signal,
            // SAFETY: `prepare` made room for a line and the payload behind it.
            payload: unsafe { self.region.as_ptr().add(1) }.cast(),
            position: 0,
            how: PhantomData,
        }
    }
}

impl<const WORDS: usize, S: Signal> Channel for Signalled<WORDS, S> {
    type Sender<'a> = SignalledEnd<'a, WORDS, S>;
    type Receiver<'a> = SignalledEnd<'a, WORDS, S>;

    fn prepare() -> Result<Self> {
        let region = Region::new(1 + Message::<WORDS>::BYTES.div_ceil(Line::BYTES))?;
        Ok(Self {
            signal: S::prepare(region.as_ptr())?,
            region,
        })
    }

    fn sender(&self) -> Result<Self::Sender<'_>> {
        Ok(self.end())
    }

    fn receiver(&self) -> Result<Self::Receiver<'_>> {
        Ok(self.end())
    }
}

impl<const WORDS: usize, S: Signal> Send<WORDS> for SignalledEnd<'_, WORDS, S> {
    #[inline(always)]
    fn send(&mut self, message: Message<WORDS>) {
        // SAFETY: in bounds and aligned; the receiver has answered the previous message, so it reads no more.
        unsafe { self.payload.write(message) };
        self.position = self.position.wrapping_add(1);
        self.signal.raise(self.position);
    }
}

impl<const WORDS: usize, S: Signal> Receive<WORDS> for SignalledEnd<'_, WORDS, S> {
    #[inline(always)]
    fn receive(&mut self) -> Message<WORDS> {
        self.position = self.position.wrapping_add(1);
        self.signal.wait(self.position);
        // SAFETY: in bounds and aligned; the sender writes no more before it has an answer.
        unsafe { self.payload.read() }
    }
}

/// `futex(2)`: a word that says the position, and one system call a side.
#[derive(Debug)]
pub(crate) struct Futex(NonNull<AtomicU32>);

// SAFETY: it points at an atomic in shared memory.
unsafe impl Sync for Futex {}

impl Futex {
    fn word(&self) -> &AtomicU32 {
        // SAFETY: as `prepare` was told; zero is a value of it.
        unsafe { self.0.as_ref() }
    }

    fn call(&self, operation: i32, value: u32) {
        let word = self.word().as_ptr();
        // Woken, changed and interrupted all mean "look again".
        // SAFETY: the word is valid; no timeout is read by either operation.
        unsafe { libc::syscall(libc::SYS_futex, word, operation, value, 0) };
    }
}

impl Signal for Futex {
    fn prepare(line: NonNull<Line>) -> Result<Self> {
        Ok(Self(line.cast()))
    }

    fn raise(&self, position: u32) {
        self.word().store(position, Release);
        self.call(libc::FUTEX_WAKE, 1);
    }

    fn wait(&self, position: u32) {
        loop {
            let seen = self.word().load(Acquire);
            if seen == position {
                return;
            }
            self.call(libc::FUTEX_WAIT, seen);
        }
    }
}

/// `sem_post(3)` and `sem_wait(3)`, shared between processes.
#[derive(Debug)]
pub(crate) struct Semaphore(NonNull<UnsafeCell<libc::sem_t>>);

// SAFETY: semaphores are made to be shared.
unsafe impl Sync for Semaphore {}

impl Semaphore {
    fn place(&self) -> *mut libc::sem_t {
        // SAFETY: as `prepare` was told.
        unsafe { self.0.as_ref() }.get()
    }
}

impl Signal for Semaphore {
    fn prepare(line: NonNull<Line>) -> Result<Self> {
        const { assert!(size_of::<libc::sem_t>() <= Line::BYTES) };
        let semaphore = Self(line.cast());
        // SAFETY: the line has room for it, and is nobody else's yet.
        let result = unsafe { libc::sem_init(semaphore.place(), 1, 0) };
        Errno::result(result).context("cannot make a semaphore")?;
        Ok(semaphore)
    }

    fn raise(&self, _: u32) {
        // SAFETY: it was initialised.
        unsafe { libc::sem_post(self.place()) };
    }

    fn wait(&self, _: u32) {
        // SAFETY: it was initialised. It fails if interrupted.
        while unsafe { libc::sem_wait(self.place()) } != 0 {}
    }
}

/// `eventfd(2)`.
#[derive(Debug)]
pub(crate) struct Event(OwnedFd);

impl Signal for Event {
    fn prepare(_: NonNull<Line>) -> Result<Self> {
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC)?;
        Ok(Self(event.into()))
    }

    fn raise(&self, _: u32) {
        write(&self.0, &1_u64.to_ne_bytes()).expect("an event can be written");
    }

    fn wait(&self, _: u32) {
        let mut count = [0; 8];
        while read(self.0.as_fd(), &mut count) == Err(Errno::EINTR) {}
    }
}

/// A POSIX message queue, which carries the message as well.
#[derive(Debug)]
pub(crate) struct Queue(MqdT);

/// One end of it.
#[derive(Debug)]
pub(crate) struct QueueEnd<'a>(&'a MqdT);

/// A message of this size and smaller ones.
const LONGEST: i64 = 8192;

impl Channel for Queue {
    type Sender<'a> = QueueEnd<'a>;
    type Receiver<'a> = QueueEnd<'a>;

    fn prepare() -> Result<Self> {
        let name = format!("/ipc-ring.benches.{}", std::process::id());
        let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR | MQ_OFlag::O_CLOEXEC;
        let attributes = MqAttr::new(0, 10, LONGEST, 0);
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let queue = mq_open(name.as_str(), flags, mode, Some(&attributes));
        let queue = queue.context("cannot make a message queue")?;
        mq_unlink(name.as_str())?;
        Ok(Self(queue))
    }

    fn sender(&self) -> Result<Self::Sender<'_>> {
        Ok(QueueEnd(&self.0))
    }

    fn receiver(&self) -> Result<Self::Receiver<'_>> {
        Ok(QueueEnd(&self.0))
    }
}

impl<const WORDS: usize> Send<WORDS> for QueueEnd<'_> {
    #[inline(always)]
    fn send(&mut self, message: Message<WORDS>) {
        mq_send(self.0, message.as_bytes(), 0).expect("a message fits");
    }
}

impl<const WORDS: usize> Receive<WORDS> for QueueEnd<'_> {
    #[inline(always)]
    fn receive(&mut self) -> Message<WORDS> {
        let mut bytes = [0; LONGEST as usize];
        let mut priority = 0;
        let length = mq_receive(self.0, &mut bytes, &mut priority).expect("a message comes");
        let mut message = Message::zeroed();
        message.as_bytes_mut().copy_from_slice(&bytes[..length]);
        message
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: nix does not close it, and nobody uses it any more.
        unsafe { libc::mq_close(std::os::fd::AsRawFd::as_raw_fd(&self.0)) };
    }
}
