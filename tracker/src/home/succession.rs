//! How a table finds out whether this node is to grant, and passes the office on.

use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use super::grants::SourceRules;
use super::table::{Role, Table};
use super::zones::Zones;
use crate::context::Context;
use crate::ids::TaskId;
use crate::message::{HomeProbe, HomeState, Message, Outcome, TableCopy};

/// How long the other ranks have to answer before the first grant.
const RANKS_PATIENCE: Duration = Duration::from_millis(150);
/// How long rank 1 has to answer a lower rank that was asked in its place.
const FIRST_RANK_PATIENCE: Duration = Duration::from_millis(300);
/// How long a successor waits for registrants before it grants.
const SUCCESSION: Duration = Duration::from_secs(1);
/// Who grants in a better rank's place asks so often whether that one answers again: two homes grant all twice.
const LOOK_UP_PERIOD: Duration = Duration::from_secs(1);
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
        if self.asked != state.request {
            return;
        }
        if is_better(cx, &self.task, &from) {
            if self.acts() {
                self.give_way(cx, from);
            }
            return;
        }
        if !self.waiting.remove(&from) {
            return;
        }
        match self.role {
            Role::Asking { as_first: true, .. } => {
                if let Some(copy) = state.table
                    && self.leases.is_behind(cx.now, &copy)
                {
                    self.adopt(cx.now, copy);
                    // Who registered meanwhile said what it holds.
                    self.keep_held();
                }
                if self.waiting.is_empty() {
                    self.begin_granting(cx, rules);
                }
            }
            Role::Granting => {
                if let Some(copy) = state.table {
                    self.hear(cx.now, copy);
                }
            }
            Role::Asking { .. }
            | Role::Heir { .. }
            | Role::Idle
            | Role::Backup
            | Role::HandedOver { .. } => {}
        }
    }

    /// Another rank's word that comes while leases are granted here: what was leased there would be leased a second time.
    fn hear(&mut self, now: Now, copy: TableCopy) {
        let registrants = &self.registrants;
        self.leases
            .hear(now, copy, |holder| registrants.contains(holder));
        self.keep_held();
    }

    /// A better rank lives: it is told what was granted here, and whoever came here is shown the way.
    pub(super) fn give_way(&mut self, cx: &mut Context<'_>, to: PeerId) {
        let state = HomeState {
            task: self.task,
            request: 0,
            table: self.copy(cx.now),
        };
        cx.send(to, Message::HomeState(state));
        self.hand_over(cx, to);
    }

    /// Finds out whether this node is to act for the task, if it does not do so already.
    pub(super) fn take_office(&mut self, cx: &mut Context<'_>) {
        if !matches!(self.role, Role::Idle | Role::Backup) {
            return;
        }
        let better = better_ranks(cx, &self.task);
        let as_first = better.is_empty();
        let (asked, patience) = if as_first {
            let others = cx.homes(&self.task).into_iter().skip(1);
            (others.collect(), RANKS_PATIENCE)
        } else {
            // Any better rank that lives acts before this one, or knows who does.
            (better, FIRST_RANK_PATIENCE)
        };
        if asked.is_empty() {
            self.role = Role::Granting;
            return;
        }
        self.asked = cx.chance.next() | 1;
        self.ask(cx, asked);
        self.role = Role::Asking {
            until: cx.now + patience,
            as_first,
        };
    }

    /// No rank answers this node: it grants to itself.
    pub(super) fn act_alone(&mut self) {
        if !self.acts() {
            self.role = Role::Granting;
            // The registration looks up the ranks by itself.
            self.look_up = None;
        }
    }

    /// Asks other ranks what they hold; each may answer once.
    fn ask(&mut self, cx: &mut Context<'_>, ranks: Vec<PeerId>) {
        self.waiting.clear();
        for rank in ranks {
            cx.send(
                rank,
                Message::HomeProbe(HomeProbe {
                    task: self.task,
                    request: self.asked,
                }),
            );
            self.waiting.insert(rank);
        }
    }

    /// What is due in the office that this node holds.
    pub(super) fn serve_office(&mut self, cx: &mut Context<'_>, rules: SourceRules) {
        match self.role {
            Role::Asking {
                until, as_first, ..
            } if cx.now >= until => {
                if as_first {
                    self.begin_granting(cx, rules);
                } else {
                    self.role = Role::Heir {
                        until: cx.now + SUCCESSION,
                    };
                }
            }
            Role::Heir { until } if cx.now >= until => self.begin_granting(cx, rules),
            Role::Granting => {
                if self.look_up.is_some_and(|at| cx.now >= at) {
                    self.look_up_better(cx);
                }
                self.expire_leases(cx, rules);
            }
            Role::Asking { .. }
            | Role::Heir { .. }
            | Role::Idle
            | Role::Backup
            | Role::HandedOver { .. } => {}
        }
    }

    /// Asks the better ranks, if there are any, whether they live.
    fn look_up_better(&mut self, cx: &mut Context<'_>) {
        let better = better_ranks(cx, &self.task);
        self.look_up = None;
        if !better.is_empty() {
            self.look_up = Some(cx.now + LOOK_UP_PERIOD);
            // Under the number of before: an answer to an earlier question is as good.
            self.ask(cx, better);
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

    /// Rank 1's copy, or that of a rank that gives way to this one. It also shows that whom this node handed over to goes
    /// on without it.
    pub(super) fn keep_copy(&mut self, cx: &Context<'_>, from: &PeerId, copy: TableCopy) {
        let from_successor =
            |role: &Role| matches!(role, Role::HandedOver { to, .. } if to == from);
        if self.role == Role::Granting {
            self.hear(cx.now, copy);
        } else if matches!(self.role, Role::Idle | Role::Backup) || from_successor(&self.role) {
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
        self.look_up_better(cx);
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

/// The homes of a task that are better than this node: all of them, if it is none.
fn better_ranks(cx: &Context<'_>, task: &TaskId) -> Vec<PeerId> {
    let me = cx.view.me();
    let ranks = cx.homes(task).into_iter();
    ranks.take_while(|rank| *rank != me).collect()
}

/// Whether another is a better home for a task than this node.
pub(super) fn is_better(cx: &Context<'_>, task: &TaskId, other: &PeerId) -> bool {
    better_ranks(cx, task).contains(other)
}
