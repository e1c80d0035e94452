//! Deadlines for calls of the C library that wait until a time, and not for one.
#![allow(unsafe_code, reason = "reading a clock as those calls count")]

use std::time::Duration;

/// The clock by which those calls count here.
pub(crate) const ID: libc::clockid_t = libc::CLOCK_MONOTONIC;

const NANOSECONDS: i64 = 1_000_000_000;

/// The time by that clock in `timeout` from now on.
pub(crate) fn deadline(timeout: Duration) -> libc::timespec {
    deadline_by(ID, timeout)
}

/// The same by another clock.
pub(crate) fn deadline_by(clock: libc::clockid_t, timeout: Duration) -> libc::timespec {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the place is valid for a time; it fails only for a clock that does not exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let nanoseconds = time.tv_nsec + i64::from(timeout.subsec_nanos());
    let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
    let carry = nanoseconds / NANOSECONDS;
    let seconds = time.tv_sec.saturating_add(seconds).saturating_add(carry);
    time.tv_sec = libc::time_t::try_from(seconds).unwrap_or(libc::time_t::MAX);
    time.tv_nsec = (nanoseconds % NANOSECONDS) as libc::c_long;
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_lies_in_the_future_by_as_much_as_was_asked_for() {
        let [now, then] = [Duration::ZERO, Duration::new(3, 999_999_999)].map(|timeout| {
            let time = deadline(timeout);
            assert!((0..NANOSECONDS).contains(&time.tv_nsec));
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        });
        assert!(then - now >= Duration::new(3, 999_999_999));
        assert!(then - now < Duration::from_secs(60));
    }

    #[test]
    fn for_ever_is_the_end_of_time() {
        assert_eq!(deadline(Duration::MAX).tv_sec, libc::time_t::MAX);
    }
}
