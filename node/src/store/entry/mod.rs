//! One version of one task: its file, what waits to be written, and what is believed of it.
//!
//! A block is first *pending* (in memory, readable at once), then *written* (in the file, readable by
//! descriptor), then *durable* (synced and named by the index). No lock is held over a write, a read or a
//! sync; opening the file is the one call that may happen under none either.

mod file;
mod proof;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dfnode_tracker::{BlockIndex, Meta, SignedBatch, TaskId, VersionId};
use tokio::sync::watch;

pub(super) use self::proof::{Digests, Stamp};

use self::proof::Proof;
use crate::store::about::About;
use crate::store::error::{PutError, ReserveError};
use crate::store::index::{Indexed, TaskChange};
use crate::store::progress::{Progress, WriteFailure};
use crate::store::record::TaskRecord;

/// Digests that a task's batches may hold, as a multiple of its blocks: signers may overlap.
const MAX_DIGESTS_PER_BLOCK: u32 = 8;
/// Digests that any task's batches may hold, however small it is or while its length is unknown.
const MIN_DIGESTS: u32 = 1 << 16;

/// Whether the place of a task is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Opening {
    Pending,
    Ready,
    Failed(ReserveError),
}

pub(super) struct Entry {
    pub(super) task: TaskId,
    pub(super) version: VersionId,
    /// Names the file; never used twice, so a late writer of a removed task harms nobody.
    pub(super) generation: u64,
    pub(super) path: PathBuf,
    pub(super) opened: watch::Sender<Opening>,
    pub(super) progress: watch::Sender<Progress>,
    used_at_ms: AtomicU64,
    state: Mutex<State>,
    /// Held while blocks in doubt are compared: whoever else wants to know waits and finds them proven.
    pub(super) auditing: tokio::sync::Mutex<()>,
}

/// How far a task's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is not made yet: blocks wait in memory.
    Waiting,
    /// Blocks go to the writers as they come.
    Ready,
    /// It is unlinked.
    Removed,
}

struct State {
    meta: Meta,
    about: About,
    complete: bool,
    stage: Stage,
    file: Option<Arc<File>>,
    pending: BTreeMap<BlockIndex, Bytes>,
    /// Blocks that a thread is writing now: a second writer of one leaves it to the first.
    writing: BTreeSet<BlockIndex>,
    /// Batches that the index does not have yet, and the number of the first.
    batches: Vec<SignedBatch>,
    first_batch: u64,
    digests: u32,
    /// Bytes were written since the last sync.
    unsynced: bool,
    proof: Proof,
}

/// What a put did.
pub(super) struct Taken {
    /// The file is open: hand the block to a writer.
    pub(super) ready: bool,
    /// How many bytes wait more (or, for a replaced block, fewer) than before.
    pub(super) added: u64,
    pub(super) freed: u64,
}

/// Where a block's bytes are.
pub(super) enum Place {
    Memory(Bytes),
    File {
        range: Range<u64>,
        /// The block fills its range: a shorter one is damaged.
        exact: bool,
        /// Its bytes are known to be those that were verified.
        proven: bool,
    },
    Nowhere,
}

/// What is left to do after a block was written.
pub(super) enum Written {
    /// It is in the file; this many bytes wait no more.
    Done(u64),
    /// It was replaced meanwhile, or not written: it is to be written again.
    Again,
    /// The task is gone.
    Dropped,
}

/// What one commit needs of a task.
pub(super) struct Snapshot {
    /// To sync before the index may name what `change` says.
    pub(super) file: Option<Arc<File>>,
    pub(super) change: TaskChange,
}

impl Entry {
    pub(super) fn new(
        task: TaskId,
        meta: &Meta,
        mut about: About,
        generation: u64,
        path: PathBuf,
    ) -> Self {
        about.bound();
        Self {
            task,
            version: meta.version,
            generation,
            path,
            opened: watch::Sender::new(Opening::Pending),
            progress: watch::Sender::new(Progress::new(meta)),
            used_at_ms: AtomicU64::new(0),
            state: Mutex::new(State {
                meta: meta.clone(),
                about,
                complete: false,
                stage: Stage::Waiting,
                file: None,
                pending: BTreeMap::new(),
                writing: BTreeSet::new(),
                batches: Vec::new(),
                first_batch: 0,
                digests: 0,
                unsynced: false,
                proof: Proof::default(),
            }),
            auditing: tokio::sync::Mutex::new(()),
        }
    }

