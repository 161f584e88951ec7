//! The signed digests of one version: what each block must hash to, and who says so.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use dfnode_gossip::PeerId;

use crate::blocks::BlockSet;
use crate::ids::{BlockDigest, BlockIndex, TaskId, VersionId};
use crate::layout::MAX_BLOCKS;
use crate::local::Verify;
use crate::message::SignedBatch;

/// Position of a batch in a ledger.
pub(crate) type BatchIndex = u32;

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadBatch {
    /// It names another version, or blocks that cannot be.
    #[error("the batch does not belong to this version")]
    Misplaced,
    /// The signature is not its signer's.
    #[error("the batch is not signed by its signer")]
    Signature,
    /// The same signer signed two digests for one block.
    #[error("the signer contradicts itself")]
    Contradiction,
}

/// The digests known for one version. A block's first signed digest holds; a second signer who disagrees is kept
/// out, so that no peer can replace a digest that data was already verified against.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    batches: Vec<SignedBatch>,
    by_block: BTreeMap<u32, (BlockDigest, BatchIndex)>,
    /// The keys of `by_block`.
    known: BlockSet,
}

impl Ledger {
    pub(crate) fn digest(&self, block: BlockIndex) -> Option<BlockDigest> {
        self.by_block.get(&block.0).map(|(digest, _)| *digest)
    }

    pub(crate) fn knows(&self, block: BlockIndex) -> bool {
        self.known.contains(block)
    }

    /// The blocks whose digests are known.
    pub(crate) const fn known(&self) -> &BlockSet {
        &self.known
    }

    /// The batches that speak for blocks of these runs.
    pub(crate) fn batches_of(&self, runs: &[Range<u32>]) -> BTreeSet<BatchIndex> {
        runs.iter()
            .filter(|run| !run.is_empty())
            .flat_map(|run| self.by_block.range(run.clone()))
            .map(|(_, (_, batch))| *batch)
            .collect()
    }

    /// The batch that speaks for a block.
    pub(crate) fn batch_of(&self, block: BlockIndex) -> Option<BatchIndex> {
        self.by_block.get(&block.0).map(|(_, batch)| *batch)
    }

    pub(crate) fn batch(&self, index: BatchIndex) -> Option<&SignedBatch> {
        self.batches.get(index as usize)
    }

    /// Who signed the digest that a block was verified against.
    pub(crate) fn signer(&self, block: BlockIndex) -> Option<PeerId> {
        self.batch_of(block)
            .and_then(|index| self.batch(index))
            .map(|batch| batch.signer)
    }

    /// Adds a batch that a peer sent. `Ok(None)` if it says nothing new.
    pub(crate) fn add(
        &mut self,
        (task, version): (&TaskId, &VersionId),
        blocks: Option<u32>,
        batch: SignedBatch,
        verify: Verify,
    ) -> Result<Option<BatchIndex>, BadBatch> {
        let run = batch.run();
        if batch.version != *version || run.end > blocks.unwrap_or(MAX_BLOCKS) {
            return Err(BadBatch::Misplaced);
        }
        let fresh = batch.run().any(|index| !self.by_block.contains_key(&index));
        if !fresh && self.agrees(&batch) {
            return Ok(None);
        }
        let signed = SignedBatch::signing_bytes(task, &batch.version, batch.first, &batch.digests);
        if !verify(&batch.signer, &signed, &batch.signature) {
            return Err(BadBatch::Signature);
        }
        if self.contradicts_itself(&batch) {
            return Err(BadBatch::Contradiction);
        }
        Ok(fresh.then(|| self.enter(batch)))
    }

    /// Adds a batch that this node signed or stored itself.
    pub(crate) fn enter(&mut self, batch: SignedBatch) -> BatchIndex {
        let index = BatchIndex::try_from(self.batches.len()).unwrap_or(BatchIndex::MAX);
        for (block, digest) in batch.run().zip(&batch.digests) {
            self.by_block.entry(block).or_insert((*digest, index));
            self.known.insert(BlockIndex(block));
        }
        self.batches.push(batch);
        index
    }

    /// Takes back what `signer` said of blocks that `keep` does not name: its word is worth nothing any more.
    pub(crate) fn distrust(&mut self, signer: &PeerId, keep: impl Fn(BlockIndex) -> bool) {
        let batches = &self.batches;
        self.by_block.retain(|block, (_, index)| {
            keep(BlockIndex(*block))
                || batches
                    .get(*index as usize)
                    .is_none_or(|batch| batch.signer != *signer)
        });
        self.known = self.by_block.keys().copied().map(BlockIndex).collect();
    }

