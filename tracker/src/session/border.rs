//! Blocks from other zones: which inlet of a zone fetches which, and who does it in its place.
//!
//! A home appoints a few *inlets* for each zone where registrants stand in several. They know each other and inlets of
//! other zones; nobody else asks across the border. A block that no neighbour within the zone has is fetched by the inlet
//! that suits it best by rendezvous hashing of block and inlet, lowest block first. The second best takes what waits for
//! long, highest first, so that the two meet late; who gets nothing at all takes anything. All others wait for the block
//! to come within the zone. Where all stand in one zone, nothing of this is ever used.

use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use super::neighbour::{Acquaintance, Neighbour};
use super::{QUIET, Session};
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::ids::BlockIndex;
use crate::message::{Border, Message, PeerRef};

/// Blocks that one inlet waits for from other zones at once, and those that it sends there: the rest of its transfers are
/// its own zone's.
const ACROSS: usize = 6;
/// The same where the border is slow: more would only take longer.
const ACROSS_SLOWLY: usize = 2;
/// A block takes so long to cross a slow border.
const SLOW: Duration = Duration::from_secs(1);
/// A block that waits outside for so long is no longer left to the inlet that it suits best.
const LONG: Duration = Duration::from_secs(1);
/// Who got nothing for so long asks across the border for what it can get.
const STARVED: Duration = Duration::from_secs(2);
/// Both patiences are at least so many times what a block takes to cross.
const CROSSINGS: u32 = 4;

/// What a node knows as an inlet of its zone.
#[derive(Debug)]
pub(super) struct Inlet {
    /// All inlets of its zone, this node among them; empty if it is none.
    inlets: Vec<PeerId>,
    /// What a block takes to cross the border.
    crossing: Duration,
    /// Blocks that only other zones had at the last look.
    seen: BlockSet,
    /// Those of them that only other zones had at the look before it too.
    waited: BlockSet,
    looked: Now,
}

impl Inlet {
    pub(super) const fn new(now: Now) -> Self {
        Self {
            inlets: Vec::new(),
            crossing: Duration::ZERO,
            seen: BlockSet::new(),
            waited: BlockSet::new(),
            looked: now,
        }
    }

    /// A block came across.
    pub(super) fn note_crossing(&mut self, took: Duration) {
        self.crossing = if self.crossing.is_zero() {
            took
        } else {
            (self.crossing * 7 + took) / 8
        };
    }

    /// How long a block may be without a byte on its way across.
    pub(super) fn flow_patience(&self) -> Duration {
        self.crossing * 2
    }
}

