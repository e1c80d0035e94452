//! Typed messages between processes on one machine, through lock-free rings in shared memory.
#![deny(missing_docs)]
#![cfg_attr(
    loom,
    allow(
        dead_code,
        unused_imports,
        reason = "the models run the protocols, not what is around them"
    )
)]

extern crate self as ipc_ring;

#[cfg(not(loom))]
mod channel;
#[cfg(not(loom))]
mod error;
mod fixed;
mod layout;
mod message;
#[cfg(all(test, loom))]
mod models;
mod participant;
mod ring;
mod schema;
mod segment;
mod sync;
mod sys;
mod wait;

#[cfg(not(loom))]
pub use channel::{
    Builder, Drain, Iter, Kind, Peer, Receiver, Reservation, Sender, Spsc, TryIter, Written,
    remove, remove_in, spsc,
};
#[cfg(not(loom))]
pub use error::{
    OpenError, RecvError, RecvTimeoutError, RemoveError, Role, SendError, SendTimeoutError,
    TryRecvError, TrySendError,
};
pub use fixed::*;
pub use ipc_ring_derive::ShmMessage;
pub use message::{Invalid, ShmMessage};
pub use schema::Schema;
pub use wait::Wait;

/// What the derive's output names; not for anybody else, and not stable.
#[doc(hidden)]
pub mod __private {
    pub use core;

    pub use crate::message::derive::*;
}
