//! The taking side: which block to ask for when an upload is offered, and what comes of it.

use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use super::counts::RARE;
use super::{FLOW_PATIENCE, Session};
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::ids::{BlockDigest, BlockIndex, DigestTag, VersionId};
use crate::message::{Cancel, Decline, DeclineReason, Grant, Message, Want};
use crate::output::Output;

/// A block that is out for longer than this many usual times is asked of a second neighbour.
const HEDGE_FACTOR: u32 = 4;
/// And never sooner than this.
const MIN_HEDGE: Duration = Duration::from_millis(300);

/// Who reads along waits for the first missing block. When it was the same for so long, it is asked for before rarer ones:
/// where few hold the file all its blocks are rare, and would come in no order. Up to twice as long, as a node's name has it:
/// a crowd that began together would ask its only holder for one block at once.
const FRONT_PATIENCE_MS: u64 = 2000;

/// The blocks of one sender leave one after the other: while some come, one may wait for so many times the patience.
const QUEUE: u32 = 12;

/// A block that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) from: PeerId,
    pub(super) since: Now,
    last_byte: Now,
    /// What it was asked for: its sender has checked that it is the same to it.
    tag: DigestTag,
}

/// What an arrived block is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is what was asked for.
    Good,
    /// It is here already, or of another version.
    Useless,
    /// Its bytes are not those that were signed for.
    Altered,
}

/// When a first missing block is late that is so since now.
pub(super) fn front_due(cx: &Context<'_>) -> Now {
    let [low, high, ..] = *cx.view.me().as_bytes();
    let share = (FRONT_PATIENCE_MS * u64::from(u16::from_le_bytes([low, high]))) >> 16;
    cx.now + Duration::from_millis(FRONT_PATIENCE_MS + share)
}

impl Session {
    pub(crate) fn handle_offer(&mut self, cx: &mut Context<'_>, from: PeerId, offer: &Grant) {
        let decline = |reason| {
            Message::Decline(Decline {
                task: offer.task,
                grant: offer.grant,
                reason,
            })
        };
        let current = self.meta.as_ref().map(|meta| meta.version) == Some(offer.version);
        let Some(known) = self.peers.get_mut(&from) else {
            cx.send(from, decline(DeclineReason::Nothing));
            return;
        };
        // Unless the offer is accepted it hears when there is use for one: also where nothing is wanted only until it is
        // known that the callers may have it.
        known.owed_room = true;
        known.called = None;
        if !current || !self.wants {
            cx.send(from, decline(DeclineReason::Nothing));
            return;
        }
        let full = self.free_places(cx) == 0;
        if full || (self.is_far(&from) && self.places_across() == 0) {
            cx.send(from, decline(DeclineReason::Full));
            return;
        }
        self.note_front(cx);
        let picked = self.pick(cx, &from, &offer.suggest);
        let Some((block, digest)) =
            picked.and_then(|block| Some((block, self.ledger.digest(block)?)))
        else {
            cx.send(from, decline(DeclineReason::Nothing));
            return;
        };
        let wanted = Wanted {
            from,
            since: cx.now,
            last_byte: cx.now,
            tag: digest.tag(),
        };
        self.wanted.entry(block).or_default().push(wanted);
        self.out.insert(block);
        cx.slots.downloads.take(self.task);
        if let Some(known) = self.peers.get_mut(&from) {
            known.inbound += 1;
            known.owed_room = false;
        }
        let want = Want {
            task: self.task,
            version: offer.version,
            grant: offer.grant,
            block,
            digest: wanted.tag,
        };
        cx.send(from, Message::Want(want));
        self.arm_tick(cx.now);
    }

