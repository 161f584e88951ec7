//! Who may have a task's bytes: those whom the source gave them, or would.

use std::sync::Arc;

use dfnode_gossip::Now;
use dfnode_tracker::{Extent, Meta, SourceFailure, TaskId, Tracker as _, VersionId};
use tracing::{debug, info};

use super::credentials::task_of;
use super::news::Gate;
use super::source_reads::{for_source, is_same};
use super::tasks::{PROOF_AGE, PROOF_AGE_SOURCE_DOWN, is_no};
use super::{Driver, Parts, Report, possession};
use crate::get::{GetError, SourcePolicy};
use crate::source::{HeadAt, SourceEvent, SourceRequest};

/// What the source said to one caller.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The version that the task holds.
    Same,
    /// Another version: it answers each caller differently, or has just changed.
    Other,
    /// No, or nothing.
    Failed(SourceFailure),
}

impl Driver {
    /// The source gave a version to a caller of ours.
    pub(super) fn prove(&mut self, now: Now, task: TaskId, caller: u64, version: VersionId) {
        let Some(entry) = self.tasks.entries.get_mut(&task) else {
            return;
        };
        let Some(waiting) = entry.callers.get(&caller) else {
            return;
        };
        entry.prove(now, version, (waiting.credential, waiting.uid));
        self.open_gates(now, task);
    }

    /// Lets in whoever may have the version; asks the source about everybody else.
    pub(super) fn open_gates(&mut self, now: Now, task: TaskId) {
        let Some(entry) = self.tasks.entries.get(&task) else {
            return;
        };
        let Some(meta) = entry.meta.clone() else {
            return;
        };
        let mut questions = Vec::new();
        for (caller, waiting) in &entry.callers {
            if *waiting.gate.borrow() != Gate::Closed {
                continue;
            }
            let is_let_in = match &waiting.request.content {
                Some(content) => entry.is_vouched(meta.version, content),
                // To who shows something, the source may answer something else than to everybody.
                None => {
                    (meta.public && !waiting.credential.is_some())
                        || entry.is_owned
                        || entry.is_proved(now, meta.version, waiting.credential, PROOF_AGE)
                }
            };
            if is_let_in {
                waiting.gate.send_replace(Gate::Open);
            } else if !waiting.asked {
                questions.push(*caller);
            }
        }
        for caller in questions {
            self.ask_source(now, task, caller, meta.clone());
        }
    }

    /// Has the authority that a caller was let in by show that it holds what is here.
    fn ask_for_proof(&mut self, now: Now, task: TaskId, caller: u64, meta: Meta) {
        let Some(waiting) = self.tasks.waiting_mut(&task, caller) else {
            return;
        };
        waiting.asked = true;
        // Any place of the whole may be asked about, so whoever wanted a part has it all fetched.
        let (asked, credential) = (Arc::clone(&waiting.request), waiting.credential);
        if asked.range.is_some() {
            let wish = self.wish_of(&asked, credential, None);
            self.tracker.register(now, task, wish);
        }
        let Some(waiting) = self.tasks.waiting_mut(&task, caller) else {
            return;
        };
        let request = for_source(&waiting.request, Extent::Probe, Vec::new());
        let parts = self.parts.clone();
        self.parts.spawn(async move {
            let version = meta.version;
            let answer = possession::ask(&parts, task, &meta, request).await;
            parts
                .report(Report::Access {
                    task,
                    caller,
                    version,
                    answer,
                })
                .await;
        });
    }

    /// An authority was asked to show that it holds what is here.
    fn handle_proof(&mut self, now: Now, task: TaskId, caller: u64, answer: Answer) {
        let Some(entry) = self.tasks.entries.get_mut(&task) else {
            return;
        };
        let Some(waiting) = entry.callers.get(&caller) else {
            return;
        };
        match answer {
            Answer::Same => {
                let Some(content) = waiting.request.content.clone() else {
                    return;
                };
                info!(task = %task.short(), authority = content.authority, "another authority has the same content");
                entry.vouch(&content.authority);
                self.parts.store.update_about(task, |about| {
                    about.authorities.insert(content.authority);
                });
                self.open_gates(now, task);
            }
            Answer::Other => {
                info!(task = %task.short(), "the source has other bytes under the digest, or none");
                waiting.gate.send_replace(Gate::Failed(GetError::Unproved));
            }
            Answer::Failed(failure) => {
                waiting.gate.send_replace(Gate::Failed(failure.into()));
            }
        }
    }

