//! Typed messages between processes on one machine, through rings in POSIX shared memory.
//!
//! Derive a message, name a ring in two programs, send and receive:
//!
//! ```
//! use ipc_ring::ShmMessage;
//!
//! #[derive(ShmMessage)]
//! #[repr(C)]
//! struct Tick {
//!     time: u64,
//!     price: f64,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let name = format!("doc-crate-{}", std::process::id());
//! # let name = name.as_str();
//! // In one program:
//! let mut tx = ipc_ring::spsc::<Tick>(name).capacity(4096).sender()?;
//! tx.send(Tick { time: 1, price: 99.5 })?;
//!
//! // In the other:
//! let mut rx = ipc_ring::spsc::<Tick>(name).receiver()?;
//! # drop(tx);
//! for tick in &mut rx {
//!     println!("{} {}", tick.time, tick.price);
//! }
//! # drop(rx);
//! # ipc_ring::remove(name)?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it is
//!
//! - **One cache line per message.** A message of up to 56 bytes and the stamp that publishes it share a line. Sending and
//!   receiving make no system call and allocate nothing while the other side is awake and there is room or a message.
//! - **Kill anything, any time.** A process that is killed at any instruction costs at most the messages of the one call
//!   that it was in, and holds up nobody. The other side is told by [`recv`](Receiver::recv) and [`send`](Sender::send), and
//!   a successor goes on where the dead one ended. Who is alive is the kernel's word: a lock that a mapping holds, no pid and
//!   no heartbeat. [What happens when a process dies](when_a_process_dies) says it moment by moment, with the tests that
//!   show it.
//! - **A ring explains itself.** The segment carries the message's [`Schema`]; two programs that disagree hear about the
//!   first field that differs, from both views.
//!
//! # What it is not
//!
//! It is not a queue for threads ([`rtrb`](https://docs.rs/rtrb) is a good one), not a log that several readers replay, and
//! not for messages that own anything: no `String`, `Vec`, `Box` or reference; [`FixedStr`] and [`FixedVec`] stand in. It
//! does not cross machines or kernels. A message has one receiver; for several senders, or receivers that share the work, there are
//! other kinds of ring, below.
//!
//! A ring is for processes that trust each other with its contents: whoever may open it can write into it. What a peer writes
//! there can lose or corrupt messages; it can't make this library read out of bounds or hand out a value that its type does
//! not have. (Except where the C library's mutexes, semaphores or condition variables are in the ring, which trust what they find:
//! [`locked`], [`Wait`].) A peer can also truncate the object, and then the next access ends the process by SIGBUS, as with any shared
//! file.
//!
//! # Which ring
//!
//! | | senders | receivers | order | a process that is stopped in the middle of a message | a send costs | slots |
//! |---|---|---|---|---|---|---|
//! | [`spsc`] | one | one | as sent | holds up nobody else | no read-modify-write | capacity |
//! | [`mpsc`] | up to 1,023 | one | one order of all messages | holds up what others send after it | one read-modify-write | capacity |
//! | [`lanes`] | up to 1,023 | one | of each sender's messages | holds up nobody else | no read-modify-write | capacity × `max_senders` |
//! | [`locked`] | several, together up to 1,024 | several | one order of all messages | holds up nobody else, but in the few instructions with the mutex held, everybody | a mutex, twice | capacity |
//!
//! For one sender, take `spsc`. For several, take `lanes`; take `mpsc` if messages of different senders must arrive in the
//! order in which they were sent, or if a lane for each sender takes too much memory. For several receivers that share the work, take
//! `locked`. (It also stands in for `spsc` and `mpsc` where there are no lock-free atomics of 64 bits, which the processors that are
//! supported so far have; or if the library is built with `--cfg ipc_ring_locked`. The segment says so, and programs that were built
//! otherwise hear of it.) Millions of messages a second, on two
//! cores, the receiver on one of them (medians; intervals and rivals in the README):
//!
//! | | spsc | mpsc | lanes |
//! |---|---|---|---|
//! | 1 sender, 8 bytes | 225 | 202 | 212 |
//! | 4 senders, 8 bytes | – | 145 | 209 |
//! | 1 sender, 56 bytes | 102 | 24 | 101 |
//! | 4 senders, 56 bytes | – | 25 | 102 |
//!
//! `cargo run --release -p ipc-ring-benches -- --only many-senders` measures them. `mpsc` loses where each message has a line
//! of its own: claiming a slot waits for that line, where a store does not. With more cores that send, its claims meet, and
//! lanes' don't.
//!
//! # Which way to wait
//!
//! [`Builder::wait`] says how all sides of a ring wait. While nobody sleeps, all ways are the same: the stamp of the next message is
//! polled, and no system call is made.
//!
//! | | for whom | a round trip asleep | killed at any instruction |
//! |---|---|---|---|
//! | [`Spin`](Wait::Spin) | sides that have a core each, and answers that must not take a microsecond | – | yes |
//! | [`Yield`](Wait::Yield) | more sides than cores, and none may sleep | – | yes |
//! | [`Futex`](Wait::Futex) | everybody else, so it is what you get | 6.8 µs | yes |
//! | [`Semaphore`](Wait::Semaphore) | who has to use POSIX; as fast | 6.7 µs | yes |
//! | [`MessageQueue`](Wait::MessageQueue) | who wants to see the rings in a queue (`/dev/mqueue`) | 9.5 µs | yes |
//! | [`Condvar`](Wait::Condvar) | who has to use POSIX, and whose processes are not killed | 10.9 µs | no |
//!
//! Bare, a futex takes 5.0 µs for the same, a semaphore 4.8, an eventfd 5.0, a pipe 5.5, a message queue 7.0 and a Unix socket 9.0:
//! medians, both sides on one core of a virtual machine, so that each must sleep until the message comes, and with
//! [`poll_before_sleep`](Builder::poll_before_sleep) of zero; by `cargo run --release -p ipc-ring-benches -- --only blocking/8`. On
//! a core each, two sides that poll for ten microseconds before they sleep mostly don't come to it.
//!
//! A sleep is sliced, and each slice looks at the ring and at who lives (50 ms at first, 200 ms later), whatever the way to wait: no
//! message waits for a wake that a killed process owed.
//!
//! # Ordering
//!
//! Messages of one sender arrive in the order in which they were sent. In `mpsc`, a message that was sent before another
//! one was begun arrives before it, whoever sent them. Whatever a sender did before it sent a message happens before what
//! the receiver does after it received that message, in the sense of C++20's memory model, and likewise a slot that is
//! given back happens before its next use. (A message is begun when its place is taken: by [`reserve`](Sender::reserve), if
//! it is written in place.)
//!
//! # Leaving, exiting, forking
//!
//! Dropping a handle is leaving. `std::process::exit` and signals run no drop: the other side then hears of a death, and
//! [`remove_when_idle`](Builder::remove_when_idle) does nothing. A forked child has no part in its parent's rings: no
//! call on a handle that it inherited sends or receives, and those that would say `Forked`. It may open rings of its own.
//!
//! # Limits and systems
//!
//! Messages have 1 byte to 64 KiB and an alignment of up to 64 bytes. Linux from 5.4 on with glibc from 2.30 on, on x86-64 and
//! aarch64.
//! The feature `serde` lets [`FixedStr`] and [`FixedVec`] be serialized.
#![deny(missing_docs)]
#![cfg_attr(
    loom,
    allow(
        dead_code,
        unused_imports,
        reason = "the models run the protocols, not what is around them"
    )
)]
#![cfg_attr(
    ipc_ring_locked,
    allow(
        dead_code,
        unused_imports,
        reason = "locked rings stand in for some of it"
    )
)]

extern crate self as ipc_ring;

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64",
)))]
compile_error!("ipc-ring needs Linux with glibc on x86-64 or aarch64, with 64-bit pointers");

#[cfg(not(loom))]
mod channel;
#[cfg(not(loom))]
mod error;
mod fixed;
mod layout;
mod message;
#[cfg(all(test, loom, not(shuttle)))]
mod models;
mod participant;
mod ring;
mod schema;
mod segment;
#[cfg(all(test, shuttle))]
mod shuttles;
mod sync;
mod sys;
mod wait;

#[cfg(not(loom))]
pub use channel::{
    Builder, Counters, Drain, Iter, Kind, Lanes, Locked, ManyReceivers, ManySenders, Mpsc,
    Participant, Peer, Receiver, Reservation, Sender, Spsc, State, TotalOrder, TryIter, Written,
    lanes, locked, mpsc, remove, remove_in, spsc,
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

#[doc = include_str!("../docs/when-a-process-dies.md")]
pub mod when_a_process_dies {}

/// What the derive's output names; not for anybody else, and not stable.
#[doc(hidden)]
pub mod __private {
    pub use core;

    pub use crate::message::derive::*;
}