    /// A task as the index knows it.
    pub(super) fn restored(indexed: &Indexed, path: PathBuf) -> Self {
        let record = &indexed.record;
        let entry = Self::new(
            indexed.task,
            &record.meta,
            record.about.clone(),
            record.generation,
            path,
        );
        entry.opened.send_replace(Opening::Ready);
        entry
            .progress
            .send_modify(|progress| progress.written = indexed.have.clone());
        entry.used_at_ms.store(record.used_at_ms, Ordering::Relaxed);
        {
            let mut state = entry.lock();
            state.complete = record.complete;
            state.stage = Stage::Ready;
            state.first_batch = indexed.next_batch;
            state.digests = indexed
                .batches
                .iter()
                .map(|batch| count(&batch.digests))
                .sum();
        }
        entry
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn used_at_ms(&self) -> u64 {
        self.used_at_ms.load(Ordering::Relaxed)
    }

    pub(super) fn set_used_at_ms(&self, at: u64) {
        self.used_at_ms.store(at, Ordering::Relaxed);
    }

    pub(super) fn meta(&self) -> Meta {
        self.lock().meta.clone()
    }

    pub(super) fn about(&self) -> About {
        self.lock().about.clone()
    }

    pub(super) fn update_about(&self, change: impl FnOnce(&mut About)) {
        let about = &mut self.lock().about;
        change(about);
        about.bound();
    }

    pub(super) fn is_complete(&self) -> bool {
        self.lock().complete
    }

    pub(super) fn set_complete(&self) {
        self.lock().complete = true;
    }

    /// Bytes that the version is known to need: its length, or how far its blocks reach.
    pub(super) fn needed_bytes(&self) -> u64 {
        let state = self.lock();
        let layout = state.meta.layout;
        layout.length().unwrap_or_else(|| {
            let written = self
                .progress
                .borrow()
                .written
                .runs()
                .last()
                .map_or(0, |run| run.end);
            let pending = state
                .pending
                .last_key_value()
                .map_or(0, |(block, _)| block.0 + 1);
            layout.range_of_run(&(0..written.max(pending))).end
        })
    }

    /// Whether it is a stream whose end is not known yet.
    pub(super) fn grows(&self) -> bool {
        self.lock().meta.layout.length().is_none()
    }

    /// Bytes that are in the file.
    pub(super) fn written_bytes(&self) -> u64 {
        let progress = self.progress.borrow();
        let blocks = u64::from(progress.written.len()) * u64::from(progress.layout.block_bytes());
        progress
            .layout
            .length()
            .map_or(blocks, |length| blocks.min(length))
    }

    /// Learns what became known of the version since, and tries again after a failure.
    pub(super) fn refresh(&self, meta: &Meta, about: About) {
        {
            let mut state = self.lock();
            if state.meta.layout.length().is_none() {
                state.meta = meta.clone();
            }
            state.about.merge(about);
        }
        self.progress.send_if_modified(|progress| {
            let news =
                progress.failure.is_some() || progress.layout.length() != meta.layout.length();
            progress.failure = None;
            if progress.layout.length().is_none() {
                progress.layout = meta.layout;
            }
            news
        });
    }

    /// Takes a block; it is readable from here on.
    pub(super) fn put(&self, block: BlockIndex, bytes: Bytes) -> Result<Taken, PutError> {
        let mut state = self.lock();
        if state.stage == Stage::Removed || self.progress.borrow().failure.is_some() {
            return Err(PutError::NotReserved);
        }
        let range = state.meta.layout.range_of(block);
        let (wanted, given) = (range.end - range.start, bytes.len() as u64);
        // Only the end of a stream tells how long its last block is.
        let fits = given == wanted || (state.meta.layout.length().is_none() && given < wanted);
        if !fits || given == 0 {
            return Err(PutError::Length(block));
        }
        let was_written = self.take_back(block);
        if was_written {
            state.unsynced = true;
            state.proof.took_back(block);
        }
        let replaced = state.pending.insert(block, bytes);
        if was_written || replaced.is_some() {
            // Wherever the older bytes were, the whole was checked with them.
            state.complete = false;
        }
        Ok(Taken {
            ready: state.stage == Stage::Ready,
            added: given,
            freed: replaced.map_or(0, |old| old.len() as u64),
        })
    }

    /// Takes a written block out of what readers are told; `true` if it was in.
    fn take_back(&self, block: BlockIndex) -> bool {
        self.progress.send_if_modified(|progress| {
            let was_written = progress.written.remove(block);
            progress.epoch += u32::from(was_written);
            was_written
        })
    }

    /// Drops a block that is not believed any more; returns how many bytes wait no more.
    pub(super) fn discard(&self, block: BlockIndex) -> u64 {
        let mut state = self.lock();
        self.take_back(block);
        state.proof.took_back(block);
        state.complete = false;
        state
            .pending
            .remove(&block)
            .map_or(0, |bytes| bytes.len() as u64)
    }

    pub(super) fn put_batch(&self, batch: SignedBatch) -> Result<(), PutError> {
        let mut state = self.lock();
        if state.stage == Stage::Removed {
            return Err(PutError::NotReserved);
        }
        let blocks = state.meta.layout.blocks().unwrap_or_default();
        let limit = blocks
            .saturating_mul(MAX_DIGESTS_PER_BLOCK)
            .max(MIN_DIGESTS);
        let digests = state.digests.saturating_add(count(&batch.digests));
        if digests > limit {
            return Err(PutError::TooManyBatches);
        }
        state.digests = digests;
        state.batches.push(batch);
        state.proof.drop_digests();
        Ok(())
    }

    /// Where to find a block.
    pub(super) fn locate(&self, block: BlockIndex) -> Place {
        let state = self.lock();
        if let Some(bytes) = state.pending.get(&block) {
            return Place::Memory(bytes.clone());
        }
        if state.stage == Stage::Removed || !self.progress.borrow().written.contains(block) {
            return Place::Nowhere;
        }
        let layout = state.meta.layout;
        Place::File {
            range: layout.range_of(block),
            exact: layout.length().is_some(),
            proven: state.proof.is_proven(block),
        }
    }

    /// The rest of the task cannot be written; returns how many bytes wait no more.
    pub(super) fn fail(&self, failure: WriteFailure) -> u64 {
        let mut state = self.lock();
        state.writing.clear();
        self.progress
            .send_modify(|progress| progress.failure = Some(failure));
        take_pending(&mut state)
    }

    /// The task's place could not be made ready, or is taken away; returns how many bytes wait no more.
    pub(super) fn remove(&self, why: ReserveError) -> u64 {
        let mut state = self.lock();
        state.stage = Stage::Removed;
        state.file = None;
        self.opened.send_if_modified(|opening| {
            let waited = *opening == Opening::Pending;
            if waited {
                *opening = Opening::Failed(why);
            }
            waited
        });
        self.progress.send_modify(|progress| progress.gone = true);
        take_pending(&mut state)
    }

    /// What the next commit is to make durable; `None` if there is nothing to believe.
    pub(super) fn snapshot(&self) -> Option<Snapshot> {
        let mut state = self.lock();
        if state.stage != Stage::Ready {
            return None;
        }
        let unsynced = std::mem::take(&mut state.unsynced);
        let batches = std::mem::take(&mut state.batches);
        let first_batch = state.first_batch;
        state.first_batch += batches.len() as u64;
        let record = TaskRecord {
            generation: self.generation,
            used_at_ms: self.used_at_ms(),
            complete: state.complete,
            meta: state.meta.clone(),
            about: state.about.clone(),
        };
        let have = self.progress.borrow().written.clone();
        let change = TaskChange {
            task: self.task,
            record,
            have,
            first_batch,
            batches,
        };
        Some(Snapshot {
            file: state.file.clone().filter(|_| unsynced),
            change,
        })
    }

    /// The commit of a snapshot failed: the next one does it again.
    pub(super) fn undo_snapshot(&self, snapshot: Snapshot) {
        let mut state = self.lock();
        state.unsynced |= snapshot.file.is_some();
        state.first_batch = snapshot.change.first_batch;
        let newer = std::mem::replace(&mut state.batches, snapshot.change.batches);
        state.batches.extend(newer);
    }
}

fn take_pending(state: &mut State) -> u64 {
    std::mem::take(&mut state.pending)
        .values()
        .map(|bytes| bytes.len() as u64)
        .sum()
}

fn count<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}
