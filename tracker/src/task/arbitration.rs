//! Finding out whose digests are false when the whole does not match what a caller named.
//!
//! A source must not give everybody a copy because one member lied. So a block of each signer is compared first, then
//! all that was signed by those found false, and everything only if the whole is wrong even so.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use dfnode_gossip::PeerId;

use super::Task;
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::ids::{BlockDigest, BlockIndex, VersionId};
use crate::message::{Extent, Lease};
use crate::meta::Meta;
use crate::output::{BlameReason, Origin, Output, TaskFailure};
use crate::reads::{Purpose, Unsigned};

/// Signers of whom a block is compared, and requests for what suspects signed.
const MAX_SAMPLES: usize = 8;

/// How far the comparison of one version with its source has come.
#[derive(Debug, Default)]
pub(super) struct Dispute {
    stage: Stage,
    compared: BlockSet,
    /// Who signed a block that the source gives otherwise.
    suspects: BTreeSet<PeerId>,
    /// Whether the present stage found a block that the source gives otherwise.
    has_found: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was compared.
    #[default]
    Untouched,
    /// One block of each of some signers.
    Samples,
    /// What those signed of whom a block was false.
    Suspects,
    /// Everything.
    Whole,
}

impl Task {
    /// The whole does not match the digest that a caller named: somebody lied, or the source has something else.
    pub(crate) fn handle_wrong_digest(&mut self, cx: &mut Context<'_>) {
        let meta = self.session.meta.clone();
        let Some(meta) = meta.filter(|meta| self.may_read() && !meta.single) else {
            self.fail(cx, TaskFailure::WrongDigest);
            return;
        };
        let signed = self.signed_by_others(cx);
        if signed.is_empty() || self.dispute.stage == Stage::Whole {
            self.fail(cx, TaskFailure::WrongDigest);
            return;
        }
        if self.dispute.stage == Stage::Untouched && meta.ranges {
            self.dispute.stage = Stage::Samples;
            let samples = samples(cx, signed);
            self.compare(cx, &meta, samples);
        } else {
            self.compare_whole(cx, &meta);
        }
    }

    fn signed_by_others(&self, cx: &Context<'_>) -> BTreeMap<PeerId, Vec<BlockIndex>> {
        let mut blocks_of: BTreeMap<PeerId, Vec<BlockIndex>> = BTreeMap::new();
        for block in self.session.have.iter() {
            let signer = self.session.ledger.signer(block);
            if let Some(other) = signer.filter(|signer| *signer != cx.view.me()) {
                blocks_of.entry(other).or_default().push(block);
            }
        }
        blocks_of
    }

    fn compare_whole(&mut self, cx: &mut Context<'_>, meta: &Meta) {
        self.dispute.stage = Stage::Whole;
        self.dispute.has_found = false;
        let blocks = meta.layout.blocks().unwrap_or(0);
        self.compare(cx, meta, std::iter::once(0..blocks));
    }

    fn compare(
        &mut self,
        cx: &mut Context<'_>,
        meta: &Meta,
        runs: impl IntoIterator<Item = Range<u32>>,
    ) {
        for run in runs {
            let lease = Lease {
                id: cx.chance.next() | 1,
                extent: Extent::Blocks {
                    meta: meta.clone(),
                    run,
                },
            };
            self.begin_read(cx, &lease, Purpose::Arbitration);
        }
    }

    /// A comparison ended: what is to be compared next, and whether the whole is worth another look.
    pub(super) fn compared(&mut self, cx: &mut Context<'_>) {
        let mut purposes = self.reads.values().map(|read| read.purpose);
        let is_open = purposes.any(|purpose| purpose == Purpose::Arbitration);
        let Some(meta) = self.session.meta.clone().filter(|_| !is_open) else {
            return;
        };
        match (self.dispute.stage, self.dispute.has_found) {
            (Stage::Samples, true) => {
                self.dispute.stage = Stage::Suspects;
                let mut theirs = BlockSet::new();
                for (signer, blocks) in self.signed_by_others(cx) {
                    if self.dispute.suspects.contains(&signer) {
                        theirs.unite(&blocks.into_iter().collect());
                    }
                }
                theirs.subtract(&self.dispute.compared);
                let runs = theirs.runs();
                if runs.is_empty() {
                    self.complete_told = false;
                } else if runs.len() <= MAX_SAMPLES {
                    self.compare(cx, &meta, runs);
                } else {
                    self.compare_whole(cx, &meta);
                }
            }
            (Stage::Samples, false) => self.compare_whole(cx, &meta),
            (Stage::Suspects, _) | (Stage::Whole, true) => self.complete_told = false,
            (Stage::Whole | Stage::Untouched, false) | (Stage::Untouched, true) => {
                self.fail(cx, TaskFailure::WrongDigest);
            }
        }
    }

    /// Compares a block with what was signed for it; the source's word is final.
    pub(super) fn arbitrate(
        &mut self,
        cx: &mut Context<'_>,
        lease: u64,
        block: BlockIndex,
        digest: BlockDigest,
        version: VersionId,
    ) -> Option<Unsigned> {
        let origin = Origin::Source(lease);
        self.dispute.compared.insert(block);
        if self.session.ledger.digest(block) == Some(digest) {
            if let Some(read) = self.reads.get_mut(&lease) {
                read.done_to = block.0.saturating_add(1);
            }
            cx.out.push_back(Output::Drop {
                task: self.id,
                block,
                origin,
            });
            return None;
        }
        self.dispute.has_found = true;
        self.dispute
            .suspects
            .extend(self.session.ledger.signer(block));
        self.overrule(cx, lease, block, digest, version)
    }

    /// The source gave other bytes of a block than somebody signed for: it is right, and who signed is to blame.
    pub(super) fn overrule(
        &mut self,
        cx: &mut Context<'_>,
        lease: u64,
        block: BlockIndex,
        digest: BlockDigest,
        version: VersionId,
    ) -> Option<Unsigned> {
        let origin = Origin::Source(lease);
        if let Some(signer) = self
            .session
            .ledger
            .signer(block)
            .filter(|signer| *signer != cx.view.me())
        {
            cx.blame(signer, BlameReason::FalseDigest);
        }
        self.session.ledger.correct(block);
        if !self.session.have.contains(block) {
            self.session.cancel_wanted(cx, block);
            self.session.gain(cx, block);
            self.tell_progress(cx);
        }
        cx.out.push_back(Output::Keep {
            task: self.id,
            version,
            block,
            origin,
        });
        self.reads
            .get_mut(&lease)
            .and_then(|read| read.block(cx.now, block, digest, self.session.have.len()))
    }
}

/// One block of each of some signers, at random; of those first with whom this node has nothing to do any more.
fn samples(cx: &mut Context<'_>, signed: BTreeMap<PeerId, Vec<BlockIndex>>) -> Vec<Range<u32>> {
    let mut ranked: Vec<(bool, u64, BlockIndex)> = signed
        .into_iter()
        .filter_map(|(signer, blocks)| {
            let sample = cx.chance.choose(&blocks)?;
            Some((!cx.is_isolated(&signer), cx.chance.next(), sample))
        })
        .collect();
    ranked.sort_unstable();
    ranked.truncate(MAX_SAMPLES);
    let samples = ranked.into_iter().map(|(_, _, sample)| sample.0);
    samples
        .map(|block| block..block.saturating_add(1))
        .collect()
}
