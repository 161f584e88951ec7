//! What neighbours tell each other of blocks and digests.

use std::ops::Range;
use std::time::Duration;

use dfnode_gossip::PeerId;

use super::Session;
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::ids::BlockIndex;
use crate::ledger::{BadBatch, BatchIndex};
use crate::message::{Have, Message, SignedBatch};
use crate::output::{BlameReason, Output};

/// News of blocks wait this long for company.
const HAVE_BATCH: Duration = Duration::from_millis(5);

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
        let blocks = self.blocks();
        for batch in batches {
            if batch.version != version || cx.signs_falsely(&batch.signer) {
                continue;
            }
            let signer = batch.signer;
            match self.ledger.add(&version, blocks, batch) {
                Ok(None) => {}
                Ok(Some(index)) => {
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
        Ok(())
    }

    /// A neighbour got further blocks. `false` if it names blocks that cannot be.
    pub(crate) fn handle_have(&mut self, cx: &mut Context<'_>, from: PeerId, have: &Have) -> bool {
        if self.meta.as_ref().map(|meta| meta.version) != Some(have.version) {
            return true;
        }
        self.learn_length(cx, have.length);
        let Some(blocks) = BlockSet::from_runs(
            &have.runs,
            self.blocks().unwrap_or(crate::layout::MAX_BLOCKS),
        ) else {
            return have.runs.is_empty();
        };
        let Some(known) = self.peers.get_mut(&from) else {
            return true;
        };
        known.wants = have.wants;
        let news: Vec<BlockIndex> = blocks
            .iter()
            .filter(|block| known.have.insert(*block))
            .collect();
        for block in news {
            self.count_up(block);
        }
        if !have.wants {
            self.end_uploads_to(cx, from);
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
        self.fresh.push(block);
        if self.is_complete() && self.wants {
            self.wants = false;
            self.flush(cx);
        } else if self.fresh.len() == 1 {
            // With few blocks in all, each is news enough to be told at once.
            let wait = if self.blocks().is_some_and(|blocks| blocks <= 16) {
                Duration::ZERO
            } else {
                HAVE_BATCH
            };
            self.flush_at = Some(cx.now + wait);
        }
    }

    /// Tells all neighbours of the fresh blocks, digests first.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) {
        self.flush_at = None;
        if self.fresh.is_empty() {
            return;
        }
        let fresh: BlockSet = std::mem::take(&mut self.fresh).into_iter().collect();
        if cx.view.leech() {
            return self.tell_all(cx, &[], None);
        }
        let batches: std::collections::BTreeSet<BatchIndex> = fresh
            .iter()
            .filter_map(|block| self.ledger.batch_of(block))
            .collect();
        let batches: Vec<BatchIndex> = batches.into_iter().collect();
        let partners: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.same_version)
            .map(|(id, _)| *id)
            .collect();
        for peer in partners {
            if self.peers.get(&peer).is_some_and(|known| known.wants) {
                self.send_batches(cx, peer, &batches);
            }
        }
        self.tell_all(cx, &fresh.runs(), None);
        self.offer(cx);
    }

    pub(super) fn tell_all(
        &mut self,
        cx: &mut Context<'_>,
        runs: &[Range<u32>],
        length: Option<u64>,
    ) {
        let Some(version) = self.meta.as_ref().map(|meta| meta.version) else {
            return;
        };
        for (peer, known) in &self.peers {
            // A neighbour that wants nothing more has no use for our news, but for the end of our own wanting.
            if known.same_version && (known.wants || length.is_some() || !self.wants) {
                let runs = if known.wants {
                    runs.to_vec()
                } else {
                    Vec::new()
                };
                cx.send(
                    *peer,
                    Message::Have(Have {
                        task: self.task,
                        version,
                        runs,
                        length,
                        wants: self.wants,
                    }),
                );
            }
        }
    }

    /// Tells neighbours that this node wants blocks now.
    pub(crate) fn tell_wants(&mut self, cx: &mut Context<'_>) {
        let Some(version) = self.meta.as_ref().map(|meta| meta.version) else {
            return;
        };
        for (peer, known) in &self.peers {
            if known.same_version {
                let have = Have {
                    task: self.task,
                    version,
                    runs: Vec::new(),
                    length: None,
                    wants: self.wants,
                };
                cx.send(*peer, Message::Have(have));
            }
        }
    }
}
