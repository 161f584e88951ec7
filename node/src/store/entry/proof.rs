//! Whether a task's file still holds what was verified once.
//!
//! What this process wrote or compared is as it was verified, as long as nobody else touched the file, which the
//! file system tells: the file's stamp is compared before each write and each use. What an earlier process wrote
//! is compared with its signed digests before it is used, and everything once more when the last comparison is
//! old: a disk can change bytes that nobody wrote. A block without any digest is taken as it is: its whole has
//! one, or nobody can tell.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use dfnode_gossip::Now;
use dfnode_tracker::{BlockDigest, BlockIndex, BlockSet, SignedBatch};
use tracing::warn;

use super::{Entry, Place};

/// How long a file that nobody touches is believed without being read again.
const MAX_PROOF_AGE: Duration = Duration::from_hours(1);

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

/// When a file was last changed, how long it is, and which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Stamp {
    changed: (i64, i64),
    length: u64,
    inode: (u64, u64),
}

impl Stamp {
    /// Of a file as it is now.
    pub(in crate::store) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|found| Self::from(&found))
    }
}

impl From<&Metadata> for Stamp {
    fn from(found: &Metadata) -> Self {
        Self {
            changed: (found.ctime(), found.ctime_nsec()),
            length: found.len(),
            inode: (found.dev(), found.ino()),
        }
    }
}

/// What is known of the blocks in a file.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// Blocks that are as they were verified.
    proven: BlockSet,
    /// Grows when `proven` is emptied: who compared a block before that knows nothing of it now.
    round: u64,
    /// Since when blocks were proven in this round.
    since: Option<Now>,
    /// The file when it was last looked at with nothing under way.
    stamp: Option<Stamp>,
    /// The newest stamp of the writes that overlap now.
    writing: Option<Stamp>,
    /// Counts the writes that ended, so that a look knows whether one came in between.
    writes: u64,
    digests: Option<Arc<Digests>>,
}

impl Proof {
    pub(super) fn wrote(&mut self, block: BlockIndex) {
        self.proven.insert(block);
    }

    /// A write ended, the file being `stamp` right after it; `is_last` if no other is under way.
    pub(super) fn write_ended(&mut self, stamp: Option<Stamp>, is_last: bool) {
        self.writes += 1;
        self.writing = self.writing.max(stamp);
        if is_last {
            self.stamp = self.writing.take();
        }
    }

    pub(super) fn took_back(&mut self, block: BlockIndex) {
        self.proven.remove(block);
    }

    /// The digests at hand are no longer all, or not worth their memory.
    pub(super) fn drop_digests(&mut self) {
        self.digests = None;
    }

    pub(super) fn is_proven(&self, block: BlockIndex) -> bool {
        self.proven.contains(block)
    }

    pub(super) const fn writes(&self) -> u64 {
        self.writes
    }

    /// The file is `stamp` and nobody of ours is writing: what if it was another before?
    fn look(&mut self, stamp: Stamp, now: Now) {
        let is_touched = self.stamp.is_some_and(|known| known != stamp);
        let since = *self.since.get_or_insert(now);
        if is_touched || now.saturating_since(since) > MAX_PROOF_AGE {
            self.proven = BlockSet::new();
            self.round += 1;
            self.since = Some(now);
        }
        self.stamp = Some(stamp);
    }
}

impl Entry {
    /// Doubts the whole file if it is not as this process left it, or was compared long ago. Blocking, briefly.
    pub(in crate::store) fn look(&self, now: Now) -> io::Result<()> {
        let writes = self.lock().proof.writes();
        let mut stamp = Stamp::of(&*self.file()?)?;
        if fs::metadata(&self.path).map_or(true, |found| Stamp::from(&found).inode != stamp.inode) {
            // Somebody took the file away, or put another in its place.
            self.let_go();
            stamp = Stamp::of(&*self.file()?)?;
        }
        let mut state = self.lock();
        if state.writing.is_empty() && state.proof.writes() == writes {
            state.proof.look(stamp, now);
        }
        Ok(())
    }

    /// Blocks that reach into `range` and must be compared before use, and the round in which they are.
    pub(in crate::store) fn suspects(&self, range: &Range<u64>) -> (Vec<BlockIndex>, u64) {
        let state = self.lock();
        let layout = state.meta.layout;
        let written = self.progress.borrow().written.clone();
        let reaches = |block: &BlockIndex| {
            let place = layout.range_of(*block);
            place.start < range.end && range.start < place.end
        };
        let suspects = written.minus(&state.proof.proven).filter(reaches).collect();
        (suspects, state.proof.round)
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

    /// Compares a block with its digest; `false` if it is damaged or cannot be read. Blocking.
    pub(in crate::store) fn prove(&self, block: BlockIndex, digests: &Digests, round: u64) -> bool {
        let Place::File { range, exact, .. } = self.locate(block) else {
            return true;
        };
        let is_sound = match self.read_range(&range, exact) {
            Ok(bytes) => bytes.is_some_and(|bytes| digests.allow(block, &bytes)),
            Err(error) => {
                warn!(task = %self.task, %block, %error, "a block cannot be read");
                false
            }
        };
        if is_sound {
            self.set_proven(block, round);
        }
        is_sound
    }

    /// A block was compared in a round, which may be over.
    pub(in crate::store) fn set_proven(&self, block: BlockIndex, round: u64) {
        let mut state = self.lock();
        if state.proof.round == round {
            state.proof.proven.insert(block);
        }
    }

    /// The round in which blocks are compared now.
    pub(in crate::store) fn round(&self) -> u64 {
        self.lock().proof.round
    }
}
