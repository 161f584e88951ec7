//! Peers that this node has nothing to do with, and why.

use dfnode_gossip::{EventKind, Now, PeerId};

use super::LocalTracker;
use super::context;
use crate::output::{BlameReason, Output};

/// Accusers that isolate a peer which this node has nothing against itself.
const ACCUSERS: usize = 3;

impl LocalTracker {
    /// Somebody accuses a peer: a hint, until enough say so.
    pub(super) fn accused(&mut self, peer: PeerId, by: PeerId) {
        if peer == self.view.me()
            || !self.view.contains(&peer)
            || !self.view.contains(&by)
            || peer == by
        {
            return;
        }
        let accusers = self.accusations.entry(peer).or_default();
        accusers.insert(by);
        if accusers.len() >= ACCUSERS && !self.isolated.contains_key(&peer) {
            self.blamed.push((peer, BlameReason::Accused));
        }
    }

    /// Isolates a peer that broke the protocol outside this machine, or ends its isolation.
    pub fn set_isolated(&mut self, now: Now, peer: PeerId, reason: Option<BlameReason>) {
        if let Some(reason) = reason {
            self.blamed.push((peer, reason));
        } else {
            self.isolated.remove(&peer);
            self.accusations.remove(&peer);
        }
        self.settle(now);
    }

    pub(super) fn isolate(&mut self, now: Now, peer: PeerId, reason: BlameReason) {
        if peer == self.view.me() || self.isolated.contains_key(&peer) {
            return;
        }
        self.isolated.insert(peer, reason);
        self.for_wanted(now, |task, cx| task.isolate(cx, &peer, reason));
        let mut cx = context!(self, now);
        self.homes.handle_down(&mut cx, &peer);
        self.outputs.push_back(Output::Blame { peer, reason });
        if reason != BlameReason::Accused {
            self.outputs.push_back(Output::Publish {
                subject: peer.into(),
                kind: EventKind::Isolate,
                body: bytes::Bytes::copy_from_slice(reason.as_str().as_bytes()),
            });
        }
    }
}
