//! What a side that spins does between two looks.

use std::{hint, thread};

/// What happens between two looks of one wait.
pub(crate) trait Idle: Default + 'static {
    fn idle(&mut self);
}

/// Nothing.
#[derive(Debug, Default)]
pub(crate) struct Busy;

/// A pause, as processors ask for.
#[derive(Debug, Default)]
pub(crate) struct Pause;

/// A pause, and at times the core is given away, for sides that share one.
#[derive(Debug, Default)]
pub(crate) struct Yield {
    looks: u32,
}

/// So many looks take about as long as two changes of the running side do.
const LOOKS: u32 = 128;

impl Idle for Busy {
    #[inline(always)]
    fn idle(&mut self) {}
}

impl Idle for Pause {
    #[inline(always)]
    fn idle(&mut self) {
        hint::spin_loop();
    }
}

impl Idle for Yield {
    #[inline(always)]
    fn idle(&mut self) {
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS) {
            thread::yield_now();
        } else {
            hint::spin_loop();
        }
    }
}
