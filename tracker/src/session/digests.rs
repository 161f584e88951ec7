//! What blocks must hash to: told by those who signed it, asked for by everybody else.
//!
//! A reader of the source sends what it signed to all its neighbours; it is news to each. From there on a node that
//! hears of a block without knowing its digest asks whoever told it. So each node gets each digest about once, however
//! many neighbours it has.

use dfnode_gossip::{Now, PeerId};

use super::{PATIENCE, Session};
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::ledger::{BadBatch, BatchIndex};
use crate::message::{AskDigests, Batches, DeclineReason, Message, SignedBatch};
use crate::output::{BlameReason, Output};
use crate::wire::{MAX_ASKED_RUNS, MAX_BATCHES};

/// Digests that this node has asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    blocks: BlockSet,
    /// When they may be asked for again.
    again: Option<Now>,
}

impl Session {
    pub(crate) fn handle_batches(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        batches: Vec<SignedBatch>,
    ) -> Result<(), BadBatch> {
        let Some(version) = self.meta.as_ref().map(|meta| meta.version) else {
            return Ok(());
        };
        let (task, blocks) = (self.task, self.blocks());
        let mut is_news = false;
        for batch in batches {
            if batch.version != version || cx.signs_falsely(&batch.signer) {
                continue;
            }
            let signer = batch.signer;
            match self.ledger.add((&task, &version), blocks, batch, cx.verify) {
                Ok(None) => {}
                Ok(Some(index)) => {
                    is_news = true;
                    if let Some(known) = self.peers.get_mut(&from) {
                        known.batches.insert(index);
                    }
                    if let Some(batch) = self.ledger.batch(index) {
                        cx.out.push_back(Output::KeepBatch {
                            task: self.task,
                            batch: batch.clone(),
                        });
                    }
                }
                Err(BadBatch::Contradiction) => cx.blame(signer, BlameReason::FalseDigest),
                Err(bad @ (BadBatch::Misplaced | BadBatch::Signature)) => return Err(bad),
            }
        }
        if is_news {
            self.make_room(cx);
        }
        Ok(())
    }

    /// Asks a neighbour for the digests of blocks that it holds, unless they are known or asked for already.
    pub(super) fn ask_digests(&mut self, cx: &mut Context<'_>, of: PeerId, held: &BlockSet) {
        let Some(version) = self.meta.as_ref().map(|meta| meta.version) else {
            return;
        };
        if !self.wants {
            return;
        }
        let unknown: BlockSet = held
            .sieve([], [self.ledger.known(), &self.have, &self.asked.blocks])
            .collect();
        let mut runs = unknown.runs();
        // What does not fit is asked for when the patience with the rest is over.
        runs.truncate(MAX_ASKED_RUNS);
        if runs.is_empty() {
            return;
        }
        for run in &runs {
            self.asked.blocks.insert_run(run.clone());
        }
        self.asked.again.get_or_insert(cx.now + PATIENCE);
        cx.send(
            of,
            Message::AskDigests(AskDigests {
                task: self.task,
                version,
                runs,
            }),
        );
        self.arm_tick(cx.now);
    }

    /// Asks again for what did not come.
    pub(super) fn ask_digests_again(&mut self, cx: &mut Context<'_>) {
        if self.asked.again.is_none_or(|at| cx.now < at) {
            return;
        }
        self.asked = Asked::default();
        let holders: Vec<(u64, PeerId)> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.is_partner())
            .map(|(id, _)| (cx.chance.next(), *id))
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        for (_, holder) in holders {
            let held = self.peers.get(&holder).map(|peer| peer.have.clone());
            self.ask_digests(cx, holder, &held.unwrap_or_default());
        }
    }

    /// Whoever was asked for digests may have gone: others are asked at the next opportunity.
    pub(super) fn forget_asked_digests(&mut self, now: Now) {
        if self.asked.again.is_some() {
            self.ask_digests_at(now);
        }
    }

    /// At the first tick from then on, neighbours are asked for all digests that are still unknown.
    pub(super) fn ask_digests_at(&mut self, at: Now) {
        self.asked.again = Some(at);
        self.arm_tick(at);
    }

    /// A neighbour asks for digests. `false` if it names blocks that cannot be.
    pub(crate) fn handle_ask_digests(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        ask: &AskDigests,
    ) -> bool {
        if self.meta.as_ref().map(|meta| meta.version) != Some(ask.version) {
            return true;
        }
        let limit = self.blocks().unwrap_or(crate::layout::MAX_BLOCKS);
        if BlockSet::from_runs(&ask.runs, limit).is_none() {
            return false;
        }
        let batches: Vec<BatchIndex> = self.ledger.batches_of(&ask.runs).into_iter().collect();
        if !self.send_batches(cx, from, &batches) {
            // It may ask only to hear whether this node lives.
            let (task, batches) = (self.task, Vec::new());
            cx.send(from, Message::Batches(Batches { task, batches }));
        }
        // It could ask for nothing as long as it did not know what to expect.
        if let Some(known) = self.peers.get_mut(&from)
            && matches!(known.declined, Some((DeclineReason::Nothing, _)))
        {
            known.declined = None;
        }
        self.offer(cx);
        true
    }

    /// Digests that this node signed itself are news to everybody.
    pub(super) fn push_own_batches(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        blocks: &BlockSet,
    ) {
        if !self.signs {
            return;
        }
        let me = cx.view.me();
        let own: Vec<BatchIndex> = self
            .ledger
            .batches_of(&blocks.runs())
            .into_iter()
            .filter(|index| {
                self.ledger
                    .batch(*index)
                    .is_some_and(|batch| batch.signer == me)
            })
            .collect();
        self.send_batches(cx, peer, &own);
    }

    /// Sends those of `batches` that the neighbour has not got from or given to us. Whether there are any.
    pub(super) fn send_batches(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        batches: &[BatchIndex],
    ) -> bool {
        let Some(known) = self.peers.get_mut(&peer) else {
            return false;
        };
        let mut unsent = Vec::new();
        for index in batches {
            if known.batches.insert(*index) {
                unsent.extend(self.ledger.batch(*index).cloned());
            }
        }
        for batches in unsent.chunks(MAX_BATCHES) {
            cx.send(
                peer,
                Message::Batches(Batches {
                    task: self.task,
                    batches: batches.to_vec(),
                }),
            );
        }
        !unsent.is_empty()
    }
}
