//! A task's bytes on this host: its place in the store, its blocks, and the check of the whole.

use std::fs::File;
use std::sync::Arc;

use dfnode_gossip::Now;
use dfnode_tracker::{
    BlockIndex, BlockSet, Digest, Meta, Origin, SignedBatch, TaskFailure, TaskId, Tracker as _,
    VersionId,
};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};
use url::Url;

use super::news::Ready;
use super::pump::same_kind;
use super::tasks::{Entry, FileState};
use super::{Driver, Parts, Report};
use crate::ambient::unix_millis;
use crate::get::{GetError, authority};
use crate::limits::Limiter;
use crate::store::{About, Progress, ReserveError};
use crate::whole_digest;

/// A place in the store.
pub(crate) struct Place {
    file: Arc<File>,
    written: watch::Receiver<Progress>,
}

impl Driver {
    /// The version became known, or its length did.
    pub(super) fn handle_meta(&mut self, now: Now, task: TaskId, meta: Meta) {
        let limit = self.parts.limits.task;
        let entry = self
            .tasks
            .entries
            .entry(task)
            .or_insert_with(|| Entry::new(None, Limiter::of(limit)));
        let is_longer_known = match &entry.meta {
            Some(known) if known.version == meta.version => {
                if *known == meta {
                    return;
                }
                true
            }
            Some(_) => {
                entry.restart();
                false
            }
            None => false,
        };
        debug!(task = %task.short(), version = %meta.version, length = ?meta.layout.length(), "version known");
        let is_unfit = meta.single && entry.is_content();
        entry.meta = Some(meta);
        if is_unfit {
            // One answer without a length is nobody's but its reader's: the caller reads it itself.
            let what = "the source does not tell how long the content is".to_owned();
            return self.fail_task(now, task, GetError::SourceFailed { what });
        }
        if is_longer_known && matches!(entry.file, FileState::Ready) {
            // The store takes the new length for the same file.
            entry.file = FileState::Absent;
        }
        self.ensure_file(now, task);
        self.open_gates(now, task);
    }

    /// Has the store make room for a task whose version is known, once.
    pub(super) fn ensure_file(&mut self, _now: Now, task: TaskId) {
        let Some(entry) = self.tasks.entries.get_mut(&task) else {
            return;
        };
        let (Some(meta), FileState::Absent) = (entry.meta.clone(), &entry.file) else {
            return;
        };
        entry.file = FileState::Reserving;
        if entry.pin.is_none() && !entry.callers.is_empty() {
            entry.pin = Some(self.parts.store.pin(task));
        }
        let about = About {
            url: entry.url.as_ref().map(|url| storable(url).to_string()),
            digest: entry.expected_digests().into_iter().next(),
            credentialed: !meta.public,
            authorities: if entry.is_content() {
                entry.authorities()
            } else {
                entry.url.as_ref().map(authority).into_iter().collect()
            },
            validated_at_ms: unix_millis(),
        };
        // Blocks may be put from here on; only those who read by descriptor wait for the file.
        let reserved = self.parts.store.reserve(task, &meta, about);
        let parts = self.parts.clone();
        self.parts.spawn(async move {
            let place = match reserved.await {
                Ok(()) => open_place(&parts, task),
                Err(error) => Err(error),
            };
            parts.report(Report::Reserved { task, meta, place }).await;
        });
    }

    /// The store made room, or could not.
    pub(super) fn handle_reserved(
        &mut self,
        now: Now,
        task: TaskId,
        meta: &Meta,
        place: Result<Place, ReserveError>,
    ) {
        let Some(entry) = self.tasks.entries.get_mut(&task) else {
            return;
        };
        if entry
            .meta
            .as_ref()
            .is_none_or(|current| current.version != meta.version)
        {
            return;
        }
        entry.file = FileState::Absent;
        if entry.meta.as_ref() != Some(meta) {
            // The length became known while the store was at it.
            return self.ensure_file(now, task);
        }
        match place {
            // It would stay open for nobody.
            Ok(_) if entry.callers.is_empty() => {}
            Ok(place) => {
                entry.file = FileState::Ready;
                let ready = Ready {
                    meta: meta.clone(),
                    file: place.file,
                    written: place.written,
                };
                entry.news.send_modify(|news| news.ready = Some(ready));
                if std::mem::take(&mut entry.is_unchecked) {
                    self.check_whole(task);
                }
            }
            Err(failure) => {
                error!(task = %task.short(), %failure, "no place for a task");
                self.fail_for_want_of_place(now, task, failure.into());
                // Nothing of it is here, whatever the tracker thought of the blocks that waited for their place.
                self.tracker.forget(now, &task);
            }
        }
    }

