//! What stands for a node's cache: which blocks it keeps, and what it forgets when.

use std::collections::BTreeMap;
use std::time::Duration;

use dfnode_tracker::{BlockIndex, BlockSet, Meta, SignedBatch, TaskId};

use super::super::world::micros;

/// What is kept of one task.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) meta: Meta,
    pub(super) have: BlockSet,
    pub(super) batches: Vec<SignedBatch>,
    bytes: u64,
    used: u64,
}

/// A cache.
#[derive(Debug, Default)]
pub(super) struct Store {
    tasks: BTreeMap<TaskId, Stored>,
}

impl Store {
    pub(super) fn all(&self) -> impl Iterator<Item = (&TaskId, &Stored)> {
        self.tasks.iter()
    }

    pub(super) fn get(&self, task: &TaskId) -> Option<&Stored> {
        self.tasks.get(task)
    }

    /// Makes a place for a version, unless there is one.
    pub(super) fn reserve(&mut self, now: u64, task: TaskId, meta: Meta) {
        self.tasks.entry(task).or_insert(Stored {
            meta,
            have: BlockSet::new(),
            batches: Vec::new(),
            bytes: 0,
            used: now,
        });
    }

    /// Keeps a block; `false` if it is here already or has no place.
    pub(super) fn keep(&mut self, now: u64, task: &TaskId, block: BlockIndex) -> bool {
        let Some(stored) = self.tasks.get_mut(task) else {
            return false;
        };
        stored.used = now;
        let range = stored.meta.layout.range_of(block);
        let new = stored.have.insert(block);
        if new {
            stored.bytes += range.end - range.start;
        }
        new
    }

    pub(super) fn keep_batch(&mut self, task: &TaskId, batch: SignedBatch) {
        if let Some(stored) = self.tasks.get_mut(task) {
            stored.batches.push(batch);
        }
    }

    pub(super) fn touch(&mut self, now: u64, task: &TaskId) {
        if let Some(stored) = self.tasks.get_mut(task) {
            stored.used = now;
        }
    }

    /// Forgets what was not used for `ttl`, and beyond `bytes` what was not used for longest; never what is `pinned`.
    pub(super) fn evict(
        &mut self,
        now: u64,
        ttl: Duration,
        bytes: u64,
        pinned: impl Fn(&TaskId) -> bool,
    ) -> Vec<TaskId> {
        let mut total: u64 = self.tasks.values().map(|stored| stored.bytes).sum();
        let mut idle: Vec<(u64, TaskId)> = self
            .tasks
            .iter()
            .filter(|(task, _)| !pinned(task))
            .map(|(task, stored)| (stored.used, *task))
            .collect();
        idle.sort_unstable();
        let mut evicted = Vec::new();
        for (used, task) in idle {
            if total <= bytes && now.saturating_sub(used) < micros(ttl) {
                continue;
            }
            total -= self.tasks.remove(&task).map_or(0, |stored| stored.bytes);
            evicted.push(task);
        }
        evicted
    }
}
