//! How a table finds out whether this node is to grant, and passes the office on.

use dfnode_gossip::{Now, PeerId};

use super::grants::SourceRules;
use super::table::{Role, Table};
use super::zones::Zones;
use crate::context::Context;
use crate::message::{HomeState, Message, Outcome, TableCopy};

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
        if let Some(copy) = state.table {
            self.adopt(cx.now, copy);
        }
        if done {
            self.begin_granting(cx, rules);
        }
    }

    /// Sends every registrant to a better rank.
    pub(super) fn hand_over(&mut self, cx: &mut Context<'_>, to: PeerId) {
        if self.role == (Role::HandedOver { to }) {
            return;
        }
        self.role = Role::HandedOver { to };
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
