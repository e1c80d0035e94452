//! A POSIX message queue as a doorbell: `mq_overview(7)`. It holds as many messages as there are who may have to hear it, or as the
//! system lets it, so the kernel knows whether it was rung.
//!
//! What it says is for people who look into the queue; that there is a message is all that counts.

use std::time::Duration;

/// A doorbell that this process has opened. Ringing it does not block.
pub(crate) struct Doorbell {
    /// Dropped by closing it, which it does not do by itself.
    #[cfg(not(loom))]
    queue: std::mem::ManuallyDrop<nix::mqueue::MqdT>,
    #[cfg(not(loom))]
    holds: u64,
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
    use super::{Doorbell, Duration};
    use nix::errno::Errno;
    use nix::mqueue::{
        MQ_OFlag, MqAttr, mq_attr_member_t, mq_getattr, mq_open, mq_receive, mq_send, mq_unlink,
    };
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::stat::{Mode, fchmod};
    use std::mem::ManuallyDrop;
    use std::os::fd::AsFd;

    /// The longest message, in bytes.
    const LONGEST: usize = 8;
    /// What every system allows, unless it was told otherwise (`fs.mqueue.msg_max`).
    const MOST_RINGS: u32 = 10;

    impl Doorbell {
        /// Opens the doorbell of that name, which begins with a slash and has no other; makes it, for so many who may hear it, if
        /// there is none.
        pub(crate) fn open(name: &str, hearers: u32, mode: Mode) -> Result<Self, Errno> {
            let flags =
                MQ_OFlag::O_CREAT | MQ_OFlag::O_RDWR | MQ_OFlag::O_NONBLOCK | MQ_OFlag::O_CLOEXEC;
            let open = |rings: u32| {
                let attributes = MqAttr::new(0, rings.into(), LONGEST as mq_attr_member_t, 0);
                mq_open(name, flags, mode, Some(&attributes))
            };
            let queue = match open(hearers) {
                Err(Errno::EINVAL) => open(MOST_RINGS)?,
                opened => opened?,
            };
            let holds = mq_getattr(&queue).map_or(0, |attributes| attributes.maxmsg());
            let holds = u64::try_from(holds).unwrap_or(0);
            // Whatever the umask took; if it is another user's, it has been said there.
            let _ = fchmod(queue.as_fd(), mode);
            Ok(Self {
                queue: ManuallyDrop::new(queue),
                holds,
            })
        }

        /// Takes the name away. Who has it open still hears it.
        pub(crate) fn unlink(name: &str) -> Result<(), Errno> {
            mq_unlink(name)
        }

        /// How many rings it holds.
        pub(crate) fn holds(&self) -> u64 {
            self.holds
        }

        /// Says `what`, which has 8 bytes at most, to one who hears it. False if it was rung as often as it can be and not heard
        /// yet.
        pub(crate) fn ring(&self, what: &str) -> bool {
            // Full is what EAGAIN says; nothing else is said of a queue that is open.
            mq_send(&self.queue, what.as_bytes(), 0).is_ok()
        }

        /// Takes back that it was rung. Whether it was.
        pub(crate) fn hush(&self) -> bool {
            let mut what = [0; LONGEST];
            let mut priority = 0;
            mq_receive(&self.queue, &mut what, &mut priority).is_ok()
        }

        /// Waits until it is rung, and takes that, for `timeout` at most. May return for no reason.
        pub(crate) fn wait(&self, timeout: Duration) {
            let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
            let mut rung = [PollFd::new(self.queue.as_fd(), PollFlags::POLLIN)];
            // Rung, interrupted and timed out all mean "look again".
            let _ = poll(&mut rung, timeout);
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
    use super::{Doorbell, Duration, Queue};
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

        pub(crate) fn holds(&self) -> u64 {
            self.model.most.into()
        }

        pub(crate) fn ring(&self, _: &str) -> bool {
            let mut rings = self.model.rings.lock().unwrap();
            let has_room = *rings < self.model.most;
            *rings += u32::from(has_room);
            self.model.rung.notify_one();
            has_room
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
