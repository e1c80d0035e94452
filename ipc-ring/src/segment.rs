//! A segment: memory that holds one ring, from the moment it is created or found until it is unmapped.
//!
//! # Joining and removing
//!
//! A joiner opens the object, holds the lifecycle byte shared, sees that the object still has its name, checks
//! what it found, maps it through a description of its own, locks its participant byte through that, and lets
//! the lifecycle byte go. Whoever removes holds the lifecycle byte exclusively, sees that no participant byte is
//! held, and unlinks. So nobody ever joins a segment without a name, and none in use loses its name to us.
//!
//! Nothing that a peer can change later is used unchecked: the header is read once, into a private copy, by
//! `pread`, before anything is mapped.

#[cfg(not(loom))]
pub(crate) mod attach;
#[cfg(not(loom))]
mod doorbells;
#[cfg(test)]
pub(crate) mod heap;
#[cfg(not(loom))]
pub(crate) mod mapped;
#[cfg(not(loom))]
pub(crate) mod posix;

#[cfg(not(loom))]
use crate::layout::Alarm;
#[cfg(test)]
use crate::layout::Apart;
#[cfg(any(test, not(loom)))]
use crate::layout::Bell;
use crate::layout::Side;
#[cfg(test)]
use crate::sync::AtomicU64;
#[cfg(not(loom))]
use crate::sync::Ordering;
#[cfg(test)]
use crate::sys::futex::Futex;
#[cfg(not(loom))]
use crate::wait::alarm::Device;

impl Side {
    /// Gives the words of a new segment, which are zero, their first values. In place: a value of this type has gaps, and whatever
    /// happened to be in them would be copied for all peers to read.
    #[cfg(not(loom))]
    fn begin(&self, origin: u64) {
        let Self {
            position,
            attention,
            bell,
        } = self;
        let Bell {
            answered,
            futex,
            skipped,
        } = &bell.0;
        position.0.store(origin, Ordering::Relaxed);
        for word in [&attention.0, answered, skipped] {
            word.store(0, Ordering::Relaxed);
        }
        futex.begin();
    }

    /// A side whose first position is `origin`.
    #[cfg(test)]
    fn new(origin: u64) -> Self {
        Self {
            position: Apart(AtomicU64::new(origin)),
            attention: Apart(AtomicU64::new(0)),
            bell: Apart(Bell {
                answered: AtomicU64::new(0),
                futex: Futex::new(),
                skipped: AtomicU64::new(0),
            }),
        }
    }
}

#[cfg(all(test, loom))]
impl crate::layout::Alarm {
    pub(crate) fn new() -> Self {
        Self {
            waiting: crate::sync::AtomicU32::new(0),
            semaphore: crate::sys::semaphore::Semaphore::new(),
            condvar: crate::sys::condvar::Condvar::new(),
        }
    }
}

#[cfg(not(loom))]
impl Alarm {
    /// Makes what is needed of the alarm of a new segment, in place.
    fn begin(&self, device: Device) {
        self.waiting.store(0, Ordering::Relaxed);
        match device {
            Device::Condvar => self.condvar.begin(),
            Device::Semaphore => self.semaphore.begin(),
            // The kernel has it.
            Device::Doorbell => {}
        }
    }
}

/// The first stamp of the slot with this index: as of the position a lap before the first one that goes there.
fn first_stamp(origin: u64, capacity: u64, index: u64) -> u64 {
    let first = origin.wrapping_add(index.wrapping_sub(origin) & (capacity - 1));
    crate::ring::initial(first.wrapping_sub(capacity))
}
