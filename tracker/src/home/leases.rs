//! What a table knows of its source: the version, what is unread, and who reads what.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use super::failures::Failing;
use super::registrants::Registrant;
use crate::blocks::BlockSet;
use crate::ids::BlockIndex;
use crate::message::{Extent, Lease};
use crate::meta::{Meta, SourceFailure};

/// Without a report for this long, the unread rest of a lease goes to somebody else. Readers report every 250 ms.
pub(super) const LEASE_PATIENCE: Duration = Duration::from_secs(1);
/// Blocks that do not leave their reader for so long are not waited for: others will say that they miss them.
const SPREAD_PATIENCE: Duration = Duration::from_secs(3);
/// Reads that are over and not spread which are waited for: of one holder, and of all.
const MAX_SPREADING_EACH: usize = 4;
const MAX_SPREADING: usize = 32;
/// Leases that others told of, beyond which no more are noted.
pub(super) const MAX_TOLD: usize = 64;
/// For this long a failure also answers those who come after it: they asked at the same moment.
const FAILURE_TTL: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub(super) struct Out {
    pub(super) holder: PeerId,
    pub(super) lease: Lease,
    /// Blocks to read; of a probe or a stream not known before its head is.
    pub(super) run: Range<u32>,
    pub(super) read_to: u32,
    pub(super) granted: Now,
    pub(super) reported: Now,
    /// Since when all of it is read, and only has to leave its reader.
    pub(super) ended: Option<Now>,
    /// Whether another home granted it, and its holder has not spoken of it here: it may be over.
    pub(super) hearsay: bool,
}

impl Out {
    pub(super) const fn is_validation(&self) -> bool {
        matches!(self.lease.extent, Extent::Validate { .. })
    }
}

/// What a table knows of its source.
#[derive(Debug)]
pub(super) struct Leases {
    pub(super) meta: Option<Meta>,
    pub(super) unread: BlockSet,
    pub(super) out: BTreeMap<u64, Out>,
    pub(super) refused: BTreeSet<PeerId>,
    pub(super) validated: Option<Now>,
    pub(super) not_before: Option<Now>,
    pub(super) failing: Failing,
    pub(super) failed: Option<(SourceFailure, Now)>,
    pub(super) versions: u32,
    /// What was read while registrants were asked what they hold.
    pub(super) fresh: BlockSet,
    /// Blocks of the whole version that leases have brought so far.
    pub(super) brought: u64,
}

impl Leases {
    pub(super) fn new() -> Self {
        Self {
            meta: None,
            unread: BlockSet::new(),
            out: BTreeMap::new(),
            refused: BTreeSet::new(),
            validated: None,
            not_before: None,
            failing: Failing::default(),
            failed: None,
            versions: 0,
            fresh: BlockSet::new(),
            brought: 0,
        }
    }

    /// What its sets of blocks take.
    pub(super) const fn bytes(&self) -> usize {
        self.unread.bytes() + self.fresh.bytes()
    }

