//! Blocks on disk: what a node keeps, gives, and believes after a crash.
//!
//! One file per version of a task, written out of order. A block that is [`put`](Store::put) can be read at
//! once, from memory; writers bring it into the file a moment later, and at most a second or 64 MiB behind
//! them a commit syncs the file and names the block in the index. After a crash only the index is believed:
//! what it names is on disk, what it does not name never was.
//!
//! Every method may be called from an event loop: disk work happens on the store's threads or on the
//! runtime's blocking ones. [`Store::open`], [`Store::open_file`] and [`Store::remove`] make a few short
//! system calls of their own.

mod about;
mod committer;
mod config;
mod entry;
mod error;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod index;
mod inner;
mod lock;
mod place;
mod progress;
mod record;
mod reopen;
mod room;
#[cfg(test)]
mod tests;
mod view;
mod writer;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use dfnode_tracker::{BlockDigest, BlockIndex, Meta, SignedBatch, TaskId, VersionId};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

pub use self::about::About;
pub use self::config::{StoreConfig, disk_bytes};
pub use self::error::{OpenError, PutError, ReadError, ReserveError};
pub use self::place::{PlaceWatch, WORTH_BYTES};
pub(crate) use self::place::{Places, Returns};
pub use self::progress::{Progress, WriteFailure};
pub use self::view::{Opened, StoreEvent, StoreStats, StoredTask, TaskSummary};

use self::entry::{Opening, Place};
use self::inner::Inner;
use self::lock::FolderLock;
use self::writer::Job;
use crate::ambient::{self, Clock};

/// Bytes that may wait in memory to be written before [`Store::room`] asks to pause.
const MAX_WAITING_BYTES: u64 = 64 * 1024 * 1024;
/// A handle to the store; clones are cheap and mean the same.
///
/// When the last one is dropped the store writes and commits what it has, then lets go of the folder.
#[derive(Debug, Clone)]
pub struct Store(Arc<Threads>);

struct Threads {
    inner: Arc<Inner>,
    writers: Mutex<Vec<JoinHandle<()>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
    /// Let go last, when nothing is written any more.
    _lock: FolderLock,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("folder", &self.inner.folder)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in `folder`, and makes it if it is not there.
    ///
    /// # Errors
    /// If another process has it open or the folder cannot be used. A damaged index is no error: the store
    /// then begins anew, empty.
    pub fn open(folder: &Path, config: StoreConfig) -> Result<Opened, OpenError> {
        let (events, received) = mpsc::unbounded_channel();
        let (inner, lock, tasks) = reopen::reopen(folder, config, events)?;
        let inner = Arc::new(inner);
        let failed = |source| OpenError::Folder {
            path: folder.to_owned(),
            source,
        };
        let writers = (0..inner.config.writers.max(1))
            .map(|number| spawn(&inner, format!("store-write-{number}"), writer::run))
            .collect::<io::Result<Vec<_>>>()
            .map_err(failed)?;
        let committer = spawn(&inner, "store-commit".to_owned(), committer::run).map_err(failed)?;
        inner.enforce_quota();
        let threads = Threads {
            inner,
            writers: Mutex::new(writers),
            committer: Mutex::new(Some(committer)),
            _lock: lock,
        };
        Ok(Opened {
            store: Self(Arc::new(threads)),
            tasks,
            events: received,
        })
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.0.inner
    }

