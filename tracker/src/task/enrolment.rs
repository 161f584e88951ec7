//! What a task says to its home, and what it makes of the answers.

use std::time::Duration;

use dfnode_gossip::PeerId;

use super::Task;
use crate::context::Context;
use crate::holds::Holds;
use crate::message::{
    Border, Extent, Lease, LeaseEnd, LeaseReport, Message, Outcome, Register, Registered,
};
use crate::meta::{Meta, SourceFailure};
use crate::output::{Output, TaskFailure};
use crate::reads::Purpose;
use crate::registration::Step;

/// Reads of its own that a node may have under way for one task.
const MAX_READS: usize = 8;

impl Task {
    pub(super) fn ask_if_due(&mut self, cx: &mut Context<'_>, interested: usize) -> Option<Step> {
        let waiting = self.waits().then_some(self.session.last_gain);
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
        let wants = self.waits();
        Register {
            task: self.id,
            request,
            holds: Holds::pack(&self.session.have, self.session.blocks()),
            nearby: Holds::pack(&self.session.nearby(cx.now), self.session.blocks()),
            meta,
            wants,
            can_read: wants && cx.ready && self.may_read(),
            leases: self.leases(),
            // Whose callers know that the version is current needs no further word of the source for them.
            max_age_ms: self
                .wish
                .filter(|_| !self.current)
                .map_or(u64::MAX, |wish| millis(wish.max_age)),
            validated_ms: self
                .validated
                .map_or(u64::MAX, |at| millis(cx.now.saturating_since(at))),
            stalled: wants
                && (self.losses.tell
                    || cx.now.saturating_since(self.session.last_gain)
                        >= Duration::from_millis(500)),
            addr: None,
            parts: self.session.scope.parts().to_vec(),
        }
    }

    /// The leases that this node holds, as far as the home should know them as open.
    fn leases(&self) -> Vec<Lease> {
        let reads = self.reads.values();
        let open = reads
            .filter(|read| read.purpose == Purpose::Leased)
            .map(|read| read.rest(self.spread_to(read)));
        open.chain(self.spreading()).collect()
    }

    pub(crate) fn handle_registered(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        registered: Registered,
    ) {
        if let Outcome::LeaseGone { lease } = registered.outcome {
            // A home of old takes back what the present one may well know of.
            if self.registration.home() == Some(from) {
                self.spreading.remove(&lease);
            }
            if self.registration.home() == Some(from)
                && self
                    .reads
                    .get(&lease)
                    .is_some_and(|read| read.purpose == Purpose::Leased)
            {
                self.forget_read(lease);
                self.sync_reading();
                cx.out.push_back(Output::StopSource {
                    task: self.id,
                    lease,
                });
            }
            return;
        }
        let Registered {
            request, outcome, ..
        } = &registered;
        if !self.registration.accepts(cx.now, from, *request, outcome) {
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
                readers,
            } => {
                self.session.readers = readers;
                let waits = self.waits();
                self.registration.welcomed(cx.now, waits);
                self.home_lives(cx);
                self.announces |= announce;
                self.heard |= registered.request != 0;
                self.asks_anew |= !self.heard && meta.is_some();
                if self.wish.is_some() || !self.session.have.is_empty() {
                    self.welcomed(cx, from, meta, lease, &peers);
                } else if let Some(lease) = lease {
                    self.decline_lease(cx, from, lease.id);
                }
            }
            Outcome::Redirect { home } => {
                self.home_lives(cx);
                self.registration.redirected(cx.now, home);
            }
            Outcome::NotYet => {
                self.home_lives(cx);
                self.registration.not_yet(cx.now);
            }
            Outcome::Busy => {
                self.home_lives(cx);
                let waits = self.waits();
                self.registration.full(cx.now, waits);
            }
            Outcome::Report => {
                self.registration.report_wanted(cx.now);
            }
            // A verdict of an earlier round: the answer to the open question will tell.
            Outcome::Failed { .. } if registered.request == 0 && self.registration.is_asking() => {}
            Outcome::Failed {
                failure: SourceFailure::Transient { .. } | SourceFailure::Busy { .. },
            } if self.registration.reconsider(cx.now) => {}
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

    /// The home says who brings blocks into this node's zone.
    pub(crate) fn handle_border(&mut self, cx: &mut Context<'_>, from: PeerId, border: &Border) {
        if self.registration.home() == Some(from) {
            self.session.handle_border(cx, border);
        }
    }

    /// Somebody answers for the home: reads go on.
    fn home_lives(&mut self, cx: &Context<'_>) {
        for read in self.reads.values_mut() {
            read.answered = cx.now;
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
        let (idle, is_known) = (lease.is_none(), meta.is_some());
        if let Some(meta) = meta {
            // To who wants it the home names a version only while it holds it to be current.
            self.adopt_meta(cx, meta);
            if self.heard && self.wish.is_some() {
                self.note_current(cx);
            }
        }
        if let Some(lease) = lease {
            let wanted = self.may_read();
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
        } else if idle {
            self.finish(cx);
        }
        if self.wish.is_some() {
            self.session.meet(cx, peers);
            if is_known {
                self.read_if_cornered(cx, peers);
            }
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

    /// Whether this node acts as the task's home for itself alone.
    pub(crate) const fn acts_alone(&self) -> bool {
        self.registration.acts_alone()
    }

    pub(crate) fn view_changed(&mut self, cx: &mut Context<'_>) {
        if self.wish.is_some() || !self.session.have.is_empty() {
            self.registration.view_changed(cx);
        }
    }
}
