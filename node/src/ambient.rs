//! The only place that reads a clock or draws chance.
//!
//! Everything else is told the time and handed a seed, so it can be run again exactly as it ran.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use dfnode_gossip::Now;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

/// The process's monotonic clock; all parts share its origin.
#[derive(Clone, Copy, Debug)]
pub struct Clock;

impl Clock {
    /// The time since the clock was first asked.
    ///
    /// It is tokio's clock, so a test that pauses tokio's time pauses this one too.
    pub fn now() -> Now {
        let passed = Instant::now().saturating_duration_since(origin());
        Now::from_micros(u64::try_from(passed.as_micros()).unwrap_or(u64::MAX))
    }

    /// The moment `at` for tokio's `sleep_until`.
    pub fn instant(at: Now) -> Instant {
        let origin = origin();
        origin
            .checked_add(Duration::from_micros(at.as_micros()))
            .unwrap_or_else(|| origin + FAR_FUTURE)
    }
}

/// What tokio itself takes for "never".
const FAR_FUTURE: Duration = Duration::from_hours(30 * 365 * 24);

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// Milliseconds since 1970, as far as the host knows. It may step back; zero before 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |passed| {
            u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
        })
}

/// Bytes that nobody can guess.
///
/// # Panics
///
/// If the operating system cannot give random bytes: no key could be made safely.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the operating system has no random bytes");
    bytes
}

/// A seed for a machine.
pub fn seed() -> u64 {
    u64::from_le_bytes(random_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_follows_tokio_and_converts_both_ways() {
        // Makes the origin, if no other test did: made later it would lie in the future of those that run beside.
        Clock::now();
        // This runtime's clock may have stopped a moment before another test made the origin.
        tokio::time::advance(Duration::from_secs(1)).await;
        let before = Clock::now();
        tokio::time::advance(Duration::from_secs(3)).await;
        let after = Clock::now();
        assert_eq!(after - before, Duration::from_secs(3));
        assert_eq!(
            Clock::instant(after) - Clock::instant(before),
            Duration::from_secs(3)
        );
    }

    #[test]
    fn the_end_of_time_is_a_moment_far_away() {
        assert!(Clock::instant(Now::from_micros(u64::MAX)) > Clock::instant(Clock::now()));
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(seed(), seed());
    }
}
