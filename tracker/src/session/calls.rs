//! Calls for offers: who declined one says when it has use for another.
//!
//! Only the receiver knows what is on its way to it. Holders that tried again by themselves made nineteen offers of twenty
//! in vain where the source is slow.

use dfnode_gossip::PeerId;

use super::neighbour::Neighbour;
use super::{Session, TICK};
use crate::context::Context;
use crate::message::Message;

impl Session {
    /// How many more blocks may be on their way here.
    ///
    /// A reader takes fewer from peers, so that its own stream gets the share of its link that one of so many readers
    /// of a source gets of the source's.
    pub(super) fn free_places(&self, cx: &Context<'_>) -> usize {
        let out = self.out.len() as usize;
        let free = cx.slots.downloads.free(&self.task);
        if free == 0 {
            return 0;
        }
        let free = free.min(self.width().saturating_sub(out));
        if self.reading.is_empty() {
            return free;
        }
        let beside = (self.readers as usize).saturating_sub(1).max(1);
        free.min(beside.saturating_sub(out))
    }

    /// Tells neighbours whose offers were declined that there is use for one now: one for each free place, and no more
    /// than there are blocks to ask for.
    pub(crate) fn make_room(&mut self, cx: &mut Context<'_>) {
        if !self.wants || !self.peers.values().any(|peer| peer.owed_room) {
            return;
        }
        // Who was called offers within the time that an answer takes here, or has no slot at the moment.
        let (now, patience) = (cx.now, self.answer.min(TICK));
        let is_called = |peer: &&Neighbour| {
            let called = peer.called;
            called.is_some_and(|at| now.saturating_since(at) < patience)
        };
        let called = self.peers.values().filter(is_called).count();
        let places = self.free_places(cx).saturating_sub(called);
        if places == 0 {
            return;
        }
        let far_called = self.peers.values().filter(|peer| peer.far);
        let mut across = self
            .places_across()
            .saturating_sub(far_called.filter(is_called).count());
        let known = self.ledger.known();
        let busy = [&self.have, &self.out, &self.reading, &self.outside];
        let free = known.sieve([], busy).take(places + called).count();
        let mut blocks = free.saturating_sub(called);
        let mut owed: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.owed_room && peer.is_partner())
            .map(|(id, _)| *id)
            .collect();
        let mut calls = Vec::new();
        while calls.len() < places
            && let Some(at) = cx.chance.place(&owed)
        {
            let id = owed.swap_remove(at);
            let Some(peer) = self.peers.get(&id) else {
                continue;
            };
            if peer.far {
                if across > 0 && blocks > 0 && self.pick_across(cx, &peer.have).is_some() {
                    across -= 1;
                    blocks -= 1;
                    calls.push(id);
                }
            } else if peer.have.sieve([known], busy).next().is_some() {
                if blocks > 0 {
                    blocks -= 1;
                    calls.push(id);
                }
            } else if self.pick_again(now, &peer.have, &id).is_some() {
                calls.push(id);
            }
        }
        for id in calls {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.owed_room = false;
                peer.called = Some(now);
            }
            cx.send(id, Message::Room(self.task));
        }
    }
}
