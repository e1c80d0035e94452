//! Thin safe wrappers of what the system offers. Nothing in here knows about rings.

pub(crate) mod futex;
pub(crate) mod membarrier;

#[cfg(not(loom))]
pub(crate) mod fork;
#[cfg(not(loom))]
pub(crate) mod lock;
#[cfg(not(loom))]
pub(crate) mod map;
#[cfg(not(loom))]
pub(crate) mod process;
