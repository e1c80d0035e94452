//! Moments that nobody chose.

use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

/// A generator with a seed of its own: what is killed when is to differ from run to run.
#[derive(Debug)]
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0) | 1)
    }
}

impl Random {
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
