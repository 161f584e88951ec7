//! What the store's threads share: the tasks, the room they take, and who is in use.
//!
//! Lock order: the rack before a task's state, never the other way; neither is held over disk work.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dfnode_tracker::{BlockDigest, BlockIndex, Meta, TaskId, VersionId};
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use super::about::About;
use super::committer::Committer;
use super::entry::{Digests, Entry, Opening, Place};
use super::error::{ReadError, ReserveError};
use super::index::Index;
use super::progress::WriteFailure;
use super::room::{Rack, Room, Slot};
use super::writer::{Job, WriteQueue};
use super::{StoreConfig, StoreEvent};
use crate::ambient::Clock;

/// Reads between two rounds that close idle files: at most so many are open without being in use.
const READS_PER_SWEEP: usize = 256;

pub(super) struct Inner {
    pub(super) folder: PathBuf,
    pub(super) config: StoreConfig,
    pub(super) queue: WriteQueue,
    pub(super) committer: Committer,
    pub(super) index: Index,
    pub(super) written_bytes: AtomicU64,
    pub(super) evicted_tasks: AtomicU64,
    rack: Mutex<Rack>,
    /// One reservation decides at a time, or two would both take the last room.
    admission: Mutex<()>,
    events: mpsc::UnboundedSender<StoreEvent>,
}

impl Inner {
    pub(super) fn new(
        folder: PathBuf,
        config: StoreConfig,
        index: Index,
        events: mpsc::UnboundedSender<StoreEvent>,
    ) -> Self {
        Self {
            folder,
            config,
            queue: WriteQueue::new(),
            committer: Committer::new(),
            index,
            written_bytes: AtomicU64::new(0),
            evicted_tasks: AtomicU64::new(0),
            rack: Mutex::new(Rack::new()),
            admission: Mutex::new(()),
            events,
        }
    }

    pub(super) fn rack(&self) -> MutexGuard<'_, Rack> {
        self.rack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn path_of(&self, task: TaskId, generation: u64) -> PathBuf {
        self.folder.join(format!("{task}.{generation:x}"))
    }

    /// The places that are not ready yet.
    pub(super) fn openings(&self) -> Vec<watch::Receiver<Opening>> {
        let rack = self.rack();
        let watches = rack
            .slots
            .values()
            .map(|slot| slot.entry.opened.subscribe());
        watches
            .filter(|opened| *opened.borrow() == Opening::Pending)
            .collect()
    }

    /// Puts a task that was restored on the rack.
    pub(super) fn restore(&self, entry: Entry) {
        let (task, charge) = (entry.task, entry.needed_bytes());
        let mut rack = self.rack();
        rack.next_generation = rack.next_generation.max(entry.generation + 1);
        rack.last_use_ms = rack.last_use_ms.max(entry.used_at_ms());
        rack.used_bytes += charge;
        rack.slots.insert(
            task,
            Slot {
                entry: Arc::new(entry),
                charge,
                admitted: true,
            },
        );
    }

    pub(super) fn entry(&self, task: TaskId) -> Option<Arc<Entry>> {
        self.rack()
            .slots
            .get(&task)
            .map(|slot| Arc::clone(&slot.entry))
    }

    pub(super) fn version(&self, task: TaskId, version: VersionId) -> Option<Arc<Entry>> {
        self.entry(task).filter(|entry| entry.version == version)
    }

    /// The task's entry for a version; `true` if it is new and its place is to be made ready.
    pub(super) fn enter(&self, task: TaskId, meta: &Meta, about: About) -> (Arc<Entry>, bool) {
        if let Some(entry) = self.version(task, meta.version) {
            entry.refresh(meta, about);
            self.rack().charge(task, entry.needed_bytes());
            self.committer.touch(&entry, 0);
            return (entry, false);
        }
        self.remove(task);
        let mut rack = self.rack();
        let generation = rack.next_generation;
        rack.next_generation += 1;
        let entry = Arc::new(Entry::new(
            task,
            meta,
            about,
            generation,
            self.path_of(task, generation),
        ));
        entry.set_used_at_ms(rack.next_use_ms());
        rack.slots.insert(
            task,
            Slot {
                entry: Arc::clone(&entry),
                charge: 0,
                admitted: false,
            },
        );
        (entry, true)
    }

    /// Makes the place of a new entry ready. Blocking.
    pub(super) fn open(&self, entry: &Arc<Entry>) {
        let made = self.make_room(entry).and_then(|()| {
            entry.create_file().map_err(|error| ReserveError::Io {
                why: error.to_string(),
            })
        });
        match made {
            Ok(Some(waiting)) => {
                self.queue.push(waiting.into_iter().map(|block| Job {
                    entry: Arc::clone(entry),
                    block,
                }));
                self.committer.touch(entry, 0);
                entry.announce();
            }
            Ok(None) => unlink(entry),
            Err(error) => {
                debug!(task = %entry.task, %error, "no place in the cache");
                self.remove_generation(entry.task, Some(entry.generation), error);
            }
        }
    }

