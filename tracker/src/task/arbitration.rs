//! Finding out whose digests are false when the whole does not match what a caller named.

use super::Task;
use crate::context::Context;
use crate::ids::{BlockDigest, BlockIndex, VersionId};
use crate::message::{Extent, Lease};
use crate::output::{BlameReason, Origin, Output, TaskFailure};
use crate::reads::{Purpose, Unsigned};

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
        let own = (0..blocks)
            .all(|index| self.session.ledger.signer(BlockIndex(index)) == Some(cx.view.me()));
        if own {
            self.fail(cx, TaskFailure::WrongDigest);
            return;
        }
        self.wrong_blocks = 0;
        let lease = Lease {
            id: cx.chance.next() | 1,
            extent: Extent::Blocks {
                meta,
                run: 0..blocks,
            },
        };
        self.begin_read(cx, &lease, Purpose::Arbitration);
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
