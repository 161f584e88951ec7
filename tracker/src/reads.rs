//! This node's own reads of the source: what they bring, what is signed, what the home is told.

use std::ops::Range;
use std::time::Duration;

use dfnode_gossip::Now;

use crate::ids::{BlockDigest, BlockIndex, VersionId};
use crate::message::{Extent, Lease};
use crate::meta::Meta;

/// Digests are signed once so many have come together, or half of what is here while that is less: a crowd waits for
/// the first blocks one by one …
pub(crate) const SIGN_BLOCKS: usize = 8;
/// … or the oldest has waited this long.
const SIGN_DELAY: Duration = Duration::from_millis(10);
/// Reports of progress come no closer than this.
const MIN_REPORT_PERIOD: Duration = Duration::from_millis(50);
/// How often a reader tells its home how far it is.
pub(crate) const REPORT_PERIOD: Duration = Duration::from_millis(250);
/// Without an answer to its reports for this long, a reader takes its home for dead.
pub(crate) const HOME_PATIENCE: Duration = Duration::from_millis(900);

/// Why this node reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The home gave a lease.
    Leased,
    /// The caller's own right to the version must be shown.
    Clearance,
    /// The whole did not match its digest: each block is compared with the source.
    Arbitration,
    /// Nobody that holds the rest is dealt with here: it is read without a lease.
    Cornered,
}

/// One read under way.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) lease: Lease,
    pub(crate) purpose: Purpose,
    pub(crate) meta: Option<Meta>,
    pub(crate) run: Range<u32>,
    pub(crate) done_to: u32,
    pub(crate) bytes: u64,
    pub(crate) report_at: Now,
    pub(crate) answered: Now,
    /// Whether the home has been told what the probe learnt.
    pub(crate) told_meta: bool,
    unsigned: Vec<BlockDigest>,
    unsigned_first: BlockIndex,
    sign_at: Option<Now>,
}

/// Digests on their way to be signed.
#[derive(Debug)]
pub(crate) struct Unsigned {
    pub(crate) version: VersionId,
    pub(crate) first: BlockIndex,
    pub(crate) digests: Vec<BlockDigest>,
}

impl Read {
    pub(crate) fn new(lease: Lease, purpose: Purpose, now: Now) -> Self {
        let (meta, run) = match &lease.extent {
            Extent::Probe => (None, 0..0),
            Extent::Validate { meta } => (Some(meta.clone()), 0..0),
            Extent::Blocks { meta, run } => (Some(meta.clone()), run.clone()),
        };
        Self {
            purpose,
            done_to: run.start,
            meta,
            run,
            bytes: 0,
            report_at: now + REPORT_PERIOD,
            answered: now,
            told_meta: false,
            unsigned: Vec::new(),
            unsigned_first: BlockIndex(0),
            sign_at: None,
            lease,
        }
    }

    /// The lease from this block on, for a home that did not grant it.
    pub(crate) fn rest(&self, from: u32) -> Lease {
        let extent = match &self.meta {
            Some(meta) if !matches!(self.lease.extent, Extent::Validate { .. }) => Extent::Blocks {
                meta: meta.clone(),
                run: from.min(self.run.end)..self.run.end,
            },
            Some(_) | None => self.lease.extent.clone(),
        };
        Lease {
            id: self.lease.id,
            extent,
        }
    }

    /// Notes the digest of a block that was read, where `held` are here already. Returns what is due to be signed.
    pub(crate) fn block(
        &mut self,
        now: Now,
        block: BlockIndex,
        digest: BlockDigest,
        held: u32,
    ) -> Option<Unsigned> {
        let follows = u32::try_from(self.unsigned.len())
            .is_ok_and(|count| self.unsigned_first.0 + count == block.0);
        let cut = if self.unsigned.is_empty() || follows {
            None
        } else {
            self.take_unsigned()
        };
        if self.unsigned.is_empty() {
            self.unsigned_first = block;
            self.sign_at = Some(now + SIGN_DELAY);
        }
        self.unsigned.push(digest);
        self.done_to = self.done_to.max(block.0.saturating_add(1));
        cut.or_else(|| {
            if self.unsigned.len() >= SIGN_BLOCKS.min(1 + held as usize / 2) {
                self.take_unsigned()
            } else {
                None
            }
        })
    }

    /// Whether the home should hear of progress: it leases again what it was not told of, should this node die.
    pub(crate) fn may_report(&self, now: Now) -> bool {
        now + REPORT_PERIOD >= self.report_at + MIN_REPORT_PERIOD
    }

    /// Everything that waits to be signed.
    pub(crate) fn take_unsigned(&mut self) -> Option<Unsigned> {
        self.sign_at = None;
        let version = self.meta.as_ref()?.version;
        let digests = std::mem::take(&mut self.unsigned);
        (!digests.is_empty()).then_some(Unsigned {
            version,
            first: self.unsigned_first,
            digests,
        })
    }

    /// What is due to be signed because it waited long enough.
    pub(crate) fn due_unsigned(&mut self, now: Now) -> Option<Unsigned> {
        if self.sign_at.is_some_and(|at| now >= at) {
            self.take_unsigned()
        } else {
            None
        }
    }

    pub(crate) fn poll_timeout(&self) -> Now {
        self.sign_at
            .map_or(self.report_at, |at| at.min(self.report_at))
    }
}
