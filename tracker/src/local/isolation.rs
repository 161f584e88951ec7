//! Peers that this node has nothing to do with, and why.

use dfnode_gossip::{EventKind, Now, PeerId};

use super::LocalTracker;
use super::context;
use crate::output::{BlameReason, Output};
use crate::task::Task;

/// Accusers that isolate a peer which this node has nothing against itself.
const ACCUSERS: usize = 3;
/// Peers of which accusations are kept; beyond, only of members. Gossip keeps few accusers of each.
const MAX_ACCUSED: usize = 1024;
/// Of these, peers that are no members and that one accuser names: nobody shall fill the room with made-up names.
const MAX_UNKNOWN_EACH: usize = 32;

impl LocalTracker {
    /// Somebody accuses a peer: a hint, until enough say so.
    ///
    /// Either may be no member yet, or for a moment: who has just begun hears what was said before it knows everybody.
    pub(super) fn accused(&mut self, peer: PeerId, by: PeerId) {
        if peer == by || peer == self.view.me() || self.isolated.contains_key(&peer) {
            return;
        }
        let is_known = self.view.contains(&peer) || self.accusations.contains_key(&peer);
        if is_known || self.has_room_for_unknown(&by) {
            self.accusations.entry(peer).or_default().insert(by);
            self.weigh(peer);
        }
    }

    fn has_room_for_unknown(&self, by: &PeerId) -> bool {
        let unknown = self
            .accusations
            .iter()
            .filter(|(peer, accusers)| accusers.contains(by) && !self.view.contains(peer));
        self.accusations.len() < MAX_ACCUSED && unknown.count() < MAX_UNKNOWN_EACH
    }

    /// Isolates a peer if enough members accuse it: names cost nothing, so only members count.
    fn weigh(&mut self, peer: PeerId) {
        let Some(accusers) = self.accusations.get(&peer) else {
            return;
        };
        let members = accusers.iter().filter(|by| self.view.contains(by)).count();
        if self.view.contains(&peer) && members >= ACCUSERS {
            self.accusations.remove(&peer);
            self.blamed.push((peer, BlameReason::Accused));
        }
    }

    /// What a new member said counts from now on, and what was said of it.
    pub(super) fn weigh_anew(&mut self, member: &PeerId) {
        let accused = self
            .accusations
            .iter()
            .filter(|(peer, accusers)| *peer == member || accusers.contains(member))
            .map(|(peer, _)| *peer);
        for peer in accused.collect::<Vec<_>>() {
            self.weigh(peer);
        }
    }

    /// An accusation is withdrawn, or its author has been gone for long.
    pub(super) fn accusation_ends(&mut self, peer: &PeerId, by: &PeerId) {
        if let Some(accusers) = self.accusations.get_mut(peer) {
            accusers.remove(by);
            if accusers.is_empty() {
                self.accusations.remove(peer);
            }
        }
    }

    /// Isolates a peer that broke the protocol outside this machine, or ends its isolation.
    pub fn set_isolated(&mut self, now: Now, peer: PeerId, reason: Option<BlameReason>) {
        if let Some(reason) = reason {
            self.blamed.push((peer, reason));
        } else if self.isolated.remove(&peer).is_some() {
            // Nobody who begins later shall hear that this node still accuses it.
            self.outputs.push_back(Output::Withdraw {
                subject: peer.into(),
                kind: EventKind::Isolate,
            });
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
        accuse(&mut tracker, ACCUSED, 5);
        assert!(tracker.isolated().is_empty(), "it is gone itself");
        up(&mut tracker, ACCUSED);
        assert!(
            tracker.isolated().contains_key(&peer(ACCUSED)),
            "it is back"
        );
    }

    #[test]
    fn what_was_said_before_its_author_or_the_accused_was_known_counts_once_both_are() {
        let mut tracker = members(4);
        for by in [2, 3, 4] {
            accuse(&mut tracker, 9, by);
            accuse(&mut tracker, ACCUSED, by);
        }
        assert!(tracker.isolated().is_empty(), "4 and 9 are no members");
        up(&mut tracker, 4);
        assert!(tracker.isolated().contains_key(&peer(ACCUSED)));
        up(&mut tracker, 9);
        assert!(tracker.isolated().contains_key(&peer(9)));
    }

    #[test]
    fn made_up_names_leave_room_for_members() {
        let mut tracker = members(5);
        for number in 0..2 * MAX_ACCUSED {
            let name = PeerId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
            tracker.accused(name, peer(2));
        }
        assert_eq!(tracker.accusations.len(), MAX_UNKNOWN_EACH);
        for number in 0..2 * MAX_ACCUSED {
            let [name, by] = ["name", "by"].map(|what| {
                PeerId::from_bytes(*blake3::hash(format!("{what} {number}").as_bytes()).as_bytes())
            });
            tracker.accused(name, by);
        }
        assert_eq!(tracker.accusations.len(), MAX_ACCUSED);
        for by in [2, 3, 4] {
            accuse(&mut tracker, ACCUSED, by);
        }
        assert!(tracker.isolated().contains_key(&peer(ACCUSED)));
    }

    #[test]
    fn who_is_dealt_with_again_is_accused_no_more() {
        let mut tracker = members(3);
        tracker.set_isolated(NOW, peer(ACCUSED), Some(BlameReason::AlteredBytes));
        tracker.set_isolated(NOW, peer(ACCUSED), None);
        let outputs: Vec<Output> = std::iter::from_fn(|| tracker.poll_output()).collect();
        let withdraws = Output::Withdraw {
            subject: peer(ACCUSED).into(),
            kind: EventKind::Isolate,
        };
        assert_eq!(outputs.last(), Some(&withdraws), "{outputs:?}");
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
        let events = [(ACCUSED, 2), (3, 4), (3, 5)];
        for (accused, by) in events {
            accuse(&mut tracker, accused, by);
        }
        for (accused, by) in events {
            tracker.handle_removed(&peer(by), &peer(accused).into(), EventKind::Isolate);
        }
        assert!(tracker.accusations.is_empty(), "it goes with the event");
    }
}
