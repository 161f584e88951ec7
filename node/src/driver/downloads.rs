//! Local callers: how they join a task, and how they leave it.

use std::sync::Arc;
use std::time::Duration;

use dfnode_gossip::Now;
use dfnode_tracker::{Part, TaskId, Tracker as _, Wish};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, info_span};

use super::audit::Audit;
use super::credentials::{Credential, task_of};
use super::direct;
use super::news::Gate;
use super::pump::{Left, Pump, Told, wanted};
use super::runs::clip;
use super::tasks::{Entry, Waiting};
use super::{Driver, Report};
use crate::get::{Caller, ContentName, DownloadSender, GetError, GetRequest, SourcePolicy};
use crate::limits::{ByteRate, Limiter};
use crate::store::Returns;

/// Local callers at once, over all tasks.
const MAX_CALLERS: usize = 4096;
/// Who finds no place for a file waits for as long as it takes to get it at this rate, and at most so long, whether there
/// is one then: what is passed through costs the source one more copy of all of it.
const PLACE_BYTES_PER_SEC: u64 = 100_000_000;
const MAX_PLACE_PATIENCE: Duration = Duration::from_secs(5);
/// What a caller heard of the source longer ago is no word about now.
const JUST_NOW: Duration = Duration::from_secs(2);

/// What a caller has been through for want of a place.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waits {
    /// It waited for one.
    pub(super) has_waited: bool,
    /// How often it came back in vain from reading the source by itself.
    pub(super) returns: Returns,
}

/// What a download needs besides its request.
pub(crate) struct Asker {
    pub(crate) caller: Caller,
    pub(crate) request: Arc<GetRequest>,
    pub(crate) sender: DownloadSender,
}

impl Driver {
    /// A local caller wants a URL.
    pub(super) fn handle_get(&mut self, now: Now, asker: Asker) {
        if self.tasks.callers() + self.directs >= MAX_CALLERS {
            asker.sender.fail(GetError::Internal {
                what: "too many downloads at once on this node".to_owned(),
            });
            return;
        }
        if !matches!(asker.request.url.scheme(), "http" | "https") {
            let what = format!(
                "dfnode downloads http and https, not {}",
                asker.request.url.scheme()
            );
            asker.sender.fail(GetError::Usage { what });
            return;
        }
        // Another site's bytes would lie under this URL, for everybody who asks for it.
        if has_host(&asker.request) {
            let what = "`Host` is what the URL says; no header may say otherwise".to_owned();
            asker.sender.fail(GetError::Usage { what });
            return;
        }
        self.parts.stats.downloads.add(1);
        let credential = Credential::of(&asker.request, &self.parts.credential_key);
        let shared = task_of(&asker.request, None);
        let owned = asker.request.content.is_none() && self.owners.contains(&(shared, credential));
        let task = if owned {
            task_of(&asker.request, Some(credential))
        } else {
            shared
        };
        if asker.request.source == SourcePolicy::Only {
            self.get_direct(task, credential, asker, None);
        } else {
            self.join(now, task, owned, credential, asker, Waits::default());
        }
    }

    /// Serves a caller who wants neither peers nor the cache, or for whom the cache has no room: the latter may come back,
    /// as `waits` says how often it did already.
    fn get_direct(
        &mut self,
        task: TaskId,
        credential: Credential,
        asker: Asker,
        waits: Option<Waits>,
    ) {
        let number = self.tasks.next_caller();
        let id = short_id(number, task);
        info!(id, task = %task.short(), "download from the source alone begins");
        self.directs += 1;
        let parts = self.parts.clone();
        let place = waits.map(|waits| parts.store.places().watch(Some(task), waits.returns));
        self.parts.spawn(async move {
            let back = Box::pin(direct::run(&parts, task, id, asker, place)).await;
            parts.report(Report::DirectEnded).await;
            if let Some((asker, returns)) = back {
                let report = Report::WaitedForPlace {
                    task,
                    credential,
                    asker: Box::new(asker),
                    returns,
                };
                parts.report(report).await;
            }
        });
    }

    /// Lets a caller for whom there is no place wait for one.
    fn wait_for_place(
        &mut self,
        task: TaskId,
        credential: Credential,
        bytes: u64,
        asker: Asker,
        returns: Returns,
    ) {
        let patience = Duration::from_millis(bytes / (PLACE_BYTES_PER_SEC / 1000));
        let patience = patience.min(MAX_PLACE_PATIENCE);
        let timeout = asker.request.timeout.unwrap_or(Duration::MAX);
        self.directs += 1;
        let parts = self.parts.clone();
        self.parts.spawn(async move {
            let stays = tokio::select! {
                () = asker.sender.gone() => false,
                () = parts.stop.cancelled() => false,
                () = sleep(patience) => true,
                () = sleep(timeout) => {
                    asker.sender.fail(GetError::Timeout);
                    false
                }
            };
            parts.report(Report::DirectEnded).await;
            if stays {
                let asker = Box::new(asker);
                let report = Report::WaitedForPlace {
                    task,
                    credential,
                    asker,
                    returns,
                };
                parts.report(report).await;
            }
        });
    }