    fn make_room(&self, entry: &Entry) -> Result<(), ReserveError> {
        let _one_at_a_time = self
            .admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let need = entry.needed_bytes();
        loop {
            let free = self.free_bytes();
            let room = self.rack().judge(&self.config, entry, need, free);
            match room {
                Room::Enough => return Ok(()),
                // Should somebody have come to use it meanwhile, another is looked for.
                Room::Evict(task) => drop(self.evict(task)),
                Room::None(error) => return Err(error),
            }
        }
    }

    /// Whether a task of so many bytes would find place. Blocking.
    pub(super) fn has_place(&self, task: Option<TaskId>, bytes: u64) -> bool {
        let free = self.free_bytes();
        self.rack().has_place(&self.config, task, bytes, free)
    }

    fn free_bytes(&self) -> u64 {
        super::disk_bytes(&self.folder).map_or(u64::MAX, |(_, free)| free)
    }

    /// Streams grow without having told how far, and what was in use may be more than what may stay: what is beyond the
    /// quota goes, least used first.
    pub(super) fn enforce_quota(&self) {
        loop {
            let victim = {
                let mut rack = self.rack();
                let growing: Vec<(TaskId, u64)> = rack
                    .slots
                    .iter()
                    .filter(|(_, slot)| slot.admitted && slot.entry.grows())
                    .map(|(task, slot)| (*task, slot.entry.needed_bytes()))
                    .collect();
                for (task, bytes) in growing {
                    rack.charge(task, bytes);
                }
                let quota = self.config.cache_bytes;
                match self.config.spare_bytes {
                    Some(_) => rack.beyond(quota, quota),
                    None if rack.used_bytes > quota => rack.least_used(),
                    None => None,
                }
            };
            let Some(task) = victim else { return };
            self.evict(task);
        }
    }

    /// Evicts what nobody used since `unix_ms` and nobody uses now.
    pub(super) fn evict_unused_since(&self, unix_ms: u64) {
        let stale: Vec<TaskId> = {
            let rack = self.rack();
            let is_stale = |slot: &Slot| slot.entry.used_at_ms() < unix_ms;
            let slots = rack.slots.iter().filter(|(_, slot)| is_stale(slot));
            slots.map(|(task, _)| *task).collect()
        };
        for task in stale {
            self.evict(task);
        }
    }

    /// Evicts the least used task, if there is one that may go.
    pub(super) fn evict_one(&self) -> bool {
        let victim = self.rack().least_used();
        victim.is_some_and(|task| self.evict(task))
    }

    /// Evicts a task, unless somebody uses it by now.
    fn evict(&self, task: TaskId) -> bool {
        let taken = {
            let mut rack = self.rack();
            let may_go = rack
                .slots
                .get(&task)
                .is_some_and(|slot| rack.is_evictable(task, slot));
            may_go.then(|| rack.charge_nothing(task)).flatten()
        };
        let Some((entry, freed_bytes)) = taken else {
            return false;
        };
        self.take_away(&entry, ReserveError::Gone);
        self.evicted_tasks.fetch_add(1, Ordering::Relaxed);
        debug!(%task, freed_bytes, "evicted");
        self.tell(StoreEvent::Evicted { task });
        true
    }

    fn tell(&self, event: StoreEvent) {
        // Nobody listens any more when the node is stopping.
        let _ = self.events.send(event);
    }

    /// Removes a task, its file and its records; returns the bytes that it was charged.
    pub(super) fn remove(&self, task: TaskId) -> u64 {
        self.remove_generation(task, None, ReserveError::Gone)
    }

    pub(super) fn remove_generation(
        &self,
        task: TaskId,
        generation: Option<u64>,
        why: ReserveError,
    ) -> u64 {
        let slot = {
            let mut rack = self.rack();
            let is_it =
                |slot: &Slot| generation.is_none_or(|wanted| wanted == slot.entry.generation);
            if !rack.slots.get(&task).is_some_and(is_it) {
                return 0;
            }
            rack.charge_nothing(task)
        };
        let Some((entry, charge)) = slot else {
            return 0;
        };
        self.take_away(&entry, why);
        charge
    }

    /// What is off the rack goes from the disk and out of the index.
    fn take_away(&self, entry: &Entry, why: ReserveError) {
        self.queue.count_waiting(0, entry.remove(why));
        unlink(entry);
        self.committer.doom(entry.task);
    }

    /// A block is in its file.
    pub(super) fn written(&self, entry: &Arc<Entry>, bytes: u64) {
        self.queue.count_waiting(0, bytes);
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.committer.touch(entry, bytes);
    }

    /// The rest of a task cannot be written. What is written stays, and a new reservation goes on from it.
    pub(super) fn fail(&self, entry: &Entry, failure: WriteFailure) {
        warn!(task = %entry.task, %failure, "a task can no longer be written to the cache");
        self.queue.count_waiting(0, entry.fail(failure.clone()));
        self.tell(StoreEvent::Failed {
            task: entry.task,
            failure,
        });
    }

