//! Whether a task's file still holds what was verified once.
//!
//! What this process wrote is as it was verified, as long as nobody else touched the file, which the file
//! system tells. What an earlier process wrote is compared with its signed digests before it is used: a disk
//! can change bytes that nobody wrote. A block without any digest is taken as it is: its whole has one, or
//! nobody can tell.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use dfnode_tracker::{BlockDigest, BlockIndex, BlockSet, SignedBatch};

use super::{Entry, Place};
use crate::store::error::ReadError;

/// What signers said of a task's blocks. Where they disagree, any of them will do: the tracker has judged.
#[derive(Debug, Default)]
pub(in crate::store) struct Digests(BTreeMap<BlockIndex, Vec<BlockDigest>>);

impl Digests {
    pub(in crate::store) fn of(batches: &[SignedBatch]) -> Self {
        let mut digests: BTreeMap<BlockIndex, Vec<BlockDigest>> = BTreeMap::new();
        for batch in batches {
            for (index, digest) in (batch.first.0..).zip(&batch.digests) {
                digests.entry(BlockIndex(index)).or_default().push(*digest);
            }
        }
        Self(digests)
    }

    /// Whether these may be the bytes of a block.
    pub(in crate::store) fn allow(&self, block: BlockIndex, bytes: &[u8]) -> bool {
        let Some(known) = self.0.get(&block) else {
            return true;
        };
        known.contains(&BlockDigest::of(bytes))
    }
}

/// When a file was last changed, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Stamp {
    changed: (i64, i64),
    length: u64,
}

impl Stamp {
    /// Of a file as it is now.
    pub(in crate::store) fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            changed: (found.ctime(), found.ctime_nsec()),
            length: found.len(),
        })
    }
}

/// What is known of the blocks in a file.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// Blocks that are as they were verified.
    proven: BlockSet,
    /// The file when it was last looked at with nothing under way.
    stamp: Option<Stamp>,
    /// Counts what this process wrote, so that a look knows whether it was at rest.
    writes: u64,
    digests: Option<Arc<Digests>>,
}

impl Proof {
    pub(super) fn wrote(&mut self, block: BlockIndex) {
        self.proven.insert(block);
        self.writes += 1;
        self.stamp = None;
    }

    pub(super) fn took_back(&mut self, block: BlockIndex) {
        self.proven.remove(block);
    }

    pub(super) fn learnt_digests(&mut self) {
        self.digests = None;
    }

    pub(super) fn is_proven(&self, block: BlockIndex) -> bool {
        self.proven.contains(block)
    }

    pub(super) const fn writes(&self) -> u64 {
        self.writes
    }
}

impl Entry {
    /// The file was at rest when it was looked at, unless something was written since `writes`.
    pub(in crate::store) fn settle(&self, stamp: Stamp, writes: u64) {
        let mut state = self.lock();
        if state.proof.writes == writes && state.writing.is_empty() && state.pending.is_empty() {
            state.proof.stamp = Some(stamp);
        }
    }

    /// Whether a block, or all blocks if somebody else touched the file, must be compared before use.
    pub(in crate::store) fn suspects(&self, stamp: Stamp) -> (Vec<BlockIndex>, u64) {
        let mut state = self.lock();
        if state.proof.stamp.is_some_and(|known| known != stamp) {
            state.proof.proven = BlockSet::new();
        }
        let written = self.progress.borrow().written.clone();
        let suspects = written.minus(&state.proof.proven).collect();
        (suspects, state.proof.writes)
    }

    /// Digests that are at hand already.
    pub(in crate::store) fn digests(&self) -> Option<Arc<Digests>> {
        self.lock().proof.digests.clone()
    }

    /// Keeps digests at hand; `stored` are those that the index has.
    pub(in crate::store) fn keep_digests(&self, mut stored: Vec<SignedBatch>) -> Arc<Digests> {
        let mut state = self.lock();
        stored.extend(state.batches.iter().cloned());
        let digests = Arc::new(Digests::of(&stored));
        state.proof.digests = Some(Arc::clone(&digests));
        digests
    }

    /// Compares a block with its digest; `false` if it is damaged. Blocking.
    pub(in crate::store) fn prove(
        &self,
        block: BlockIndex,
        digests: &Digests,
    ) -> Result<bool, ReadError> {
        let Place::File { range, exact, .. } = self.locate(block) else {
            return Ok(true);
        };
        let bytes = self.read_range(&range, exact)?;
        let is_sound = bytes.is_some_and(|bytes| digests.allow(block, &bytes));
        if is_sound {
            self.set_proven(block);
        }
        Ok(is_sound)
    }

    pub(in crate::store) fn set_proven(&self, block: BlockIndex) {
        self.lock().proof.proven.insert(block);
    }
}
