//! What the node keeps about each task beside the machine: its file, its callers, who may have it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dfnode_gossip::Now;
use dfnode_tracker::{Digest, Meta, SourceFailure, TaskId, VersionId};
use tokio::sync::watch;
use url::Url;

use super::credentials::Credential;
use super::downloads::Waits;
use super::news::{Gate, News};
use super::pump::same_kind;
use crate::ambient::unix_millis;
use crate::get::{ContentName, GetRequest, SourcePolicy};
use crate::limits::Limiter;
use crate::store::Pin;

/// How long the source's yes to a caller counts without asking again.
pub(super) const PROOF_AGE: Duration = Duration::from_mins(1);
/// How long it counts while the source cannot be asked.
pub(super) const PROOF_AGE_SOURCE_DOWN: Duration = Duration::from_mins(10);
/// How far apart the uses are that the store is told of: each costs it a line in its index.
const USE_NOTED_EVERY_MS: u64 = 10_000;
/// Proofs kept for one task.
const MAX_PROOFS: usize = 1024;
/// Authorities kept that have proved to hold one content.
const MAX_AUTHORITIES: usize = 64;
/// Users remembered to whom a task is private.
const MAX_OWNERS: usize = 64;

/// Every task that this node holds or wants.
#[derive(Default)]
pub(super) struct Tasks {
    pub(super) entries: BTreeMap<TaskId, Entry>,
    next_caller: u64,
    callers: usize,
}

/// One task.
pub(super) struct Entry {
    pub(super) url: Option<Url>,
    /// Once somebody asked with credentials: the users of whose credentials the source has approved.
    owners: Option<BTreeSet<u32>>,
    /// The digest that the task is named by: whatever a peer's meta says, the whole hashes to this.
    pub(super) named: Option<Digest>,
    /// Whether the task's name holds a credential: then every caller has proved to hold it.
    pub(super) is_owned: bool,
    pub(super) callers: BTreeMap<u64, Waiting>,
    pub(super) meta: Option<Meta>,
    pub(super) file: FileState,
    /// Keeps the task from being evicted while somebody waits for it.
    pub(super) pin: Option<Pin>,
    pub(super) news: watch::Sender<News>,
    pub(super) complete: bool,
    /// Whether it became complete when its file was not there to be compared.
    pub(super) is_unchecked: bool,
    /// What the whole hashed to when some digest differed and the tracker was asked who is wrong.
    pub(super) disputed: Option<Vec<Digest>>,
    pub(super) limiter: Limiter,
    pub(super) givers: BTreeMap<dfnode_gossip::PeerId, u64>,
    pub(super) last_used_unix_ms: u64,
    /// When the store was last told of a use.
    use_noted_unix_ms: u64,
    proofs: BTreeMap<(VersionId, Credential), Now>,
    /// Where a content named by its digest was read or proved to be.
    authorities: BTreeSet<String>,
}

/// The state of a task's file.
#[derive(Debug, Clone)]
pub(super) enum FileState {
    /// None was asked for.
    Absent,
    /// The store makes room for this version.
    Reserving,
    /// It is there.
    Ready,
}

/// A local caller that waits for a task.
pub(super) struct Waiting {
    pub(super) request: Arc<GetRequest>,
    pub(super) credential: Credential,
    pub(super) uid: u32,
    pub(super) gate: watch::Sender<Gate>,
    pub(super) waits: Waits,
    /// Whether the source was asked about this caller already.
    pub(super) asked: bool,
    /// Whether the source said no to this caller.
    pub(super) refused: bool,
}

impl Entry {
    /// A task of which nothing is known.
    pub(super) fn new(url: Option<Url>, limiter: Limiter) -> Self {
        Self {
            url,
            owners: None,
            named: None,
            is_owned: false,
            callers: BTreeMap::new(),
            meta: None,
            file: FileState::Absent,
            pin: None,
            news: watch::Sender::new(News::default()),
            complete: false,
            is_unchecked: false,
            disputed: None,
            limiter,
            givers: BTreeMap::new(),
            last_used_unix_ms: unix_millis(),
            use_noted_unix_ms: 0,
            proofs: BTreeMap::new(),
            authorities: BTreeSet::new(),
        }
    }

    /// Whether the version's bytes were read from this authority, or it has shown that it holds them.
    pub(super) fn is_vouched(&self, version: VersionId, content: &ContentName) -> bool {
        content.version() == version || self.authorities.contains(&content.authority)
    }

    /// Notes that an authority has shown to hold the bytes that are here.
    pub(super) fn vouch(&mut self, authority: &str) {
        if self.authorities.len() >= MAX_AUTHORITIES {
            self.authorities.pop_first();
        }
        self.authorities.insert(authority.to_owned());
    }

