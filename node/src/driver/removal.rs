//! Forgetting tasks, and remembering them after a restart.

use std::sync::Arc;

use bytes::Bytes;
use dfnode_gossip::{EventKind, Now, Subject};
use dfnode_tracker::{TaskId, Tracker as _};
use tokio::sync::oneshot;
use tracing::{info, warn};
use url::Url;

use super::Driver;
use super::credentials::task_of_url;
use super::downloads::part_of;
use super::tasks::Entry;
use crate::get::{Caller, RemoveError, RemoveOutcome, RemoveRequest, TaskName};
use crate::limits::Limiter;
use crate::store::{StoreEvent, StoredTask};

impl Driver {
    /// A local caller wants a task forgotten.
    pub(super) fn handle_remove(
        &mut self,
        now: Now,
        caller: Caller,
        request: &RemoveRequest,
        reply: oneshot::Sender<Result<RemoveOutcome, RemoveError>>,
    ) {
        let task = match &request.what {
            TaskName::Url { url, filter, tag } => task_of_url(url, filter, tag, &[], None),
            TaskName::Id(task) => *task,
        };
        let result = if self.is_anothers(task, caller, request.cluster) {
            Err(RemoveError::NotFound)
        } else {
            self.remove(now, task, request.cluster)
        };
        // A caller who does not wait for the answer any more is no reason to fail.
        let _ = reply.send(result);
    }

    /// Whether a task is private to another user than the caller.
    fn is_anothers(&self, task: TaskId, caller: Caller, cluster: bool) -> bool {
        // Whom the door lets remove from the cluster may remove everything here.
        let may_all = caller.is_root() || cluster;
        let owners = self
            .tasks
            .entries
            .get(&task)
            .and_then(Entry::private_owners);
        !may_all && owners.is_some_and(|owners| !owners.contains(&caller.uid))
    }

    fn remove(
        &mut self,
        now: Now,
        task: TaskId,
        cluster: bool,
    ) -> Result<RemoveOutcome, RemoveError> {
        let entry = self.tasks.entries.get(&task);
        let was_here = entry.is_some();
        if !was_here && !cluster {
            return Err(RemoveError::NotFound);
        }
        if entry.is_some_and(|entry| !entry.callers.is_empty()) {
            return Err(RemoveError::InUse);
        }
        info!(task = %task.short(), cluster, "removing a task");
        if cluster {
            let subject = Subject::from_bytes(*task.as_bytes());
            self.gossip
                .publish(now, subject, EventKind::FileRemove, Bytes::new())
                .map_err(|error| RemoveError::Internal {
                    what: error.to_string(),
                })?;
        }
        let freed_bytes = self.parts.store.remove(task);
        self.forget(now, task);
        Ok(RemoveOutcome {
            task,
            was_here,
            freed_bytes,
            announced: cluster,
        })
    }

    /// Somebody in the cluster removed a task for everybody.
    pub(super) fn handle_file_remove(&mut self, now: Now, subject: Subject) {
        let task = TaskId::from_bytes(*subject.as_bytes());
        let is_here = self
            .tasks
            .entries
            .get(&task)
            .is_some_and(|entry| entry.callers.is_empty());
        if is_here {
            info!(task = %task.short(), "a task was removed from the cluster");
            self.parts.store.remove(task);
            self.forget(now, task);
        }
    }

    /// The store did something of its own accord.
    pub(super) fn handle_store_event(&mut self, now: Now, event: StoreEvent) {
        match event {
            StoreEvent::Evicted { task } => {
                info!(task = %task.short(), "a task was evicted");
                self.forget(now, task);
                self.want_again(now, task);
            }
            StoreEvent::Failed { task, failure } => {
                warn!(task = %task.short(), %failure, "a task cannot be written");
                self.fail_writing(now, task, failure.into());
            }
        }
    }

    /// Whoever came between a task's eviction and this node's hearing of it wants it from the start.
    fn want_again(&mut self, now: Now, task: TaskId) {
        let Some(entry) = self.tasks.entries.get_mut(&task) else {
            return;
        };
        entry.pin.get_or_insert_with(|| self.parts.store.pin(task));
        let callers: Vec<_> = entry
            .callers
            .values()
            .map(|waiting| (Arc::clone(&waiting.request), waiting.credential))
            .collect();
        for (request, credential) in callers {
            let wish = self.wish_of(&request, credential, part_of(&request));
            self.tracker.register(now, task, wish);
        }
    }

    /// Takes up a task that was in the store when the node started.
    pub(super) fn restore(&mut self, now: Now, stored: StoredTask) {
        let StoredTask {
            task,
            meta,
            about,
            have,
            batches,
            complete,
            used_at_ms,
        } = stored;
        let url = about.url.as_deref().and_then(|url| Url::parse(url).ok());
        let mut entry = Entry::new(url, Limiter::of(self.parts.limits.task));
        entry.meta = Some(meta.clone());
        // Blocks follow the mark to the disk: a crash may have come in between.
        entry.complete = complete && meta.layout.blocks() == Some(have.len());
        // Whose credentials these were is not remembered: root alone sees it until the source says yes to somebody.
        if about.credentialed {
            entry.be_credentialed();
        }
        entry.last_used_unix_ms = used_at_ms;
        for authority in &about.authorities {
            entry.vouch(authority);
        }
        self.tasks.entries.insert(task, entry);
        self.tracker.restore(now, task, meta, have, batches);
    }
}
