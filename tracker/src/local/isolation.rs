//! Peers that this node has nothing to do with, and why.

use dfnode_gossip::{EventKind, Now, PeerId};

use super::LocalTracker;
use super::context;
use crate::output::{BlameReason, Output};
use crate::task::Task;

/// Accusers that isolate a peer which this node has nothing against itself.
const ACCUSERS: usize = 3;

impl LocalTracker {
    /// Somebody accuses a peer: a hint, until enough say so.
    pub(super) fn accused(&mut self, peer: PeerId, by: PeerId) {
        if peer == self.view.me()
            || peer == by
            || !self.view.contains(&peer)
            || !self.view.contains(&by)
            || self.isolated.contains_key(&peer)
        {
            return;
        }
        let accusers = self.accusations.entry(peer).or_default();
        accusers.insert(by);
        if accusers.len() >= ACCUSERS {
            self.accusations.remove(&peer);
            self.blamed.push((peer, BlameReason::Accused));
        }
    }

    /// Only members accuse and are accused: names cost nothing, and what they said goes with them.
    pub(super) fn forget_accusations(&mut self, gone: &PeerId) {
        self.accusations.remove(gone);
        self.accusations.retain(|_, accusers| {
            accusers.remove(gone);
            !accusers.is_empty()
        });
    }

    /// Isolates a peer that broke the protocol outside this machine, or ends its isolation.
    pub fn set_isolated(&mut self, now: Now, peer: PeerId, reason: Option<BlameReason>) {
        if let Some(reason) = reason {
            self.blamed.push((peer, reason));
        } else if self.isolated.remove(&peer).is_some() {
            let mut cx = context!(self, now);
            self.homes.handle_new(&mut cx, &peer);
            self.for_wanted(now, Task::view_changed);
        }
        self.settle(now);
    }

    pub(super) fn isolate(&mut self, now: Now, peer: PeerId, reason: BlameReason) {
        if peer == self.view.me() || self.isolated.contains_key(&peer) {
            return;
        }
        self.isolated.insert(peer, reason);
        self.accusations.remove(&peer);
        self.for_wanted(now, |task, cx| {
            task.isolate(cx, &peer, reason);
            task.view_changed(cx);
        });
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use bytes::Bytes;
    use dfnode_gossip::{Event, Labels, Member};

    use super::*;
    use crate::local::{Config, MemberChange};

    const NOW: Now = Now::from_micros(1_000_000);
    const ACCUSED: u8 = 1;

    fn peer(number: u8) -> PeerId {
        PeerId::from_bytes([number; 32])
    }

    fn up(tracker: &mut LocalTracker, number: u8) {
        let member = Member {
            peer: peer(number),
            addrs: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 1))],
            generation: 1,
            labels: Labels::default(),
        };
        tracker.handle_member(NOW, &MemberChange::Up(member));
    }

    fn down(tracker: &mut LocalTracker, number: u8) {
        tracker.handle_member(NOW, &MemberChange::Down(peer(number)));
    }

    fn accuse(tracker: &mut LocalTracker, number: u8, by: u8) {
        let event = Event {
            origin: peer(by),
            subject: peer(number).into(),
            kind: EventKind::Isolate,
            clock: 1,
            body: Bytes::new(),
        };
        tracker.handle_event(NOW, &event);
    }

    fn members(count: u8) -> LocalTracker {
        let mut tracker = LocalTracker::new(&Config::default(), peer(0), 1);
        for number in 1..count {
            up(&mut tracker, number);
        }
        tracker
    }

    #[test]
    fn three_members_isolate_a_peer_and_fewer_or_strangers_do_not() {
        let mut tracker = members(5);
        for by in [2, 2, 3, ACCUSED, 77, 78] {
            accuse(&mut tracker, ACCUSED, by);
        }
        assert!(tracker.isolated().is_empty());
        accuse(&mut tracker, ACCUSED, 4);
        let reason = tracker.isolated().get(&peer(ACCUSED));
        assert_eq!(reason, Some(&BlameReason::Accused));
    }

    #[test]
    fn who_is_gone_neither_accuses_nor_is_accused() {
        let mut tracker = members(6);
        accuse(&mut tracker, ACCUSED, 2);
        accuse(&mut tracker, ACCUSED, 3);
        down(&mut tracker, 2);
        accuse(&mut tracker, ACCUSED, 4);
        assert!(tracker.isolated().is_empty(), "one of three is gone");
        down(&mut tracker, ACCUSED);
        assert!(tracker.accusations.is_empty());
        up(&mut tracker, ACCUSED);
        accuse(&mut tracker, ACCUSED, 5);
        assert!(tracker.isolated().is_empty(), "it starts anew");
    }

    #[test]
    fn accusations_do_not_pile_up() {
        let mut tracker = members(200);
        for by in 2..200 {
            accuse(&mut tracker, ACCUSED, by);
        }
        assert!(tracker.accusations.is_empty(), "it is isolated");
        tracker.set_isolated(NOW, peer(ACCUSED), None);
        accuse(&mut tracker, ACCUSED, 2);
        assert!(tracker.isolated().is_empty(), "old ones do not count again");
        for gone in 2..200 {
            accuse(&mut tracker, 2, gone);
            down(&mut tracker, gone);
        }
        assert!(tracker.accusations.is_empty(), "nobody is left to accuse");
    }
}
