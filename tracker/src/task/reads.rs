//! This node's own reads of the source for a task: what they bring, and how they end.

use std::time::Duration;

use super::Task;
use super::versions::MAX_RESTARTS;
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::ids::{BlockDigest, BlockIndex};
use crate::message::{Extent, Lease, LeaseEnd, LeaseReport, Message, SignedBatch};
use crate::meta::{Meta, SourceFailure, SourceHead};
use crate::output::{Origin, Output, ReadPlan, TaskFailure};
use crate::reads::{HOME_PATIENCE, Purpose, REPORT_PERIOD, Read, Unsigned};

/// How long a home may take to answer the last report of a read, before it is asked whether it lives.
const ANSWER_PATIENCE: Duration = Duration::from_millis(300);

impl Task {
    pub(super) fn begin_read(&mut self, cx: &mut Context<'_>, lease: &Lease, purpose: Purpose) {
        if self.reads.contains_key(&lease.id) {
            return;
        }
        let lease = if purpose == Purpose::Leased {
            self.without_what_is_near(cx, lease)
        } else {
            lease.clone()
        };
        if purpose == Purpose::Leased {
            self.wait_for_help();
        }
        let read = Read::new(lease.clone(), purpose, cx.now);
        let nothing_left = matches!(&lease.extent, Extent::Blocks { run, .. } if run.is_empty());
        let id = lease.id;
        self.reads.insert(id, read);
        if nothing_left {
            self.end_read(cx, id, Some(LeaseEnd::Done));
            return;
        }
        cx.out.push_back(Output::ReadSource {
            task: self.id,
            lease,
        });
        self.sync_reading();
    }

    /// Shortens a lease by the blocks at its begin that are here already, or with neighbours that live.
    ///
    /// A home leases again what a reader did not report; that one may have read and spread more before it died.
    fn without_what_is_near(&self, cx: &Context<'_>, lease: &Lease) -> Lease {
        let mut lease = lease.clone();
        if let Extent::Blocks { meta, run } = &mut lease.extent
            && !meta.single
            && meta.ranges
            && Some(meta.version) == self.version()
        {
            let mut near = self.session.nearby_for_sure(cx.now);
            near.unite(&self.session.have);
            run.start = near.first_absent(run.start).0.min(run.end);
        }
        lease
    }

