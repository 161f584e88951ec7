//! The clock of our writes.

use crate::Now;
use crate::wire::MAX_CLOCK;

/// How far a machine's clock may have been ahead: two centuries, for one that starts before our time.
const MAX_AHEAD_MS: u64 = 200 * 365 * 24 * 3600 * 1000;

/// Counts milliseconds from our generation, which is about the time of day, and steps ahead of
/// whatever it must be later than.
#[derive(Debug)]
pub(super) struct Clock {
    generation: u64,
    started: Now,
    last: u64,
}

impl Clock {
    pub(super) fn new(generation: u64, now: Now) -> Self {
        Self {
            generation,
            started: now,
            last: 0,
        }
    }

    /// Whether an earlier life's clock may have come so far.
    pub(super) fn could_have_shown(&self, now: Now, seen: u64) -> bool {
        let elapsed = u64::try_from((now - self.started).as_millis()).unwrap_or(u64::MAX);
        let ours = self.generation.saturating_add(elapsed).max(self.last);
        seen <= ours.saturating_add(MAX_AHEAD_MS)
    }

    /// A time later than all given out before, and than `seen`.
    pub(super) fn tick(&mut self, now: Now, seen: u64) -> u64 {
        let elapsed = u64::try_from((now - self.started).as_millis()).unwrap_or(u64::MAX);
        self.last = self
            .generation
            .saturating_add(elapsed)
            .max(self.last.saturating_add(1))
            .max(seen.saturating_add(1))
            .min(MAX_CLOCK);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_time_and_never_repeats() {
        let mut clock = Clock::new(1000, Now::from_micros(5_000_000));
        assert_eq!(clock.tick(Now::from_micros(5_000_000), 0), 1000);
        assert_eq!(clock.tick(Now::from_micros(5_000_000), 0), 1001);
        assert_eq!(clock.tick(Now::from_micros(7_000_000), 0), 3000);
        assert_eq!(clock.tick(Now::from_micros(7_000_000), 9000), 9001);
        assert_eq!(clock.tick(Now::from_micros(6_000_000), 0), 9002);
    }
    #[test]
    fn a_clock_that_ours_cannot_have_been_is_not_followed() {
        let mut clock = Clock::new(1_764_000_000_000, Now::from_micros(0));
        let now = Now::from_micros(1);
        assert!(clock.could_have_shown(now, 1_764_000_000_000 + 100 * 365 * 24 * 3_600_000));
        assert!(!clock.could_have_shown(now, MAX_CLOCK));
        assert!(clock.tick(now, 0) < MAX_CLOCK);
    }
}
