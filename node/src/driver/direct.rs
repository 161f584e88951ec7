//! Downloads from the source alone: no peer is asked, nothing of the cache is believed, nothing is kept.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfnode_gossip::Now;
use dfnode_tracker::{Extent, Meta, SourceFailure, SourceHead, TaskId};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::source_reads::for_source;
use super::{Asker, Parts};
use crate::ambient::{self, Clock};
use crate::get::{CacheFile, GetError, GetEvent, GetProgress, GetSummary, Started};
use crate::limits::{ByteRate, Limiter};
use crate::source::{HeadAt, SourceEvent};
use crate::whole_digest::{self, Algorithm};

/// Reads in a row that may fail without a byte.
const MAX_FAILURES: u32 = 5;
/// The pause after the first of them; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// A source that asks for more patience than this is given up.
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// Serves one caller from the source, until it has everything or has left.
pub(super) async fn run(parts: &Parts, task: TaskId, id: String, asker: Asker) {
    let (request, sender) = (Arc::clone(&asker.request), &asker.sender);
    let timeout = request.timeout.unwrap_or(Duration::MAX);
    let ended = tokio::select! {
        biased;
        () = sender.gone() => return,
        () = parts.stop.cancelled() => return,
        () = sleep(timeout) => Err(GetError::Timeout),
        ended = serve(parts, task, id, &asker) => ended,
    };
    match ended {
        // A caller who left meanwhile is told nothing.
        Ok(summary) => drop(sender.send(GetEvent::Done(summary))),
        Err(error) => sender.fail(error),
    }
}

/// A download under way.
struct Direct<'a> {
    parts: &'a Parts,
    asker: &'a Asker,
    task: TaskId,
    id: String,
    limiter: Limiter,
    written: Arc<File>,
    shown: Arc<File>,
    meta: Option<Meta>,
    /// What is in the file, without a gap.
    done: Range<u64>,
}

async fn serve(
    parts: &Parts,
    task: TaskId,
    id: String,
    asker: &Asker,
) -> Result<GetSummary, GetError> {
    let began = Clock::now();
    let folder = parts.data.clone();
    let made = spawn_blocking(move || nameless_file(&folder)).await;
    let (written, shown) = made
        .map_err(io::Error::other)
        .and_then(|made| made)
        .map_err(internal)?;
    let rate = asker
        .request
        .local_limit
        .and_then(std::num::NonZeroU64::new);
    let mut direct = Direct {
        parts,
        asker,
        task,
        id,
        limiter: Limiter::of(rate.map(ByteRate::per_sec).or(parts.limits.task)),
        written: Arc::new(written),
        shown: Arc::new(shown),
        meta: None,
        done: 0..0,
    };
    direct.read_all().await?;
    direct.finish(began).await
}

