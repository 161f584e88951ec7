//! Finding out whose digests are false when the whole does not match what a caller named.

use std::collections::BTreeMap;
use std::ops::Range;

use dfnode_gossip::PeerId;

use super::Task;
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::ids::{BlockDigest, BlockIndex, VersionId};
use crate::message::{Extent, Lease};
use crate::output::{BlameReason, Origin, Output, TaskFailure};
use crate::reads::{Purpose, Unsigned};

/// What is left to be compared with the source.
///
/// Whoever reads everything again costs the source a copy, and in a crowd everybody would. So one block of each signer is
/// compared first, and if one is false, what that signer signed: then the whole is hashed again.
#[derive(Debug, Default)]
pub(super) struct Arbitration {
    samples: Vec<(PeerId, BlockIndex)>,
    /// Whose sample is being read.
    sampled: Option<PeerId>,
    /// What each other signer signed.
    signed: BTreeMap<PeerId, BlockSet>,
    /// What nobody signed.
    unsigned: BlockSet,
    runs: Vec<Range<u32>>,
}

impl Task {
    /// The whole does not match the digest that a caller named: somebody lied, or the source has something else.
    pub(crate) fn handle_wrong_digest(&mut self, cx: &mut Context<'_>) {
        let Some(meta) = self.session.meta.clone() else {
            return;
        };
        let may_read = self.may_read();
        let Some(blocks) = meta.layout.blocks().filter(|_| may_read && !meta.single) else {
            self.fail(cx, TaskFailure::WrongDigest);
            return;
        };
        let mut arbitration = Arbitration::default();
        for block in (0..blocks).map(BlockIndex) {
            match self.session.ledger.signer(block) {
                Some(signer) if signer == cx.view.me() => {}
                Some(signer) => {
                    arbitration.signed.entry(signer).or_default().insert(block);
                }
                None => {
                    arbitration.unsigned.insert(block);
                }
            }
        }
        for (signer, signed) in &arbitration.signed {
            let place = cx.chance.below(u64::from(signed.len()));
            let sample = usize::try_from(place)
                .ok()
                .and_then(|place| signed.iter().nth(place));
            arbitration
                .samples
                .extend(sample.map(|block| (*signer, block)));
        }
        self.wrong_blocks = 0;
        self.arbitration = arbitration;
        if !self.arbitrate_on(cx) {
            self.fail(cx, TaskFailure::WrongDigest);
        }
    }

    /// Reads what is to be compared next. `false` if nothing is.
    pub(super) fn arbitrate_on(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(meta) = self.session.meta.clone() else {
            return false;
        };
        let found = self.wrong_blocks > 0;
        let Arbitration {
            samples,
            sampled,
            signed,
            unsigned,
            runs,
        } = &mut self.arbitration;
        if let Some(signer) = sampled.take().filter(|_| found) {
            samples.clear();
            runs.extend(signed.remove(&signer).unwrap_or_default().runs());
            signed.clear();
        } else if samples.is_empty() && !found {
            // Who lies does so here and there.
            let all = std::mem::take(signed).into_values();
            let all = all.chain([std::mem::take(unsigned)]);
            runs.extend(all.flat_map(|blocks| blocks.runs()));
        }
        let run = runs.pop().or_else(|| {
            let (signer, block) = samples.pop()?;
            *sampled = Some(signer);
            Some(block.0..block.0.saturating_add(1))
        });
        let Some(run) = run else { return false };
        let lease = Lease {
            id: cx.chance.next() | 1,
            extent: Extent::Blocks { meta, run },
        };
        self.begin_read(cx, &lease, Purpose::Arbitration);
        true
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
        self.wrong_blocks += 1;
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
