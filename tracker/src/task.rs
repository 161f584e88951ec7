//! One task on this node: what local callers want of it, its session, its registration and its reads.

use std::collections::BTreeMap;
use std::time::Duration;

use dfnode_gossip::{EventKind, Now, PeerId, Subject};

use crate::blocks::BlockSet;
use crate::context::Context;
use crate::events::Progress;
use crate::ids::{BlockDigest, BlockIndex, TaskId, VersionId};
use crate::message::{
    Extent, Holds, Lease, LeaseEnd, LeaseReport, Message, Outcome, Register, Registered,
    SignedBatch,
};
use crate::meta::{Meta, SourceFailure, SourceHead};
use crate::output::{BlameReason, Origin, Output, ReadPlan, TaskEvent, TaskFailure};
use crate::reads::{HOME_PATIENCE, Purpose, REPORT_PERIOD, Read, Unsigned};
use crate::registration::{Registration, Step};
use crate::session::{Arrival, Session};

/// Times that a source may change under one download.
const MAX_RESTARTS: u32 = 3;
/// Reads of its own that a node may have under way for one task.
const MAX_READS: usize = 8;

/// What the local callers of a task want, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Whether this node may read the source for it.
    pub can_read: bool,
    /// Whether the callers' requests carry credentials: then the source must have said yes to them.
    pub credentialed: bool,
    /// How old the last validation of a cached version may be.
    pub max_age: Duration,
}

#[derive(Debug)]
pub(crate) struct Task {
    id: TaskId,
    pub(crate) session: Session,
    registration: Registration,
    wish: Option<Wish>,
    reads: BTreeMap<u64, Read>,
    /// The version that the source itself gave to this node's callers.
    proven: Option<VersionId>,
    validated: Option<Now>,
    /// The version that the source is known not to have any more.
    outdated: Option<VersionId>,
    restarts: u32,
    announces: bool,
    told_quarter: Option<u8>,
    told_length: Option<VersionId>,
    pub(crate) complete_told: bool,
    wrong_blocks: u32,
}

impl Task {
    pub(crate) fn new(id: TaskId, now: Now) -> Self {
        Self {
            id,
            session: Session::new(id, now),
            registration: Registration::new(id, now),
            wish: None,
            reads: BTreeMap::new(),
            proven: None,
            validated: None,
            outdated: None,
            restarts: 0,
            announces: false,
            told_quarter: None,
            told_length: None,
            complete_told: false,
            wrong_blocks: 0,
        }
    }

    pub(crate) const fn is_wanted(&self) -> bool {
        self.wish.is_some()
    }

    pub(crate) fn readers(&self) -> usize {
        self.reads.len()
    }

    fn tell(&self, cx: &mut Context<'_>, event: TaskEvent) {
        cx.out.push_back(Output::Task {
            task: self.id,
            event,
        });
    }

    // --- local callers -----------------------------------------------------------------------------------------

    pub(crate) fn register(&mut self, cx: &mut Context<'_>, wish: Wish) {
        let merged = self.wish.map_or(wish, |old| Wish {
            can_read: old.can_read || wish.can_read,
            credentialed: old.credentialed && wish.credentialed,
            max_age: old.max_age.min(wish.max_age),
        });
        self.wish = Some(merged);
        self.restarts = 0;
        let fresh = self
            .validated
            .is_some_and(|at| cx.now.saturating_since(at) <= wish.max_age);
        let version = self.session.meta.as_ref().map(|meta| meta.version);
        let cleared = self.may_take();
        self.complete_told = false;
        if self.session.is_complete() && fresh && cleared {
            self.finish(cx);
            return;
        }
        if version.is_some()
            && self.session.meta.as_ref().is_some_and(|meta| meta.single)
            && self.session.is_complete()
        {
            // What has no validator is not kept for later callers.
            self.session.restart(cx);
            self.tell(cx, TaskEvent::Restarted);
        }
        self.session.want(cx.now);
        self.registration.renew(cx.now);
        self.ask_if_due(cx, 0);
    }