    /// Every authority whose callers may have the bytes that are here, as far as they are known.
    pub(super) fn authorities(&self) -> BTreeSet<String> {
        let version = self.meta.as_ref().map(|meta| meta.version);
        let named = self.callers.values().filter_map(|waiting| {
            let content = waiting.request.content.as_ref()?;
            (Some(content.version()) == version).then(|| content.authority.clone())
        });
        self.authorities.iter().cloned().chain(named).collect()
    }

    /// Credentials are shown to the source for it: whoever has none of its own sees nothing of it.
    pub(super) fn be_credentialed(&mut self) {
        self.owners.get_or_insert_default();
    }

    /// The users to whom the task is private, if it is: what the source gives to everybody is nobody's own.
    pub(super) fn private_owners(&self) -> Option<&BTreeSet<u32>> {
        let is_private = self.meta.as_ref().is_none_or(|meta| !meta.public);
        self.owners.as_ref().filter(|_| is_private)
    }

    /// Notes a user of whose credentials the source has approved.
    pub(super) fn own(&mut self, uid: u32) {
        if let Some(owners) = &mut self.owners {
            if owners.len() >= MAX_OWNERS {
                owners.pop_first();
            }
            owners.insert(uid);
        }
    }

    /// Whether the task is content named by its digest.
    pub(super) fn is_content(&self) -> bool {
        self.callers
            .values()
            .any(|waiting| waiting.request.content.is_some())
    }

    /// The digests that the whole must be compared with, the surest first.
    pub(super) fn expected_digests(&self) -> Vec<Digest> {
        let callers = self
            .callers
            .values()
            .filter_map(|caller| caller.request.digest.clone());
        let said = self.meta.iter().filter_map(|meta| meta.digest.clone());
        let is_new = |said: &Digest| !self.named.iter().any(|named| same_kind(named, said));
        let named = self.named.iter().cloned();
        named.chain(said.filter(is_new)).chain(callers).collect()
    }

    /// Whether the whole, as far as it was hashed, is what its name or its source says: then only a caller can be wrong
    /// about it.
    pub(super) fn is_what_it_is_called(&self, found: &[Digest]) -> bool {
        let told = self.meta.as_ref().and_then(|meta| meta.digest.as_ref());
        let differs = |got: &Digest| told.is_some_and(|told| same_kind(got, told) && got != told);
        !self.is_content() && !found.iter().any(differs)
    }

    /// Notes that the source gave this version to a user who holds the credential.
    pub(super) fn prove(
        &mut self,
        now: Now,
        version: VersionId,
        (credential, uid): (Credential, u32),
    ) {
        if credential.is_some() {
            self.own(uid);
        }
        if self.proofs.len() >= MAX_PROOFS {
            self.proofs.retain(|_, proved| now - *proved < PROOF_AGE);
            if self.proofs.len() >= MAX_PROOFS {
                self.proofs.pop_first();
            }
        }
        self.proofs.insert((version, credential), now);
    }

    /// Notes that the source said no to whoever holds the credential: no earlier yes counts any more.
    pub(super) fn disprove(&mut self, credential: Credential) {
        self.proofs.retain(|(_, proved), _| *proved != credential);
    }

    /// Whether the source said yes to the credential within `age`.
    pub(super) fn is_proved(
        &self,
        now: Now,
        version: VersionId,
        credential: Credential,
        age: Duration,
    ) -> bool {
        self.proofs
            .get(&(version, credential))
            .is_some_and(|proved| now - *proved < age)
    }

    /// Closes the file, which is open for callers alone: a node has more tasks than it may have files open.
    pub(super) fn let_file_go(&mut self) {
        if !matches!(self.file, FileState::Reserving) {
            self.file = FileState::Absent;
        }
        self.news.send_modify(|news| news.ready = None);
    }

    /// Forgets the bytes of a version that is void.
    pub(super) fn restart(&mut self) {
        self.meta = None;
        self.authorities.clear();
        self.file = FileState::Absent;
        (self.complete, self.is_unchecked) = (false, false);
        self.disputed = None;
        self.givers.clear();
        self.news.send_modify(|news| {
            news.attempt += 1;
            news.ready = None;
            news.digests.clear();
            (news.from_peers, news.from_source, news.peers) = (0, 0, 0);
        });
    }
}

impl Tasks {
    /// A number for a caller, never used before.
    pub(super) const fn next_caller(&mut self) -> u64 {
        self.next_caller += 1;
        self.next_caller
    }