    /// What signers said of a task's blocks. Blocking. An index that cannot be read does not say that nobody signed.
    pub(super) fn digests(&self, entry: &Entry) -> Result<Arc<Digests>, ReadError> {
        if let Some(digests) = entry.digests() {
            return Ok(digests);
        }
        let stored = self.index.batches(entry.task).map_err(|error| {
            warn!(task = %entry.task, %error, "cannot read the digests of a task");
            io::Error::other(error.to_string())
        })?;
        Ok(entry.keep_digests(stored))
    }

    /// Compares what of `range` may have changed with its digests; returns what did, which is dropped. Blocking.
    pub(super) fn audit(
        &self,
        entry: &Arc<Entry>,
        range: &Range<u64>,
    ) -> Result<Vec<BlockIndex>, ReadError> {
        entry.look(Clock::now())?;
        let (suspects, round) = entry.suspects(range);
        if suspects.is_empty() {
            return Ok(Vec::new());
        }
        let digests = self.digests(entry)?;
        let mut damaged = Vec::new();
        for block in suspects {
            if !entry.prove(block, &digests, round) {
                self.discard(entry, block);
                damaged.push(block);
            }
        }
        Ok(damaged)
    }

    /// A block's bytes from the file, compared with its digest if they are in doubt; `None` if damaged. Blocking.
    pub(super) fn read(
        &self,
        entry: &Entry,
        block: BlockIndex,
        digest: Option<BlockDigest>,
    ) -> Result<Option<Bytes>, ReadError> {
        entry.look(Clock::now())?;
        let round = entry.round();
        let (range, exact, proven) = match entry.locate(block) {
            Place::Memory(bytes) => return Ok(Some(bytes)),
            Place::Nowhere => return Err(ReadError::Absent),
            Place::File {
                range,
                exact,
                proven,
            } => (range, exact, proven),
        };
        let Some(bytes) = entry.read_range(&range, exact)? else {
            return Ok(None);
        };
        let is_sound = match digest {
            Some(digest) => BlockDigest::of(&bytes) == digest,
            None => proven || self.digests(entry)?.allow(block, &bytes),
        };
        if is_sound && !proven {
            entry.set_proven(block, round);
        }
        Ok(is_sound.then_some(bytes))
    }

    /// Drops a block that is not believed any more.
    pub(super) fn discard(&self, entry: &Arc<Entry>, block: BlockIndex) {
        self.queue.count_waiting(0, entry.discard(block));
        self.committer.touch(entry, 0);
    }

    pub(super) fn pin(&self, task: TaskId) {
        *self.rack().pins.entry(task).or_insert(0) += 1;
    }

    pub(super) fn unpin(&self, task: TaskId) {
        let mut rack = self.rack();
        let count = rack.pins.get(&task).copied().unwrap_or_default();
        if count > 1 {
            rack.pins.insert(task, count - 1);
            return;
        }
        rack.pins.remove(&task);
        drop(rack);
        if let Some(entry) = self.entry(task) {
            entry.close_idle();
        }
    }

    /// Closes the files among these that nobody needs: a file can be closed only once it is synced.
    pub(super) fn close_unpinned(&self, entries: &[&Arc<Entry>]) {
        let rack = self.rack();
        let is_pinned = |entry: &&&Arc<Entry>| rack.pins.contains_key(&entry.task);
        let idle: Vec<_> = entries.iter().filter(|entry| !is_pinned(entry)).collect();
        drop(rack);
        for entry in idle {
            entry.close_idle();
        }
    }

    /// The task was used now.
    pub(super) fn touch(&self, task: TaskId) {
        let entry = {
            let mut rack = self.rack();
            let now = rack.next_use_ms();
            let Some(slot) = rack.slots.get(&task) else {
                return;
            };
            slot.entry.set_used_at_ms(now);
            Arc::clone(&slot.entry)
        };
        self.committer.touch(&entry, 0);
    }

    /// Keeps the number of files bounded that reads opened and nobody closed.
    pub(super) fn sweep_files(&self) {
        let mut rack = self.rack();
        rack.reads_since_sweep += 1;
        if rack.reads_since_sweep < READS_PER_SWEEP {
            return;
        }
        rack.reads_since_sweep = 0;
        let idle: Vec<Arc<Entry>> = rack
            .slots
            .iter()
            .filter(|(task, _)| !rack.pins.contains_key(*task))
            .map(|(_, slot)| Arc::clone(&slot.entry))
            .collect();
        drop(rack);
        for entry in idle {
            entry.close_idle();
        }
    }
}

fn unlink(entry: &Entry) {
    match fs::remove_file(&entry.path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            warn!(path = %entry.path.display(), %error, "cannot remove a file of the cache");
        }
    }
}
