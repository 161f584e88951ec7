//! What passed between this node and each peer, and whom it has nothing to do with.

use std::collections::BTreeMap;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};
use dfnode_tracker::BlameReason;
use tracing::{info, warn};

use super::Driver;

/// Peers whose bytes are counted.
const MAX_COUNTED: usize = 16 * 1024;
/// Peers whose isolation is remembered; the one that ends first makes room.
const MAX_ISOLATED: usize = 1024;
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

    /// Isolates a peer: for how long, and whose isolation was forgotten for it.
    fn isolate(
        &mut self,
        now: Now,
        peer: PeerId,
        reason: BlameReason,
    ) -> (Duration, Option<PeerId>) {
        let times = self
            .isolated
            .get(&peer)
            .map_or(0, |isolated| isolated.times);
        let span = PROBATION
            .saturating_mul(1 << times.min(10))
            .min(MAX_PROBATION);
        let isolated = Isolated {
            reason,
            until: now + span,
            times: times.saturating_add(1),
            is_over: false,
        };
        self.isolated.insert(peer, isolated);
        if self.isolated.len() <= MAX_ISOLATED {
            return (span, None);
        }
        let others = self.isolated.iter().filter(|(other, _)| **other != peer);
        let soonest = others
            .min_by_key(|(_, isolated)| isolated.until)
            .map(|(other, _)| *other);
        if let Some(soonest) = soonest {
            self.isolated.remove(&soonest);
        }
        (span, soonest)
    }

    /// Every peer whose isolation is remembered.
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
        let (span, forgotten) = self.peers.isolate(now, peer, reason);
        warn!(peer = %peer.short(), reason = reason.as_str(), minutes = span.as_secs() / 60, "peer isolated");
        if let Some(forgotten) = forgotten {
            self.tracker.set_isolated(now, forgotten, None);
        }
        self.parts.transport.refuse(peer, now + span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> PeerId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        PeerId::from_bytes(bytes)
    }

    #[test]
    fn isolation_grows_and_ends_and_the_isolated_are_bounded() {
        let mut peers = Peers::default();
        let (now, reason) = (Now::from_micros(0), BlameReason::AlteredBytes);
        assert_eq!(peers.isolate(now, peer(0), reason), (PROBATION, None));
        assert!(peers.isolation(now, &peer(0)).is_some());
        assert!(peers.isolation(now + PROBATION, &peer(0)).is_none());
        assert_eq!(peers.isolate(now, peer(0), reason), (PROBATION * 2, None));
        for number in 1..2000 {
            let later = now + Duration::from_secs(number.into());
            let (_, forgotten) = peers.isolate(later, peer(number), reason);
            assert_eq!(forgotten.is_some(), number as usize >= MAX_ISOLATED);
            assert!(peers.isolation(later, &peer(number)).is_some());
        }
        assert_eq!(peers.isolated().count(), MAX_ISOLATED);
    }
}
