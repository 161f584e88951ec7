//! Neighbours: how they are met, greeted and lost.

use dfnode_gossip::{Now, PeerId};

use super::neighbour::{Acquaintance, Neighbour, Upload};
use super::{MAX_NEIGHBOURS, Session};
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::holds::Holds;
use crate::ledger::BatchIndex;
use crate::message::{Hello, Message, PeerRef};
use crate::output::Output;

/// Batches that are told unasked with a hello; who lacks more of them asks.
const FEW_BATCHES: usize = 2;
/// Peers without a link that are remembered as such.
const MAX_UNREACHED: usize = 4 * MAX_NEIGHBOURS;

impl Session {
    /// Gets acquainted with peers that a home or gossip named.
    pub(crate) fn meet(&mut self, cx: &mut Context<'_>, peers: &[PeerRef]) {
        for named in peers {
            let known = self.peers.contains_key(&named.peer);
            if known
                || named.peer == cx.view.me()
                || cx.is_isolated(&named.peer)
                || self.peers.len() >= MAX_NEIGHBOURS
            {
                continue;
            }
            self.peers
                .insert(named.peer, Neighbour::new(cx, &named.peer));
            if cx.links.contains_key(&named.peer) {
                self.greet(cx, named.peer);
            } else {
                cx.out.push_back(Output::Connect {
                    peer: named.clone(),
                });
            }
        }
        self.arm_tick(cx.now);
    }

    /// Whether a link to a peer was tried and did not come about.
    pub(crate) fn misses(&self, peer: &PeerId) -> bool {
        self.unreached.contains(peer)
    }

    /// Whether a peer has said what it holds.
    pub(crate) fn knows(&self, peer: &PeerId) -> bool {
        let known = self.peers.get(peer);
        known.is_some_and(|known| known.state == Acquaintance::Known)
    }

    pub(crate) fn link_up(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        self.unreached.remove(&peer);
        if self
            .peers
            .get(&peer)
            .is_some_and(|known| known.state == Acquaintance::Dialling)
        {
            self.greet(cx, peer);
        }
    }

    /// The link to a neighbour is gone, or it left the session, or it is isolated.
    pub(crate) fn lose(&mut self, cx: &mut Context<'_>, peer: &PeerId) {
        self.part(cx, peer);
        self.offer(cx);
    }

    /// All neighbours are gone.
    pub(crate) fn lose_all(&mut self, cx: &mut Context<'_>) {
        while let Some(peer) = self.peers.keys().next().copied() {
            self.part(cx, &peer);
        }
    }

    fn part(&mut self, cx: &mut Context<'_>, peer: &PeerId) {
        let Some(lost) = self.peers.remove(peer) else {
            return;
        };
        if lost.state == Acquaintance::Dialling && self.unreached.len() < MAX_UNREACHED {
            self.unreached.insert(*peer);
        }
        self.counts.down(&lost.have);
        self.survey(cx.now);
        self.short = true;
        self.forget_asked_digests(cx.now);
        cx.slots.uploads.give_back(&self.task, lost.uploads.len());
        for upload in lost.uploads.values() {
            if let Upload::Sending { block, .. } = upload {
                cx.out.push_back(Output::StopSend {
                    to: *peer,
                    task: self.task,
                    block: *block,
                });
            }
        }
        self.release_wanted_of(cx, peer);
    }

    pub(super) fn greet(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if known.state == Acquaintance::Dialling {
            known.state = Acquaintance::Greeted;
        }
        let blocks = self.meta.as_ref().and_then(|meta| meta.layout.blocks());
        // What is held but not signed yet is told when it can be verified.
        let told: BlockSet = self.have.sieve([self.ledger.known()], []).collect();
        let hello = Hello {
            task: self.task,
            meta: self.meta.clone(),
            holds: if cx.view.leech() {
                Holds::Nothing
            } else {
                Holds::pack(&told, blocks)
            },
            wants: self.wants,
            age_ms: u64::try_from(cx.now.saturating_since(self.began).as_millis())
                .unwrap_or(u64::MAX),
        };
        let batches: Vec<BatchIndex> = self.ledger.batches_of(&told.runs()).into_iter().collect();
        cx.send(peer, Message::Hello(hello));
        if let Some(known) = self.peers.get_mut(&peer) {
            known.told = self.news.len();
            known.untold_since = None;
        }
        if !cx.view.leech() && batches.len() <= FEW_BATCHES {
            self.send_batches(cx, peer, &batches);
        }
    }

    /// A neighbour says who it is. `false` if there is no place for it.
    pub(crate) fn handle_hello(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        hello: &Hello,
    ) -> bool {
        if !self.peers.contains_key(&from)
            && self.peers.len() >= MAX_NEIGHBOURS
            && !self.make_place(cx, &from)
        {
            return false;
        }
        let now = cx.now;
        let known = self
            .peers
            .entry(from)
            .or_insert_with(|| Neighbour::new(cx, &from));
        let greeted = known.state != Acquaintance::Dialling;
        let theirs = hello.meta.as_ref().map(|meta| meta.version);
        let changed = std::mem::replace(&mut known.version, theirs) != theirs;
        let old = std::mem::take(&mut known.have);
        let version = self.meta.as_ref().map(|meta| meta.version);
        if changed && greeted && theirs == version {
            // What it was told before it had this version it could not use: tell it all again.
            known.batches.clear();
        }
        self.counts.down(&old);
        if !greeted || (changed && theirs == version && theirs.is_some()) {
            self.greet(cx, from);
        }
        let same = version.is_some() && theirs == version;
        if let (true, Some(theirs)) = (same, &hello.meta) {
            self.hear_length(cx, theirs.layout.length());
        }
        let blocks = self.blocks();
        let Some(known) = self.peers.get_mut(&from) else {
            return false;
        };
        known.state = Acquaintance::Known;
        known.same_version = same;
        known.wants = hello.wants;
        known.last_heard = now;
        known.asked = None;
        known.silent = false;
        known.declined = None;
        known.began = Now::from_micros(
            now.as_micros()
                .saturating_sub(hello.age_ms.saturating_mul(1000)),
        );
        if same && let Some(have) = hello.holds.unpack(blocks) {
            self.ask_digests(cx, from, &have);
            self.set_have(from, have);
        }
        self.arm_tick(now);
        self.survey(now);
        self.make_room(cx);
        self.offer(cx);
        true
    }

    /// Lets a neighbour go that neither gives nor takes. `false` if each does, unless `for_whom` is needed at the border.
    fn make_place(&mut self, cx: &mut Context<'_>, for_whom: &PeerId) -> bool {
        let idle = self
            .peers
            .iter()
            .find(|(_, peer)| !peer.wants && (!self.wants || !peer.have.has_beyond(&self.have)))
            .map(|(id, _)| *id);
        let Some(idle) = idle else {
            return self.is_at_border(cx, for_whom) && self.make_place_at_border(cx);
        };
        cx.send(idle, Message::Bye(self.task));
        self.lose(cx, &idle);
        true
    }

    fn set_have(&mut self, from: PeerId, have: BlockSet) {
        for block in have.iter() {
            self.counts.up(block);
        }
        if let Some(known) = self.peers.get_mut(&from) {
            known.have = have;
        }
    }
}
