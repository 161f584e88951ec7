//! Leases on the source: what is unread, who reads what, and what happens when a reader fails.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use super::table::{Role, Table};
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::ids::BlockIndex;
use crate::message::{Extent, Holds, Lease, LeaseEnd, LeaseReport, Outcome, TableCopy};
use crate::meta::{Meta, SourceFailure};

/// Without a report for this long, the unread rest of a lease goes to somebody else. Readers report every 250 ms.
const LEASE_PATIENCE: Duration = Duration::from_secs(1);
/// Failures in a row, without a byte between them, after which a task is given up.
const MAX_FAILURES: u32 = 5;
/// The first pause after a failure that may pass; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A source that asks for more patience than this is not waited for.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);
/// For this long a failure also answers those who come after it: they asked at the same moment.
const FAILURE_TTL: Duration = Duration::from_secs(2);
/// Versions that one table may see before it gives up.
const MAX_VERSIONS: u32 = 4;
/// While the source is down, what was valid counts as valid for this long more.
const STALE_IF_DOWN: Duration = Duration::from_secs(10);
/// Below this many registrants each may read two extents at once, so that a lone node does not wait for the source.
const FEW_REGISTRANTS: usize = 8;

/// How hard a task may press its source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceRules {
    /// Readers of one task at once.
    pub(crate) readers: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Out {
    holder: PeerId,
    lease: Lease,
    /// Blocks to read; of a probe or a stream not known before its head is.
    run: Range<u32>,
    read_to: u32,
    reported: Now,
}

/// What a table knows of its source.
#[derive(Debug)]
pub(super) struct Leases {
    pub(super) meta: Option<Meta>,
    unread: BlockSet,
    pub(super) out: BTreeMap<u64, Out>,
    pub(super) refused: BTreeSet<PeerId>,
    validated: Option<Now>,
    not_before: Option<Now>,
    failures: u32,
    failed: Option<(SourceFailure, Now)>,
    versions: u32,
    /// Blocks of the whole version that leases have brought so far.
    brought: u64,
}

impl Leases {
    pub(super) const fn new() -> Self {
        Self {
            meta: None,
            unread: BlockSet::new(),
            out: BTreeMap::new(),
            refused: BTreeSet::new(),
            validated: None,
            not_before: None,
            failures: 0,
            failed: None,
            versions: 0,
            brought: 0,
        }
    }

    pub(super) const fn read_blocks(&self) -> u64 {
        self.brought
    }

    pub(super) fn copy(&self, now: Now) -> TableCopy {
        TableCopy {
            meta: self.meta.clone(),
            unread: Holds::pack(&self.unread, None),
            leases: self
                .out
                .values()
                .map(|out| (out.holder, out.lease.clone(), out.read_to))
                .collect(),
            validated_ms: self.validated_ms(now),
        }
    }

    fn validated_ms(&self, now: Now) -> u64 {
        self.validated.map_or(u64::MAX, |at| {
            u64::try_from(now.saturating_since(at).as_millis()).unwrap_or(u64::MAX)
        })
    }

    pub(super) fn adopt(&mut self, now: Now, copy: TableCopy) {
        let Some(meta) = copy.meta else {
            for (holder, lease, read_to) in copy.leases {
                self.enter_lease(now, holder, lease, read_to);
            }
            return;
        };
        self.validated = before(now, copy.validated_ms);
        self.unread = copy.unread.unpack(None).unwrap_or_default();
        self.meta = Some(meta);
        self.out.clear();
        for (holder, lease, read_to) in copy.leases {
            self.enter_lease(now, holder, lease, read_to);
        }
    }

    fn enter_lease(&mut self, now: Now, holder: PeerId, lease: Lease, read_to: u32) {
        let run = match &lease.extent {
            Extent::Probe | Extent::Validate { .. } => 0..0,
            Extent::Blocks { run, .. } => run.clone(),
        };
        self.unread.remove_run(run.clone());
        self.out.insert(
            lease.id,
            Out {
                holder,
                lease,
                run,
                read_to,
                reported: now,
            },
        );
    }

    /// A holder brings its version to a table that knows none.
    pub(super) fn adopt_meta(&mut self, now: Now, meta: Meta, validated_ms: u64) {
        self.unread = if meta.single {
            BlockSet::new()
        } else {
            BlockSet::all(meta.layout.blocks().unwrap_or(0))
        };
        self.validated = before(now, validated_ms);
        self.meta = Some(meta);
    }

