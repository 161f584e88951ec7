//! Carries a task's news to one local caller, off the loop.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use dfnode_gossip::Now;
use dfnode_tracker::{Digest, Meta, TaskId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::Stats;
use super::audit::{Audit, Audited};
use super::news::{Gate, News, Ready};
use super::runs::{beyond, bytes_in, clip};
use crate::ambient::Clock;
use crate::get::{
    CacheFile, DownloadSender, GetError, GetEvent, GetProgress, GetSummary, Gone, Started,
};
use crate::store::Progress;

/// Progress is told at most this often.
const PROGRESS_PERIOD: Duration = Duration::from_millis(100);

/// One caller and what it was told so far.
pub(super) struct Pump {
    pub(super) id: String,
    pub(super) task: TaskId,
    pub(super) sender: DownloadSender,
    pub(super) news: watch::Receiver<News>,
    pub(super) gate: watch::Receiver<Gate>,
    pub(super) range: Option<(u64, Option<u64>)>,
    pub(super) digest: Option<Digest>,
    pub(super) timeout: Option<Duration>,
    /// Nothing is shown before the task was found current once more: it was complete when the caller came, or lay here as
    /// far as a range touches it.
    pub(super) wait_for_validation: bool,
    pub(super) stop: CancellationToken,
    pub(super) told: Told,
    pub(super) stats: Arc<Stats>,
    pub(super) audit: Audit,
    /// The caller takes a pipe where there is no place.
    pub(super) takes_pipe: bool,
    /// The caller has waited for a place once.
    pub(super) has_waited: bool,
}

/// How a caller leaves its task.
pub(crate) enum Left {
    /// It has everything, an error, or went away.
    Done,
    /// It belongs to another task.
    Moved(DownloadSender),
    /// There is no place for the task on this host: the bytes are to be passed through.
    Through {
        sender: DownloadSender,
        /// How many bytes were here, if the download may come back once there is a place.
        reached: Option<u64>,
    },
    /// There is no place for the task on this host now: there may be in a moment.
    NoPlace {
        sender: DownloadSender,
        /// How many bytes lack one; 0 if nobody knows.
        bytes: u64,
    },
}

/// What the caller knows already.
pub(super) struct Told {
    began: Now,
    attempt: u64,
    completions: u64,
    currents: u64,
    failures: u64,
    from_peers: u64,
    from_source: u64,
    started: Option<Started>,
    runs: Vec<Range<u64>>,
    done_bytes: u64,
    /// What lay in the file when the caller came.
    had: Vec<Range<u64>>,
    epoch: Option<u32>,
    next_progress: Option<Instant>,
}

/// Whether there is more to tell.
enum Step {
    Wait,
    Ended,
    Moved,
    Through { reached: Option<u64> },
    NoPlace(u64),
}

/// The state of the file.
enum Written {
    /// Some of it can be read.
    Part,
    /// All of it can.
    Whole,
    /// A block that was shown turned out to be wrong: what was read is not to be believed.
    TakenBack,
    /// The rest cannot be written.
    Failed(GetError),
    /// The task was removed or begins anew; news of that follow.
    Gone,
}

impl Told {
    /// A caller who comes now: what happened before does not concern it.
    pub(super) fn at(now: Now, news: &News, had: Vec<Range<u64>>) -> Self {
        Self {
            began: now,
            attempt: news.attempt,
            completions: news.completions,
            currents: news.currents,
            failures: news.failures,
            from_peers: news.from_peers,
            from_source: news.from_source,
            started: None,
            runs: Vec::new(),
            done_bytes: 0,
            had,
            epoch: None,
            next_progress: None,
        }
    }

    /// Forgets what the caller was told of the bytes.
    fn void(&mut self) {
        self.started = None;
        self.runs.clear();
        self.done_bytes = 0;
        self.epoch = None;
        self.next_progress = None;
    }
}

impl Pump {
    /// Runs until the caller leaves the task.
    pub(super) async fn run(mut self) -> Left {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let mut written: Option<watch::Receiver<Progress>> = None;
        loop {
            match self.step() {
                Ok(Step::Wait) => {}
                Ok(Step::Ended) | Err(Gone) => return Left::Done,
                Ok(Step::Moved) => return Left::Moved(self.sender),
                Ok(Step::Through { reached }) => {
                    let sender = self.sender;
                    return Left::Through { sender, reached };
                }
                Ok(Step::NoPlace(bytes)) => {
                    let sender = self.sender;
                    return Left::NoPlace { sender, bytes };
                }
            }
            if self.told.started.is_none() {
                written = None;
            } else if let Some(ready) = &self.news.borrow().ready {
                // A file that was begun anew between two steps tells of its progress elsewhere.
                let is_known = |known: &watch::Receiver<_>| known.same_channel(&ready.written);
                if !written.as_ref().is_some_and(is_known) {
                    written = Some(ready.written.clone());
                }
            }
            let news_ended = tokio::select! {
                biased;
                () = self.sender.gone() => return Left::Done,
                () = self.stop.cancelled() => return Left::Done,
                () = at(deadline) => {
                    self.sender.fail(GetError::Timeout);
                    return Left::Done;
                }
                changed = self.news.changed() => changed.is_err(),
                changed = self.gate.changed() => changed.is_err(),
                () = changed(&mut written) => false,
                audited = self.audit.next() => {
                    match audited {
                        Ok(audited) => self.note_damage(&audited),
                        Err(error) => {
                            self.sender.fail(error);
                            return Left::Done;
                        }
                    }
                    false
                }
                () = at(self.told.next_progress) => false,
            };
            if news_ended {
                return Left::Done;
            }
        }
    }

    /// Tells whatever is new.
    fn step(&mut self) -> Result<Step, Gone> {
        let news = self.news.borrow_and_update().clone();
        let gate = self.gate.borrow_and_update().clone();
        match &gate {
            Gate::Failed(error) => {
                self.sender.fail(error.clone());
                return Ok(Step::Ended);
            }
            Gate::Through => {
                self.part()?;
                return Ok(Step::Through { reached: None });
            }
            Gate::Moved => {
                self.restart(&news)?;
                return Ok(Step::Moved);
            }
            Gate::Closed | Gate::Open => {}
        }
        if news.failures > self.told.failures
            && let Some(error) = news.failure.clone()
        {
            return self.fail(error, news.has_no_place);
        }
        if news.attempt != self.told.attempt {
            self.restart(&news)?;
        }
        let is_complete =
            news.completions > self.told.completions && news.completed == Some(news.attempt);
        let Some(ready) = &news.ready else {
            return Ok(Step::Wait);
        };
        // A part is never complete.
        let is_current = is_complete || self.range.is_some() && news.currents > self.told.currents;
        if gate != Gate::Open
            || self.wait_for_validation && !is_current && ready_is_old(&news, &self.told)
        {
            return Ok(Step::Wait);
        }
        self.start(ready)?;
        self.progress(&news, ready, is_complete)
    }

    /// Tells the caller of a failure, unless it is this host's: a place may turn up, or the caller can do without its disk.
    fn fail(&mut self, error: GetError, has_no_place: Option<u64>) -> Result<Step, Gone> {
        // Who has been given some of it and takes no pipe goes on by itself at once, from where it is.
        let can_wait = !self.has_waited && (self.takes_pipe || self.told.started.is_none());
        if let Some(bytes) = has_no_place.filter(|_| can_wait) {
            info!(id = self.id, task = %self.task.short(), %error, "no place for a task; waiting for one");
            self.part()?;
            return Ok(Step::NoPlace(bytes));
        }
        if has_no_place.is_none() || !self.takes_pipe {
            self.sender.fail(error);
            return Ok(Step::Ended);
        }
        info!(id = self.id, task = %self.task.short(), %error, "no place for a task; passing it through");
        self.part()?;
        let reached = Some(self.told.done_bytes);
        Ok(Step::Through { reached })
    }

    /// What the caller was shown is not this task's any more.
    fn part(&mut self) -> Result<(), Gone> {
        if self.told.started.take().is_some() {
            self.sender.send(GetEvent::Restarted)?;
        }
        Ok(())
    }

    fn restart(&mut self, news: &News) -> Result<(), Gone> {
        self.part()?;
        self.wait_for_validation = false;
        self.audit.restart();
        let completions = self.told.completions;
        self.told = Told {
            began: self.told.began,
            completions,
            failures: self.told.failures,
            ..Told::at(self.told.began, news, Vec::new())
        };
        (self.told.from_peers, self.told.from_source) = (0, 0);
        Ok(())
    }

    /// Some of what lay in the file is not what was verified once.
    fn note_damage(&mut self, audited: &Audited) {
        if !audited.damaged.is_empty() {
            let runs = self.audit.still_there();
            let left = |had: &Range<u64>| clip(&runs, had);
            self.told.had = self.told.had.iter().flat_map(left).collect();
        }
        if !audited.were_seen {
            // Each block that the store drops counts as an epoch: this caller read none of them.
            let dropped = u32::try_from(audited.damaged.len()).unwrap_or(u32::MAX);
            self.told.epoch = self.told.epoch.map(|epoch| epoch.wrapping_add(dropped));
        }
    }

    fn start(&mut self, ready: &Ready) -> Result<(), Gone> {
        let length = ready.meta.layout.length();
        if let Some(started) = &self.told.started
            && (started.length == length || Arc::ptr_eq(&started.file.0, &ready.file))
        {
            return Ok(());
        }
        let file = CacheFile(Arc::clone(&ready.file));
        let started = Started {
            id: self.id.clone(),
            task: self.task,
            version: ready.meta.version,
            length,
            file,
        };
        self.told.started = Some(started.clone());
        self.sender.send(GetEvent::Started(started))
    }

    fn again(&mut self, ready: &Ready) -> Result<Step, Gone> {
        self.start(ready)?;
        self.told.next_progress = Some(Instant::now());
        Ok(Step::Wait)
    }

    fn progress(&mut self, news: &News, ready: &Ready, is_complete: bool) -> Result<Step, Gone> {
        let state = self.written(ready);
        match state {
            Written::Failed(error) => {
                let bytes = ready.meta.layout.length().unwrap_or(0);
                return self.fail(error, Some(bytes));
            }
            Written::TakenBack => {
                self.sender.send(GetEvent::Restarted)?;
                self.told.void();
                return self.again(ready);
            }
            Written::Whole => {}
            Written::Part => {
                // Between two reports nothing is looked at: each look costs as much as the file has blocks.
                let due = self.told.next_progress;
                if due.is_some_and(|due| due > Instant::now()) {
                    return Ok(Step::Wait);
                }
            }
            Written::Gone => return Ok(Step::Wait),
        }
        let length = ready.meta.layout.length();
        let wanted = wanted(self.range, length);
        let runs = clip(&ready.written.borrow().byte_runs(), &wanted);
        let runs = beyond(&runs, &self.audit.unseen());
        let done_bytes = bytes_in(&runs);
        let cached = bytes_in(&clip(&self.told.had, &wanted));
        self.told.next_progress = None;
        if done_bytes > self.told.done_bytes {
            self.told.next_progress = Some(Instant::now() + PROGRESS_PERIOD);
            let (from_peers, from_source) = self.split(news, done_bytes.saturating_sub(cached));
            let leading = runs.first().filter(|run| run.start == wanted.start);
            self.sender.send(GetEvent::Progress(GetProgress {
                done_bytes,
                length: length.map(|_| wanted.end - wanted.start),
                from_peers,
                from_source,
                from_cache: cached,
                peers: news.peers,
                contiguous: leading.map_or(wanted.start, |run| run.end),
                runs: beyond(&runs, &self.told.runs),
            }))?;
            (self.told.runs, self.told.done_bytes) = (runs, done_bytes);
        }
        let is_all = length.is_some() && done_bytes == wanted.end - wanted.start;
        if !is_all || !is_complete && (self.range.is_none() || self.digest.is_some()) {
            return Ok(Step::Wait);
        }
        let is_checked = |wanted: &Digest| news.digests.iter().any(|got| same_kind(got, wanted));
        if !self.digest.as_ref().is_none_or(is_checked) || !self.audit.close(&wanted) {
            return Ok(Step::Wait);
        }
        self.end(news, &ready.meta, done_bytes, cached)?;
        Ok(Step::Ended)
    }

    /// How the file is.
    fn written(&mut self, ready: &Ready) -> Written {
        let progress = ready.written.borrow();
        if let Some(failure) = progress.failure.clone() {
            return Written::Failed(failure.into());
        }
        if progress.gone {
            return Written::Gone;
        }
        if progress.epoch != *self.told.epoch.get_or_insert(progress.epoch) {
            return Written::TakenBack;
        }
        if progress.is_whole() {
            Written::Whole
        } else {
            Written::Part
        }
    }

    fn end(&self, news: &News, meta: &Meta, bytes: u64, cached: u64) -> Result<(), Gone> {
        let expected = self.digest.as_ref().or(meta.digest.as_ref());
        let found =
            expected.and_then(|wanted| news.digests.iter().find(|got| same_kind(got, wanted)));
        if let (Some(expected), Some(got)) = (&self.digest, found)
            && got != expected
        {
            self.sender.fail(GetError::DigestMismatch {
                expected: expected.to_string(),
                got: got.to_string(),
            });
            return Ok(());
        }
        self.stats.from_cache.add(cached);
        let (from_peers, from_source) = self.split(news, bytes.saturating_sub(cached));
        let summary = GetSummary {
            bytes,
            seconds: (Clock::now() - self.told.began).as_secs_f64(),
            from_peers,
            from_source,
            from_cache: cached,
            peers: news.peers,
            digest_checked: found.is_some(),
            digest: found.cloned(),
        };
        info!(id = self.id, task = %self.task.short(), bytes, from_peers, from_source, from_cache = cached, "download done");
        self.sender.send(GetEvent::Done(summary))
    }

    /// How `fresh` bytes divide into those of peers and those of the source.
    fn split(&self, news: &News, fresh: u64) -> (u64, u64) {
        let source = news
            .from_source
            .saturating_sub(self.told.from_source)
            .min(fresh);
        let peers = news
            .from_peers
            .saturating_sub(self.told.from_peers)
            .min(fresh);
        // A block counts when it is kept and shows when it is written, so the sums may differ for a moment.
        if peers >= source {
            (fresh - source, source)
        } else {
            (peers, fresh - peers)
        }
    }
}

/// The bytes of the file that a caller asked for.
pub(super) fn wanted(range: Option<(u64, Option<u64>)>, length: Option<u64>) -> Range<u64> {
    let end = length.unwrap_or(u64::MAX);
    let (first, last) = range.unwrap_or((0, None));
    let stop = last.map_or(end, |last| last.saturating_add(1).min(end));
    first.min(stop)..stop
}

fn ready_is_old(news: &News, told: &Told) -> bool {
    news.attempt == told.attempt
}

/// Whether two digests are made by the same algorithm.
pub(super) const fn same_kind(one: &Digest, two: &Digest) -> bool {
    matches!(
        (one, two),
        (Digest::Sha256(_), Digest::Sha256(_))
            | (Digest::Md5(_), Digest::Md5(_))
            | (Digest::Blake3(_), Digest::Blake3(_))
    )
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn changed(written: &mut Option<watch::Receiver<Progress>>) {
    match written {
        Some(receiver) => {
            if receiver.changed().await.is_err() {
                // The store let go of the task: news of the task itself will follow.
                *written = None;
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}