    pub(super) fn enter_lease(&mut self, now: Now, holder: PeerId, lease: Lease, read_to: u32) {
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
                granted: now,
                reported: now,
                ended: None,
                hearsay: false,
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

    /// A registrant reads under a lease that another home gave.
    pub(super) fn note_lease(&mut self, now: Now, holder: PeerId, lease: Lease) {
        if let Some(out) = self.out.get_mut(&lease.id) {
            out.hearsay = false;
            out.reported = now;
            if let Extent::Blocks { run, .. } = &lease.extent {
                out.read_to = out.read_to.max(run.start);
                out.run.end = out.run.end.max(run.end);
            }
            let run = out.run.clone();
            self.unread.remove_run(run);
        } else if self.out.len() < MAX_TOLD {
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

    /// The version as far as registrants may rely on it: nothing while it must be validated first.
    pub(super) fn current_meta(&self) -> Option<Meta> {
        self.meta.clone().filter(|_| !self.is_validating())
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
    pub(super) fn revoke(&mut self, id: u64) -> Option<Out> {
        let out = self.out.remove(&id)?;
        let Some(meta) = &self.meta else {
            return Some(out);
        };
        if meta.single && !out.is_validation() {
            // Nobody can go on where this reader stopped: the next read is another version.
            self.forget_version();
            return Some(out);
        }
        let end = out.run.end.min(meta.layout.blocks().unwrap_or(out.run.end));
        self.unread.insert_run(out.read_to.max(out.run.start)..end);
        Some(out)
    }

    pub(super) fn forget_version(&mut self) {
        self.meta = None;
        self.unread = BlockSet::new();
        self.validated = None;
        self.brought = 0;
        self.out.retain(|_, out| out.ended.is_none());
    }

    /// Whether something that a registrant wants is unread.
    pub(super) fn has_unread_for(&self, known: &Registrant) -> bool {
        let meta = self.meta.as_ref();
        meta.is_none_or(|meta| self.unread.has_beyond(&known.outside(meta)))
    }

    /// What no lease covers and nobody in `held` has is unread.
    pub(super) fn return_lost(&mut self, held: &BlockSet) {
        let Some(meta) = &self.meta else { return };
        let Some(blocks) = meta.layout.blocks() else {
            return;
        };
        let mut safe = held.clone();
        safe.unite(&self.fresh);
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
            .map(|out| {
                let silent = out.reported + LEASE_PATIENCE;
                let ended = out.ended.map(|at| at + SPREAD_PATIENCE);
                ended.map_or(silent, |ended| ended.min(silent))
            })
            .min();
        let paused = self.not_before.filter(|_| self.has_work());
        [silent, paused].into_iter().flatten().min()
    }

    pub(super) fn has_work(&self) -> bool {
        self.meta.is_none() || !self.unread.is_empty()
    }

    /// Reads under way.
    pub(super) fn readers(&self) -> usize {
        let out = self.out.values();
        out.filter(|out| out.ended.is_none()).count()
    }

    /// A read is over. Whether that is news: until its blocks have left the reader, it says so again and again.
    pub(super) fn end(&mut self, now: Now, id: u64) -> bool {
        let Some(holder) = self.out.get(&id).map(|out| out.holder) else {
            return false;
        };
        let others = self.out.iter().filter(|(other, _)| **other != id);
        let spreading = others.filter(|(_, out)| out.ended.is_some());
        let (all, its_own) = spreading.fold((0, 0), |(all, its_own), (_, out)| {
            (all + 1, its_own + usize::from(out.holder == holder))
        });
        let is_full = all >= MAX_SPREADING || its_own >= MAX_SPREADING_EACH;
        let Some(out) = self.out.get_mut(&id) else {
            return false;
        };
        let is_news = out.ended.is_none();
        out.ended.get_or_insert(now);
        let is_open = self.meta.as_ref().is_some_and(|meta| {
            let end = out.run.end.min(meta.layout.blocks().unwrap_or(0));
            meta.ranges && !meta.single && out.read_to < end
        });
        if !is_open || is_full {
            self.out.remove(&id);
        }
        is_news
    }

    /// What has not spread by now is waited for no more, whatever its holder says.
    pub(super) fn end_spreading(&mut self, now: Now) {
        let lasts = |at: Now| now.saturating_since(at) < SPREAD_PATIENCE;
        self.out.retain(|_, out| out.ended.is_none_or(lasts));
    }

    pub(super) fn held_by(&self, peer: &PeerId) -> usize {
        let out = self.out.values();
        out.filter(|out| out.holder == *peer && out.ended.is_none())
            .count()
    }

    /// The next extent that nobody reads, for one who wants nothing of `outside`: within one piece, lowest first.
    pub(super) fn next_extent(&self, meta: &Meta, outside: &BlockSet) -> Option<Range<u32>> {
        let first = self.unread.minus(outside).next()?;
        let piece_end = meta.layout.blocks_of(meta.layout.piece_of(first)).end;
        let is_due = |block| self.unread.contains(block) && !outside.contains(block);
        let mut end = first.0 + 1;
        while end < piece_end && is_due(BlockIndex(end)) {
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

/// The moment that was so long ago.
pub(super) fn before(now: Now, age_ms: u64) -> Option<Now> {
    now.as_micros()
        .checked_sub(age_ms.checked_mul(1000)?)
        .map(Now::from_micros)
}

pub(super) fn lease_start(lease: &Lease) -> u32 {
    match &lease.extent {
        Extent::Blocks { run, .. } => run.start,
        Extent::Probe | Extent::Validate { .. } => 0,
    }
}
