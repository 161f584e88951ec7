//! What passed between this node and each peer, and whom it has nothing to do with.

use std::collections::BTreeMap;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};
use dfnode_tracker::BlameReason;
use tracing::{info, warn};

use super::Driver;

/// Peers whose bytes are counted.
const MAX_COUNTED: usize = 16 * 1024;
/// How long a peer stays isolated the first time; doubled each further time.
const PROBATION: Duration = Duration::from_mins(10);
/// The longest isolation.
const MAX_PROBATION: Duration = Duration::from_hours(24);

/// Bytes and verdicts by peer.
#[derive(Default)]
pub(super) struct Peers {
    counts: BTreeMap<PeerId, Counts>,
    isolated: BTreeMap<PeerId, Isolated>,
}

/// Payload that passed between this node and one peer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) up: u64,
    pub(super) down: u64,
}

/// A peer that this node refuses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Isolated {
    pub(super) reason: BlameReason,
    pub(super) until: Now,
    times: u32,
    is_over: bool,
}

impl Peers {
    /// Payload went to a peer.
    pub(super) fn sent(&mut self, peer: PeerId, bytes: u64) {
        self.count(peer, |counts| counts.up += bytes);
    }

    /// Payload of a peer was kept.
    pub(super) fn received(&mut self, peer: PeerId, bytes: u64) {
        self.count(peer, |counts| counts.down += bytes);
    }

    fn count(&mut self, peer: PeerId, add: impl FnOnce(&mut Counts)) {
        if self.counts.len() < MAX_COUNTED || self.counts.contains_key(&peer) {
            add(self.counts.entry(peer).or_default());
        }
    }

    /// What passed between us.
    pub(super) fn counts(&self, peer: &PeerId) -> Counts {
        self.counts.get(peer).copied().unwrap_or_default()
    }

    /// Every peer that was ever isolated.
    pub(super) fn isolated(&self) -> impl Iterator<Item = (&PeerId, &Isolated)> {
        self.isolated.iter()
    }

    /// Whether and why a peer is isolated now.
    pub(super) fn isolation(&self, now: Now, peer: &PeerId) -> Option<BlameReason> {
        self.isolated
            .get(peer)
            .filter(|isolated| now < isolated.until)
            .map(|isolated| isolated.reason)
    }
}

impl Driver {
    /// Peers whose probation begins are dealt with again.
    pub(super) fn end_isolations(&mut self, now: Now) {
        let over: Vec<PeerId> = self
            .peers
            .isolated
            .iter_mut()
            .filter(|(_, isolated)| !isolated.is_over && isolated.until <= now)
            .map(|(peer, isolated)| {
                isolated.is_over = true;
                *peer
            })
            .collect();
        for peer in over {
            info!(peer = %peer.short(), "isolation over, on probation");
            self.tracker.set_isolated(now, peer, None);
        }
    }

    /// A peer is not to be dealt with until its probation.
    pub(super) fn isolate(&mut self, now: Now, peer: PeerId, reason: BlameReason) {
        let times = self
            .peers
            .isolated
            .get(&peer)
            .map_or(0, |isolated| isolated.times);
        let span = PROBATION
            .saturating_mul(1 << times.min(10))
            .min(MAX_PROBATION);
        let until = now + span;
        warn!(peer = %peer.short(), reason = reason.as_str(), minutes = span.as_secs() / 60, "peer isolated");
        self.peers.isolated.insert(
            peer,
            Isolated {
                reason,
                until,
                times: times + 1,
                is_over: false,
            },
        );
        self.parts.transport.refuse(peer, until);
    }
}