    /// The caller in whose name the source may be read: one that it did not refuse yet.
    pub(super) fn reader_of(&self, task: &TaskId) -> Option<(u64, Arc<GetRequest>)> {
        let entry = self.entries.get(task)?;
        // What another authority gives under a digest may be something else: it is not mixed in.
        let is_theirs = |waiting: &Waiting| match (&waiting.request.content, &entry.meta) {
            (Some(content), Some(meta)) => content.version() == meta.version,
            (Some(_), None) | (None, _) => true,
        };
        let may = |waiting: &&Waiting| {
            waiting.request.source != SourcePolicy::Never && !waiting.refused && is_theirs(waiting)
        };
        let readers = || entry.callers.iter().filter(|(_, waiting)| may(waiting));
        // Without credentials first: what the source gives to nobody in particular may be shared with all.
        let open = readers().find(|(_, waiting)| !waiting.credential.is_some());
        let (caller, waiting) = open.or_else(|| readers().next())?;
        Some((*caller, Arc::clone(&waiting.request)))
    }

    /// Whether a caller showed the source anything that others may not have.
    pub(super) fn has_credential(&self, task: &TaskId, caller: u64) -> bool {
        let waiting = self
            .entries
            .get(task)
            .and_then(|entry| entry.callers.get(&caller));
        // Who has left meanwhile may have shown something.
        waiting.is_none_or(|waiting| waiting.credential.is_some())
    }

    /// The limit of what a task may receive.
    pub(super) fn limiter(&self, task: &TaskId) -> Limiter {
        self.entries
            .get(task)
            .map_or_else(Limiter::unlimited, |entry| entry.limiter.clone())
    }

    /// Notes that a task was of use; `true` if the store is to be told, which it is not of each block.
    pub(super) fn touch(&mut self, task: &TaskId) -> bool {
        let Some(entry) = self.entries.get_mut(task) else {
            return false;
        };
        let now = unix_millis();
        entry.last_used_unix_ms = now;
        let is_due = now.abs_diff(entry.use_noted_unix_ms) >= USE_NOTED_EVERY_MS;
        if is_due {
            entry.use_noted_unix_ms = now;
        }
        is_due
    }

    /// Notes whom the source refused: the next read is made in another caller's name.
    pub(super) fn note_source_failure(
        &mut self,
        task: &TaskId,
        caller: u64,
        failure: &SourceFailure,
    ) {
        let Some(entry) = self.entries.get_mut(task) else {
            return;
        };
        let Some(waiting) = entry.callers.get_mut(&caller) else {
            return;
        };
        if matches!(failure, SourceFailure::Refused { .. }) {
            waiting.refused = true;
        }
        if is_no(failure) {
            let credential = waiting.credential;
            entry.disprove(credential);
        }
    }

    /// A caller of a task.
    pub(super) fn waiting_mut(&mut self, task: &TaskId, caller: u64) -> Option<&mut Waiting> {
        self.entries.get_mut(task)?.callers.get_mut(&caller)
    }

    /// Whether a caller named content by its digest.
    pub(super) fn is_content(&self, task: &TaskId, caller: u64) -> bool {
        let entry = self.entries.get(task);
        entry
            .and_then(|entry| entry.callers.get(&caller))
            .is_some_and(|waiting| waiting.request.content.is_some())
    }

    /// How many local callers wait.
    pub(super) const fn callers(&self) -> usize {
        self.callers
    }

    /// Adds a caller to a task that is there.
    pub(super) fn enter(&mut self, task: &TaskId, caller: u64, waiting: Waiting) {
        if let Some(entry) = self.entries.get_mut(task) {
            entry.callers.insert(caller, waiting);
            self.callers += 1;
        }
    }

    /// Takes a caller out.
    pub(super) fn leave(&mut self, task: &TaskId, caller: u64) -> Option<Waiting> {
        let waiting = self.entries.get_mut(task)?.callers.remove(&caller)?;
        self.callers -= 1;
        Some(waiting)
    }
}

/// Whether the source has judged: not just failed.
pub(super) const fn is_no(failure: &SourceFailure) -> bool {
    matches!(
        failure,
        SourceFailure::Refused { .. } | SourceFailure::NotFound
    )
}

#[cfg(test)]
mod tests {
    use dfnode_tracker::{SourceHead, Validators};

    use super::*;

    fn meta(digest: Option<Digest>) -> Meta {
        let head = SourceHead {
            length: Some(5),
            validators: Validators::default(),
            ranges: true,
            digest,
            authority: Some("https://h:443".to_owned()),
            public: true,
        };
        Meta::of(&head, [0; 32]).unwrap()
    }

    #[test]
    fn named_content_is_compared_with_its_name_whatever_a_peer_says() {
        let (named, other) = (Digest::Sha256([1; 32]), Digest::Sha256([2; 32]));
        let mut entry = Entry::new(None, Limiter::unlimited());
        entry.named = Some(named.clone());
        for said in [None, Some(other.clone()), Some(named.clone())] {
            entry.meta = Some(meta(said));
            assert_eq!(entry.expected_digests(), std::slice::from_ref(&named));
        }
        entry.named = None;
        entry.meta = Some(meta(Some(other.clone())));
        assert_eq!(entry.expected_digests(), [other]);
    }
}
