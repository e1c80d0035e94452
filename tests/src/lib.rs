//! What the process tests share: a test that plays in several processes, the places it plays in, the traces
//! that it must not leave, and a look at single instructions.

mod child;
mod forked;
mod idle;
pub mod instruction;
mod kinds;
mod nursery;
mod random;
mod ring_name;
pub mod sandbox;
mod says;
pub mod seccomp;
mod seize;
mod stage;
pub mod step;
pub mod traces;
mod words;

pub use child::{Child, sleeps_of, state_of};
pub use forked::forked;
pub use idle::idle;
pub use kinds::{AnyKind, Several};
pub use nursery::{Fork, Nursery};
pub use random::Random;
pub use ring_name::RingName;
pub use says::says;
pub use seize::seize;
pub use stage::{Parent, Role, Stage, allow_time, program, skip};
pub use words::Words;
