//! What the store shows of itself.

use dfnode_tracker::{BlockSet, Meta, SignedBatch, TaskId};
use tokio::sync::mpsc;

use super::{About, Store, WriteFailure};

/// What [`Store::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// What it holds.
    pub tasks: Vec<StoredTask>,
    /// What it does of its own accord. At most two events per task that is in it.
    pub events: mpsc::UnboundedReceiver<StoreEvent>,
}

/// A task as it was found on disk.
#[derive(Debug, Clone)]
pub struct StoredTask {
    /// Which.
    pub task: TaskId,
    /// Its version.
    pub meta: Meta,
    /// Where it came from.
    pub about: About,
    /// The blocks that are on disk.
    pub have: BlockSet,
    /// The signed digests that came with them.
    pub batches: Vec<SignedBatch>,
    /// Whether the whole was checked.
    pub complete: bool,
    /// When it was last used, in milliseconds since 1970.
    pub used_at_ms: u64,
}

/// What a store does of its own accord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// A task had to make room: nothing of it is left.
    Evicted {
        /// Which.
        task: TaskId,
    },
    /// No further block of a task can be written; what is written stays.
    Failed {
        /// Which.
        task: TaskId,
        /// Why.
        failure: WriteFailure,
    },
}

/// A task in the store, for lists.
#[derive(Debug, Clone)]
pub struct TaskSummary {
    /// Which.
    pub task: TaskId,
    /// Its version.
    pub meta: Meta,
    /// Where it came from.
    pub about: About,
    /// How many of its blocks are in its file.
    pub blocks: u32,
    /// How many bytes those are.
    pub bytes: u64,
    /// Whether the whole was checked.
    pub complete: bool,
    /// Whether somebody uses it now.
    pub pinned: bool,
    /// When it was last used, in milliseconds since 1970.
    pub used_at_ms: u64,
}

/// The store in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes that its tasks take or have reserved.
    pub used_bytes: u64,
    /// Bytes that they may take.
    pub cache_bytes: u64,
    /// How many tasks it holds.
    pub tasks: usize,
    /// Bytes in memory that wait to be written.
    pub waiting_bytes: u64,
    /// Bytes written since it was opened.
    pub written_bytes: u64,
    /// Tasks evicted since it was opened.
    pub evicted_tasks: u64,
}
