//! Whole clusters of gossip machines under a virtual clock.
#![expect(clippy::unwrap_used, reason = "test code")]
#![expect(
    clippy::print_stdout,
    reason = "the measured numbers are for the reader"
)]

use std::time::Duration;

/// What a node costs on the wire.
mod cost;
/// How events reach everybody, and what ends them.
mod events;
/// Who knows whom: joins, crashes, partitions, returns.
mod membership;
mod world;

const SEED: u64 = 0xD0F5;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
