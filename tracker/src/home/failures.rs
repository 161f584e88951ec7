//! Readers that fail or fall silent: what is tried again, and when a task is given up.

use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use super::grants::SourceRules;
use super::leases::LEASE_PATIENCE;
use super::table::{MAX_REGISTRANTS, Role, Table};
use crate::context::Context;
use crate::message::Outcome;
use crate::meta::SourceFailure;

/// Failures in a row, without a byte between them, after which a task is given up.
const MAX_FAILURES: u32 = 5;
/// A source that has shown a file is tried for at least so long without a byte: a cable that is out for some seconds would
/// make each reader of the file go on alone, and cost as many copies.
const KNOWN_PATIENCE: Duration = Duration::from_secs(15);
/// The first pause after a failure that may pass; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// No pause is longer than the first, doubled so often.
const MAX_DOUBLINGS: u32 = 3;
/// Who comes so long after a failure asks a source of which nothing is known any more.
const FAILURES_TTL: Duration = Duration::from_mins(2);
/// A source that asks for more patience than this is not waited for.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);
/// Versions that one table may see before it gives up.
const MAX_VERSIONS: u32 = 4;
/// While the source is down, what was valid counts as valid for this long more.
const STALE_IF_DOWN: Duration = Duration::from_secs(10);

/// Failures in a row, without a byte between them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Failing {
    count: u32,
    since: Option<Now>,
    last: Option<Now>,
    /// Failures that were final for who read.
    finals: u32,
}

impl Failing {
    fn add(&mut self, now: Now) {
        let is_old = |last| now.saturating_since(last) >= FAILURES_TTL;
        if self.last.is_some_and(is_old) {
            *self = Self::default();
        }
        self.count += 1;
        self.since.get_or_insert(now);
        self.last = Some(now);
    }

    fn pause(&self) -> Duration {
        FIRST_PAUSE * (1 << self.count.min(MAX_DOUBLINGS))
    }

    /// Whether it is enough, of failures and of time.
    fn is_over(&self, now: Now, patience: Duration) -> bool {
        let lasts = self.since.map(|since| now.saturating_since(since));
        self.count >= MAX_FAILURES && lasts.is_none_or(|lasts| lasts >= patience)
    }
}