    /// Makes a caller part of a task.
    pub(super) fn join(
        &mut self,
        now: Now,
        task: TaskId,
        is_owned: bool,
        credential: Credential,
        asker: Asker,
        waits: Waits,
    ) {
        let Asker {
            caller,
            request,
            sender,
        } = asker;
        let takes_pipe = request.pipe && request.source != SourcePolicy::Never;
        let number = self.tasks.next_caller();
        let id = short_id(number, task);
        let default_limit = self.parts.limits.task;
        let entry = self
            .tasks
            .entries
            .entry(task)
            .or_insert_with(|| Entry::new(None, Limiter::of(default_limit)));
        if entry.callers.is_empty() {
            let wanted = request
                .local_limit
                .and_then(std::num::NonZeroU64::new)
                .map(ByteRate::per_sec);
            entry.limiter = Limiter::of(wanted.or(default_limit));
        }
        entry.url.get_or_insert_with(|| request.url.clone());
        if let Some(content) = &request.content {
            entry.named.get_or_insert_with(|| content.digest.clone());
        }
        entry.is_owned |= is_owned;
        if credential.is_some() {
            entry.be_credentialed();
            // For these the source has said yes already.
            if is_owned || request.content.is_some() {
                entry.own(caller.uid);
            }
        }
        let had = self
            .parts
            .store
            .progress(task)
            .map(|progress| progress.borrow().byte_runs())
            .unwrap_or_default();
        let lies_here = clip(&had, &wanted(request.range, None));
        let has_part =
            request.range.is_some() && request.content.is_none() && !lies_here.is_empty();
        let gate = watch::Sender::new(Gate::Closed);
        let pump = Pump {
            id: id.clone(),
            task,
            sender,
            gate: gate.subscribe(),
            range: request.range,
            digest: request.digest.clone(),
            timeout: request.timeout,
            wait_for_validation: entry.complete || has_part,
            stop: self.parts.stop.clone(),
            audit: Audit::new(self.parts.clone(), task, &lies_here),
            told: Told::at(now, &entry.news.borrow(), had),
            news: entry.news.subscribe(),
            stats: Arc::clone(&self.parts.stats),
            takes_pipe,
            has_waited: waits.has_waited,
        };
        info!(id, task = %task.short(), host = request.url.host_str().unwrap_or_default(), "download begins");
        let wish = self.wish_of(&request, credential, part_of(&request));
        let waiting = Waiting {
            request,
            credential,
            uid: caller.uid,
            gate,
            waits,
            asked: false,
            refused: false,
        };
        self.tasks.enter(&task, number, waiting);
        let parts = self.parts.clone();
        self.parts.spawn_in(info_span!("download", id), async move {
            let left = pump.run().await;
            parts
                .report(Report::CallerLeft {
                    task,
                    caller: number,
                    left,
                })
                .await;
        });
        if let Some(entry) = self.tasks.entries.get_mut(&task) {
            entry.pin.get_or_insert_with(|| self.parts.store.pin(task));
        }
        self.parts.activity.busy();
        self.ensure_file(now, task);
        self.tracker.register(now, task, wish);
        // What the tracker asks the source now may be the answer that the gate waits for.
        self.drain(now);
        self.open_gates(now, task);
    }

    /// What a caller's request means to the tracker.
    pub(super) fn wish_of(
        &self,
        request: &GetRequest,
        credential: Credential,
        part: Option<Part>,
    ) -> Wish {
        Wish {
            can_read: request.source != SourcePolicy::Never,
            credentialed: credential.is_some(),
            named: request.content.as_ref().map(ContentName::version),
            seen: request
                .seen
                .and_then(|(version, heard)| (heard.elapsed() < JUST_NOW).then_some(version)),
            max_age: request.max_age.unwrap_or(self.parts.max_age),
            part,
        }
    }

    /// A local caller has everything, failed, went away or belongs elsewhere.
    pub(super) fn handle_caller_left(&mut self, now: Now, task: TaskId, caller: u64, left: Left) {
        let Some(waiting) = self.tasks.leave(&task, caller) else {
            return;
        };
        let caller = Caller { uid: waiting.uid };
        let request = waiting.request;
        match left {
            Left::Done => {}
            Left::Moved(sender) => {
                let own = task_of(&request, Some(waiting.credential));
                let asker = Asker {
                    caller,
                    request,
                    sender,
                };
                self.join(now, own, true, waiting.credential, asker, Waits::default());
            }
            Left::NoPlace { sender, bytes } => {
                let asker = Asker {
                    caller,
                    request,
                    sender,
                };
                let returns = waiting.waits.returns;
                self.wait_for_place(task, waiting.credential, bytes, asker, returns);
            }
            Left::Through { sender, reached } => {
                let asker = Asker {
                    caller,
                    request,
                    sender,
                };
                // Alone this node would only read once more what the caller was given.
                let is_alone = self.gossip.members().next().is_none();
                let waits = reached.filter(|_| !is_alone).map(|reached| {
                    let mut waits = waiting.waits;
                    waits.returns.lost(reached);
                    waits
                });
                self.get_direct(task, waiting.credential, asker, waits);
            }
        }
        let is_last = self
            .tasks
            .entries
            .get(&task)
            .is_none_or(|entry| entry.callers.is_empty());
        if is_last {
            let _always_told = self.tasks.touch(&task);
            self.parts.store.touch(task);
            let is_stored = self.parts.store.progress(task).is_some();
            if let Some(entry) = self.tasks.entries.get_mut(&task) {
                entry.pin = None;
                entry.let_file_go();
            }
            if !is_stored {
                self.tasks.entries.remove(&task);
            }
            self.tracker.service_down(now, &task);
        }
    }
}

/// What of the file is fetched for a request: the whole is compared with its digest only where the whole is here.
pub(super) fn part_of(request: &GetRequest) -> Option<Part> {
    request.range.filter(|_| request.digest.is_none())
}

fn has_host(request: &GetRequest) -> bool {
    let mut names = request.headers.iter().map(|(name, _)| name.trim());
    names.any(|name| name.eq_ignore_ascii_case("host"))
}

/// A name for a download that is short enough to be in every line of the log.
fn short_id(number: u64, task: TaskId) -> String {
    format!("{number:04x}{:02x}", task.as_bytes()[0])
}
