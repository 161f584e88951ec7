//! Finding out whose digests are false when the whole does not match what a caller named.
//!
//! A source must not give everybody a copy because one member lied. So a block of each signer is compared first, then
//! all that was signed by those found false, and everything only if the whole is wrong even so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use dfnode_gossip::PeerId;

use super::Task;
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::ids::{BlockDigest, BlockIndex, VersionId};
use crate::message::{Extent, Lease};
use crate::meta::{Meta, SourceFailure};
use crate::output::{BlameReason, Origin, Output, TaskFailure};
use crate::reads::{Purpose, Unsigned};

/// Signers of whom a block is compared.
const MAX_SAMPLES: usize = 8;

/// How far the comparison of one version with its source has come.
///
/// Whatever stops it, it begins anew with the next wrong whole: only a comparison that came to its end says anything.
#[derive(Debug, Default)]
pub(super) struct Dispute {
    stage: Stage,
    /// What is still to be read in this stage, one after the other: a source may count requests.
    runs: VecDeque<Range<u32>>,
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
        if self.dispute.stage == Stage::Whole {
            self.fail(cx, TaskFailure::WrongDigest);
            return;
        }
        let signed = self.signed_by_others(cx);
        if signed.is_empty() {
            self.fail(cx, TaskFailure::WrongDigest);
        } else if self.dispute.stage == Stage::Untouched && meta.ranges {
            let samples = samples(cx, signed);
            self.enter_stage(cx, Stage::Samples, samples);
        } else {
            self.compare_whole(cx, &meta);
        }
    }

    fn signed_by_others(&self, cx: &Context<'_>) -> BTreeMap<PeerId, BlockSet> {
        let mut blocks_of: BTreeMap<PeerId, BlockSet> = BTreeMap::new();
        for block in self.session.have.iter() {
            let signer = self.session.ledger.signer(block);
            if let Some(other) = signer.filter(|signer| *signer != cx.view.me()) {
                blocks_of.entry(other).or_default().insert(block);
            }
        }
        blocks_of
    }

    fn compare_whole(&mut self, cx: &mut Context<'_>, meta: &Meta) {
        let blocks = meta.layout.blocks().unwrap_or(0);
        self.enter_stage(cx, Stage::Whole, std::iter::once(0..blocks).collect());
    }

    fn enter_stage(&mut self, cx: &mut Context<'_>, stage: Stage, runs: VecDeque<Range<u32>>) {
        self.dispute.stage = stage;
        self.dispute.has_found = false;
        self.dispute.runs = runs;
        self.compare_next(cx);
    }

    /// A comparison ended: what is to be compared next, and whether the whole is worth another look.
    pub(super) fn compare_next(&mut self, cx: &mut Context<'_>) {
        let Some(meta) = self.session.meta.clone() else {
            return;
        };
        if let Some(run) = self.dispute.runs.pop_front() {
            let id = cx.chance.next() | 1;
            let extent = Extent::Blocks { meta, run };
            self.begin_read(cx, &Lease { id, extent }, Purpose::Arbitration);
            return;
        }
        match (self.dispute.stage, self.dispute.has_found) {
            (Stage::Samples, true) => {
                let mut theirs = BlockSet::new();
                for (signer, blocks) in self.signed_by_others(cx) {
                    if self.dispute.suspects.contains(&signer) {
                        theirs.unite(&blocks);
                    }
                }
                theirs.subtract(&self.dispute.compared);
                self.enter_stage(cx, Stage::Suspects, theirs.runs().into());
            }
            (Stage::Samples, false) => self.compare_whole(cx, &meta),
            (Stage::Whole, false) => self.fail(cx, TaskFailure::WrongDigest),
            // Untouched: a block was lost meanwhile, and what was compared may have changed.
            (Stage::Suspects | Stage::Untouched, _) | (Stage::Whole, true) => {
                self.complete_told = false;
            }
        }
    }

    /// A comparison could not be read to its end.
    pub(super) fn comparison_failed(&mut self, cx: &mut Context<'_>, failure: SourceFailure) {
        let passes = matches!(
            failure,
            SourceFailure::Busy { .. } | SourceFailure::Transient { .. }
        );
        if passes && self.dispute.stage == Stage::Samples {
            // One sample fewer.
            self.compare_next(cx);
            return;
        }
        self.dispute = Dispute::default();
        let failure = if failure == SourceFailure::Changed {
            TaskFailure::WrongDigest
        } else {
            TaskFailure::Source(failure)
        };
        self.fail(cx, failure);
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
        self.dispute.compared.insert(block);
        if self.session.ledger.digest(block) != Some(digest) {
            self.dispute.has_found = true;
            self.dispute
                .suspects
                .extend(self.session.ledger.signer(block));
            return self.overrule(cx, lease, block, digest, version);
        }
        if let Some(read) = self.reads.get_mut(&lease) {
            read.done_to = block.0.saturating_add(1);
        }
        let (task, origin) = (self.id, Origin::Source(lease));
        if self.session.have.contains(block) {
            cx.out.push_back(Output::Drop {
                task,
                block,
                origin,
            });
        } else {
            // It was lost while the source was read.
            self.session.cancel_wanted(cx, block);
            self.session.gain(cx, block);
            cx.out.push_back(Output::Keep {
                task,
                version,
                block,
                origin,
            });
        }
        None
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
fn samples(cx: &mut Context<'_>, signed: BTreeMap<PeerId, BlockSet>) -> VecDeque<Range<u32>> {
    let mut ranked: Vec<(bool, u64, BlockIndex)> = signed
        .into_iter()
        .filter_map(|(signer, blocks)| {
            let place = cx.chance.below(blocks.len().into());
            let sample = blocks.iter().nth(usize::try_from(place).ok()?)?;
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