    /// A block's digest is right: from here on it can be read and sent.
    pub(super) fn keep(
        &mut self,
        now: Now,
        task: TaskId,
        version: VersionId,
        (block, origin): (BlockIndex, Origin),
    ) {
        let Some(bytes) = self.parked.take(task, origin, block) else {
            warn!(task = %task.short(), %block, "a block to keep is not there");
            return;
        };
        let Some(entry) = self.tasks.entries.get_mut(&task) else {
            return;
        };
        let length = bytes.len() as u64;
        match origin {
            Origin::Peer(peer) => {
                self.parts.stats.from_peers.add(length);
                self.peers.received(peer, length);
                *entry.givers.entry(peer).or_default() += length;
            }
            Origin::Source(_) => {}
        }
        let peers = u32::try_from(entry.givers.len()).unwrap_or(u32::MAX);
        entry.news.send_if_modified(|news| {
            match origin {
                Origin::Peer(_) => news.from_peers += length,
                Origin::Source(_) => news.from_source += length,
            }
            news.peers = peers;
            // The file's own progress wakes the callers.
            false
        });
        let is_current = entry
            .meta
            .as_ref()
            .is_some_and(|meta| meta.version == version);
        if let Err(error) = self.parts.store.put(task, version, block, bytes) {
            warn!(task = %task.short(), %block, %error, "a block was not stored");
            if is_current {
                // Else whoever asks next waits for what everybody believes to be here.
                self.tracker.handle_block_damaged(now, &task, block);
            }
        }
    }

    /// Digests to be stored with the task.
    pub(super) fn keep_batch(&self, task: TaskId, batch: SignedBatch) {
        if let Err(error) = self.parts.store.put_batch(task, batch) {
            warn!(task = %task.short(), %error, "digests were not stored");
        }
    }

    /// The source has a newer version.
    pub(super) fn handle_restarted(&mut self, task: TaskId) {
        info!(task = %task.short(), "the content changed at the source; starting over");
        self.parked.drop_task(task);
        if let Some(entry) = self.tasks.entries.get_mut(&task) {
            entry.restart();
        }
    }

    /// Every block is here.
    /// What lies here of a task is what the source has now.
    pub(super) fn handle_current(&self, task: TaskId) {
        if let Some(entry) = self.tasks.entries.get(&task) {
            entry.news.send_modify(|news| news.currents += 1);
        }
    }

    pub(super) fn handle_complete(&mut self, task: TaskId) {
        // The store may have refused the last block since that was said.
        if !self.tracker.task(&task).is_some_and(|view| view.complete) {
            return;
        }
        let Some(entry) = self.tasks.entries.get_mut(&task) else {
            return;
        };
        entry.complete = true;
        entry.is_unchecked = !matches!(entry.file, FileState::Ready);
        if !entry.is_unchecked {
            self.check_whole(task);
        }
    }

    /// Compares the whole with whatever digests it should have, off the loop; at once if there are none.
    fn check_whole(&mut self, task: TaskId) {
        let Some(entry) = self.tasks.entries.get_mut(&task) else {
            return;
        };
        let Some(meta) = entry.meta.clone() else {
            return;
        };
        let known = entry.news.borrow().digests.clone();
        let wanted: Vec<Digest> = entry
            .expected_digests()
            .into_iter()
            .filter(|wanted| !known.iter().any(|known| same_kind(known, wanted)))
            .collect();
        if wanted.is_empty() {
            self.found_whole(task);
            return;
        }
        let parts = self.parts.clone();
        self.parts.spawn(async move {
            let found = whole_digest::of_task(&parts.store, task, &meta, &wanted).await;
            let is_wrong = |got: &Digest| {
                wanted
                    .iter()
                    .any(|wanted| same_kind(got, wanted) && got != wanted)
            };
            if found.as_ref().is_ok_and(|found| found.iter().any(is_wrong)) {
                // Before anybody is suspected of having signed what is wrong: it may be this disk.
                let damaged = parts
                    .store
                    .audit(task, 0..u64::MAX)
                    .await
                    .unwrap_or_default();
                for block in &damaged {
                    let block = *block;
                    parts.report(Report::Damaged { task, block }).await;
                }
                if !damaged.is_empty() {
                    return;
                }
            }
            let found = found.map_err(|error| error.to_string());
            parts
                .report(Report::Checked {
                    task,
                    version: meta.version,
                    found,
                })
                .await;
        });
    }

    /// The whole was hashed.
    pub(super) fn handle_checked(
        &mut self,
        now: Now,
        task: TaskId,
        version: VersionId,
        found: Result<Vec<Digest>, String>,
    ) {
        let Some(entry) = self.tasks.entries.get_mut(&task) else {
            return;
        };
        if !entry.complete
            || entry
                .meta
                .as_ref()
                .is_none_or(|meta| meta.version != version)
        {
            return;
        }
        match found {
            Ok(found) => {
                let expected = entry.expected_digests();
                let differs = |got: &Digest| {
                    expected
                        .iter()
                        .any(|wanted| same_kind(got, wanted) && got != wanted)
                };
                let is_wrong = found.iter().any(differs);
                if is_wrong {
                    warn!(task = %task.short(), "the whole has another digest than a caller named");
                    entry.disputed = Some(found);
                    entry.complete = false;
                    self.tracker.handle_wrong_digest(now, &task);
                    return;
                }
                entry.news.send_modify(|news| news.digests.extend(found));
                self.found_whole(task);
            }
            Err(what) => self.fail_task(now, task, GetError::Internal { what }),
        }
    }