    fn ask_source(&mut self, now: Now, task: TaskId, caller: u64, meta: Meta) {
        if self.tasks.is_content(&task, caller) {
            return self.ask_for_proof(now, task, caller, meta);
        }
        // While this node reads under that credential itself, the answer is already on its way.
        let is_reading = self.reads.reads_for(task, caller);
        let Some(entry) = self.tasks.entries.get_mut(&task) else {
            return;
        };
        let Some(waiting) = entry.callers.get_mut(&caller) else {
            return;
        };
        if is_reading {
            return;
        }
        waiting.asked = true;
        if waiting.request.source == SourcePolicy::Never {
            let credential = waiting.credential;
            let known = entry.is_proved(now, meta.version, credential, PROOF_AGE_SOURCE_DOWN);
            let gate = if known || meta.public {
                Gate::Open
            } else {
                Gate::Failed(GetError::NoSource)
            };
            if let Some(waiting) = entry.callers.get(&caller) {
                waiting.gate.send_replace(gate);
            }
            return;
        }
        let request = for_source(
            &waiting.request,
            Extent::Validate { meta: meta.clone() },
            Vec::new(),
        );
        let parts = self.parts.clone();
        self.parts.spawn(async move {
            let answer = ask(&parts, request, &meta).await;
            parts
                .report(Report::Access {
                    task,
                    caller,
                    version: meta.version,
                    answer,
                })
                .await;
        });
    }

    /// The source answered for one caller.
    pub(super) fn handle_access(
        &mut self,
        now: Now,
        task: TaskId,
        caller: u64,
        version: VersionId,
        answer: Answer,
    ) {
        let Some(entry) = self.tasks.entries.get_mut(&task) else {
            return;
        };
        let Some(waiting) = entry.callers.get_mut(&caller) else {
            return;
        };
        if entry
            .meta
            .as_ref()
            .is_none_or(|meta| meta.version != version)
        {
            waiting.asked = false;
            return self.open_gates(now, task);
        }
        if waiting.request.content.is_some() {
            return self.handle_proof(now, task, caller, answer);
        }
        let (credential, uid) = (waiting.credential, waiting.uid);
        match answer {
            Answer::Same => {
                entry.prove(now, version, (credential, uid));
                self.open_gates(now, task);
            }
            Answer::Other => self.move_out(task, caller),
            Answer::Failed(failure) => {
                if is_no(&failure) {
                    waiting.refused = true;
                    entry.disprove(credential);
                }
                // What it gives to everybody is no secret: while it is down, that is the best there is.
                let is_public = entry.meta.as_ref().is_some_and(|meta| meta.public);
                let known = is_public && !is_no(&failure)
                    || entry.is_proved(now, version, credential, PROOF_AGE_SOURCE_DOWN);
                debug!(task = %task.short(), %failure, known, "the source did not confirm a caller");
                if let Some(waiting) = entry.callers.get(&caller) {
                    waiting.gate.send_replace(if known {
                        Gate::Open
                    } else {
                        Gate::Failed(failure.into())
                    });
                }
            }
        }
    }

    /// The source has something else for this caller: it gets a task that its credential names.
    pub(super) fn move_out(&mut self, task: TaskId, caller: u64) {
        let Some(entry) = self.tasks.entries.get(&task) else {
            return;
        };
        let Some(waiting) = entry.callers.get(&caller) else {
            return;
        };
        let credential = waiting.credential;
        let own = task_of(&waiting.request, Some(credential));
        if own == task || !credential.is_some() {
            let is_single = entry.meta.as_ref().is_some_and(|meta| meta.single);
            waiting.gate.send_replace(if is_single {
                Gate::Through
            } else {
                Gate::Failed(GetError::Changed)
            });
            return;
        }
        info!(task = %task.short(), own = %own.short(), "the source answers callers differently");
        if self.owners.len() >= super::MAX_OWNERS {
            self.owners.pop_first();
        }
        self.owners.insert((task, credential));
        waiting.gate.send_replace(Gate::Moved);
    }
}

/// Asks the source whether it would give `meta`'s version to this request.
async fn ask(parts: &Parts, request: SourceRequest, meta: &Meta) -> Answer {
    let mut answer = parts.source.read(request);
    match answer.next().await {
        Some(SourceEvent::Unchanged | SourceEvent::End(Ok(_))) => Answer::Same,
        Some(SourceEvent::Head(HeadAt { head, .. })) if is_same(&head, meta) => Answer::Same,
        Some(SourceEvent::Head(_) | SourceEvent::End(Err(SourceFailure::Changed))) => Answer::Other,
        Some(SourceEvent::End(Err(failure))) => Answer::Failed(failure),
        Some(SourceEvent::Bytes(_)) | None => Answer::Failed(SourceFailure::Transient {
            what: "the answer broke off".to_owned(),
        }),
    }
}