    pub(super) fn note_held(&mut self, holds: &BlockSet) {
        for block in holds.iter() {
            self.unread.remove(block);
        }
    }

    /// A registrant reads under a lease that another home gave.
    pub(super) fn note_lease(&mut self, now: Now, holder: PeerId, lease: Lease) {
        if !self.out.contains_key(&lease.id) && self.out.len() < 64 {
            let start = match &lease.extent {
                Extent::Blocks { run, .. } => run.start,
                Extent::Probe | Extent::Validate { .. } => 0,
            };
            self.enter_lease(now, holder, lease, start);
        }
    }

    pub(super) fn touch_all(&mut self, now: Now) {
        for out in self.out.values_mut() {
            out.reported = now;
        }
    }

    /// The version as far as this registrant may rely on it: nothing while it must be validated first.
    pub(super) fn meta_for(&self, _to: &PeerId) -> Option<Meta> {
        let validating = self
            .out
            .values()
            .any(|out| matches!(out.lease.extent, Extent::Validate { .. }));
        self.meta.clone().filter(|_| !validating)
    }

    /// Takes back every lease of a node. Whether it had one.
    pub(super) fn revoke_of(&mut self, peer: &PeerId) -> bool {
        let ids: Vec<u64> = self
            .out
            .iter()
            .filter(|(_, out)| out.holder == *peer)
            .map(|(id, _)| *id)
            .collect();
        for id in &ids {
            self.revoke(*id);
        }
        !ids.is_empty()
    }

    /// Takes a lease back; what it has not read is unread again.
    fn revoke(&mut self, id: u64) -> Option<Out> {
        let out = self.out.remove(&id)?;
        let Some(meta) = &self.meta else {
            return Some(out);
        };
        if meta.single && !matches!(out.lease.extent, Extent::Validate { .. }) {
            // Nobody can go on where this reader stopped: the next read is another version.
            self.forget_version();
            return Some(out);
        }
        let end = out.run.end.min(meta.layout.blocks().unwrap_or(out.run.end));
        self.unread.insert_run(out.read_to.max(out.run.start)..end);
        Some(out)
    }

    fn forget_version(&mut self) {
        self.meta = None;
        self.unread = BlockSet::new();
        self.validated = None;
        self.brought = 0;
    }

    /// Whether blocks may have died with their holders: all are read, yet some registrant waits.
    pub(super) fn may_have_lost(&self) -> bool {
        self.meta.is_some() && self.unread.is_empty()
    }

    /// What no lease covers and nobody in `held` has is unread.
    pub(super) fn return_lost(&mut self, held: &BlockSet) {
        let Some(meta) = &self.meta else { return };
        let Some(blocks) = meta.layout.blocks() else {
            return;
        };
        let mut safe = held.clone();
        for out in self.out.values() {
            safe.insert_run(out.run.start..out.run.end.min(blocks));
        }
        let lost: BlockSet = BlockSet::all(blocks).minus(&safe).collect();
        if lost.is_empty() {
            return;
        }
        if meta.single {
            self.forget_version();
        } else {
            self.unread = lost;
        }
    }

    pub(super) fn fails_now(&self, now: Now) -> bool {
        self.failed
            .as_ref()
            .is_some_and(|(_, at)| now.saturating_since(*at) < FAILURE_TTL)
    }

    pub(super) fn failure(&self) -> Option<SourceFailure> {
        self.failed.as_ref().map(|(failure, _)| failure.clone())
    }

    pub(super) fn poll_timeout(&self) -> Option<Now> {
        let silent = self
            .out
            .values()
            .map(|out| out.reported + LEASE_PATIENCE)
            .min();
        let paused = self.not_before.filter(|_| self.has_work());
        [silent, paused].into_iter().flatten().min()
    }

    fn has_work(&self) -> bool {
        self.meta.is_none() || !self.unread.is_empty()
    }

    fn held_by(&self, peer: &PeerId) -> usize {
        self.out.values().filter(|out| out.holder == *peer).count()
    }

    /// The next extent that nobody reads: within one piece, lowest first.
    fn next_extent(&self, meta: &Meta) -> Option<Range<u32>> {
        let first = self.unread.iter().next()?;
        let piece_end = meta.layout.blocks_of(meta.layout.piece_of(first)).end;
        let mut end = first.0 + 1;
        while end < piece_end && self.unread.contains(BlockIndex(end)) {
            end += 1;
        }
        // A source without ranges is read in one go, whatever the pieces.
        if meta.ranges {
            Some(first.0..end)
        } else {
            meta.layout.blocks().map(|blocks| first.0..blocks)
        }
    }
}

