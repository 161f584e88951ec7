//! What neighbours tell each other of blocks and digests.

use std::ops::Range;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use super::Session;
use super::counts::RARE;
use super::neighbour::Acquaintance;
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::ids::{BlockIndex, VersionId};
use crate::message::{Have, Message};

/// The first blocks that a node holds are told one by one, …
const PROMPT: u32 = 16;
/// … and news of further ones wait this long for company.
const HAVE_BATCH: Duration = Duration::from_millis(5);
/// News that a neighbour can do without for now wait this long.
const IDLE_NEWS: Duration = Duration::from_millis(100);
/// So many neighbours are told at once what they could use, from one by chance on: the others get the block from these, or
/// hear of it later.
const TOLD_AT_ONCE: usize = 6;
/// News for a neighbour that wants nothing: it only judges by them whom to give to first.
const SEEDER_NEWS: Duration = Duration::from_millis(500);
/// Who can ask us for at least so many blocks needs no news of further ones at once.
const ENOUGH: usize = 6;

impl Session {
    /// A neighbour got further blocks. `false` if it names blocks that cannot be.
    pub(crate) fn handle_have(&mut self, cx: &mut Context<'_>, from: PeerId, have: &Have) -> bool {
        if self.meta.as_ref().map(|meta| meta.version) != Some(have.version) {
            return true;
        }
        if !self.peers.contains_key(&from) {
            return true;
        }
        self.hear_length(cx, have.length);
        let Some(blocks) = BlockSet::from_runs(
            &have.runs,
            self.blocks().unwrap_or(crate::layout::MAX_BLOCKS),
        ) else {
            return have.runs.is_empty();
        };
        let Some(known) = self.peers.get_mut(&from) else {
            return true;
        };
        let ends = known.wants && !have.wants;
        known.wants = have.wants;
        let before = known.have.len();
        for block in blocks.iter() {
            if known.have.insert(block) {
                known.grew = cx.now;
                self.counts.up(block);
            }
        }
        let grew = known.have.len() > before;
        let wants = known.wants;
        self.ask_digests(cx, from, &blocks);
        if ends {
            self.end_uploads_to(cx, from);
        }
        if wants {
            if self.partners == 0 {
                self.survey(cx.now);
            }
            self.arm_tick(cx.now);
        }
        if grew {
            self.make_room(cx);
        }
        self.offer(cx);
        true
    }

    /// A block is here and verified. Neighbours are told once its digest is signed.
    pub(crate) fn gain(&mut self, cx: &mut Context<'_>, block: BlockIndex) {
        if !self.have.insert(block) {
            return;
        }
        self.last_gain = cx.now;
        if self.ledger.knows(block) {
            self.announce(cx, block);
        }
    }

    /// Puts a held block whose digest is signed on the next news.
    pub(crate) fn announce(&mut self, cx: &mut Context<'_>, block: BlockIndex) {
        if !cx.view.leech() {
            self.news.push(block);
        }
        if self.is_complete() && self.wants {
            self.wants = false;
            self.flush(cx);
            return;
        }
        // While few blocks are here, each is news enough to be told at once: a crowd that starts waits at every hop.
        let wait = if self.have.len() <= PROMPT {
            Duration::ZERO
        } else {
            HAVE_BATCH
        };
        let due = cx.now + wait;
        self.flush_at = Some(self.flush_at.map_or(due, |at| at.min(due)));
    }

    /// Tells neighbours of the blocks that are news to them: at once where it helps, else together with later ones.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) {
        self.flush_at = None;
        let Some(version) = self.meta.as_ref().map(|meta| meta.version) else {
            return;
        };
        let ends = !self.wants;
        let mut next: Option<Now> = None;
        let mut partners: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.same_version)
            .map(|(id, _)| *id)
            .collect();
        let at_once = if self.have.len() <= PROMPT {
            partners.len()
        } else {
            let first = cx.chance.below(partners.len() as u64);
            partners.rotate_left(usize::try_from(first).unwrap_or(0));
            TOLD_AT_ONCE
        };
        let mut told = 0;
        for peer in partners {
            let Some(known) = self.peers.get(&peer) else {
                continue;
            };
            let untold: BlockSet = self.news[known.told..].iter().copied().collect();
            if !ends {
                if untold.is_empty() {
                    continue;
                }
                let since = known.untold_since.unwrap_or(cx.now);
                let wait = if known.wants { IDLE_NEWS } else { SEEDER_NEWS };
                let is_urgent =
                    told < at_once && known.wants && self.is_urgent(&untold, &known.have);
                told += usize::from(is_urgent);
                if cx.now < since + wait && !is_urgent {
                    let due = since + wait;
                    next = Some(next.map_or(due, |at| at.min(due)));
                    if let Some(known) = self.peers.get_mut(&peer) {
                        known.untold_since = Some(since);
                    }
                    continue;
                }
            }
            if known.wants {
                self.push_own_batches(cx, peer, &untold);
            }
            self.tell(cx, peer, version, untold.runs(), None);
        }
        self.forget_old_news();
        self.flush_at = match (self.flush_at, next) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.offer(cx);
    }

    /// What is suggested in an offer the neighbour must have been told of, or it could not ask for it.
    pub(super) fn tell_suggested(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        version: VersionId,
        suggested: &[BlockIndex],
    ) {
        let Some(known) = self.peers.get(&peer) else {
            return;
        };
        let untold = &self.news[known.told..];
        if suggested.iter().any(|block| untold.contains(block)) {
            let untold: BlockSet = untold.iter().copied().collect();
            self.push_own_batches(cx, peer, &untold);
            self.tell(cx, peer, version, untold.runs(), None);
        }
    }

    /// Whether a neighbour could use these blocks at once: some are rare, or it has not much else to ask us for.
    fn is_urgent(&self, untold: &BlockSet, theirs: &BlockSet) -> bool {
        let mut lacking = untold.minus(theirs).peekable();
        if lacking.peek().is_none() {
            return false;
        }
        let told = self.have.minus(theirs).take(ENOUGH + untold.len() as usize);
        lacking.any(|block| self.counts.of(block) <= RARE)
            || told.count() < ENOUGH + untold.len() as usize
    }

    /// Drops the part of the news that everybody has been told.
    fn forget_old_news(&mut self) {
        let oldest = self
            .peers
            .values()
            .filter(|peer| peer.state != Acquaintance::Dialling)
            .map(|peer| peer.told)
            .min()
            .unwrap_or(self.news.len());
        self.news.drain(..oldest);
        for peer in self.peers.values_mut() {
            peer.told = peer.told.saturating_sub(oldest);
        }
    }

    /// Says what is new to one neighbour.
    fn tell(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        version: VersionId,
        runs: Vec<Range<u32>>,
        length: Option<u64>,
    ) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.told = self.news.len();
            known.untold_since = None;
        }
        cx.send(
            peer,
            Message::Have(Have {
                task: self.task,
                version,
                runs,
                length,
                wants: self.wants,
            }),
        );
    }

    /// Tells all neighbours whether this node wants blocks, and the length of a stream once it is known.
    pub(crate) fn tell_all(&mut self, cx: &mut Context<'_>, length: Option<u64>) {
        let Some(version) = self.meta.as_ref().map(|meta| meta.version) else {
            return;
        };
        let partners: Vec<(PeerId, usize)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.same_version)
            .map(|(id, peer)| (*id, peer.told))
            .collect();
        for (peer, told) in partners {
            let untold: BlockSet = self.news[told..].iter().copied().collect();
            self.tell(cx, peer, version, untold.runs(), length);
        }
        self.forget_old_news();
    }
}
