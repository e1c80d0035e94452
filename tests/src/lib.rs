//! What the process tests share: a test that plays in several processes, the places it plays in, the traces
//! that it must not leave, and a look at single instructions.

mod child;
pub mod instruction;
mod random;
mod ring_name;
pub mod sandbox;
pub mod seccomp;
mod stage;
pub mod step;
pub mod traces;

pub use child::Child;
pub use random::Random;
pub use ring_name::RingName;
pub use stage::{Parent, Role, Stage, skip};
