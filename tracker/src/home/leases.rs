//! What a table knows of its source: the version, what is unread, and who reads what.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use super::failures::Failing;
use super::registrants::Registrant;
use crate::blocks::BlockSet;
use crate::ids::BlockIndex;
use crate::message::{Extent, Holds, Lease, TableCopy};
use crate::meta::{Meta, SourceFailure};

/// Without a report for this long, the unread rest of a lease goes to somebody else. Readers report every 250 ms.
pub(super) const LEASE_PATIENCE: Duration = Duration::from_secs(1);
/// A validation without an answer for so long is asked of another host too: it may be its reader whom no answer reaches.
const VALIDATION_PATIENCE: Duration = Duration::from_secs(2);
/// Hosts that ask the same at once.
const MAX_VALIDATIONS: usize = 3;
/// Blocks that do not leave their reader for so long are not waited for: others will say that they miss them.
const SPREAD_PATIENCE: Duration = Duration::from_secs(3);
/// Reads that are over and not spread which are waited for: of one holder, and of all.
const MAX_SPREADING_EACH: usize = 4;
const MAX_SPREADING: usize = 32;
/// Leases that others told of, beyond which no more are noted.
const MAX_TOLD: usize = 64;
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

    /// Whether a copy is of a later moment than what is known here: ranks keep copies of long ago, and what was read since
    /// would be read again.
    pub(super) fn is_behind(&self, now: Now, copy: &TableCopy) -> bool {
        let (Some(ours), Some(theirs)) = (&self.meta, &copy.meta) else {
            return self.meta.is_none();
        };
        if ours.version != theirs.version {
            return copy.validated_ms < self.validated_ms(now);
        }
        let open = |run: &Range<u32>, read_to: u32| {
            let read_to = read_to.max(run.start);
            u64::from(run.end.saturating_sub(read_to))
        };
        let out = self.out.values().map(|out| open(&out.run, out.read_to));
        let left_here = u64::from(self.unread.len()) + out.sum::<u64>();
        let out = copy
            .leases
            .iter()
            .map(|(_, lease, read_to)| match &lease.extent {
                Extent::Blocks { run, .. } => open(run, *read_to),
                Extent::Probe | Extent::Validate { .. } => 0,
            });
        let unread = copy.unread.unpack(None).unwrap_or_default();
        u64::from(unread.len()) + out.sum::<u64>() < left_here
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
        for out in self.out.values_mut() {
            out.hearsay = true;
        }
    }

    /// Another home's word while leases are granted here: what was read or is being read there need not be leased.
    ///
    /// `is_known`: who registered here says itself what it reads, and knows better.
    pub(super) fn hear(&mut self, now: Now, copy: TableCopy, is_known: impl Fn(&PeerId) -> bool) {
        let (Some(theirs), Some(mut left)) = (&copy.meta, copy.unread.unpack(None)) else {
            return;
        };
        let Some(ours) = &self.meta else {
            let out = std::mem::take(&mut self.out);
            self.adopt(now, copy);
            self.out.extend(out);
            return;
        };
        if ours.version != theirs.version || ours.single {
            return;
        }
        for (holder, lease, read_to) in copy.leases {
            let Extent::Blocks { run, .. } = &lease.extent else {
                continue;
            };
            let is_news = !is_known(&holder) && !self.out.contains_key(&lease.id);
            if is_news && self.out.len() < MAX_TOLD {
                let id = lease.id;
                self.enter_lease(now, holder, lease, read_to);
                self.out.entry(id).and_modify(|out| out.hearsay = true);
            } else {
                left.insert_run(read_to.max(run.start)..run.end.max(run.start));
            }
        }
        let read: BlockSet = self.unread.minus(&left).collect();
        self.unread.subtract(&read);
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

    /// A holder says what it reads: what it does not name of the leases that another home told of is over.
    pub(super) fn note_ended(&mut self, holder: &PeerId, named: &[Lease]) {
        let over: Vec<u64> = self
            .out
            .iter()
            .filter(|(id, out)| {
                out.hearsay && out.holder == *holder && named.iter().all(|lease| lease.id != **id)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.revoke(id);
        }
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

    /// The version as far as this registrant may rely on it: nothing while it must be validated first.
    pub(super) fn meta_for(&self, _to: &PeerId) -> Option<Meta> {
        self.meta.clone().filter(|_| !self.is_validating())
    }

    pub(super) fn is_validating(&self) -> bool {
        self.out.values().any(Out::is_validation)
    }

    /// Whether nothing under way will tell what the source has, nor has been asked often enough.
    pub(super) fn wants_validation(&self, now: Now) -> bool {
        let mut reads = self.out.values().filter(|out| out.ended.is_none());
        let hangs = |out: &Out| {
            out.is_validation() && now.saturating_since(out.granted) >= VALIDATION_PATIENCE
        };
        // While it is being read it is current: every read names its validator.
        reads.all(hangs) && self.readers() < MAX_VALIDATIONS
    }

    /// Takes back what is answered by now; from whom.
    pub(super) fn end_validations(&mut self) -> Vec<(u64, PeerId)> {
        let asked = self.out.iter().filter(|(_, out)| out.is_validation());
        let asked: Vec<_> = asked.map(|(id, out)| (*id, out.holder)).collect();
        self.out.retain(|_, out| !out.is_validation());
        asked
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

fn before(now: Now, age_ms: u64) -> Option<Now> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::{SourceHead, Validators};

    const NOW: Now = Now::from_micros(60_000_000);

    fn meta() -> Meta {
        let head = SourceHead {
            length: Some(100_000_000),
            validators: Validators {
                etag: Some("\"1\"".to_owned()),
                ..Validators::default()
            },
            ranges: true,
            digest: None,
            authority: None,
            public: true,
        };
        Meta::of(&head, [1; 32]).expect("a small file")
    }

    fn set(run: Range<u32>) -> BlockSet {
        let mut set = BlockSet::new();
        set.insert_run(run);
        set
    }

    fn leases(unread: Range<u32>, read: Option<Range<u32>>) -> Leases {
        let mut leases = Leases::new();
        leases.adopt_meta(NOW, meta(), 0);
        leases.unread = set(unread);
        if let Some(run) = read {
            let extent = Extent::Blocks {
                meta: meta(),
                run: run.clone(),
            };
            let lease = Lease { id: 1, extent };
            leases.enter_lease(NOW, PeerId::from_bytes([1; 32]), lease, run.start);
        }
        leases
    }

    #[test]
    fn what_a_rank_kept_of_long_ago_is_not_taken_for_what_is_left() {
        let late = leases(200..300, Some(150..200));
        let early = leases(50..300, None);
        assert!(early.is_behind(NOW, &late.copy(NOW)));
        assert!(!late.is_behind(NOW, &early.copy(NOW)));
        assert!(!late.is_behind(NOW, &late.copy(NOW)));
        assert!(
            Leases::new().is_behind(NOW, &early.copy(NOW)),
            "anything is better than nothing"
        );
        assert!(!early.is_behind(NOW, &Leases::new().copy(NOW)));
    }

    #[test]
    fn what_another_home_leased_is_not_leased_again_however_late_it_says_so() {
        let mut here = leases(0..300, None);
        let elsewhere = leases(200..300, Some(150..200));
        here.hear(NOW, elsewhere.copy(NOW), |_| false);
        assert_eq!(here.unread.runs(), set(200..300).runs());
        assert_eq!(here.out.len(), 1);
        here.note_ended(&PeerId::from_bytes([1; 32]), &[]);
        assert_eq!(
            here.unread.runs(),
            set(150..300).runs(),
            "its reader knows better"
        );
    }

    #[test]
    fn a_lease_that_its_holder_has_told_of_here_is_not_taken_from_hearsay() {
        let mut here = leases(0..300, None);
        let elsewhere = leases(200..300, Some(150..200));
        here.hear(NOW, elsewhere.copy(NOW), |_| true);
        assert!(here.out.is_empty());
        assert_eq!(
            here.unread.runs(),
            set(150..300).runs(),
            "it may not read on"
        );
    }
}