fn before(now: Now, age_ms: u64) -> Option<Now> {
    now.as_micros()
        .checked_sub(age_ms.checked_mul(1000)?)
        .map(Now::from_micros)
}

impl Table {
    /// The lease that `to` should have next, if any.
    pub(super) fn next_lease(
        &mut self,
        cx: &mut Context<'_>,
        rules: SourceRules,
        to: PeerId,
    ) -> Option<Lease> {
        let known = self.registrants.get(&to)?;
        if self.role != Role::Granting || !known.can_read || !known.wants {
            return None;
        }
        let leases = &self.leases;
        if leases.not_before.is_some_and(|at| cx.now < at) || leases.out.len() >= rules.readers {
            return None;
        }
        if leases.held_by(&to) >= self.leases_per_node() {
            return None;
        }
        let extent = match &leases.meta {
            None if leases.out.is_empty() => Extent::Probe,
            None => return None,
            Some(meta) if self.must_validate(cx.now, known.max_age) => {
                Extent::Validate { meta: meta.clone() }
            }
            Some(meta) => {
                if !self.may_read_on(&to, meta.layout.blocks_per_piece()) {
                    return None;
                }
                if !meta.ranges && !leases.out.is_empty() {
                    return None;
                }
                Extent::Blocks {
                    meta: meta.clone(),
                    run: leases.next_extent(meta)?,
                }
            }
        };
        let lease = Lease {
            id: cx.chance.next() | 1,
            extent,
        };
        self.leases
            .enter_lease(cx.now, to, lease.clone(), lease_start(&lease));
        self.changed(cx.now);
        Some(lease)
    }

    fn leases_per_node(&self) -> usize {
        if self.registrants.len() < FEW_REGISTRANTS {
            2
        } else {
            1
        }
    }

    /// Whether a reader's fresh blocks have left it, so that it should read more.
    ///
    /// A reader that cannot spread what it has would only pile up blocks that others wait for. If that holds for
    /// all of them, the source is better read by somebody than by nobody.
    fn may_read_on(&self, reader: &PeerId, extent_blocks: u32) -> bool {
        let spread = |known: &super::table::Registrant| known.unspread <= extent_blocks;
        let better = |peer: &PeerId, known: &super::table::Registrant| {
            peer != reader
                && known.wants
                && known.can_read
                && spread(known)
                && self.leases.held_by(peer) < self.leases_per_node()
        };
        self.registrants.get(reader).is_some_and(spread)
            || !self
                .registrants
                .iter()
                .any(|(peer, known)| better(peer, known))
    }

    /// Whether the version must be shown to be current before it is served to somebody with this patience.
    fn must_validate(&self, now: Now, max_age: Duration) -> bool {
        // While it is being read it is current: every read names its validator.
        self.leases.out.is_empty()
            && self.leases.unread.is_empty()
            && self.leases.meta.as_ref().is_some_and(|meta| !meta.single)
            && self
                .leases
                .validated
                .is_none_or(|at| now.saturating_since(at) > max_age)
    }

    /// Gives leases to registrants chosen by chance, as long as there is something to read.
    pub(super) fn grant_others(&mut self, cx: &mut Context<'_>, rules: SourceRules) {
        if self.role != Role::Granting || !self.leases.has_work() {
            return;
        }
        let mut eligible: Vec<(usize, u64, PeerId)> = self
            .registrants
            .iter()
            .filter(|(_, known)| known.wants && known.can_read)
            .map(|(peer, _)| (self.leases.held_by(peer), cx.chance.next(), *peer))
            .collect();
        eligible.sort_unstable();
        for (_, _, peer) in eligible {
            if self.leases.out.len() >= rules.readers || !self.leases.has_work() {
                break;
            }
            if let Some(lease) = self.next_lease(cx, rules, peer) {
                self.welcome(cx, peer, 0, Some(lease), &[]);
            }
        }
    }