    /// Chooses the block to ask `from` for.
    ///
    /// A block that few neighbours hold comes first, so that its only holders may die; else the lowest one, so
    /// that a reader can follow from the start, and sooner if that one is waited for. At the end, and when a block is
    /// long out, a second neighbour is asked for it.
    fn pick(
        &self,
        cx: &mut Context<'_>,
        from: &PeerId,
        suggested: &[BlockIndex],
    ) -> Option<BlockIndex> {
        let theirs = &self.peers.get(from)?.have;
        if self.is_far(from) {
            return self.pick_across(cx, theirs);
        }
        let busy = [&self.have, &self.out, &self.reading, &self.outside];
        let is_free = |block: &BlockIndex| {
            busy.iter().all(|set| !set.contains(*block)) && self.ledger.knows(*block)
        };
        let (front, due) = self.front;
        let is_late = cx.now >= due && theirs.contains(front);
        if is_late && (is_free(&front) || self.takes_long(cx.now, front, from)) {
            return Some(front);
        }
        if let Some(block) = suggested.iter().find(|block| {
            theirs.contains(**block) && is_free(block) && self.counts.of(**block) <= RARE
        }) {
            return Some(*block);
        }
        let known = self.ledger.known();
        let rarest = theirs
            .sieve(
                [known],
                [busy[0], busy[1], busy[2], busy[3], self.counts.common()],
            )
            .map(|block| (self.counts.of(block), cx.chance.next(), block))
            .min();
        let lowest = || theirs.sieve([known], busy).next();
        rarest
            .map(|(_, _, block)| block)
            .or_else(lowest)
            .or_else(|| self.pick_again(cx.now, theirs, from))
    }

    /// Finds out which wanted block is the first that is missing.
    fn note_front(&mut self, cx: &Context<'_>) {
        let (known, _) = self.front;
        let front = self.first_missing(known);
        if front != known {
            self.front = (front, front_due(cx));
        }
    }

    /// The first wanted block at or above `from` that is missing.
    pub(super) fn first_missing(&self, from: BlockIndex) -> BlockIndex {
        let mut front = from;
        loop {
            front = self.have.first_absent(front.0);
            let inside = self.outside.first_absent(front.0);
            if inside == front {
                return front;
            }
            front = inside;
        }
    }

    /// Whether a block is out at one other neighbour alone, and for long.
    fn takes_long(&self, now: Now, block: BlockIndex, from: &PeerId) -> bool {
        let hedge = (self.service * HEDGE_FACTOR).max(MIN_HEDGE);
        match self.wanted.get(&block).map(Vec::as_slice) {
            Some([one]) => one.from != *from && now.saturating_since(one.since) >= hedge,
            _ => false,
        }
    }

    /// A block that is out already, from a neighbour that takes long, or that this node reads from the source itself.
    pub(super) fn pick_again(
        &self,
        now: Now,
        theirs: &BlockSet,
        from: &PeerId,
    ) -> Option<BlockIndex> {
        self.wanted
            .iter()
            .filter(|(block, _)| theirs.contains(**block) && self.takes_long(now, **block, from))
            .min_by_key(|(_, asked)| asked.first().map(|one| one.since))
            .map(|(block, _)| *block)
    }

    /// Bytes of a wanted block arrived.
    pub(crate) fn handle_flow(&mut self, now: Now, from: &PeerId, block: BlockIndex) {
        self.heard(now, from);
        if let Some(asked) = self
            .wanted
            .get_mut(&block)
            .and_then(|asked| asked.iter_mut().find(|one| one.from == *from))
        {
            asked.last_byte = now;
        }
    }

    /// A whole block arrived and was hashed.
    pub(crate) fn handle_block(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        version: VersionId,
        block: BlockIndex,
        digest: BlockDigest,
    ) -> Arrival {
        self.heard(cx.now, &from);
        let asked = self.unwant_from(cx, &from, block);
        let current = self.meta.as_ref().map(|meta| meta.version) == Some(version);
        let Some(expected) = self
            .ledger
            .digest(block)
            .filter(|_| current && !self.have.contains(block))
        else {
            self.make_room(cx);
            return Arrival::Useless;
        };
        if digest != expected {
            self.make_room(cx);
            // What was believed to be right when it was asked for may have proven false since: that is nobody's fault
            // who passed it on.
            let promised = asked.is_some_and(|asked| asked.tag == expected.tag());
            return if promised {
                Arrival::Altered
            } else {
                Arrival::Useless
            };
        }
        if let Some(asked) = asked {
            let took = cx.now.saturating_since(asked.since);
            if self.is_far(&from) {
                self.inlet.note_crossing(took);
            } else {
                self.service = (self.service * 7 + took) / 8;
            }
        }
        self.cancel_wanted(cx, block);
        self.gain(cx, block);
        self.make_room(cx);
        self.offer(cx);
        Arrival::Good
    }