/// How well a block suits an inlet: uniform, and equal wherever it is computed.
fn suits(block: BlockIndex, inlet: &PeerId) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&inlet.as_bytes()[..8]);
    let mut mixed =
        u64::from_le_bytes(word) ^ u64::from(block.0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl Session {
    /// The home says who brings blocks into this node's zone, and from whom they may come.
    pub(crate) fn handle_border(&mut self, cx: &mut Context<'_>, border: &Border) {
        let me = cx.view.me();
        let mut inlets: Vec<PeerId> = border.inlets.iter().map(|named| named.peer).collect();
        if !inlets.contains(&me) {
            inlets.clear();
        }
        self.inlet.inlets = inlets;
        if self.wants {
            for named in border.inlets.iter().chain(&border.outside) {
                self.meet_at_border(cx, named);
            }
        }
    }

    /// An inlet's acquaintances at the border come before those that it has by chance.
    fn meet_at_border(&mut self, cx: &mut Context<'_>, named: &PeerRef) {
        if named.peer != cx.view.me()
            && !self.peers.contains_key(&named.peer)
            && self.peers.len() >= super::MAX_NEIGHBOURS
        {
            self.make_place_at_border(cx);
        }
        self.meet(cx, std::slice::from_ref(named));
    }

    /// Lets a usual neighbour go for one at the border. `false` if there is none that nothing is under way with.
    pub(super) fn make_place_at_border(&mut self, cx: &mut Context<'_>) -> bool {
        let idle = |peer: &Neighbour| {
            peer.state == Acquaintance::Known && peer.inbound == 0 && peer.uploads.is_empty()
        };
        let usual = self
            .peers
            .iter()
            .find(|(id, peer)| !peer.far && !self.inlet.inlets.contains(id) && idle(peer))
            .map(|(id, _)| *id);
        let Some(usual) = usual else { return false };
        cx.send(usual, Message::Bye(self.task));
        self.lose(cx, &usual);
        true
    }

    /// Whether a neighbour matters for what crosses the border.
    pub(super) fn is_at_border(&self, cx: &Context<'_>, peer: &PeerId) -> bool {
        !self.inlet.inlets.is_empty() && (cx.view.is_far(peer) || self.inlet.inlets.contains(peer))
    }

    /// What neighbours within this node's zone, or beyond it, hold.
    ///
    /// What complete ones say may be a lie, or gone with them: to one that is `starved` they do not count.
    fn held(&self, now: Now, far: bool, starved: bool) -> BlockSet {
        let mut held = BlockSet::new();
        for peer in self.peers.values() {
            let lives = peer.spoke_within(now, QUIET);
            let counts = if peer.wants { lives } else { !starved };
            if peer.far == far && peer.is_partner() && counts {
                held.unite(&peer.have);
            }
        }
        held
    }

    /// Chooses the block to ask a neighbour in another zone for.
    pub(super) fn pick_across(&self, cx: &Context<'_>, theirs: &BlockSet) -> Option<BlockIndex> {
        let (now, me) = (cx.now, cx.view.me());
        let starved = now.saturating_since(self.last_gain) >= self.border_patience(now, STARVED);
        if self.inlet.inlets.is_empty() && !starved {
            return None;
        }
        let near = self.held(now, false, starved);
        let free: BlockSet = theirs
            .sieve(
                [self.ledger.known()],
                [&self.have, &self.out, &self.reading, &self.outside, &near],
            )
            .collect();
        let rivals = self.rivals();
        let rank = |block: BlockIndex| {
            let mine = suits(block, &me);
            let better = rivals.iter().filter(|rival| suits(block, rival) > mine);
            better.count()
        };
        let own = || free.iter().find(|block| rank(*block) == 0);
        let late = || {
            let waited = free
                .iter()
                .filter(|block| self.inlet.waited.contains(*block));
            waited.filter(|block| rank(*block) == 1).last()
        };
        let any = || free.iter().last().filter(|_| starved);
        own().or_else(late).or_else(any)
    }

    /// The other inlets that may be relied on.
    fn rivals(&self) -> Vec<&PeerId> {
        let works =
            |peer: &Neighbour| !peer.silent && (peer.wants || peer.state != Acquaintance::Known);
        self.inlet
            .inlets
            .iter()
            .filter(|inlet| self.peers.get(inlet).is_some_and(works))
            .collect()
    }

    /// A patience, longer where the border is slow.
    fn border_patience(&self, now: Now, least: Duration) -> Duration {
        let running = self
            .wanted
            .values()
            .flatten()
            .filter(|one| self.peers.get(&one.from).is_some_and(|peer| peer.far))
            .map(|one| now.saturating_since(one.since))
            .max();
        let crossing = self.inlet.crossing.max(running.unwrap_or_default());
        least.max(crossing * CROSSINGS)
    }

    /// Notes which blocks wait outside, now and then.
    pub(super) fn look_across(&mut self, now: Now) {
        let due = self.inlet.looked + self.border_patience(now, LONG);
        if self.inlet.inlets.is_empty() || now < due {
            return;
        }
        self.inlet.looked = now;
        let near = self.held(now, false, false);
        let outside: BlockSet = self
            .held(now, true, false)
            .sieve([], [&self.have, &near])
            .collect();
        self.inlet.waited = outside.sieve([&self.inlet.seen], []).collect();
        self.inlet.seen = outside;
    }

    /// Another version: nothing waits outside any more.
    pub(super) fn forget_across(&mut self) {
        self.inlet.seen = BlockSet::new();
        self.inlet.waited = BlockSet::new();
    }

    const fn across(&self) -> usize {
        if self.inlet.crossing.as_micros() < SLOW.as_micros() {
            ACROSS
        } else {
            ACROSS_SLOWLY
        }
    }

    /// How many more blocks may be on their way here from other zones.
    pub(super) fn places_across(&self) -> usize {
        let inbound = self.peers.values().filter(|peer| peer.far);
        self.across()
            .saturating_sub(inbound.map(|peer| peer.inbound as usize).sum())
    }

    /// How many more uploads to other zones may begin.
    pub(super) fn uploads_across(&self) -> usize {
        let outbound = self.peers.values().filter(|peer| peer.far);
        self.across()
            .saturating_sub(outbound.map(|peer| peer.uploads.len()).sum())
    }

    /// Whether we hold more that nobody in a neighbour's zone is known to have than what is on its way there already.
    ///
    /// To one that gets nothing for long those there who want nothing do not count: what they say may be a lie, or gone with
    /// them.
    pub(super) fn has_use_across(&self, now: Now, peer: &Neighbour) -> bool {
        let starved = now.saturating_since(peer.grew) >= self.border_patience(now, STARVED);
        let mut theirs = peer.have.clone();
        let mut out = 0;
        for other in self.peers.values().filter(|other| other.zone == peer.zone) {
            out += other.uploads.len();
            if other.is_partner() && (other.wants || !starved) {
                theirs.unite(&other.have);
            }
        }
        self.have
            .sieve([self.ledger.known()], [&theirs])
            .take(out + 1)
            .count()
            > out
    }
}
