//! Downloads from the source alone: no peer is asked, nothing of the cache is believed, nothing is kept.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfnode_gossip::Now;
use dfnode_tracker::{Digest, Extent, Meta, SourceFailure, SourceHead, TaskId};
use tokio::time::sleep;

use super::direct_sink::Sink;
use super::pump::wanted;
use super::source_reads::for_source;
use super::{Asker, Parts};
use crate::ambient::{self, Clock};
use crate::get::{GetError, GetEvent, GetProgress, GetRequest, GetSummary, Started};
use crate::limits::{ByteRate, Limiter};
use crate::source::{HeadAt, SourceEvent};
use crate::store::{PlaceWatch, Returns};
use crate::whole_digest::Algorithm;

/// Reads in a row that may fail without a byte.
const MAX_FAILURES: u32 = 5;
/// The pause after the first of them; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// A file that changed so often under one download is another with each answer.
const MAX_RESTARTS: u32 = 3;
/// A source that asks for more patience than this is given up.
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// Who has been given more than such a part of what is left does not come back to the cache: it would wait for as long
/// until its peers have brought that once more.
const MAX_GIVEN_PART: u64 = 4;

/// Serves one caller from the source, until it has everything or has left; or comes back to the cache, for which `place`
/// looks: then it is returned, with how often it has come back in vain.
pub(super) async fn run(
    parts: &Parts,
    task: TaskId,
    id: String,
    asker: Asker,
    mut place: Option<PlaceWatch>,
) -> Option<(Asker, Returns)> {
    let (request, sender) = (Arc::clone(&asker.request), &asker.sender);
    let timeout = request.timeout.unwrap_or(Duration::MAX);
    let ended = tokio::select! {
        biased;
        () = sender.gone() => return None,
        () = parts.stop.cancelled() => return None,
        () = sleep(timeout) => Err(GetError::Timeout.into()),
        ended = serve(parts, task, id, &asker, place.as_mut()) => ended,
    };
    match ended {
        // A caller who left meanwhile is told nothing.
        Ok(summary) => drop(sender.send(GetEvent::Done(summary))),
        Err(Stop::Failed(error)) => sender.fail(error),
        Err(Stop::Place) => {
            sender.send(GetEvent::Restarted).ok()?;
            return place.map(|place| (asker, place.returns()));
        }
    }
    None
}

/// Why a download from the source ends early.
enum Stop {
    Failed(GetError),
    /// There is place in the cache by now.
    Place,
}

impl From<GetError> for Stop {
    fn from(error: GetError) -> Self {
        Self::Failed(error)
    }
}

/// A download under way.
struct Direct<'a> {
    parts: &'a Parts,
    asker: &'a Asker,
    task: TaskId,
    id: String,
    limiter: Limiter,
    sink: Sink,
    meta: Option<Meta>,
    /// What was read, without a gap.
    done: Range<u64>,
    place: Option<&'a mut PlaceWatch>,
}

async fn serve(
    parts: &Parts,
    task: TaskId,
    id: String,
    asker: &Asker,
    place: Option<&mut PlaceWatch>,
) -> Result<GetSummary, Stop> {
    let began = Clock::now();
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
        sink: new_sink(parts, &asker.request).await?,
        meta: None,
        done: 0..0,
        place,
    };
    direct.read_all().await?;
    Ok(direct.finish(began).await?)
}

impl Direct<'_> {
    /// Reads extent after extent, and again where one failed.
    async fn read_all(&mut self) -> Result<(), Stop> {
        let (mut failures, mut restarts) = (0, 0);
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
                    restarts += 1;
                    if restarts > MAX_RESTARTS {
                        return Err(GetError::Changed.into());
                    }
                    self.start_over().await?;
                    FIRST_PAUSE
                }
                SourceFailure::Refused { .. }
                | SourceFailure::NotFound
                | SourceFailure::Final { .. } => {
                    return Err(GetError::from(failure).into());
                }
            };
            if failures > MAX_FAILURES || pause > MAX_PAUSE {
                return Err(GetError::from(failure).into());
            }
            if self.meta.as_ref().is_some_and(|meta| meta.single) {
                // Another read of it may give other bytes.
                self.start_over().await?;
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
        wanted(self.asker.request.range, Some(length))
    }

    /// One read: an error of ours ends the download, one of the source is up to the caller.
    async fn read(&mut self, extent: Extent) -> Result<Result<(), SourceFailure>, Stop> {
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
                    if self.can_come_back().await {
                        return Err(Stop::Place);
                    }
                }
                SourceEvent::Unchanged => {}
                SourceEvent::End(Ok(_)) => {
                    if let Some(meta) = self
                        .meta
                        .as_mut()
                        .filter(|meta| meta.layout.length().is_none())
                    {
                        meta.layout = meta.layout.ended_at(at);
                        if self.sink.may_be_shown_again() {
                            self.tell_start()?;
                        }
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

    async fn can_come_back(&mut self) -> bool {
        // What has no validator is another version to whoever reads it next.
        let meta = self.meta.as_ref().filter(|meta| !meta.single);
        let Some(length) = meta.and_then(|meta| meta.layout.length()) else {
            return false;
        };
        let wanted = self.wanted(length);
        let left = wanted.end.saturating_sub(self.done.end);
        let given = self.done.end.saturating_sub(wanted.start);
        if given > left / MAX_GIVEN_PART {
            return false;
        }
        match &mut self.place {
            Some(place) => place.is_there(length, left).await,
            None => false,
        }
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
            file: self.sink.shown(),
        }))
    }

    async fn write(&mut self, at: u64, bytes: Bytes) -> Result<u64, GetError> {
        let end = at + bytes.len() as u64;
        let length = self.meta.as_ref().and_then(|meta| meta.layout.length());
        let wanted = self.wanted(length.unwrap_or(u64::MAX));
        let sender = &self.asker.sender;
        let tell = |fresh: Range<u64>| {
            let done_bytes = fresh.end - wanted.start;
            let progress = GetProgress {
                done_bytes,
                length: length.map(|_| wanted.end - wanted.start),
                from_source: done_bytes,
                contiguous: fresh.end,
                runs: vec![fresh],
                ..GetProgress::default()
            };
            sender
                .send(GetEvent::Progress(progress))
                .map_err(|_| GetError::Cancelled)
        };
        self.sink.write(at, bytes, &wanted, tell).await?;
        self.done.end = self.done.end.max(end);
        Ok(end)
    }

    async fn start_over(&mut self) -> Result<(), GetError> {
        self.done = 0..0;
        if self.meta.take().is_some() {
            self.sink = new_sink(self.parts, &self.asker.request).await?;
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
        let expected = expected(&self.asker.request);
        if let Some(expected) = expected {
            let got = self.sink.digest(Algorithm::of(expected), length).await?;
            if got != *expected {
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
            digest: expected.cloned(),
            ..GetSummary::default()
        })
    }
}

/// A pipe for who takes one: the content may be larger than this host's disk.
async fn new_sink(parts: &Parts, request: &GetRequest) -> Result<Sink, GetError> {
    if request.pipe {
        let first = request.range.map_or(0, |(first, _)| first);
        return Sink::pipe(first, expected(request));
    }
    Sink::file(&parts.data).await
}

/// What all of it must hash to; a part of it hashes to nothing that anybody knows.
fn expected(request: &GetRequest) -> Option<&Digest> {
    let named = request.content.as_ref().map(|content| &content.digest);
    let expected = request.digest.as_ref().or(named);
    expected.filter(|_| request.range.is_none())
}
