//! What was read of the source and has not left this node yet.
//!
//! Reports pass blocks on the way, so a reader that died may have reported blocks that died with it. The home would
//! learn that only once neighbours miss them, seconds later; so it keeps the lease until the blocks have left.

use std::ops::Range;
use std::time::Duration;

use dfnode_gossip::Now;

use super::Task;
use crate::context::Context;
use crate::ids::VersionId;
use crate::message::{Extent, Lease, LeaseEnd, LeaseReport, Message};
use crate::reads::{REPORT_PERIOD, Read};

/// Blocks that nobody took in this time are wanted by nobody here: the home need not wait for them.
const SPREAD_PATIENCE: Duration = Duration::from_secs(2);

/// Reads that are over and not spread of which the home is told.
const MAX_SPREADING: usize = 4;

/// A read that is over, and the blocks of its end that no neighbour has.
#[derive(Debug)]
pub(super) struct Spreading {
    version: VersionId,
    run: Range<u32>,
    bytes: u64,
    report_at: Now,
    until: Now,
}

impl Task {
    /// Up to where the blocks of a read have left this node, or need not.
    pub(super) fn spread_to(&self, read: &Read) -> u32 {
        let can_be_gone_on_with = read
            .meta
            .as_ref()
            .is_some_and(|meta| meta.ranges && !meta.single);
        if can_be_gone_on_with {
            self.session.spread_to(read.run.start..read.done_to)
        } else {
            read.done_to
        }
    }

    /// Notes what of a read that ends is not spread. Returns up to where it is.
    pub(super) fn begin_spreading(&mut self, now: Now, lease: u64) -> u32 {
        let Some(read) = self.reads.get(&lease) else {
            return 0;
        };
        let spread_to = self.spread_to(read);
        let version = read.meta.as_ref().map(|meta| meta.version);
        if spread_to < read.done_to
            && let Some(version) = version
        {
            if self.spreading.len() >= MAX_SPREADING {
                return read.done_to;
            }
            let spreading = Spreading {
                version,
                run: spread_to..read.done_to,
                bytes: read.bytes,
                report_at: now + REPORT_PERIOD,
                until: now + SPREAD_PATIENCE,
            };
            self.spreading.insert(lease, spreading);
        }
        spread_to
    }

    /// Tells the home how far the blocks of reads that are over have spread.
    pub(super) fn tick_spreading(&mut self, cx: &mut Context<'_>) {
        if self.spreading.values().all(|one| cx.now < one.report_at) {
            return;
        }
        let unspread = self.session.unspread();
        let home = self.registration.home();
        let version = self.version();
        let (task, session) = (self.id, &self.session);
        self.spreading.retain(|lease, one| {
            if version != Some(one.version) {
                return false;
            }
            if cx.now < one.report_at {
                return true;
            }
            one.report_at = cx.now + REPORT_PERIOD;
            if cx.now < one.until {
                one.run.start = session.spread_to(one.run.clone());
            } else {
                one.run.start = one.run.end;
            }
            if let Some(home) = home {
                let report = LeaseReport {
                    task,
                    lease: *lease,
                    read_to: one.run.start,
                    bytes: one.bytes,
                    meta: None,
                    unspread,
                    end: Some(LeaseEnd::Done),
                };
                cx.send(home, Message::LeaseReport(report));
            }
            !one.run.is_empty()
        });
    }

    /// Leases whose blocks are all read, for a home that did not grant them.
    pub(super) fn spreading(&self) -> impl Iterator<Item = Lease> + '_ {
        let leases = self.spreading.iter();
        leases.filter_map(|(id, one)| {
            let meta = self.session.meta.clone();
            let meta = meta.filter(|meta| meta.version == one.version)?;
            let run = one.run.clone();
            let extent = Extent::Blocks { meta, run };
            Some(Lease { id: *id, extent })
        })
    }

    pub(super) fn spreading_timeout(&self) -> Option<Now> {
        self.spreading.values().map(|one| one.report_at).min()
    }
}
