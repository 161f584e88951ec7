//! Who is given a lease on the source, and when.

use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use super::failures::Failing;
use super::leases::{Out, lease_start};
use super::registrants::Registrant;
use super::table::{Role, Table};
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::message::{Extent, Lease, LeaseEnd, LeaseReport, Outcome};

/// Below this many registrants each may read two extents at once, so that a lone node does not wait for the source.
const FEW_REGISTRANTS: usize = 8;

/// How long the search for somebody to read is not repeated after it found nobody, where parts alone are wanted. Who
/// registers is served at once all the same.
const FUTILE_PAUSE: Duration = Duration::from_millis(100);

/// How hard a task may press its source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceRules {
    /// Readers of one task at once.
    pub(crate) readers: usize,
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
        if self.role != Role::Granting || !known.may_read() {
            return None;
        }
        let leases = &self.leases;
        if leases.not_before.is_some_and(|at| cx.now < at) || leases.readers() >= rules.readers {
            return None;
        }
        if leases.held_by(&to) >= self.leases_per_node() {
            return None;
        }
        let extent = match &leases.meta {
            Some(meta) if self.must_validate(cx.now, known) && leases.held_by(&to) == 0 => {
                Extent::Validate { meta: meta.clone() }
            }
            _ if !self.is_reader(&to) => return None,
            None if leases.readers() == 0 => Extent::Probe,
            None => return None,
            Some(meta) => {
                if !self.may_read_on(&to, meta.layout.blocks_per_piece()) {
                    return None;
                }
                if !meta.ranges && leases.readers() > 0 {
                    return None;
                }
                Extent::Blocks {
                    meta: meta.clone(),
                    run: leases.next_extent(meta, &known.outside(meta))?,
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
        let spread = |known: &Registrant| known.unspread <= extent_blocks;
        let better = |peer: &PeerId, known: &Registrant| {
            peer != reader
                && known.may_read()
                && self.is_reader(peer)
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
    fn must_validate(&self, now: Now, known: &Registrant) -> bool {
        self.leases.wants_validation(now)
            && !self.leases.has_unread_for(known)
            && self.leases.meta.as_ref().is_some_and(|meta| !meta.single)
            && self
                .leases
                .validated
                .is_none_or(|at| now.saturating_since(at) > known.max_age)
    }

    /// Gives leases to registrants chosen by chance, as long as there is something to read.
    pub(super) fn grant_others(&mut self, cx: &mut Context<'_>, rules: SourceRules) {
        if self.role != Role::Granting
            || !self.leases.has_work()
            || self.leases.readers() >= rules.readers
        {
            return;
        }
        // Where parts alone are wanted the rest stays unread for ever, and each look at all who wait costs as much as
        // they want parts.
        let wants_all = self
            .registrants
            .values()
            .any(|known| known.wants && known.wants_all());
        if !wants_all && self.futile_until.is_some_and(|at| cx.now < at) {
            return;
        }
        let mut eligible: Vec<(usize, u64, PeerId)> = self
            .registrants
            .iter()
            .filter(|(peer, known)| {
                known.may_read()
                    && self.is_reader(peer)
                    && (known.wants_all() || self.leases.has_unread_for(known))
            })
            .map(|(peer, _)| (self.leases.held_by(peer), cx.chance.next(), *peer))
            .collect();
        self.futile_until = eligible.is_empty().then(|| cx.now + FUTILE_PAUSE);
        eligible.sort_unstable();
        for (_, _, peer) in eligible {
            if self.leases.readers() >= rules.readers || !self.leases.has_work() {
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
        if let Role::HandedOver { to, .. } = self.role {
            // Who missed the word of it would be at rest here while its lease is given to somebody else there.
            self.tell(cx, from, 0, Outcome::Redirect { home: to });
            return;
        }
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
                // Before it grants it may not have heard of all leases yet.
                let outcome = if self.role == Role::Granting {
                    Outcome::LeaseGone {
                        lease: report.lease,
                    }
                } else {
                    Outcome::Report
                };
                self.tell(cx, from, 0, outcome);
            }
            return;
        }
        let first_meta = self.learn(cx, from, &report);
        if let Some(out) = self.leases.out.get_mut(&report.lease) {
            out.reported = cx.now;
            out.hearsay = false;
            if report.read_to > out.read_to {
                self.leases.brought += u64::from(report.read_to - out.read_to);
                self.leases.failing = Failing::default();
                if self.census_until.is_some() {
                    self.leases.fresh.insert_run(out.read_to..report.read_to);
                }
                out.read_to = report.read_to;
            }
        }
        let mut ends = report.end.is_some();
        match report.end {
            None => {}
            Some(LeaseEnd::Done) if first_meta => {
                // A probe that was answered by a validation: nothing was read that could have to spread.
                self.lease_done(cx, report.lease);
                self.leases.out.remove(&report.lease);
            }
            Some(LeaseEnd::Done) => ends = self.lease_done(cx, report.lease),
            Some(LeaseEnd::Returned) => {
                self.leases.revoke(report.lease);
                // It would only return the next one too; it reads again once it registers again.
                if let Some(known) = self.registrants.get_mut(&from) {
                    known.can_read = false;
                }
            }
            Some(LeaseEnd::Failed(failure)) => self.lease_failed(cx, from, report.lease, &failure),
        }
        self.changed(cx.now);
        if ends || first_meta {
            let lease = self.next_lease(cx, rules, from);
            self.welcome(cx, from, 0, lease, &[]);
        } else {
            self.acknowledge(cx, from);
        }
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
        let probed = |out: &&mut Out| !out.is_validation();
        let Some(out) = self.leases.out.get_mut(&report.lease).filter(probed) else {
            // What a validation names is what this home knew, and forgot for a reason.
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
            .wanting()
            .into_iter()
            .filter(|peer| *peer != except)
            .map(|peer| (cx.chance.next(), peer))
            .collect();
        waiting.sort_unstable();
        for (_, peer) in waiting {
            let lease = self.next_lease(cx, rules, peer);
            self.welcome(cx, peer, 0, lease, &[]);
        }
    }

    /// All of a lease is read. Whether that is news.
    fn lease_done(&mut self, cx: &mut Context<'_>, id: u64) -> bool {
        let validation = self
            .leases
            .out
            .get(&id)
            .and_then(|out| out.is_validation().then_some(out.holder));
        let is_news = self.leases.end(cx.now, id);
        if is_news {
            self.leases.validated = Some(cx.now);
            self.leases.failing = Failing::default();
            self.leases.failed = None;
        }
        if let Some(holder) = validation {
            self.end_validations(cx);
            self.release_validated(cx, holder);
        }
        is_news
    }

    /// Whoever still asks whether the version is current need not.
    pub(super) fn end_validations(&mut self, cx: &mut Context<'_>) {
        for (lease, holder) in self.leases.end_validations() {
            self.tell(cx, holder, 0, Outcome::LeaseGone { lease });
        }
    }

    /// The version is current: those who waited for that word get it.
    pub(super) fn release_validated(&mut self, cx: &mut Context<'_>, except: PeerId) {
        let mut waiting = self.registrants.wanting();
        waiting.retain(|peer| *peer != except);
        for peer in waiting {
            self.welcome(cx, peer, 0, None, &[]);
        }
    }
}
