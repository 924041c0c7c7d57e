//! The seam to whatever tells the time.

#![cfg_attr(not(feature = "budget"), allow(dead_code))]

use core::fmt;
use core::time::Duration;

/// Tells the time; needed only for a budget of time.
///
/// A clock that jumps ahead ends tokens or answers early, one that jumps back or stands still lets
/// them take longer; no clock makes a token deeper than its other bounds allow, or shallower than
/// the minimum depth.
pub trait Clock: fmt::Debug + Sync {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;
}

/// Nanoseconds of a second.
const SECOND: u32 = 1_000_000_000;

/// Time from `earlier` to `later`, none if that is the other way round. It stands in for
/// `Duration::saturating_sub`, which leaves in an image a panic that cannot happen.
pub(crate) fn between(earlier: Duration, later: Duration) -> Duration {
    let (now, then) = (later.subsec_nanos(), earlier.subsec_nanos());
    let borrowed = u32::from(now < then);
    let seconds = later.as_secs().checked_sub(earlier.as_secs());
    let seconds = seconds.and_then(|seconds| seconds.checked_sub(borrowed.into()));
    let nanoseconds = (now + borrowed * SECOND).wrapping_sub(then);
    seconds.map_or(Duration::ZERO, |seconds| Duration::new(seconds, nanoseconds % SECOND))
}

/// Both together; in place of `Duration::saturating_add` for the same reason.
pub(crate) fn together(a: Duration, b: Duration) -> Duration {
    let nanoseconds = a.subsec_nanos() + b.subsec_nanos();
    let seconds = a.as_secs().saturating_add(b.as_secs());
    Duration::new(seconds.saturating_add((nanoseconds / SECOND).into()), nanoseconds % SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_core_does_it() {
        let times = [0, 1, 999_999_999, 1_000_000_000, 1_000_000_001, 86_400_000_000_000, u64::MAX / 2 - 1];
        for (a, b) in
            times.iter().flat_map(|a| times.map(|b| (Duration::from_nanos(*a), Duration::from_nanos(b))))
        {
            assert_eq!(between(a, b), b.saturating_sub(a));
            assert_eq!(together(a, b), a.saturating_add(b));
        }
        assert_eq!(together(Duration::MAX, Duration::MAX).as_secs(), u64::MAX);
    }
}