impl Table {
    pub(super) fn lease_failed(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        id: u64,
        failure: &SourceFailure,
    ) {
        let revoked = self.leases.revoke(id);
        let validating = revoked.is_some_and(|out| out.is_validation());
        match failure {
            SourceFailure::Refused { .. } => self.pass_over(cx, from, failure),
            SourceFailure::Final { .. } => {
                // It may be this host's own trouble: its trust, its proxy, what its caller signed.
                self.leases.failing.finals += 1;
                let is_last = validating && !self.leases.is_validating();
                if is_last || self.leases.failing.finals >= MAX_FAILURES {
                    self.give_up(cx, failure);
                } else {
                    self.pass_over(cx, from, failure);
                }
            }
            SourceFailure::NotFound => {
                self.end_validations(cx);
                self.give_up(cx, failure);
            }
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
                self.registrants.hold_nothing();
                if self.leases.versions >= MAX_VERSIONS {
                    self.leases.versions = 0;
                    self.give_up(cx, &SourceFailure::Changed);
                }
            }
            SourceFailure::Busy { .. } | SourceFailure::Transient { .. } if validating => {
                // The source is down: what was current when it was last up is the best there is.
                self.end_validations(cx);
                self.leases.validated = Some(cx.now);
                self.leases.not_before = Some(cx.now + STALE_IF_DOWN);
                self.release_validated(cx, from);
            }
            SourceFailure::Busy { retry_after_ms, .. } => {
                let wait = Duration::from_millis(*retry_after_ms);
                let wait = wait.max(self.leases.failing.pause());
                self.pause(cx, failure, wait, wait > MAX_RETRY_AFTER);
            }
            SourceFailure::Transient { .. } => {
                self.pause(cx, failure, self.leases.failing.pause(), false);
            }
        }
    }

    /// Others may be able to read what this node cannot.
    fn pass_over(&mut self, cx: &mut Context<'_>, from: PeerId, failure: &SourceFailure) {
        if self.leases.refused.len() < MAX_REGISTRANTS {
            self.leases.refused.insert(from);
        }
        if let Some(known) = self.registrants.get_mut(&from) {
            known.can_read = false;
        }
        // What was wrong before the source answered is of no interest any more.
        let known = self.leases.failed.as_ref();
        if !known.is_some_and(|(known, _)| known.is_readers_own()) {
            self.leases.failed = Some((failure.clone(), Now::from_micros(0)));
        }
        self.fail_if_hopeless(cx);
    }

    fn pause(
        &mut self,
        cx: &mut Context<'_>,
        failure: &SourceFailure,
        wait: Duration,
        too_long: bool,
    ) {
        // Who read beside the first to fail tells of the same outage: it counts once, however many readers there are.
        if let Some(at) = self.leases.not_before.filter(|at| cx.now < *at) {
            let asked_for = matches!(failure, SourceFailure::Busy { .. });
            self.leases.not_before = Some(if asked_for { at.max(cx.now + wait) } else { at });
            if !too_long {
                return;
            }
        }
        self.leases.failing.add(cx.now);
        let patience = match self.leases.meta {
            Some(_) => KNOWN_PATIENCE,
            None => Duration::ZERO,
        };
        if too_long || self.leases.failing.is_over(cx.now, patience) {
            self.give_up(cx, failure);
        } else {
            self.leases.not_before = Some(cx.now + wait);
        }
    }

    /// Nobody can get the rest from the source: tells all who still want it.
    fn give_up(&mut self, cx: &mut Context<'_>, failure: &SourceFailure) {
        self.leases.failing = Failing::default();
        self.leases.refused.clear();
        self.leases.not_before = None;
        self.leases.failed = Some((failure.clone(), cx.now));
        if matches!(failure, SourceFailure::NotFound) {
            self.leases.forget_version();
        }
        self.tell_failed(cx, failure);
    }

    fn tell_failed(&mut self, cx: &mut Context<'_>, failure: &SourceFailure) {
        self.tell_failed_to(cx, failure, self.registrants.wanting());
    }

    fn tell_failed_to(
        &mut self,
        cx: &mut Context<'_>,
        failure: &SourceFailure,
        peers: Vec<PeerId>,
    ) {
        for peer in peers {
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
        // Who wants a part that has been read waits for peers, and reads for nobody else.
        let lacking: Vec<PeerId> = self
            .registrants
            .iter()
            .filter(|(_, known)| known.wants && self.leases.has_unread_for(known))
            .map(|(peer, _)| *peer)
            .collect();
        let reads = |peer| {
            self.registrants
                .get(peer)
                .is_some_and(|known| known.can_read)
        };
        if self.role != Role::Granting
            || lacking.is_empty()
            || lacking.iter().any(reads)
            || self.leases.readers() > 0
        {
            return;
        }
        let nobody = || SourceFailure::Final {
            what: "no peer has all of this, and no node that wants it may read the source"
                .to_owned(),
        };
        match self.leases.failure() {
            Some(failure) if failure.is_readers_own() => {
                // The source said no to these callers: whoever comes next may show other credentials.
                self.tell_failed(cx, &failure);
                self.leases.failed = None;
                self.leases.failing = Failing::default();
                self.leases.refused.clear();
            }
            Some(failure) => self.give_up(cx, &failure),
            // No verdict on the source: whoever comes next may read it.
            None => self.tell_failed_to(cx, &nobody(), lacking),
        }
    }

    /// Takes leases back from readers that fell silent, and grants again after a pause.
    pub(super) fn expire_leases(&mut self, cx: &mut Context<'_>, rules: SourceRules) {
        self.leases.end_spreading(cx.now);
        let silent: Vec<(u64, PeerId)> = self
            .leases
            .out
            .iter()
            .filter(|(_, out)| cx.now.saturating_since(out.reported) >= LEASE_PATIENCE)
            .map(|(id, out)| (*id, out.holder))
            .collect();
        let any = !silent.is_empty();
        for (id, holder) in silent {
            self.leases.revoke(id);
            self.tell(cx, holder, 0, Outcome::LeaseGone { lease: id });
            // Until it shows that it lives it gets no other, and is named to nobody.
            if let Some(known) = self.registrants.get_mut(&holder) {
                known.asked = Some(cx.now);
                self.tell(cx, holder, 0, Outcome::Report);
            }
            self.changed(cx.now);
        }
        if any {
            self.keep_spread();
        }
        if self.leases.not_before.is_some_and(|at| cx.now >= at) {
            self.leases.not_before = None;
        }
        self.grant_others(cx, rules);
    }
}