    /// A reader tells how far it is.
    pub(super) fn report(
        &mut self,
        cx: &mut Context<'_>,
        rules: SourceRules,
        from: PeerId,
        report: LeaseReport,
    ) {
        self.last_used = cx.now;
        if let Some(known) = self.registrants.get_mut(&from) {
            known.heard = cx.now;
            known.unspread = report.unspread;
        }
        if self
            .leases
            .out
            .get(&report.lease)
            .is_none_or(|out| out.holder != from)
        {
            if report.end.is_none() {
                self.tell(
                    cx,
                    from,
                    0,
                    Outcome::LeaseGone {
                        lease: report.lease,
                    },
                );
            }
            return;
        }
        let first_meta = self.learn(cx, from, &report);
        if let Some(out) = self.leases.out.get_mut(&report.lease) {
            out.reported = cx.now;
            if report.read_to > out.read_to {
                self.leases.brought += u64::from(report.read_to - out.read_to);
                self.leases.failures = 0;
                out.read_to = report.read_to;
            }
        }
        match report.end {
            None => {}
            Some(LeaseEnd::Done) => self.lease_done(cx, report.lease),
            Some(LeaseEnd::Returned) => {
                self.leases.revoke(report.lease);
            }
            Some(LeaseEnd::Failed(failure)) => self.lease_failed(cx, from, report.lease, &failure),
        }
        self.changed(cx.now);
        let lease = self.next_lease(cx, rules, from);
        self.welcome(cx, from, 0, lease, &[]);
        if first_meta {
            self.welcome_waiting(cx, rules, from);
        }
        self.grant_others(cx, rules);
    }

    /// Takes up what a probe learnt. Whether it is news for those who wait.
    fn learn(&mut self, cx: &mut Context<'_>, from: PeerId, report: &LeaseReport) -> bool {
        let Some(meta) = &report.meta else {
            return false;
        };
        if let Some(known) = &mut self.leases.meta {
            if known.version == meta.version && known.layout.length().is_none() {
                known.layout = meta.layout;
            }
            return false;
        }
        let Some(out) = self.leases.out.get_mut(&report.lease) else {
            return false;
        };
        let end = if meta.single || !meta.ranges {
            meta.layout.blocks().unwrap_or(u32::MAX)
        } else {
            meta.layout.blocks_of(crate::ids::PieceIndex(0)).end
        };
        out.run = 0..end;
        out.lease.extent = Extent::Blocks {
            meta: meta.clone(),
            run: 0..end,
        };
        self.leases.unread = match meta.layout.blocks() {
            Some(blocks) if end < blocks => {
                let mut unread = BlockSet::new();
                unread.insert_run(end..blocks);
                unread
            }
            Some(_) | None => BlockSet::new(),
        };
        self.leases.validated = Some(cx.now);
        self.leases.failed = None;
        self.leases.meta = Some(meta.clone());
        let _ = from;
        true
    }

    /// Tells everybody who waits for the version, with leases where due: in order of chance, not of arrival.
    fn welcome_waiting(&mut self, cx: &mut Context<'_>, rules: SourceRules, except: PeerId) {
        let mut waiting: Vec<(u64, PeerId)> = self
            .registrants
            .iter()
            .filter(|(peer, known)| known.wants && **peer != except)
            .map(|(peer, _)| (cx.chance.next(), *peer))
            .collect();
        waiting.sort_unstable();
        for (_, peer) in waiting {
            let lease = self.next_lease(cx, rules, peer);
            self.welcome(cx, peer, 0, lease, &[]);
        }
    }

    fn lease_done(&mut self, cx: &mut Context<'_>, id: u64) {
        let Some(out) = self.leases.out.remove(&id) else {
            return;
        };
        self.leases.validated = Some(cx.now);
        self.leases.failures = 0;
        self.leases.failed = None;
        if matches!(out.lease.extent, Extent::Validate { .. }) {
            self.release_validated(cx, out.holder);
        }
    }

    /// The version is current: those who waited for that word get it.
    fn release_validated(&mut self, cx: &mut Context<'_>, except: PeerId) {
        let waiting: Vec<PeerId> = self
            .registrants
            .iter()
            .filter(|(peer, known)| known.wants && **peer != except)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in waiting {
            self.welcome(cx, peer, 0, None, &[]);
        }
    }

