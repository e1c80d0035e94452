//! How long nothing has moved for somebody who never waits, and so never looks whether the dead are in the way.

use std::time::{Duration, Instant};

/// Where a side stood when it found nothing to do, and since when.
#[derive(Default)]
pub(super) struct Standstill(Option<(u64, Instant)>);

impl Standstill {
    /// There is nothing to do, at `position`. Whether it has been so for `patience`, from the first time on that this was said, or the
    /// last time that the answer was yes.
    pub(super) fn lasts(&mut self, position: u64, patience: Duration) -> bool {
        let now = Instant::now();
        let lasts = match self.0 {
            Some((at, since)) if at == position => {
                if now - since < patience {
                    return false;
                }
                true
            }
            _ => false,
        };
        self.0 = Some((position, now));
        lasts
    }
}
