//! What the node counted since it started.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that many tasks add to.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Payload of blocks that peers sent and that were kept.
    pub(crate) from_peers: Counter,
    /// Payload that this node read from sources.
    pub(crate) from_source: Counter,
    /// Payload that local callers got and that was here before they asked.
    pub(crate) from_cache: Counter,
    /// Payload sent to peers.
    pub(crate) to_peers: Counter,
    /// Bytes of gossip packets sent, before sealing.
    pub(crate) gossip_sent: Counter,
    /// Bytes of gossip packets received, after opening.
    pub(crate) gossip_received: Counter,
    /// Tracker messages sent.
    pub(crate) messages_sent: Counter,
    /// Tracker messages received.
    pub(crate) messages_received: Counter,
    /// Things that peers sent and that make no sense.
    pub(crate) violations: Counter,
    /// Blocks that were dropped unverified.
    pub(crate) blocks_dropped: Counter,
    /// Reads of a source that began.
    pub(crate) source_reads: Counter,
    /// Downloads that local callers asked for.
    pub(crate) downloads: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Its value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