    /// The stream of a wanted block broke, or its holder refuses it.
    pub(crate) fn handle_lost(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        block: BlockIndex,
        refused: bool,
    ) {
        self.unwant_from(cx, &from, block);
        if refused
            && let Some(known) = self.peers.get_mut(&from)
            && known.have.remove(block)
        {
            // It may have evicted the block; its next hello or news lists it again.
            let mut one = BlockSet::new();
            one.insert(block);
            self.counts.down(&one);
        }
        self.make_room(cx);
    }

    /// Forgets that a block was asked of one neighbour.
    fn unwant_from(
        &mut self,
        cx: &mut Context<'_>,
        from: &PeerId,
        block: BlockIndex,
    ) -> Option<Wanted> {
        let asked = self.wanted.get_mut(&block)?;
        let at = asked.iter().position(|one| one.from == *from)?;
        let one = asked.swap_remove(at);
        if asked.is_empty() {
            self.wanted.remove(&block);
            self.out.remove(block);
        }
        cx.slots.downloads.give_back(&self.task, 1);
        if let Some(known) = self.peers.get_mut(from) {
            known.inbound = known.inbound.saturating_sub(1);
        }
        Some(one)
    }

    /// Calls off a block that is no longer needed from anybody.
    pub(crate) fn cancel_wanted(&mut self, cx: &mut Context<'_>, block: BlockIndex) {
        let Some(version) = self.meta.as_ref().map(|meta| meta.version) else {
            return;
        };
        self.out.remove(block);
        for one in self.wanted.remove(&block).unwrap_or_default() {
            cx.slots.downloads.give_back(&self.task, 1);
            if let Some(known) = self.peers.get_mut(&one.from) {
                known.inbound = known.inbound.saturating_sub(1);
            }
            cx.out.push_back(Output::StopReceive {
                from: one.from,
                task: self.task,
                block,
            });
            cx.send(
                one.from,
                Message::Cancel(Cancel {
                    task: self.task,
                    version,
                    block,
                }),
            );
        }
    }

    pub(super) fn release_all_wanted(&mut self, cx: &mut Context<'_>) {
        let blocks: Vec<BlockIndex> = self.wanted.keys().copied().collect();
        for block in blocks {
            self.cancel_wanted(cx, block);
        }
    }

    pub(super) fn release_wanted_of(&mut self, cx: &mut Context<'_>, peer: &PeerId) {
        let blocks: Vec<BlockIndex> = self
            .wanted
            .iter()
            .filter(|(_, asked)| asked.iter().any(|one| one.from == *peer))
            .map(|(block, _)| *block)
            .collect();
        for block in blocks {
            self.unwant_from(cx, peer, block);
        }
        self.make_room(cx);
    }

    /// Gives up on wanted blocks of which no byte came for too long.
    pub(super) fn end_silent_wants(&mut self, cx: &mut Context<'_>) {
        let usual = FLOW_PATIENCE.max(self.service * 2);
        let across = usual.max(self.inlet.flow_patience());
        let silent_for = |since: Now| cx.now.saturating_since(since);
        let overdue: Vec<(BlockIndex, PeerId)> = self
            .wanted
            .iter()
            .flat_map(|(block, asked)| asked.iter().map(|one| (*block, *one)))
            .filter(|(_, one)| {
                let patience = if self.is_far(&one.from) {
                    across
                } else {
                    usual
                };
                let line_stands = cx
                    .links
                    .get(&one.from)
                    .is_none_or(|moved| silent_for(*moved) >= patience);
                let silent = silent_for(one.last_byte);
                silent >= patience && (line_stands || silent >= patience * QUEUE)
            })
            .map(|(block, one)| (block, one.from))
            .collect();
        for (block, from) in overdue {
            self.unwant_from(cx, &from, block);
            cx.out.push_back(Output::StopReceive {
                from,
                task: self.task,
                block,
            });
            if let Some(version) = self.meta.as_ref().map(|meta| meta.version) {
                cx.send(
                    from,
                    Message::Cancel(Cancel {
                        task: self.task,
                        version,
                        block,
                    }),
                );
            }
            if let Some(known) = self.peers.get_mut(&from)
                && cx.now.saturating_since(known.last_heard) >= FLOW_PATIENCE
            {
                known.silent = true;
                self.short = true;
            }
        }
        self.make_room(cx);
    }

    fn is_far(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.far)
    }

    /// The peers that blocks are coming from.
    pub(crate) fn givers(&self) -> usize {
        self.peers.values().filter(|peer| peer.inbound > 0).count()
    }
}
