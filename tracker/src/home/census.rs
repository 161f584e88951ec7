//! What is done when registrants wait for blocks that nobody may hold any more.

use std::time::Duration;

use dfnode_gossip::PeerId;

use super::grants::SourceRules;
use super::table::Table;
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::message::Outcome;

/// How long a registrant has to say that it lives, when it matters.
pub(super) const REPORT_PATIENCE: Duration = Duration::from_millis(500);
/// A registrant that said what it holds within this time is not asked again.
pub(super) const FRESH: Duration = Duration::from_millis(300);
/// Registrants asked at once whether they live.
const MAX_ASKED: usize = 256;

impl Table {
    /// Registrants wait for blocks that nobody may hold any more: asks all whether they live and what they hold.
    pub(super) fn begin_census(&mut self, cx: &mut Context<'_>, waiting: &PeerId) {
        let recent = self
            .census_ended
            .is_some_and(|at| cx.now.saturating_since(at) < FRESH);
        // Unless all that it wants has been read, what it waits for comes from the source.
        let may_be_lost = self.leases.meta.is_some()
            && self
                .registrants
                .get(waiting)
                .is_none_or(|known| !self.leases.has_unread_for(known));
        if self.census_until.is_some() || recent || !may_be_lost {
            return;
        }
        self.census_until = Some(cx.now + REPORT_PATIENCE);
        self.leases.fresh = BlockSet::new();
        let mut stale: Vec<(u64, PeerId)> = self
            .registrants
            .iter()
            .filter(|(_, known)| cx.now.saturating_since(known.told) > FRESH)
            .map(|(peer, _)| (cx.chance.next(), *peer))
            .collect();
        stale.sort_unstable();
        for (_, peer) in stale.into_iter().take(MAX_ASKED) {
            if let Some(known) = self.registrants.get_mut(&peer) {
                known.asked = Some(cx.now);
            }
            self.tell(cx, peer, 0, Outcome::Report);
        }
    }

    /// Ends the count as soon as all have answered.
    pub(super) fn end_census_if_all_spoke(&mut self, cx: &mut Context<'_>, rules: SourceRules) {
        let open = self.census_until.is_some();
        if open && self.registrants.values().all(|known| known.asked.is_none()) {
            self.end_census(cx, rules);
        }
    }

    /// Who did not answer is gone; what nobody holds is to be read again.
    pub(super) fn end_census(&mut self, cx: &mut Context<'_>, rules: SourceRules) {
        self.census_until = None;
        self.census_ended = Some(cx.now);
        let gone: Vec<PeerId> = self
            .registrants
            .iter()
            .filter(|(_, known)| known.asked.is_some())
            .map(|(peer, _)| *peer)
            .collect();
        for peer in &gone {
            self.registrants.remove(peer);
            self.leave_zone(cx, peer);
            self.leases.revoke_of(peer);
        }
        self.leases.return_lost(&self.registrants.held());
        self.changed(cx.now);
        for peer in self.registrants.wanting() {
            let lease = self.next_lease(cx, rules, peer);
            self.welcome(cx, peer, 0, lease, &[]);
        }
        self.fail_if_hopeless(cx);
    }
}