    /// Blocks under own reads are not asked of peers.
    pub(super) fn sync_reading(&mut self) {
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
            let is_late = self.wish.is_some_and(|wish| wish.named.is_some())
                && self.version().is_some_and(|known| known != meta.version);
            if is_late {
                // Another authority's reader was first: the content is the same, so nothing is outdated.
                self.end_read(cx, lease, Some(LeaseEnd::Returned));
                return None;
            }
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
            self.adopt_meta(cx, meta);
            self.note_current(cx);
            self.sync_reading();
            self.report(cx, lease, None);
            if self.is_needless(lease) {
                // The probe told what the part's readers need to know; its bytes are in nobody's part.
                self.end_read(cx, lease, Some(LeaseEnd::Returned));
                self.registration.hurry(cx.now);
                return None;
            }
        }
        let read = self.reads.get(&lease)?;
        let meta = read.meta.clone()?;
        self.proven = Some(meta.version);
        Some(ReadPlan {
            meta,
            run: read.run.clone(),
        })
    }

    /// Whether a read brings nothing but blocks that no caller wants.
    fn is_needless(&self, lease: u64) -> bool {
        let read = self.reads.get(&lease);
        read.is_some_and(|read| {
            let can_be_left = read
                .meta
                .as_ref()
                .is_some_and(|meta| meta.ranges && !meta.single);
            let outside = &self.session.outside;
            can_be_left
                && !read.run.is_empty()
                && outside.first_absent(read.run.start).0 >= read.run.end
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
        let signed = self.session.ledger.digest(block);
        let is_false = signed.is_some_and(|signed| signed != digest);
        if is_false {
            read.done_to = read.done_to.max(block.0.saturating_add(1));
            self.session.reading.remove(block);
            if self.source_is_sure() {
                return self.overrule(cx, lease, block, digest, version);
            }
            cx.out.push_back(Output::Drop {
                task: self.id,
                block,
                origin,
            });
            return None;
        }
        let unsigned = if signed.is_some() {
            read.done_to = read.done_to.max(block.0.saturating_add(1));
            None
        } else {
            read.block(cx.now, block, digest, self.session.have.len())
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
        if self
            .reads
            .get(&lease)
            .is_some_and(|read| read.may_report(cx.now))
        {
            self.report(cx, lease, None);
        }
        unsigned
    }

    /// Whether two reads of this version cannot give two contents. If they can, the digest that was signed first holds,
    /// until the whole proves it false.
    fn source_is_sure(&self) -> bool {
        let meta = self.session.meta.as_ref();
        meta.is_some_and(|meta| {
            meta.validators.are_strong() && meta.digest.is_none() && !meta.single
        })
    }

    /// A signature for this node's digests came: neighbours may now be told of the blocks.
    pub(crate) fn handle_batch(&mut self, cx: &mut Context<'_>, batch: SignedBatch) {
        if self.session.meta.as_ref().map(|meta| meta.version) != Some(batch.version) {
            return;
        }
        let run = batch.run();
        self.session.enter_own(batch.clone());
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
        let meta = read.meta.clone();
        let version = meta.as_ref().map(|meta| meta.version);
        let ends_early = |bytes| version == self.version() && self.session.goes_beyond(bytes);
        match end {
            Ok(Some(bytes)) if ends_early(bytes) => {
                // An answer of unknown length that breaks off need not look like one.
                let failure = SourceFailure::Transient {
                    what: "the source's answer ended before what was read of it elsewhere"
                        .to_owned(),
                };
                self.end_read(cx, lease, Some(LeaseEnd::Failed(failure.clone())));
                self.restarts += 1;
                if self.restarts > MAX_RESTARTS {
                    self.fail(cx, TaskFailure::KeepsChanging);
                } else {
                    self.read_failed(cx, purpose, failure);
                }
            }
            Ok(length) => {
                if let Some(meta) = meta.filter(|_| version != self.version()) {
                    // The source has the version that the cluster holds, and not the one that lies here.
                    self.adopt_meta(cx, meta);
                }
                if length.is_some() && self.session.learn_length(cx, length) {
                    self.stream_ended(cx, lease, length);
                }
                self.proven = version.or(self.proven);
                if purpose != Purpose::Arbitration {
                    self.note_current(cx);
                }
                self.end_read(cx, lease, Some(LeaseEnd::Done));
                self.after_read(cx, purpose);
            }
            Err(failure) => {
                let failure = failure.in_short();
                self.end_read(cx, lease, Some(LeaseEnd::Failed(failure.clone())));
                self.read_failed(cx, purpose, failure);
            }
        }
        unsigned
    }

    fn after_read(&mut self, cx: &mut Context<'_>, purpose: Purpose) {
        match purpose {
            Purpose::Arbitration => self.compare_next(cx),
            Purpose::Clearance => {
                if self.may_take() && !self.session.is_complete() {
                    self.session.want(cx);
                    self.registration.hurry(cx.now);
                }
            }
            Purpose::Cornered => self.was_left_alone(),
            Purpose::Leased => {}
        }
        self.finish_if_done(cx);
    }

    fn read_failed(&mut self, cx: &mut Context<'_>, purpose: Purpose, failure: SourceFailure) {
        if failure == SourceFailure::Changed {
            self.outdated = self.version();
        }
        if purpose == Purpose::Arbitration {
            self.comparison_failed(cx, failure);
            return;
        }
        let fatal = match &failure {
            // The caller itself is refused, whatever others may read.
            SourceFailure::Refused { .. } => true,
            SourceFailure::Changed => false,
            // Nobody whom this node deals with has it either.
            SourceFailure::NotFound | SourceFailure::Final { .. } => purpose != Purpose::Leased,
            SourceFailure::Busy { .. } | SourceFailure::Transient { .. } => {
                !matches!(purpose, Purpose::Leased | Purpose::Cornered)
            }
        };
        if fatal {
            self.fail(cx, TaskFailure::Source(failure));
        } else if purpose == Purpose::Cornered {
            self.leave_alone(cx, &failure);
        }
    }

    /// Forgets a read and tells the home how it ended.
    pub(super) fn end_read(&mut self, cx: &mut Context<'_>, lease: u64, end: Option<LeaseEnd>) {
        self.report(cx, lease, end);
        self.forget_read(lease);
        self.sync_reading();
        self.session.make_room(cx);
    }

    /// Forgets a read, but not what it brought: a block that is held and never signed could be given to nobody.
    pub(super) fn forget_read(&mut self, lease: u64) {
        let unsigned = self
            .reads
            .remove(&lease)
            .and_then(|mut read| read.take_unsigned());
        self.to_sign.extend(unsigned);
    }

    fn report(&mut self, cx: &mut Context<'_>, lease: u64, end: Option<LeaseEnd>) {
        let unspread = self.session.unspread();
        let is_leased = |read: &&Read| read.purpose == Purpose::Leased;
        let Some(read) = self.reads.get(&lease).filter(is_leased) else {
            return;
        };
        let read_to = match &end {
            None => self.spread_to(read),
            Some(LeaseEnd::Done) => self.begin_spreading(cx.now, lease),
            // What it holds it still gives.
            Some(LeaseEnd::Failed(_) | LeaseEnd::Returned) => read.done_to,
        };
        let Some(read) = self.reads.get_mut(&lease) else {
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
        read.told_meta |= meta.is_some();
        let report = LeaseReport {
            task: self.id,
            lease,
            read_to,
            bytes: read.bytes,
            meta,
            unspread,
            end,
        };
        let ends = report.end.is_some();
        cx.send(home, Message::LeaseReport(report));
        if ends {
            self.registration.expect_answer(cx.now + ANSWER_PATIENCE);
        }
    }

    pub(super) fn tick_reads(&mut self, cx: &mut Context<'_>) {
        self.tick_spreading(cx);
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
}
