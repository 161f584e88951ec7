//! Makes durable what was written, a moment behind.
//!
//! Sync first, then the index: what the index names is on disk. Nobody who gets or gives blocks waits for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dfnode_tracker::TaskId;
use tokio::sync::watch;
use tracing::warn;

use super::entry::{Entry, Snapshot};
use super::error::ReserveError;
use super::index::Changes;
use super::inner::Inner;
use super::progress::WriteFailure;

/// How long a written block may be without being durable.
const MAX_BEHIND: Duration = Duration::from_secs(1);
/// How many written bytes may be without being durable before a commit is due at once.
const MAX_BEHIND_BYTES: u64 = 64 * 1024 * 1024;
/// How long to wait after the index refused a commit.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the next commit has to do.
pub(super) struct Committer {
    work: Mutex<Work>,
    wake: Condvar,
    /// The last request for a commit that is served.
    served: watch::Sender<u64>,
}

#[derive(Default)]
struct Work {
    /// By generation: a late write of a removed version must not hide its successor.
    dirty: BTreeMap<u64, Arc<Entry>>,
    doomed: Vec<TaskId>,
    bytes: u64,
    asked: u64,
    begun: u64,
    stop: bool,
}

impl Work {
    const fn is_urgent(&self) -> bool {
        self.stop || self.asked > self.begun || self.bytes >= MAX_BEHIND_BYTES
    }

    fn is_idle(&self) -> bool {
        !self.is_urgent() && self.dirty.is_empty() && self.doomed.is_empty()
    }
}

impl Committer {
    pub(super) fn new() -> Self {
        Self {
            work: Mutex::new(Work::default()),
            wake: Condvar::new(),
            served: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of a task changed, `bytes` of it in its file.
    pub(super) fn touch(&self, entry: &Arc<Entry>, bytes: u64) {
        let mut work = self.lock();
        let is_news = work.dirty.is_empty();
        work.bytes += bytes;
        work.dirty
            .entry(entry.generation)
            .or_insert_with(|| Arc::clone(entry));
        if is_news || work.is_urgent() {
            self.wake.notify_one();
        }
    }

    /// The index is to forget a task. What is touched from now on is not forgotten.
    pub(super) fn doom(&self, task: TaskId) {
        self.lock().doomed.push(task);
        self.wake.notify_one();
    }

    /// Asks for a commit; served once the returned watch reaches the returned number.
    pub(super) fn ask(&self) -> (u64, watch::Receiver<u64>) {
        let mut work = self.lock();
        work.asked += 1;
        self.wake.notify_one();
        (work.asked, self.served.subscribe())
    }

    /// The last commit is made, then the thread ends.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_one();
    }

    fn wait(&self) -> Work {
        let mut work = self
            .wake
            .wait_while(self.lock(), |work| work.is_idle())
            .unwrap_or_else(PoisonError::into_inner);
        if !work.is_urgent() {
            work = self
                .wake
                .wait_timeout_while(work, MAX_BEHIND, |work| !work.is_urgent())
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let (asked, stop) = (work.asked, work.stop);
        std::mem::replace(
            &mut *work,
            Work {
                asked,
                begun: asked,
                stop,
                ..Work::default()
            },
        )
    }

    /// Takes up again what a failed commit left, and waits a moment; asks end only when it succeeds.
    fn postpone(&self, left: Work) -> bool {
        let mut work = self.lock();
        let newer = std::mem::take(&mut work.doomed);
        work.doomed = left.doomed;
        work.doomed.extend(newer);
        for (generation, entry) in left.dirty {
            work.dirty.entry(generation).or_insert(entry);
        }
        if work.stop {
            return false;
        }
        drop(
            self.wake
                .wait_timeout_while(work, RETRY_AFTER, |work| !work.stop),
        );
        self.lock().begun = 0;
        true
    }
}

/// Commits until it is stopped. One thread.
pub(super) fn run(inner: &Inner) {
    loop {
        let work = inner.committer.wait();
        let (stop, asked) = (work.stop, work.asked);
        match commit(inner, &work) {
            Ok(()) => {
                inner.committer.served.send_replace(asked);
                inner.enforce_quota();
            }
            Err(()) if inner.committer.postpone(work) => continue,
            Err(()) => return,
        }
        if stop {
            return;
        }
    }
}

fn commit(inner: &Inner, work: &Work) -> Result<(), ()> {
    let mut taken = Vec::new();
    for entry in work.dirty.values() {
        let Some(snapshot) = entry.snapshot() else {
            continue;
        };
        match sync(&snapshot) {
            Ok(()) => taken.push((entry, snapshot)),
            // After a failed sync nobody knows what of the file is on disk: none of it is believed.
            Err(error) => {
                warn!(task = %entry.task, %error, "the disk of the cache failed to sync; the task is dropped");
                inner.fail(entry, WriteFailure::Io(error.to_string()));
                inner.remove_generation(entry.task, Some(entry.generation), ReserveError::Gone);
            }
        }
    }
    if taken.is_empty() && work.doomed.is_empty() {
        return Ok(());
    }
    let is_new_file = taken.iter().any(|(_, snapshot)| snapshot.file.is_some());
    if is_new_file
        && let Err(error) = File::open(&inner.folder).and_then(|folder| folder.sync_all())
    {
        warn!(%error, "cannot sync the folder of the cache");
    }
    let (entries, snapshots): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
    let mut files = Vec::new();
    let mut changes = Changes {
        removed: work.doomed.clone(),
        tasks: Vec::new(),
    };
    for snapshot in snapshots {
        files.push(snapshot.file);
        changes.tasks.push(snapshot.change);
    }
    let Err(error) = inner.index.apply(&changes) else {
        inner.close_unpinned(&entries);
        return Ok(());
    };
    warn!(%error, "cannot write the index of the cache; trying again");
    for ((entry, file), change) in entries.iter().zip(files).zip(changes.tasks) {
        entry.undo_snapshot(Snapshot { file, change });
    }
    Err(())
}

fn sync(snapshot: &Snapshot) -> std::io::Result<()> {
    snapshot
        .file
        .as_ref()
        .map_or(Ok(()), |file| file.sync_data())
}