    fn found_whole(&mut self, task: TaskId) {
        let Some(entry) = self.tasks.entries.get_mut(&task) else {
            return;
        };
        info!(task = %task.short(), "task complete");
        entry.news.send_modify(|news| {
            news.completions += 1;
            news.completed = Some(news.attempt);
        });
        self.parts.store.complete(task);
    }

    /// The store dropped a block whose bytes were not what was written: it is not here any more.
    pub(super) fn handle_damaged(&mut self, now: Now, task: TaskId, block: BlockIndex) {
        warn!(task = %task.short(), %block, "a block was damaged on disk");
        if let Some(entry) = self.tasks.entries.get_mut(&task) {
            entry.complete = false;
            // That it is whole, and what that hashes to, is to be shown again.
            entry.news.send_modify(|news| {
                news.completed = None;
                news.digests.clear();
            });
        }
        self.tracker.handle_block_damaged(now, &task, block);
    }

    /// The tracker gave a task up.
    pub(super) fn handle_failed(&mut self, now: Now, task: TaskId, failure: TaskFailure) {
        info!(task = %task.short(), %failure, "task failed");
        let Some(entry) = self.tasks.entries.get_mut(&task) else {
            return;
        };
        if matches!(failure, TaskFailure::WrongDigest)
            && let Some(found) = entry.disputed.clone()
            && entry.is_what_it_is_called(&found)
        {
            // Who named another digest is told so by it; nobody else fails for that.
            entry.complete = true;
            entry.news.send_modify(|news| news.digests.extend(found));
            self.found_whole(task);
            return;
        }
        let is_rotten = matches!(failure, TaskFailure::WrongDigest) && entry.is_content();
        let error = super::errors::of_task(failure, entry);
        entry.news.send_modify(|news| {
            news.failures += 1;
            news.failure = Some(error);
            news.has_no_place = None;
        });
        if is_rotten {
            // Bytes that are not what they are called are of no use to anybody.
            self.parts.store.remove(task);
            self.forget(now, task);
        }
    }

    /// This node gives a task up: what it has of it stays, and what it thought to have beyond that is forgotten.
    pub(super) fn fail_writing(&mut self, now: Now, task: TaskId, error: GetError) {
        self.fail_for_want_of_place(now, task, error);
        let Some(progress) = self.parts.store.progress(task) else {
            return self.forget(now, task);
        };
        let (written, blocks) = {
            let progress = progress.borrow();
            (progress.written.clone(), progress.layout.blocks())
        };
        let Some(blocks) = blocks else {
            // What is written of a stream cannot be gone on with.
            self.parts.store.remove(task);
            return self.tracker.forget(now, &task);
        };
        for block in BlockSet::all(blocks).minus(&written) {
            self.tracker.handle_block_damaged(now, &task, block);
        }
    }

    fn fail_for_want_of_place(&mut self, now: Now, task: TaskId, error: GetError) {
        let meta = self.tracker.task(&task).and_then(|view| view.meta);
        let bytes = meta.and_then(|meta| meta.layout.length());
        self.give_up(now, task, error, Some(bytes.unwrap_or(0)));
    }

    /// This node gives a task up.
    pub(super) fn fail_task(&mut self, now: Now, task: TaskId, error: GetError) {
        self.give_up(now, task, error, None);
    }

    fn give_up(&mut self, now: Now, task: TaskId, error: GetError, has_no_place: Option<u64>) {
        let Some(entry) = self.tasks.entries.get_mut(&task) else {
            return;
        };
        entry.file = FileState::Absent;
        entry.news.send_modify(|news| {
            news.ready = None;
            news.failures += 1;
            news.failure = Some(error);
            news.has_no_place = has_no_place;
        });
        self.stop_reads_of(task);
        self.tracker.service_down(now, &task);
    }

    /// A task is no longer here.
    pub(super) fn forget(&mut self, now: Now, task: TaskId) {
        self.parked.drop_task(task);
        self.stop_reads_of(task);
        self.tracker.forget(now, &task);
        if let Some(entry) = self.tasks.entries.get_mut(&task) {
            entry.restart();
            if entry.callers.is_empty() {
                self.tasks.entries.remove(&task);
            }
        }
    }
}

fn open_place(parts: &Parts, task: TaskId) -> Result<Place, ReserveError> {
    let file = parts
        .store
        .open_file(task)
        .map_err(|error| ReserveError::Io {
            why: error.to_string(),
        })?;
    let written = parts.store.progress(task).ok_or(ReserveError::Gone)?;
    Ok(Place {
        file: Arc::new(file),
        written,
    })
}

/// A URL without what proves who asks.
pub(super) fn storable(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_fragment(None);
    // These fail only for URLs that have no user info.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if url.query().is_some() {
        url.set_query(Some("…"));
    }
    url
}
