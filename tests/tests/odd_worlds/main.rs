//! Processes that die, or seem to, in unusual ways: who dies is told as dead, who lives is not, and nobody else is harmed.
//!
//! Each world is played for each kind of ring, by a sender and by a receiver that end in the middle of something. What must
//! hold for those who go on is the same in all of them, and stands in [`survivors`].

mod dumps;
mod execs;
mod forks;
mod memory;
mod namespaces;
mod survivors;
mod threads;
mod vforks;
mod victim;
mod zombies;
