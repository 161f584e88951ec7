//! How a table finds out whether this node is to grant, and passes the office on.

use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use super::grants::SourceRules;
use super::table::{Role, Table};
use super::zones::Zones;
use crate::context::Context;
use crate::ids::TaskId;
use crate::message::{HomeState, Message, Outcome, TableCopy};

/// For so long registrants are shown to a better rank that spoke, before it is asked again.
const HANDED_OVER: Duration = Duration::from_secs(1);

impl Table {
    /// What a successor needs to go on. `None` if this node has nothing to tell.
    pub(super) fn copy(&self, now: Now) -> Option<TableCopy> {
        let told = matches!(
            self.role,
            Role::Granting | Role::Heir { .. } | Role::Backup | Role::HandedOver { .. }
        );
        told.then(|| self.leases.copy(now))
    }

    pub(super) fn adopt(&mut self, now: Now, copy: TableCopy) {
        self.last_used = now;
        self.leases.adopt(now, copy);
    }

    /// This node learnt from another rank what that one holds.
    pub(super) fn rank_answered(
        &mut self,
        cx: &mut Context<'_>,
        rules: SourceRules,
        from: PeerId,
        state: HomeState,
    ) {
        let Role::Asking {
            request,
            waiting,
            as_first,
            ..
        } = &mut self.role
        else {
            return;
        };
        if *request != state.request || !waiting.remove(&from) {
            return;
        }
        let (done, as_first) = (waiting.is_empty(), *as_first);
        if !as_first {
            // Rank 1 lives: whoever came here is shown the way.
            self.hand_over(cx, from);
            return;
        }
        if let Some(copy) = state.table
            && self.leases.is_behind(cx.now, &copy)
        {
            self.adopt(cx.now, copy);
            // Who registered meanwhile said what it holds.
            self.keep_held();
        }
        if done {
            self.begin_granting(cx, rules);
        }
    }

    /// Whether this node is about to grant, or grants.
    pub(super) const fn acts(&self) -> bool {
        matches!(
            self.role,
            Role::Asking { .. } | Role::Heir { .. } | Role::Granting
        )
    }

    /// A better rank that took over may have died since, or is none any more: what it copied here is what is left.
    pub(super) fn doubt_successor(&mut self, cx: &Context<'_>) {
        if let Role::HandedOver { to, until } = self.role
            && (cx.now >= until || !is_better(cx, &self.task, &to))
        {
            self.role = Role::Backup;
        }
    }

    /// Rank 1's copy. It also shows that whom this node handed over to goes on without it.
    pub(super) fn keep_copy(&mut self, cx: &Context<'_>, from: &PeerId, copy: TableCopy) {
        let from_successor =
            |role: &Role| matches!(role, Role::HandedOver { to, .. } if to == from);
        if matches!(self.role, Role::Idle | Role::Backup) || from_successor(&self.role) {
            if self.role == Role::Idle {
                self.role = Role::Backup;
            }
            self.adopt(cx.now, copy);
        }
    }

    /// Sends every registrant to a better rank.
    pub(super) fn hand_over(&mut self, cx: &mut Context<'_>, to: PeerId) {
        let until = cx.now + HANDED_OVER;
        if matches!(self.role, Role::HandedOver { to: before, .. } if before == to) {
            self.role = Role::HandedOver { to, until };
            return;
        }
        self.role = Role::HandedOver { to, until };
        self.zones = Zones::default();
        for peer in self.registrants.take() {
            self.tell(cx, peer, 0, Outcome::Redirect { home: to });
        }
        self.copy_at = None;
        self.census_until = None;
    }

    pub(super) fn begin_granting(&mut self, cx: &mut Context<'_>, rules: SourceRules) {
        self.role = Role::Granting;
        self.leases.touch_all(cx.now);
        for peer in self.registrants.wanting() {
            let lease = self.next_lease(cx, rules, peer);
            self.welcome(cx, peer, 0, lease, &[]);
        }
        self.tell_borders(cx);
        self.changed(cx.now);
    }

    pub(super) fn copy_to_second(&self, cx: &mut Context<'_>) {
        let ranks = cx.homes(&self.task);
        let me = cx.view.me();
        if self.role != Role::Granting || ranks.first() != Some(&me) {
            return;
        }
        if let Some(second) = ranks.get(1) {
            let table = Some(self.leases.copy(cx.now));
            cx.send(
                *second,
                Message::HomeState(HomeState {
                    task: self.task,
                    request: 0,
                    table,
                }),
            );
        }
    }
}

/// Whether another is a better home for a task than this node.
pub(super) fn is_better(cx: &Context<'_>, task: &TaskId, other: &PeerId) -> bool {
    let ranks = cx.homes(task);
    let place = |peer: &PeerId| ranks.iter().position(|rank| rank == peer);
    let me = place(&cx.view.me()).unwrap_or(ranks.len());
    place(other).is_some_and(|theirs| theirs < me)
}
