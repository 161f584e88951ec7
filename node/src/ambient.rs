//! The only clock and the only chance in the house: everything else is handed its time and its seed.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dfnode_gossip::Now;

/// The process's monotonic clock. Its origin is its first reading.
#[derive(Debug, Clone, Copy)]
pub struct Clock;

impl Clock {
    /// What time it is.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the monotonic clock"
    )]
    pub fn now() -> Now {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        let elapsed = ORIGIN.get_or_init(Instant::now).elapsed();
        Now::from_micros(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }
}

/// Milliseconds since 1970 by the machine's own clock, which may step.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the calendar clock"
)]
pub fn unix_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A seed that no other process has.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that draws chance from the machine"
)]
pub fn seed() -> u64 {
    rand::random()
}