    fn lease_failed(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        id: u64,
        failure: &SourceFailure,
    ) {
        let revoked = self.leases.revoke(id);
        let validating =
            revoked.is_some_and(|out| matches!(out.lease.extent, Extent::Validate { .. }));
        match failure {
            SourceFailure::Refused { .. } => {
                self.leases.refused.insert(from);
                if let Some(known) = self.registrants.get_mut(&from) {
                    known.can_read = false;
                }
                self.leases
                    .failed
                    .get_or_insert_with(|| (failure.clone(), Now::from_micros(0)));
                self.fail_if_hopeless(cx);
            }
            SourceFailure::NotFound | SourceFailure::Final { .. } => self.give_up(cx, failure),
            SourceFailure::Changed => {
                self.leases.versions += 1;
                let gone: Vec<(u64, PeerId)> = self
                    .leases
                    .out
                    .iter()
                    .map(|(id, out)| (*id, out.holder))
                    .collect();
                for (lease, holder) in gone {
                    self.tell(cx, holder, 0, Outcome::LeaseGone { lease });
                }
                self.leases.out.clear();
                self.leases.forget_version();
                for known in self.registrants.values_mut() {
                    known.holds = BlockSet::new();
                    known.unspread = 0;
                }
                if self.leases.versions >= MAX_VERSIONS {
                    self.leases.versions = 0;
                    self.give_up(cx, &SourceFailure::Changed);
                }
            }
            SourceFailure::Busy { .. } | SourceFailure::Transient { .. } if validating => {
                // The source is down: what was current when it was last up is the best there is.
                self.leases.validated = Some(cx.now);
                self.leases.not_before = Some(cx.now + STALE_IF_DOWN);
                self.release_validated(cx, from);
            }
            SourceFailure::Busy { retry_after_ms, .. } => {
                let wait = Duration::from_millis(*retry_after_ms);
                self.pause(cx, failure, wait, wait > MAX_RETRY_AFTER);
            }
            SourceFailure::Transient { .. } => {
                let wait = FIRST_PAUSE * (1 << self.leases.failures.min(6));
                self.pause(cx, failure, wait, false);
            }
        }
    }

    fn pause(
        &mut self,
        cx: &mut Context<'_>,
        failure: &SourceFailure,
        wait: Duration,
        too_long: bool,
    ) {
        self.leases.failures += 1;
        if too_long || self.leases.failures >= MAX_FAILURES {
            self.give_up(cx, failure);
        } else {
            self.leases.not_before = Some(cx.now + wait);
        }
    }

    /// Nobody can get the rest from the source: tells all who still want it.
    fn give_up(&mut self, cx: &mut Context<'_>, failure: &SourceFailure) {
        self.leases.failures = 0;
        self.leases.not_before = None;
        self.leases.failed = Some((failure.clone(), cx.now));
        if matches!(failure, SourceFailure::NotFound) {
            self.leases.forget_version();
        }
        self.tell_failed(cx, failure);
    }

    fn tell_failed(&mut self, cx: &mut Context<'_>, failure: &SourceFailure) {
        let wanting: Vec<PeerId> = self
            .registrants
            .iter()
            .filter(|(_, known)| known.wants)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in wanting {
            self.tell(
                cx,
                peer,
                0,
                Outcome::Failed {
                    failure: failure.clone(),
                },
            );
            if let Some(known) = self.registrants.get_mut(&peer) {
                known.wants = false;
            }
        }
    }

    /// Ends the waiting of registrants when blocks are unread, nobody reads and nobody may.
    pub(super) fn fail_if_hopeless(&mut self, cx: &mut Context<'_>) {
        let reader_left = self
            .registrants
            .values()
            .any(|known| known.wants && known.can_read);
        if self.role != Role::Granting
            || reader_left
            || !self.leases.out.is_empty()
            || !self.leases.has_work()
        {
            return;
        }
        let nobody = || SourceFailure::Final {
            what: "no peer has all of this, and no node that wants it may read the source"
                .to_owned(),
        };
        match self.leases.failure() {
            Some(failure) => self.give_up(cx, &failure),
            // No verdict on the source: whoever comes next may read it.
            None => self.tell_failed(cx, &nobody()),
        }
    }

    /// Takes leases back from readers that fell silent, and grants again after a pause.
    pub(super) fn expire_leases(&mut self, cx: &mut Context<'_>, rules: SourceRules) {
        let silent: Vec<(u64, PeerId)> = self
            .leases
            .out
            .iter()
            .filter(|(_, out)| cx.now.saturating_since(out.reported) >= LEASE_PATIENCE)
            .map(|(id, out)| (*id, out.holder))
            .collect();
        for (id, holder) in silent {
            self.leases.revoke(id);
            self.tell(cx, holder, 0, Outcome::LeaseGone { lease: id });
            self.changed(cx.now);
        }
        if self.leases.not_before.is_some_and(|at| cx.now >= at) {
            self.leases.not_before = None;
        }
        self.grant_others(cx, rules);
    }
}

fn lease_start(lease: &Lease) -> u32 {
    match &lease.extent {
        Extent::Blocks { run, .. } => run.start,
        Extent::Probe | Extent::Validate { .. } => 0,
    }
}