impl Direct<'_> {
    /// Reads extent after extent, and again where one failed.
    async fn read_all(&mut self) -> Result<(), GetError> {
        let mut failures = 0;
        while let Some(extent) = self.next_extent() {
            let before = self.done.end;
            let Err(failure) = self.read(extent).await? else {
                failures = 0;
                continue;
            };
            failures = if self.done.end > before {
                1
            } else {
                failures + 1
            };
            let pause = match &failure {
                SourceFailure::Transient { .. } => FIRST_PAUSE * (1 << failures.min(8)),
                SourceFailure::Busy { retry_after_ms, .. } => {
                    Duration::from_millis(*retry_after_ms)
                }
                SourceFailure::Changed => {
                    self.start_over()?;
                    FIRST_PAUSE
                }
                SourceFailure::Refused { .. }
                | SourceFailure::NotFound
                | SourceFailure::Final { .. } => {
                    return Err(failure.into());
                }
            };
            if failures > MAX_FAILURES || pause > MAX_PAUSE {
                return Err(failure.into());
            }
            if self.meta.as_ref().is_some_and(|meta| meta.single) {
                // Another read of it may give other bytes.
                self.start_over()?;
            }
            sleep(pause).await;
        }
        Ok(())
    }

    /// What is still to be read, if anything.
    fn next_extent(&self) -> Option<Extent> {
        let Some(meta) = &self.meta else {
            return Some(Extent::Probe);
        };
        let blocks = meta.layout.blocks()?;
        let wanted = self.wanted(meta.layout.length()?);
        let at = self.done.end.max(wanted.start);
        if at >= wanted.end {
            return None;
        }
        let first = meta.layout.block_at(at)?.0;
        let last = meta.layout.block_at(wanted.end - 1)?.0;
        Some(Extent::Blocks {
            meta: meta.clone(),
            run: first..(last + 1).min(blocks),
        })
    }

    fn wanted(&self, length: u64) -> Range<u64> {
        let (first, last) = self.asker.request.range.unwrap_or((0, None));
        let end = last.map_or(length, |last| last.saturating_add(1).min(length));
        first.min(end)..end
    }

    /// One read: an error of ours ends the download, one of the source is up to the caller.
    async fn read(&mut self, extent: Extent) -> Result<Result<(), SourceFailure>, GetError> {
        let limits = vec![self.parts.limits.download.clone(), self.limiter.clone()];
        let mut answer = self
            .parts
            .source
            .read(for_source(&self.asker.request, extent, limits));
        let mut at = 0;
        while let Some(event) = answer.next().await {
            match event {
                SourceEvent::Head(HeadAt { head, offset }) => {
                    at = offset;
                    if self.meta.is_none() {
                        self.begin(&head)?;
                    }
                    if offset > self.done.end {
                        self.done = offset..offset;
                    }
                }
                SourceEvent::Bytes(bytes) => {
                    self.parts.stats.from_source.add(bytes.len() as u64);
                    at = self.write(at, bytes).await?;
                }
                SourceEvent::Unchanged => {}
                SourceEvent::End(Ok(_)) => {
                    if let Some(meta) = self
                        .meta
                        .as_mut()
                        .filter(|meta| meta.layout.length().is_none())
                    {
                        meta.layout = meta.layout.ended_at(at);
                        self.tell_start()?;
                    }
                    return Ok(Ok(()));
                }
                SourceEvent::End(Err(failure)) => return Ok(Err(failure)),
            }
        }
        Ok(Err(SourceFailure::Transient {
            what: "the answer broke off".to_owned(),
        }))
    }

    fn begin(&mut self, head: &SourceHead) -> Result<(), GetError> {
        let too_large = || GetError::SourceFailed {
            what: "the file is larger than this node can handle".to_owned(),
        };
        self.meta = Some(Meta::of(head, ambient::random_bytes()).ok_or_else(too_large)?);
        self.tell_start()
    }

    fn tell_start(&self) -> Result<(), GetError> {
        let Some(meta) = &self.meta else {
            return Ok(());
        };
        self.tell(GetEvent::Started(Started {
            id: self.id.clone(),
            task: self.task,
            version: meta.version,
            length: meta.layout.length(),
            file: CacheFile(Arc::clone(&self.shown)),
        }))
    }

    async fn write(&mut self, at: u64, bytes: Bytes) -> Result<u64, GetError> {
        let end = at + bytes.len() as u64;
        let file = Arc::clone(&self.written);
        let written = spawn_blocking(move || file.write_all_at(&bytes, at)).await;
        written
            .map_err(io::Error::other)
            .and_then(|written| written)
            .map_err(|error| {
                if error.kind() == io::ErrorKind::StorageFull {
                    GetError::NoSpace
                } else {
                    internal(error)
                }
            })?;
        self.done.end = self.done.end.max(end);
        let length = self.meta.as_ref().and_then(|meta| meta.layout.length());
        let wanted = self.wanted(length.unwrap_or(u64::MAX));
        let fresh = at.max(wanted.start)..end.min(wanted.end);
        if fresh.start < fresh.end {
            let done_bytes = fresh.end - wanted.start;
            self.tell(GetEvent::Progress(GetProgress {
                done_bytes,
                length: length.map(|_| wanted.end - wanted.start),
                from_source: done_bytes,
                contiguous: fresh.end,
                runs: vec![fresh],
                ..GetProgress::default()
            }))?;
        }
        Ok(end)
    }

    fn start_over(&mut self) -> Result<(), GetError> {
        self.done = 0..0;
        if self.meta.take().is_some() {
            self.tell(GetEvent::Restarted)?;
        }
        Ok(())
    }

    fn tell(&self, event: GetEvent) -> Result<(), GetError> {
        self.asker
            .sender
            .send(event)
            .map_err(|_| GetError::Cancelled)
    }

    async fn finish(&self, began: Now) -> Result<GetSummary, GetError> {
        let length = self
            .meta
            .as_ref()
            .and_then(|meta| meta.layout.length())
            .unwrap_or(self.done.end);
        let wanted = self.wanted(length);
        let expected = self
            .asker
            .request
            .digest
            .clone()
            .filter(|_| self.asker.request.range.is_none());
        if let Some(expected) = &expected {
            let file = self.shown.try_clone().map_err(internal)?;
            let found = whole_digest::of_file(file, length, &[Algorithm::of(expected)]).await;
            let found = found.map_err(|error| GetError::Internal {
                what: error.to_string(),
            })?;
            if let Some(got) = found.first().filter(|got| *got != expected) {
                let (expected, got) = (expected.to_string(), got.to_string());
                return Err(GetError::DigestMismatch { expected, got });
            }
        }
        let bytes = wanted.end - wanted.start;
        Ok(GetSummary {
            bytes,
            seconds: (Clock::now() - began).as_secs_f64(),
            from_source: bytes,
            digest_checked: expected.is_some(),
            digest: expected,
            ..GetSummary::default()
        })
    }
}

/// A file without a name, once to write and once to read: whoever gets it cannot change it.
fn nameless_file(folder: &Path) -> io::Result<(File, File)> {
    let path = folder.join(format!("direct-{:016x}", ambient::seed()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    let shown = File::open(&path);
    std::fs::remove_file(&path)?;
    Ok((written, shown?))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it stands where a function of an owned error is wanted"
)]
fn internal(error: io::Error) -> GetError {
    GetError::Internal {
        what: error.to_string(),
    }
}