    /// Makes a place for a version of a task.
    ///
    /// Blocks may be put as soon as this returns; they wait in memory for their file. The work goes on
    /// whether or not the future is polled. Called again for the same version it takes over a length that
    /// became known, and lets writing go on after a failure; for another version, it first drops the older
    /// one, file and records. [`pin`](Self::pin) the task first, or it may be evicted before its first use.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If there is no room, even after evicting what is not in use. The store then holds nothing of the task.
    pub fn reserve(
        &self,
        task: TaskId,
        meta: &Meta,
        about: About,
    ) -> impl Future<Output = Result<(), ReserveError>> + Send + use<> {
        let (entry, is_new) = self.inner().enter(task, meta, about);
        let mut opened = entry.opened.subscribe();
        if is_new {
            let inner = Arc::clone(self.inner());
            drop(spawn_blocking(move || inner.open(&entry)));
        }
        async move {
            let opened = opened
                .wait_for(|opening| *opening != Opening::Pending)
                .await;
            match opened.as_deref() {
                Ok(Opening::Ready) => Ok(()),
                Ok(Opening::Failed(error)) => Err(error.clone()),
                Ok(Opening::Pending) | Err(_) => Err(ReserveError::Gone),
            }
        }
    }

    /// For downloads that do without the cache, because it had no place.
    pub(crate) fn places(&self) -> Places {
        Places(Arc::downgrade(self.inner()))
    }

    /// Keeps a verified block; it can be read from here on. Never waits: see [`room`](Self::room).
    ///
    /// A block that is there already is replaced, and [`Progress::epoch`] grows.
    ///
    /// # Errors
    /// If nothing is reserved for this version, or the block does not fit it.
    pub fn put(
        &self,
        task: TaskId,
        version: VersionId,
        block: BlockIndex,
        bytes: Bytes,
    ) -> Result<(), PutError> {
        let inner = self.inner();
        let entry = inner.version(task, version).ok_or(PutError::NotReserved)?;
        let taken = entry.put(block, bytes)?;
        inner.queue.count_waiting(taken.added, taken.freed);
        if taken.ready {
            inner.queue.push([Job { entry, block }]);
        }
        Ok(())
    }

    /// Returns when the writers keep up. Whoever feeds the store awaits this before it fetches more.
    pub async fn room(&self) {
        // The sender lives as long as the store does.
        let _ = self
            .inner()
            .queue
            .waiting()
            .wait_for(|bytes| *bytes < MAX_WAITING_BYTES)
            .await;
    }

    /// Keeps signed digests with the task.
    ///
    /// # Errors
    /// If nothing is reserved for the task, or it has more batches than it can need.
    pub fn put_batch(&self, task: TaskId, batch: SignedBatch) -> Result<(), PutError> {
        let entry = self
            .inner()
            .version(task, batch.version)
            .ok_or(PutError::NotReserved)?;
        entry.put_batch(batch)?;
        self.inner().committer.touch(&entry, 0);
        Ok(())
    }

    /// The bytes of a block, from memory or from disk.
    ///
    /// # Errors
    /// [`ReadError::Absent`] if it is not here, [`ReadError::Damaged`] if an earlier process wrote other bytes
    /// or its file became too short (it is then dropped), [`ReadError::Io`] if the disk fails.
    pub async fn read(
        &self,
        task: TaskId,
        version: VersionId,
        block: BlockIndex,
    ) -> Result<Bytes, ReadError> {
        self.read_checked(task, version, block, None).await
    }

    /// As [`read`](Self::read), and the bytes are those of `digest`.
    ///
    /// # Errors
    /// As [`read`](Self::read); other bytes are [`ReadError::Damaged`], and the block is dropped.
    pub async fn read_verified(
        &self,
        task: TaskId,
        version: VersionId,
        block: BlockIndex,
        digest: BlockDigest,
    ) -> Result<Bytes, ReadError> {
        self.read_checked(task, version, block, Some(digest)).await
    }

    async fn read_checked(
        &self,
        task: TaskId,
        version: VersionId,
        block: BlockIndex,
        digest: Option<BlockDigest>,
    ) -> Result<Bytes, ReadError> {
        let entry = self
            .inner()
            .version(task, version)
            .ok_or(ReadError::Absent)?;
        match entry.locate(block) {
            Place::Memory(bytes) => Ok(bytes),
            Place::Nowhere => Err(ReadError::Absent),
            Place::File { .. } => {
                let (inner, reader) = (Arc::clone(self.inner()), Arc::clone(&entry));
                let read = spawn_blocking(move || inner.read(&reader, block, digest));
                let read = read.await.map_err(io::Error::other)?;
                self.inner().sweep_files();
                read?.ok_or_else(|| {
                    self.inner().discard(&entry, block);
                    ReadError::Damaged(block)
                })
            }
        }
    }

