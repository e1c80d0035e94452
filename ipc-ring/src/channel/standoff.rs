//! Letting the other side get ahead.
//!
//! A receiver that has caught up polls the very line that the sender is filling, and each poll takes that line away
//! from it: both then move at the pace of the line's transfers. So after a run of several messages the receiver looks
//! away for a moment, and finds several lines full afterwards. The same holds for a sender that has filled the ring
//! and polls `head`, which moves with every message received.
//!
//! The moment is paid for by the last message of a burst. So it is a gamble that is only made after a run, and every
//! loss doubles the number of chances that are let pass before the next one: a ping-pong of bursts soon stops making it,
//! a stream goes on winning it.

use crate::sync::spin_loop;
use std::time::{Duration, Instant};

/// How long to look away: some transfers of a line.
const MOMENT: Duration = Duration::from_nanos(200);
/// A shorter run is not the end of a stream.
const RUN: u64 = 4;
/// The sender must get ahead by so many messages for the moment to have been worth it.
const GAIN: u64 = 8;
/// No more chances than these are let pass.
const MOST_PASSED: u32 = 1 << 10;

/// One side's gambling record.
#[derive(Default)]
pub(super) struct StandOff {
    /// Where we had caught up the last time.
    caught_up: u64,
    /// Chances to let pass before the next gamble.
    pass: u32,
    /// So many were let pass before the last one.
    passed: u32,
}

impl StandOff {
    /// The side at `position` has caught up. True if that ends a run, so that standing off may pay.
    #[inline(always)]
    pub(super) fn caught_up(&mut self, position: u64) -> bool {
        let run = position.wrapping_sub(self.caught_up);
        self.caught_up = position;
        run >= RUN
    }

    /// Looks away for a moment, unless that did not pay lately. `ahead` says whether the other side is ahead by a number of
    /// messages.
    #[cold]
    pub(super) fn gamble(&mut self, ahead: impl FnOnce(u64) -> bool) {
        if self.pass > 0 {
            self.pass -= 1;
            return;
        }
        look_away();
        self.passed = match ahead(GAIN) {
            true => 0,
            false => (self.passed * 2).clamp(1, MOST_PASSED),
        };
        self.pass = self.passed;
    }
}

/// Lets a moment pass by the clock: how long a pause instruction takes differs by a factor of ten among processors.
pub(super) fn look_away() {
    let begun = Instant::now();
    while begun.elapsed() < MOMENT {
        spin_loop();
    }
}