    /// Replaces the digest of a block by what the source itself gave.
    pub(crate) fn correct(&mut self, block: BlockIndex) {
        self.by_block.remove(&block.0);
        self.known.remove(block);
    }

    fn agrees(&self, batch: &SignedBatch) -> bool {
        batch
            .run()
            .zip(&batch.digests)
            .all(|(block, digest)| self.digest(BlockIndex(block)) == Some(*digest))
    }

    fn contradicts_itself(&self, batch: &SignedBatch) -> bool {
        batch.run().zip(&batch.digests).any(|(block, digest)| {
            self.digest(BlockIndex(block))
                .is_some_and(|known| known != *digest)
                && self.signer(BlockIndex(block)) == Some(batch.signer)
        })
    }
}

/// Whether a peer's key signed these bytes, by Ed25519.
pub fn verify_signature(signer: &PeerId, bytes: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(signer.as_bytes()) else {
        return false;
    };
    let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else {
        return false;
    };
    key.verify_strict(bytes, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    fn signed(key: &SigningKey, first: u32, contents: &[&[u8]]) -> SignedBatch {
        let version = VersionId::derive("etag", b"1");
        let digests: Vec<_> = contents
            .iter()
            .map(|bytes| BlockDigest::of(bytes))
            .collect();
        let signature = key.sign(&SignedBatch::signing_bytes(
            &TASK,
            &version,
            BlockIndex(first),
            &digests,
        ));
        SignedBatch {
            version,
            signer: PeerId::from_bytes(*key.verifying_key().as_bytes()),
            first: BlockIndex(first),
            digests,
            signature: signature.to_bytes().to_vec(),
        }
    }

    const TASK: TaskId = TaskId::from_bytes([7; 32]);

    fn version() -> VersionId {
        VersionId::derive("etag", b"1")
    }

    #[test]
    fn a_batch_with_an_altered_digest_is_refused() {
        let mut batch = signed(&SigningKey::from_bytes(&[1; 32]), 0, &[b"a", b"b"]);
        batch.digests[1] = BlockDigest::of(b"c");
        assert_eq!(
            Ledger::default().add((&TASK, &version()), Some(2), batch, verify_signature),
            Err(BadBatch::Signature)
        );
    }

    #[test]
    fn a_batch_of_another_task_is_refused() {
        let batch = signed(&SigningKey::from_bytes(&[1; 32]), 0, &[b"a"]);
        let other = TaskId::from_bytes([8; 32]);
        assert_eq!(
            Ledger::default().add((&other, &version()), Some(2), batch, verify_signature),
            Err(BadBatch::Signature)
        );
    }

    #[test]
    fn the_first_signer_of_a_block_holds_and_the_second_changes_nothing() {
        let (one, two) = (
            SigningKey::from_bytes(&[1; 32]),
            SigningKey::from_bytes(&[2; 32]),
        );
        let mut ledger = Ledger::default();
        ledger
            .add(
                (&TASK, &version()),
                Some(2),
                signed(&one, 0, &[b"a"]),
                verify_signature,
            )
            .expect("sound");
        assert_eq!(
            ledger.add(
                (&TASK, &version()),
                Some(2),
                signed(&two, 0, &[b"x"]),
                verify_signature
            ),
            Ok(None)
        );
        assert_eq!(ledger.digest(BlockIndex(0)), Some(BlockDigest::of(b"a")));
    }

    #[test]
    fn a_signer_who_contradicts_itself_is_found_out() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let mut ledger = Ledger::default();
        ledger
            .add(
                (&TASK, &version()),
                Some(2),
                signed(&key, 0, &[b"a"]),
                verify_signature,
            )
            .expect("sound");
        assert_eq!(
            ledger.add(
                (&TASK, &version()),
                Some(2),
                signed(&key, 0, &[b"x", b"y"]),
                verify_signature
            ),
            Err(BadBatch::Contradiction)
        );
    }

    #[test]
    fn digests_behind_the_end_of_the_file_are_refused() {
        let batch = signed(&SigningKey::from_bytes(&[1; 32]), 1, &[b"a", b"b"]);
        assert_eq!(
            Ledger::default().add((&TASK, &version()), Some(2), batch, verify_signature),
            Err(BadBatch::Misplaced)
        );
    }
}