    /// Compares with their signed digests the blocks that reach into `range` of the file and may have changed on
    /// disk: those of an earlier process, all of a file that somebody else touched, and all of one that was last
    /// compared an hour ago. Returns those that did; they are dropped.
    ///
    /// To be called before bytes are handed to a reader by descriptor. Costs two system calls if nothing is in
    /// doubt; else every block in doubt is read and hashed, once.
    ///
    /// # Errors
    /// If the task is not here or the disk fails.
    pub async fn audit(
        &self,
        task: TaskId,
        range: Range<u64>,
    ) -> Result<Vec<BlockIndex>, ReadError> {
        let entry = self.inner().entry(task).ok_or(ReadError::Absent)?;
        if *entry.opened.borrow() != Opening::Ready {
            return Ok(Vec::new());
        }
        let _one_at_a_time = entry.auditing.lock().await;
        let (inner, audited) = (Arc::clone(self.inner()), Arc::clone(&entry));
        spawn_blocking(move || inner.audit(&audited, &range))
            .await
            .map_err(io::Error::other)?
    }

    /// Drops a block that is not believed any more. It may be put again.
    pub fn discard(&self, task: TaskId, block: BlockIndex) {
        if let Some(entry) = self.inner().entry(task) {
            self.inner().discard(&entry, block);
        }
    }

    /// Tells which blocks of a task are in its file, for those who read by descriptor.
    pub fn progress(&self, task: TaskId) -> Option<watch::Receiver<Progress>> {
        self.inner()
            .entry(task)
            .map(|entry| entry.progress.subscribe())
    }

    /// The task's file, for reading only and with a position of its own: to hash, or to hand to a caller.
    ///
    /// It stays readable after the task was removed.
    ///
    /// # Errors
    /// If the task is not here or its place not ready, or the disk fails.
    pub fn open_file(&self, task: TaskId) -> Result<File, ReadError> {
        let entry = self.inner().entry(task).ok_or(ReadError::Absent)?;
        if *entry.opened.borrow() != Opening::Ready {
            return Err(ReadError::Absent);
        }
        // Where somebody took the file away, there is one again.
        entry.look(Clock::now())?;
        Ok(File::open(&entry.path)?)
    }

    /// Keeps a task from being evicted while the pin lives, and counts as a use of it. It need not be in the
    /// store yet.
    pub fn pin(&self, task: TaskId) -> Pin {
        self.touch(task);
        self.new_pin(task, true)
    }

    /// As [`pin`](Self::pin), but it says nothing of when the task was used: for those who come often.
    pub fn hold(&self, task: TaskId) -> Pin {
        self.new_pin(task, false)
    }

    fn new_pin(&self, task: TaskId, is_use: bool) -> Pin {
        self.inner().pin(task);
        Pin {
            inner: Arc::clone(self.inner()),
            task,
            is_use,
        }
    }

    /// Counts as a use of the task: the least used is evicted first.
    pub fn touch(&self, task: TaskId) {
        self.inner().touch(task);
    }

    /// Changes what is remembered of a task.
    pub fn update_about(&self, task: TaskId, change: impl FnOnce(&mut About)) {
        if let Some(entry) = self.inner().entry(task) {
            entry.update_about(change);
            self.inner().committer.touch(&entry, 0);
        }
    }

    /// Remembers that the whole task was checked.
    pub fn complete(&self, task: TaskId) {
        if let Some(entry) = self.inner().entry(task) {
            entry.set_complete();
            self.inner().committer.touch(&entry, 0);
        }
    }

