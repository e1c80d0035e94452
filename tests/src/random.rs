//! Moments that nobody chose.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

/// A generator with a seed of its own: what is killed when is to differ from run to run.
#[derive(Debug)]
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self::of_seed(RandomState::new().hash_one(0))
    }
}

impl Random {
    /// The generator that makes the same choices each time.
    pub fn of_seed(seed: u64) -> Self {
        // Never 0, where it would stay.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A seed for [`of_seed`](Self::of_seed): what the environment's `IPC_RING_SEED` says, or a new one.
    ///
    /// # Panics
    ///
    /// If it says no number.
    pub fn seed() -> u64 {
        match env::var("IPC_RING_SEED") {
            Ok(seed) => seed.parse().expect("IPC_RING_SEED is a number"),
            Err(_) => RandomState::new().hash_one(0),
        }
    }

    /// A number below `bound`, by Marsaglia's xorshift.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// A time below `bound`.
    pub fn time(&mut self, bound: Duration) -> Duration {
        Duration::from_nanos(self.below(bound.as_nanos() as u64))
    }

    /// Lets a time below `bound` pass.
    pub fn pause(&mut self, bound: Duration) {
        let until = Instant::now() + self.time(bound);
        while Instant::now() < until {
            thread::yield_now();
        }
    }
}
