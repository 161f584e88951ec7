//! Which version of its content a task is about, and whether its callers may have it.

use dfnode_gossip::{EventKind, Subject};

use super::Task;
use super::arbitration::Dispute;
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::events::Progress;
use crate::ids::VersionId;
use crate::message::{Extent, Lease, SignedBatch};
use crate::meta::Meta;
use crate::output::{Output, TaskEvent, TaskFailure};
use crate::reads::Purpose;

/// Times that a source may change under one download.
pub(super) const MAX_RESTARTS: u32 = 3;

impl Task {
    pub(super) fn version(&self) -> Option<VersionId> {
        self.session.meta.as_ref().map(|meta| meta.version)
    }

    /// Whether the source may be read for the present callers.
    pub(super) fn may_read(&self) -> bool {
        let Some(wish) = self.wish else { return false };
        let is_theirs = wish
            .named
            .zip(self.version())
            .is_none_or(|(named, version)| named == version);
        wish.can_read && is_theirs
    }

    /// Whether blocks of the current version may be taken from peers for the present callers.
    pub(super) fn may_take(&self) -> bool {
        let Some(meta) = &self.session.meta else {
            return true;
        };
        let Some(wish) = self.wish else { return true };
        wish.named.is_some()
            || self.proven == Some(meta.version)
            || (meta.public && !wish.credentialed)
    }

    /// The home or the source itself shows that the version is what the source has.
    pub(super) fn note_current(&mut self, cx: &mut Context<'_>) {
        self.validated = Some(cx.now);
        self.be_current(cx);
    }

    /// Tells callers once that what is here may be shown to the newest of them.
    pub(super) fn be_current(&mut self, cx: &mut Context<'_>) {
        if !std::mem::replace(&mut self.current, true) && self.wish.is_some() {
            self.tell(cx, TaskEvent::Current);
        }
    }

    /// Asks the source itself whether these callers may have the version, if nothing else shows it.
    fn seek_clearance(&mut self, cx: &mut Context<'_>) {
        let Some(meta) = self.session.meta.clone() else {
            return;
        };
        if self.wish.is_none()
            || self.may_take()
            || self
                .reads
                .values()
                .any(|read| read.purpose != Purpose::Arbitration)
        {
            return;
        }
        self.session.wants = false;
        if !self.wish.is_some_and(|wish| wish.can_read) {
            self.fail(cx, TaskFailure::NoSource);
            return;
        }
        let lease = Lease {
            id: cx.chance.next() | 1,
            extent: Extent::Validate { meta },
        };
        self.begin_read(cx, &lease, Purpose::Clearance);
    }

    pub(super) fn adopt_meta(&mut self, cx: &mut Context<'_>, meta: Meta) {
        let old = self.session.meta.clone();
        if old.as_ref().is_some_and(|old| old.version != meta.version) {
            let begun = !self.session.have.is_empty() || self.complete_told;
            self.restarts += u32::from(begun && self.wish.is_some());
            if self.restarts > MAX_RESTARTS {
                self.fail(cx, TaskFailure::KeepsChanging);
                return;
            }
            let stale: Vec<u64> = self
                .reads
                .iter()
                .filter(|(_, read)| {
                    read.meta
                        .as_ref()
                        .is_some_and(|read| read.version != meta.version)
                })
                .map(|(id, _)| *id)
                .collect();
            for lease in stale {
                self.reads.remove(&lease);
                cx.out.push_back(Output::StopSource {
                    task: self.id,
                    lease,
                });
            }
            self.wait_for_help();
            self.session.restart(cx);
            self.dispute = Dispute::default();
            self.current = false;
            self.complete_told = false;
            self.told_quarter = None;
            self.tell(cx, TaskEvent::Restarted);
            if self.wish.is_some() {
                self.session.wants = true;
            }
        }
        let news = old
            .as_ref()
            .is_none_or(|old| old.version != meta.version || old.layout != meta.layout);
        self.session.set_meta(cx, meta);
        if news && let Some(meta) = self.session.meta.clone() {
            self.tell(cx, TaskEvent::Meta(meta));
        }
        self.seek_clearance(cx);
    }

    /// What the store had of the task when the node started.
    pub(crate) fn restore(
        &mut self,
        cx: &mut Context<'_>,
        meta: Meta,
        have: BlockSet,
        batches: Vec<SignedBatch>,
    ) {
        for batch in batches {
            if batch.version == meta.version {
                self.session.enter_own(batch);
            }
        }
        self.session.meta = Some(meta);
        self.session.have = have;
        self.registration.hurry(cx.now);
        let version = self.session.meta.as_ref().map(|meta| meta.version);
        let complete = self.session.is_complete();
        if let Some(version) = version {
            self.claims = true;
            let quarters = if complete { Progress::COMPLETE } else { 0 };
            let body = Progress { version, quarters }.encode();
            cx.out.push_back(Output::Publish {
                subject: Subject::from_bytes(*self.id.as_bytes()),
                kind: EventKind::Recover,
                body,
            });
        }
    }

    pub(super) fn stream_ended(&mut self, cx: &mut Context<'_>, lease: u64, length: Option<u64>) {
        if let (Some(read), Some(length)) = (self.reads.get_mut(&lease), length)
            && let Some(meta) = &mut read.meta
        {
            meta.layout = meta.layout.ended_at(length);
            read.told_meta = false;
        }
        if let Some(meta) = self.session.meta.clone() {
            self.tell(cx, TaskEvent::Meta(meta));
        }
    }

    /// A neighbour may have told how long the stream was.
    pub(crate) fn length_may_be_known(&mut self, cx: &mut Context<'_>) {
        let Some(meta) = self.session.meta.clone() else {
            return;
        };
        if meta.layout.length().is_some() && self.told_length != Some(meta.version) {
            self.told_length = Some(meta.version);
            if meta.single {
                self.tell(cx, TaskEvent::Meta(meta));
            }
        }
        self.finish_if_done(cx);
    }
}