    /// Removes a task, in use or not; returns the bytes that it took. Who has its file open may read on.
    pub fn remove(&self, task: TaskId) -> u64 {
        self.inner().remove(task)
    }

    /// Evicts what nobody used for [`StoreConfig::idle_ttl`] and nobody uses now, and what is beyond the quota. To be
    /// called now and then.
    pub fn evict_idle(&self) {
        self.inner().enforce_quota();
        if let Some(ttl) = self.inner().config.idle_ttl {
            let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            let oldest = ambient::unix_millis().saturating_sub(ttl);
            self.inner().evict_unused_since(oldest);
        }
    }

    /// Returns when everything put so far is on disk and named by the index.
    pub async fn flush(&self) {
        let inner = self.inner();
        for mut opened in inner.openings() {
            // A place that will never be ready has nothing to write.
            let _ = opened
                .wait_for(|opening| *opening != Opening::Pending)
                .await;
        }
        let ticket = inner.queue.next_ticket();
        // Both senders live as long as the store does.
        let _ = inner.queue.low_water().wait_for(|low| *low >= ticket).await;
        let (asked, mut served) = inner.committer.ask();
        let _ = served.wait_for(|served| *served >= asked).await;
    }

    /// Writes and commits everything, then lets go of the folder, unless another handle still lives.
    pub async fn close(self) {
        self.flush().await;
        // A failure to join is a panic of a store thread, which has been reported as such.
        let _ = spawn_blocking(move || drop(self)).await;
    }

    /// Every task in the store.
    pub fn list(&self) -> Vec<TaskSummary> {
        let rack = self.inner().rack();
        let summary = |(task, slot): (&TaskId, &room::Slot)| TaskSummary {
            task: *task,
            meta: slot.entry.meta(),
            about: slot.entry.about(),
            blocks: slot.entry.progress.borrow().written.len(),
            bytes: slot.entry.written_bytes(),
            complete: slot.entry.is_complete(),
            pinned: rack.pins.contains_key(task),
            used_at_ms: slot.entry.used_at_ms(),
        };
        rack.slots.iter().map(summary).collect()
    }

    /// What is remembered of a task.
    pub fn about(&self, task: TaskId) -> Option<About> {
        self.inner().entry(task).map(|entry| entry.about())
    }

    /// The store in numbers.
    pub fn stats(&self) -> StoreStats {
        let inner = self.inner();
        let rack = inner.rack();
        StoreStats {
            used_bytes: rack.used_bytes,
            cache_bytes: inner.config.cache_bytes,
            tasks: rack.slots.len(),
            waiting_bytes: *inner.queue.waiting().borrow(),
            written_bytes: inner.written_bytes.load(Ordering::Relaxed),
            evicted_tasks: inner.evicted_tasks.load(Ordering::Relaxed),
        }
    }
}

fn spawn(inner: &Arc<Inner>, name: String, run: fn(&Inner)) -> io::Result<JoinHandle<()>> {
    let inner = Arc::clone(inner);
    std::thread::Builder::new()
        .name(name)
        .spawn(move || run(&inner))
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.inner.queue.stop();
        let writers =
            std::mem::take(&mut *self.writers.lock().unwrap_or_else(PoisonError::into_inner));
        for writer in writers {
            // A panic of a writer has been reported as such; the commit is what matters now.
            let _ = writer.join();
        }
        self.inner.committer.stop();
        if let Some(committer) = self
            .committer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            let _ = committer.join();
        }
        // A pin may outlive the store, the index may not: the next to open it must find it free.
        self.inner.index.close();
    }
}

/// Keeps a task from being evicted while it lives.
pub struct Pin {
    inner: Arc<Inner>,
    task: TaskId,
    /// The task was in use to this end.
    is_use: bool,
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pin")
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.is_use {
            self.inner.touch(self.task);
        }
        self.inner.unpin(self.task);
    }
}