    /// The last local caller left.
    pub(crate) fn service_down(&mut self, cx: &mut Context<'_>) {
        self.wish = None;
        self.session.unwant(cx);
        let reads: Vec<u64> = self.reads.keys().copied().collect();
        for lease in reads {
            self.end_read(cx, lease, Some(LeaseEnd::Returned));
            cx.out.push_back(Output::StopSource {
                task: self.id,
                lease,
            });
        }
        if self.session.have.is_empty() {
            if let Some(home) = self.registration.home() {
                cx.send(home, Message::Leave(self.id));
            }
        } else {
            self.registration.hurry(cx.now);
        }
    }

    fn version(&self) -> Option<VersionId> {
        self.session.meta.as_ref().map(|meta| meta.version)
    }

    /// Whether blocks of the current version may be taken from peers for the present callers.
    fn may_take(&self) -> bool {
        let Some(meta) = &self.session.meta else {
            return true;
        };
        let Some(wish) = self.wish else { return true };
        self.proven == Some(meta.version) || (meta.public && !wish.credentialed)
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

    fn fail(&mut self, cx: &mut Context<'_>, failure: TaskFailure) {
        if self.wish.is_some() {
            self.tell(cx, TaskEvent::Failed(failure));
            self.service_down(cx);
        }
    }

    /// Tells callers that every block is here, once.
    fn finish(&mut self, cx: &mut Context<'_>) {
        if !self.session.is_complete()
            || !self.may_take()
            || self
                .reads
                .values()
                .any(|read| read.purpose == Purpose::Arbitration)
        {
            return;
        }
        // A cached version counts only once the home showed that it is current.
        if !self.complete_told {
            self.complete_told = true;
            self.session.wants = false;
            self.tell(cx, TaskEvent::Complete);
            self.registration.hurry(cx.now);
            self.announce(cx);
        }
    }

    // --- versions ----------------------------------------------------------------------------------------------

    fn adopt_meta(&mut self, cx: &mut Context<'_>, meta: Meta) {
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
            self.session.restart(cx);
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
                self.session.ledger.enter(batch);
            }
        }
        self.session.meta = Some(meta);
        self.session.have = have;
        self.registration.hurry(cx.now);
        let version = self.session.meta.as_ref().map(|meta| meta.version);
        let complete = self.session.is_complete();
        if let Some(version) = version {
            let quarters = if complete { Progress::COMPLETE } else { 0 };
            let body = Progress { version, quarters }.encode();
            cx.out.push_back(Output::Publish {
                subject: Subject::from_bytes(*self.id.as_bytes()),
                kind: EventKind::Recover,
                body,
            });
        }
    }

    // --- the home ----------------------------------------------------------------------------------------------

    fn ask_if_due(&mut self, cx: &mut Context<'_>, interested: usize) -> Option<Step> {
        let gained = self.is_wanted().then_some(self.session.last_gain);
        let waiting = gained.filter(|_| !self.complete_told);
        let peers = interested.max(self.session.neighbour_count());
        match self.registration.handle_timeout(cx, waiting, peers) {
            Some(Step::Ask { home, request }) => {
                let register = self.register_message(cx, request);
                cx.send(home, Message::Register(register));
                None
            }
            step => step,
        }
    }

    fn register_message(&self, cx: &Context<'_>, request: u64) -> Register {
        let meta = self.session.meta.clone();
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let wants = self.wish.is_some() && !self.complete_told;
        Register {
            task: self.id,
            request,
            holds: if cx.view.leech() {
                Holds::Nothing
            } else {
                Holds::pack(&self.session.have, self.session.blocks())
            },
            meta,
            wants,
            can_read: wants && cx.ready && self.wish.is_some_and(|wish| wish.can_read),
            leases: self
                .reads
                .values()
                .filter(|read| read.purpose == Purpose::Leased)
                .map(|read| read.lease.clone())
                .collect(),
            max_age_ms: self.wish.map_or(u64::MAX, |wish| millis(wish.max_age)),
            validated_ms: self
                .validated
                .map_or(u64::MAX, |at| millis(cx.now.saturating_since(at))),
            stalled: wants
                && cx.now.saturating_since(self.session.last_gain) >= Duration::from_millis(500),
            addr: None,
        }
    }

    pub(crate) fn handle_registered(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        registered: Registered,
    ) {
        if let Outcome::LeaseGone { lease } = registered.outcome {
            if self
                .reads
                .get(&lease)
                .is_some_and(|read| read.purpose == Purpose::Leased)
            {
                self.reads.remove(&lease);
                self.sync_reading();
                cx.out.push_back(Output::StopSource {
                    task: self.id,
                    lease,
                });
            }
            return;
        }
        if !self.registration.accepts(cx.now, from, registered.request) {
            // A lease from a home that is not ours any more would be read by nobody: give it back at once.
            if let Outcome::Welcome {
                lease: Some(lease), ..
            } = registered.outcome
            {
                self.decline_lease(cx, from, lease.id);
            }
            return;
        }
        match registered.outcome {
            Outcome::Welcome {
                peers,
                meta,
                lease,
                announce,
                ..
            } => {
                self.registration
                    .welcomed(cx.now, self.is_wanted() && !self.complete_told);
                for read in self.reads.values_mut() {
                    read.answered = cx.now;
                }
                self.announces |= announce;
                if self.wish.is_some() || !self.session.have.is_empty() {
                    self.welcomed(cx, from, meta, lease, &peers);
                } else if let Some(lease) = lease {
                    self.decline_lease(cx, from, lease.id);
                }
            }
            Outcome::Redirect { home } => self.registration.redirected(cx.now, home),
            Outcome::NotYet | Outcome::Busy => self.registration.not_yet(cx.now),
            Outcome::Report => self.registration.hurry(cx.now),
            Outcome::Failed { failure } => {
                self.registration.welcomed(cx.now, false);
                let local = self.wish.is_some_and(|wish| !wish.can_read);
                let failure = if local {
                    TaskFailure::NoSource
                } else {
                    TaskFailure::Source(failure)
                };
                self.fail(cx, failure);
            }
            Outcome::LeaseGone { .. } => {}
        }
    }

    fn welcomed(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        meta: Option<Meta>,
        lease: Option<Lease>,
        peers: &[crate::message::PeerRef],
    ) {
        let current = meta.is_some() && lease.is_none();
        if let Some(meta) = meta {
            self.adopt_meta(cx, meta);
        }
        if let Some(lease) = lease {
            let wanted = self.wish.is_some_and(|wish| wish.can_read);
            if !wanted || self.reads.len() >= MAX_READS {
                self.decline_lease(cx, from, lease.id);
            } else if let (Extent::Probe, true) = (
                &lease.extent,
                self.session.is_complete() && self.version() != self.outdated,
            ) {
                // The table was lost but the bytes are here: ask whether they are current instead of reading anew.
                let meta = self.session.meta.clone();
                let extent = meta.map_or(Extent::Probe, |meta| Extent::Validate { meta });
                self.begin_read(
                    cx,
                    &Lease {
                        id: lease.id,
                        extent,
                    },
                    Purpose::Leased,
                );
            } else {
                self.begin_read(cx, &lease, Purpose::Leased);
            }
        } else if current {
            // The home knows this version to be current.
            self.validated = Some(cx.now);
            self.finish(cx);
        }
        if self.wish.is_some() {
            self.session.meet(cx, peers);
        }
    }

    fn decline_lease(&self, cx: &mut Context<'_>, home: PeerId, lease: u64) {
        let report = LeaseReport {
            task: self.id,
            lease,
            read_to: 0,
            bytes: 0,
            meta: None,
            unspread: 0,
            end: Some(LeaseEnd::Returned),
        };
        cx.send(home, Message::LeaseReport(report));
    }

    // --- own reads of the source -------------------------------------------------------------------------------

    fn begin_read(&mut self, cx: &mut Context<'_>, lease: &Lease, purpose: Purpose) {
        if self.reads.contains_key(&lease.id) {
            return;
        }
        let read = Read::new(lease.clone(), purpose, cx.now);
        cx.out.push_back(Output::ReadSource {
            task: self.id,
            lease: lease.clone(),
        });
        self.reads.insert(lease.id, read);
        self.sync_reading();
    }

    /// Blocks under own reads are not asked of peers.
    fn sync_reading(&mut self) {
        let mut reading = BlockSet::new();
        for read in self
            .reads
            .values()
            .filter(|read| read.purpose != Purpose::Arbitration)
        {
            let end = if read.run.end == u32::MAX {
                read.done_to
            } else {
                read.run.end
            };
            reading.insert_run(read.done_to..end);
        }
        self.session.reading = reading;
    }

    pub(crate) fn handle_source_head(
        &mut self,
        cx: &mut Context<'_>,
        lease: u64,
        head: &SourceHead,
    ) -> Option<ReadPlan> {
        let mut nonce = [0; 32];
        for chunk in nonce.chunks_exact_mut(8) {
            chunk.copy_from_slice(&cx.chance.next().to_le_bytes());
        }
        let is_probe = matches!(self.reads.get(&lease)?.lease.extent, Extent::Probe);
        if is_probe {
            let Some(meta) = Meta::of(head, nonce) else {
                let what = "the file is larger than this node can handle".to_owned();
                self.handle_source_end(cx, lease, Err(SourceFailure::Final { what }));
                return None;
            };
            let end = match meta.layout.blocks() {
                None => u32::MAX,
                Some(blocks) if meta.single || !meta.ranges => blocks,
                Some(_) => meta.layout.blocks_of(crate::ids::PieceIndex(0)).end,
            };
            if let Some(read) = self.reads.get_mut(&lease) {
                read.meta = Some(meta.clone());
                read.run = 0..end;
            }
            self.proven = Some(meta.version);
            self.validated = Some(cx.now);
            self.adopt_meta(cx, meta);
            self.sync_reading();
            self.report(cx, lease, None);
        }
        let read = self.reads.get(&lease)?;
        let meta = read.meta.clone()?;
        self.proven = Some(meta.version);
        Some(ReadPlan {
            meta,
            run: read.run.clone(),
        })
    }

    pub(crate) fn handle_source_bytes(&mut self, cx: &mut Context<'_>, lease: u64, bytes: u64) {
        if let Some(read) = self.reads.get_mut(&lease) {
            read.bytes = read.bytes.saturating_add(bytes);
        }
        self.tick_reads(cx);
    }

    pub(crate) fn handle_source_block(
        &mut self,
        cx: &mut Context<'_>,
        lease: u64,
        block: BlockIndex,
        digest: BlockDigest,
    ) -> Option<Unsigned> {
        let origin = Origin::Source(lease);
        let current = self.session.meta.as_ref().map(|meta| meta.version);
        let Some(read) = self
            .reads
            .get_mut(&lease)
            .filter(|read| read.meta.as_ref().map(|meta| meta.version) == current)
        else {
            cx.out.push_back(Output::Drop {
                task: self.id,
                block,
                origin,
            });
            return None;
        };
        let version = current?;
        if read.purpose == Purpose::Arbitration {
            return self.arbitrate(cx, lease, block, digest, version);
        }
        let unsigned = if self.session.ledger.knows(block) {
            read.done_to = read.done_to.max(block.0.saturating_add(1));
            None
        } else {
            read.block(cx.now, block, digest)
        };
        self.session.reading.remove(block);
        if self.session.have.contains(block) {
            cx.out.push_back(Output::Drop {
                task: self.id,
                block,
                origin,
            });
        } else {
            cx.out.push_back(Output::Keep {
                task: self.id,
                version,
                block,
                origin,
            });
            self.session.cancel_wanted(cx, block);
            self.session.gain(cx, block);
            self.tell_progress(cx);
        }
        unsigned
    }

    /// Compares a block with what was signed for it; the source's word is final.
    fn arbitrate(
        &mut self,
        cx: &mut Context<'_>,
        lease: u64,
        block: BlockIndex,
        digest: BlockDigest,
        version: VersionId,
    ) -> Option<Unsigned> {
        let origin = Origin::Source(lease);
        if self.session.ledger.digest(block) == Some(digest) {
            if let Some(read) = self.reads.get_mut(&lease) {
                read.done_to = block.0.saturating_add(1);
            }
            cx.out.push_back(Output::Drop {
                task: self.id,
                block,
                origin,
            });
            return None;
        }
        self.wrong_blocks += 1;
        if let Some(signer) = self
            .session
            .ledger
            .signer(block)
            .filter(|signer| *signer != cx.view.me())
        {
            cx.blame(signer, BlameReason::FalseDigest);
        }
        self.session.ledger.correct(block);
        self.session.have.insert(block);
        cx.out.push_back(Output::Keep {
            task: self.id,
            version,
            block,
            origin,
        });
        self.reads
            .get_mut(&lease)
            .and_then(|read| read.block(cx.now, block, digest))
    }

    /// A signature for this node's digests came: neighbours may now be told of the blocks.
    pub(crate) fn handle_batch(&mut self, cx: &mut Context<'_>, batch: SignedBatch) {
        if self.session.meta.as_ref().map(|meta| meta.version) != Some(batch.version) {
            return;
        }
        let run = batch.run();
        self.session.ledger.enter(batch.clone());
        cx.out.push_back(Output::KeepBatch {
            task: self.id,
            batch,
        });
        for index in run {
            if self.session.have.contains(BlockIndex(index)) {
                self.session.announce(cx, BlockIndex(index));
            }
        }
        self.finish_if_done(cx);
    }

    /// A read ended. What waits to be signed is returned with it.
    pub(crate) fn handle_source_end(
        &mut self,
        cx: &mut Context<'_>,
        lease: u64,
        end: Result<Option<u64>, SourceFailure>,
    ) -> Option<Unsigned> {
        let unsigned = self.reads.get_mut(&lease).and_then(Read::take_unsigned);
        let Some(read) = self.reads.get(&lease) else {
            return unsigned;
        };
        let purpose = read.purpose;
        let version = read.meta.as_ref().map(|meta| meta.version);
        match end {
            Ok(length) => {
                if length.is_some() && self.session.learn_length(cx, length) {
                    self.stream_ended(cx, lease, length);
                }
                self.proven = version.or(self.proven);
                if purpose != Purpose::Arbitration {
                    self.validated = Some(cx.now);
                }
                self.end_read(cx, lease, Some(LeaseEnd::Done));
                self.after_read(cx, purpose);
            }
            Err(failure) => {
                self.end_read(cx, lease, Some(LeaseEnd::Failed(failure.clone())));
                self.read_failed(cx, purpose, failure);
            }
        }
        unsigned
    }

    fn stream_ended(&mut self, cx: &mut Context<'_>, lease: u64, length: Option<u64>) {
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

    fn after_read(&mut self, cx: &mut Context<'_>, purpose: Purpose) {
        match purpose {
            Purpose::Arbitration if self.wrong_blocks == 0 => {
                self.fail(cx, TaskFailure::WrongDigest);
            }
            Purpose::Arbitration => self.complete_told = false,
            Purpose::Clearance => {
                if self.may_take() && !self.session.is_complete() {
                    self.session.want(cx.now);
                    self.session.tell_wants(cx);
                    self.registration.hurry(cx.now);
                }
            }
            Purpose::Leased => {}
        }
        self.finish_if_done(cx);
    }

    fn read_failed(&mut self, cx: &mut Context<'_>, purpose: Purpose, failure: SourceFailure) {
        let fatal = match &failure {
            // The caller itself is refused, whatever others may read.
            SourceFailure::Refused { .. } => true,
            SourceFailure::Changed => {
                self.outdated = self.version();
                false
            }
            SourceFailure::NotFound
            | SourceFailure::Final { .. }
            | SourceFailure::Busy { .. }
            | SourceFailure::Transient { .. } => purpose != Purpose::Leased,
        };
        if fatal {
            self.fail(cx, TaskFailure::Source(failure));
        } else if purpose == Purpose::Arbitration {
            self.fail(cx, TaskFailure::WrongDigest);
        }
    }

    /// Forgets a read and tells the home how it ended.
    fn end_read(&mut self, cx: &mut Context<'_>, lease: u64, end: Option<LeaseEnd>) {
        self.report(cx, lease, end);
        self.reads.remove(&lease);
        self.sync_reading();
    }

    fn report(&mut self, cx: &mut Context<'_>, lease: u64, end: Option<LeaseEnd>) {
        let unspread = self.session.unspread();
        let Some(read) = self
            .reads
            .get_mut(&lease)
            .filter(|read| read.purpose == Purpose::Leased)
        else {
            return;
        };
        read.report_at = cx.now + REPORT_PERIOD;
        let meta = if read.told_meta {
            None
        } else {
            read.meta.clone()
        };
        let Some(home) = self.registration.home() else {
            return;
        };
        read.told_meta = true;
        let report = LeaseReport {
            task: self.id,
            lease,
            read_to: read.done_to,
            bytes: read.bytes,
            meta,
            unspread,
            end,
        };
        cx.send(home, Message::LeaseReport(report));
    }

    fn tick_reads(&mut self, cx: &mut Context<'_>) {
        let due: Vec<u64> = self
            .reads
            .iter()
            .filter(|(_, read)| read.report_at <= cx.now)
            .map(|(id, _)| *id)
            .collect();
        for lease in due {
            self.report(cx, lease, None);
            if let Some(read) = self.reads.get_mut(&lease) {
                read.report_at = cx.now + REPORT_PERIOD;
                let silent = cx.now.saturating_since(read.answered) >= HOME_PATIENCE;
                if silent && read.purpose == Purpose::Leased {
                    read.answered = cx.now;
                    read.told_meta = false;
                    self.registration.home_is_silent(cx.now);
                }
            }
        }
    }

    /// The whole does not match the digest that a caller named: somebody lied, or the source has something else.
    pub(crate) fn handle_wrong_digest(&mut self, cx: &mut Context<'_>) {
        let Some(meta) = self.session.meta.clone() else {
            return;
        };
        let may_read = self.wish.is_some_and(|wish| wish.can_read);
        let Some(blocks) = meta.layout.blocks().filter(|_| may_read && !meta.single) else {
            self.fail(cx, TaskFailure::WrongDigest);
            return;
        };
        let own = (0..blocks)
            .all(|index| self.session.ledger.signer(BlockIndex(index)) == Some(cx.view.me()));
        if own {
            self.fail(cx, TaskFailure::WrongDigest);
            return;
        }
        self.wrong_blocks = 0;
        let lease = Lease {
            id: cx.chance.next() | 1,
            extent: Extent::Blocks {
                meta,
                run: 0..blocks,
            },
        };
        self.begin_read(cx, &lease, Purpose::Arbitration);
    }

    // --- blocks from peers -------------------------------------------------------------------------------------

    pub(crate) fn handle_block(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        version: VersionId,
        block: BlockIndex,
        digest: BlockDigest,
    ) -> Arrival {
        let arrival = self.session.handle_block(cx, from, version, block, digest);
        let origin = Origin::Peer(from);
        match arrival {
            Arrival::Good => {
                cx.out.push_back(Output::Keep {
                    task: self.id,
                    version,
                    block,
                    origin,
                });
                self.tell_progress(cx);
                self.finish_if_done(cx);
            }
            Arrival::Useless => cx.out.push_back(Output::Drop {
                task: self.id,
                block,
                origin,
            }),
            Arrival::Altered => {
                cx.out.push_back(Output::Drop {
                    task: self.id,
                    block,
                    origin,
                });
                cx.blame(from, BlameReason::AlteredBytes);
            }
        }
        arrival
    }

    fn finish_if_done(&mut self, cx: &mut Context<'_>) {
        if self.wish.is_some()
            && self.session.is_complete()
            && self
                .reads
                .values()
                .all(|read| read.purpose != Purpose::Clearance)
        {
            self.finish(cx);
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

    /// The node holds nothing of the task any more.
    pub(crate) fn leave(&mut self, cx: &mut Context<'_>) {
        self.service_down(cx);
        if let Some(home) = self.registration.home() {
            cx.send(home, Message::Leave(self.id));
        }
        let partners: Vec<PeerId> = self.session.neighbours().collect();
        for peer in partners {
            cx.send(peer, Message::Bye(self.id));
            self.session.lose(cx, &peer);
        }
    }

    /// A peer is isolated. What it signed holds on, unless it signed what is false: who alters what it relays
    /// need not have lied about what it read, and reading all of that again would cost the source.
    pub(crate) fn isolate(&mut self, cx: &mut Context<'_>, peer: &PeerId, reason: BlameReason) {
        if reason == BlameReason::FalseDigest {
            let have = &self.session.have;
            self.session
                .ledger
                .distrust(peer, |block| have.contains(block));
        }
        self.session.lose(cx, peer);
    }

    // --- gossip ------------------------------------------------------------------------------------------------

    /// Announces the start, the quarters and the end of the download, if the home made this node an announcer.
    fn tell_progress(&mut self, cx: &mut Context<'_>) {
        let Some(blocks) = self.session.blocks().filter(|blocks| *blocks > 0) else {
            return;
        };
        let quarter =
            u8::try_from(u64::from(self.session.have.len()) * 4 / u64::from(blocks)).unwrap_or(0);
        if self.announces && self.told_quarter.is_none_or(|told| told < quarter) {
            self.announce(cx);
        }
    }

    fn announce(&mut self, cx: &mut Context<'_>) {
        if !self.announces || cx.view.leech() {
            return;
        }
        let (Some(meta), Some(blocks)) = (&self.session.meta, self.session.blocks()) else {
            return;
        };
        let subject = Subject::from_bytes(*self.id.as_bytes());
        let quarters = if blocks == 0 {
            Progress::COMPLETE
        } else {
            u8::try_from(u64::from(self.session.have.len()) * 4 / u64::from(blocks)).unwrap_or(0)
        };
        if self.told_quarter == Some(quarters) {
            return;
        }
        let first = self.told_quarter.is_none();
        self.told_quarter = Some(quarters);
        let body = Progress {
            version: meta.version,
            quarters,
        }
        .encode();
        if first {
            cx.out.push_back(Output::Publish {
                subject,
                kind: EventKind::DownloadStart,
                body: body.clone(),
            });
            let length = crate::events::encode_length(meta);
            cx.out.push_back(Output::Publish {
                subject,
                kind: EventKind::Length,
                body: length,
            });
        }
        cx.out.push_back(Output::Publish {
            subject,
            kind: EventKind::Progress,
            body,
        });
    }

    // --- time --------------------------------------------------------------------------------------------------

    pub(crate) fn view_changed(&mut self, cx: &mut Context<'_>) {
        if self.wish.is_some() || !self.session.have.is_empty() {
            self.registration.view_changed(cx);
        }
    }

    fn has_business(&self) -> bool {
        self.wish.is_some() || !self.session.have.is_empty()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        let registration = self
            .has_business()
            .then(|| self.registration.poll_timeout());
        let reads = self.reads.values().map(Read::poll_timeout).min();
        [registration, reads, self.session.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Deadlines. Returns digests to be signed, and whether this node shall act as a home for itself.
    pub(crate) fn handle_timeout(
        &mut self,
        cx: &mut Context<'_>,
        interested: usize,
    ) -> (Vec<Unsigned>, bool) {
        self.session.handle_timeout(cx);
        let unsigned = self
            .reads
            .values_mut()
            .filter_map(|read| read.due_unsigned(cx.now))
            .collect();
        self.tick_reads(cx);
        let alone = self.has_business() && self.ask_if_due(cx, interested) == Some(Step::ActAlone);
        (unsigned, alone)
    }
}
