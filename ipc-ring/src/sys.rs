//! Thin safe wrappers of what the system offers. Nothing in here knows about rings.

pub(crate) mod condvar;
pub(crate) mod doorbell;
pub(crate) mod futex;
pub(crate) mod membarrier;
#[cfg_attr(not(loom), allow(dead_code))]
pub(crate) mod mutex;
pub(crate) mod semaphore;

#[cfg(not(loom))]
pub(crate) mod clock;
#[cfg(not(loom))]
pub(crate) mod fork;
#[cfg(not(loom))]
pub(crate) mod lock;
#[cfg(not(loom))]
pub(crate) mod map;
#[cfg(not(loom))]
pub(crate) mod process;
