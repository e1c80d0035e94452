//! A POSIX message queue as a doorbell: `mq_overview(7)`. It holds as many messages as there are who may have to hear it, so the
//! kernel knows whether it was rung.
//!
//! What it says is for people who look into the queue; that there is a message is all that counts.

use std::time::Duration;

/// What came of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rung {
    /// It will be heard by one who waits.
    Heard,
    /// It was rung as often as it can be and not heard yet: all who wait will hear it.
    Full,
    /// The system refuses.
    #[cfg_attr(loom, allow(dead_code, reason = "a model does not refuse"))]
    Failed,
}

/// A doorbell that this process has opened. Ringing it does not block.
pub(crate) struct Doorbell {
    /// Dropped by closing it, which it does not do by itself.
    #[cfg(not(loom))]
    queue: std::mem::ManuallyDrop<nix::mqueue::MqdT>,
    #[cfg(loom)]
    model: std::sync::Arc<Queue>,
}

/// The queue of a model.
#[cfg(loom)]
pub(crate) struct Queue {
    rings: crate::sync::Mutex<u32>,
    most: u32,
    rung: crate::sync::Condvar,
}

#[cfg(not(loom))]
mod real {
    use super::{Doorbell, Duration, Rung};
    use nix::errno::Errno;
    use nix::mqueue::{
        MQ_OFlag, MqAttr, mq_attr_member_t, mq_getattr, mq_open, mq_receive, mq_send, mq_unlink,
    };
    use nix::poll::{PollFd, PollFlags, ppoll};
    use nix::sys::stat::Mode;
    use nix::sys::time::TimeSpec;
    use std::mem::ManuallyDrop;
    use std::os::fd::AsFd;

    /// The longest message, in bytes.
    const LONGEST: usize = 8;

    impl Doorbell {
        /// Opens the doorbell of that name, which begins with a slash and has no other; makes it, for so many who may hear it, if
        /// there is none. EINVAL if the system allows for fewer; EMSGSIZE if what is there is something else.
        pub(crate) fn open(name: &str, hearers: u32, mode: Mode) -> Result<Self, Errno> {
            let flags =
                MQ_OFlag::O_CREAT | MQ_OFlag::O_RDWR | MQ_OFlag::O_NONBLOCK | MQ_OFlag::O_CLOEXEC;
            let attributes = MqAttr::new(0, hearers.into(), LONGEST as mq_attr_member_t, 0);
            let queue = Self {
                queue: ManuallyDrop::new(mq_open(name, flags, mode, Some(&attributes))?),
            };
            let found = mq_getattr(&queue.queue)?;
            if found.maxmsg() < mq_attr_member_t::from(hearers)
                || found.msgsize() != attributes.msgsize()
            {
                return Err(Errno::EMSGSIZE);
            }
            Ok(queue)
        }

        /// Takes the name away. Who has it open still hears it.
        pub(crate) fn unlink(name: &str) -> Result<(), Errno> {
            mq_unlink(name)
        }

        /// Says `what`, which has 8 bytes at most, to one who hears it.
        pub(crate) fn ring(&self, what: &str) -> Rung {
            match mq_send(&self.queue, what.as_bytes(), 0) {
                Ok(()) => Rung::Heard,
                Err(Errno::EAGAIN) => Rung::Full,
                Err(_) => Rung::Failed,
            }
        }

        /// Takes back that it was rung. Whether it was.
        pub(crate) fn hush(&self) -> bool {
            let mut what = [0; LONGEST];
            let mut priority = 0;
            mq_receive(&self.queue, &mut what, &mut priority).is_ok()
        }

        /// Waits until it is rung, and takes that, for `timeout` at most. May return for no reason.
        pub(crate) fn wait(&self, timeout: Duration) {
            let mut rung = [PollFd::new(self.queue.as_fd(), PollFlags::POLLIN)];
            // Rung, interrupted and timed out all mean "look again".
            let _ = ppoll(&mut rung, Some(TimeSpec::from_duration(timeout)), None);
            self.hush();
        }
    }
}

#[cfg(not(loom))]
#[allow(
    unsafe_code,
    reason = "nix does not close queues when they are dropped"
)]
impl Drop for Doorbell {
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let queue = unsafe { std::mem::ManuallyDrop::take(&mut self.queue) };
        // It fails for no descriptor that is open.
        let _ = nix::mqueue::mq_close(queue);
    }
}

#[cfg(loom)]
mod model {
    use super::{Doorbell, Duration, Queue, Rung};
    use crate::sync::{Condvar, Mutex};
    use std::sync::Arc;

    impl Queue {
        pub(crate) fn new(most: u32) -> Self {
            Self {
                rings: Mutex::new(0),
                most,
                rung: Condvar::new(),
            }
        }
    }

    impl Doorbell {
        pub(crate) fn of(queue: Arc<Queue>) -> Self {
            Self { model: queue }
        }

        pub(crate) fn ring(&self, _: &str) -> Rung {
            let mut rings = self.model.rings.lock().unwrap();
            if *rings == self.model.most {
                return Rung::Full;
            }
            *rings += 1;
            self.model.rung.notify_one();
            Rung::Heard
        }

        pub(crate) fn hush(&self) -> bool {
            let mut rings = self.model.rings.lock().unwrap();
            let was_rung = *rings > 0;
            *rings -= u32::from(was_rung);
            was_rung
        }

        /// Waits without a timeout, so that a ring that never comes is a deadlock, which is reported.
        pub(crate) fn wait(&self, _: Duration) {
            let mut rings = self.model.rings.lock().unwrap();
            while *rings == 0 {
                rings = self.model.rung.wait(rings).unwrap();
            }
            *rings -= 1;
        }
    }
}
