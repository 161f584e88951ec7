//! The home of a task: who is interested, and who reads which part of the source.
//!
//! Any node can be a home for any task; nothing here outlives the process, and a successor rebuilds it from what
//! registrants say. Rank 1 alone grants: before its first grant it asks the other ranks what they hold, and a
//! successor first gives registrants a second to come back with their holds and leases.

mod census;
mod copies;
mod failures;
mod grants;
mod leases;
mod registrants;
mod succession;
mod table;
mod validations;
mod zones;

use std::collections::BTreeMap;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

pub(crate) use self::grants::SourceRules;
use self::succession::is_better;
use self::table::{Role, Table};
use crate::context::Context;
use crate::holds::Holds;
use crate::ids::TaskId;
use crate::message::{HomeProbe, HomeState, LeaseReport, Message, Outcome, Register, Registered};

/// Tasks that one node is home to at most.
const MAX_TABLES: usize = 4096;
/// What all tables' sets of blocks may take. A few bytes from a peer can stand for all blocks of a file of terabytes.
/// Beyond, no table is begun, and what registrants hold is not noted: they are served and not named as holders.
pub(crate) const MAX_TABLE_BYTES: usize = 256 << 20;
/// A table of which nobody spoke for this long is forgotten; holders register every five minutes.
const TABLE_TTL: Duration = Duration::from_mins(15);

/// All tables of one node.
#[derive(Debug)]
pub(crate) struct Homes {
    tables: BTreeMap<TaskId, Table>,
    rules: SourceRules,
}

impl Homes {
    pub(crate) const fn new(rules: SourceRules) -> Self {
        Self {
            tables: BTreeMap::new(),
            rules,
        }
    }

    /// A node wants or holds a task; `holders` are peers that gossip says are complete.
    pub(crate) fn handle_register(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        mut register: Register,
        holders: &[PeerId],
    ) {
        let answer = |outcome| {
            Message::Registered(Registered {
                task: register.task,
                request: register.request,
                outcome,
            })
        };
        if !cx.ready {
            cx.send(from, answer(Outcome::NotYet));
            return;
        }
        if !self.tables.contains_key(&register.task) && !self.make_place(cx.now, register.wants) {
            cx.send(from, answer(Outcome::Busy));
            return;
        }
        if self.bytes() >= MAX_TABLE_BYTES {
            (register.holds, register.nearby) = (Holds::Nothing, Holds::Nothing);
            register.parts = Vec::new();
            // A version that is news here would bring the set of what is unread of it.
            let known = self.tables.get(&register.task);
            register.meta = register
                .meta
                .filter(|_| known.is_some_and(|table| table.leases.meta.is_some()));
        }
        let table = self
            .tables
            .entry(register.task)
            .or_insert_with(|| Table::new(register.task, cx.now));
        table.doubt_successor(cx);
        table.take_office(cx);
        table.register(cx, self.rules, from, register, holders);
    }

    /// No home answers: this node acts as one for itself.
    pub(crate) fn act_alone(&mut self, cx: &mut Context<'_>, task: TaskId) {
        if self.tables.contains_key(&task) || self.make_place(cx.now, true) {
            let table = self
                .tables
                .entry(task)
                .or_insert_with(|| Table::new(task, cx.now));
            table.act_alone();
        }
    }

    /// This node did without the ranks, and one of them answers now: whoever asks here is shown there.
    pub(crate) fn stop_acting_alone(&mut self, cx: &mut Context<'_>, task: &TaskId) {
        let first = cx.homes(task).first().copied();
        if let Some(table) = self.tables.get_mut(task)
            && let Some(first) = first.filter(|first| *first != cx.view.me())
            && table.acts()
        {
            table.give_way(cx, first);
        }
    }

    pub(crate) fn handle_report(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        report: LeaseReport,
    ) {
        if report.meta.is_some() && self.bytes() >= MAX_TABLE_BYTES {
            // The set of what is unread has no room here: its readers do without this home.
            self.tables.remove(&report.task);
        }
        if let Some(table) = self.tables.get_mut(&report.task) {
            table.doubt_successor(cx);
            table.report(cx, self.rules, from, report);
        } else {
            // This node has begun anew, or forgot: the reader says what it reads, and reads on.
            cx.send(
                from,
                Message::Registered(Registered {
                    task: report.task,
                    request: 0,
                    outcome: Outcome::Report,
                }),
            );
        }
    }

    pub(crate) fn handle_leave(&mut self, cx: &mut Context<'_>, from: PeerId, task: &TaskId) {
        if let Some(table) = self.tables.get_mut(task) {
            table.drop_registrant(cx, self.rules, &from);
        }
    }

    /// Another rank asks what this node holds of a task. One that could not be a home for it now keeps silent: the other
    /// would give way, and nobody grant.
    pub(crate) fn handle_probe(&mut self, cx: &mut Context<'_>, from: PeerId, probe: &HomeProbe) {
        if !cx.ready || !self.tables.contains_key(&probe.task) && !self.has_place() {
            return;
        }
        let copy = self
            .tables
            .get(&probe.task)
            .and_then(|table| table.copy(cx.now));
        let state = HomeState {
            task: probe.task,
            request: probe.request,
            table: copy,
        };
        cx.send(from, Message::HomeState(state));
        // A better rank takes over: registrants are shown the way. Asked by a worse one, this node goes on.
        if is_better(cx, &probe.task, &from)
            && let Some(table) = self.tables.get_mut(&probe.task)
            && table.acts()
        {
            table.hand_over(cx, from);
        }
    }

    /// Another rank's answer, or rank 1's copy.
    pub(crate) fn handle_state(&mut self, cx: &mut Context<'_>, from: PeerId, state: HomeState) {
        if state.request == 0 {
            let is_home = cx.homes(&state.task).contains(&cx.view.me());
            let known = self.tables.contains_key(&state.task);
            let has_room = self.bytes() < MAX_TABLE_BYTES;
            if is_home && has_room && (known || self.make_place(cx.now, false)) {
                let table = self
                    .tables
                    .entry(state.task)
                    .or_insert_with(|| Table::new(state.task, cx.now));
                if let Some(copy) = state.table {
                    table.keep_copy(cx, &from, copy);
                }
            }
            return;
        }
        let Some(table) = self.tables.get_mut(&state.task) else {
            return;
        };
        table.rank_answered(cx, self.rules, from, state);
    }

    /// A member is gone: its leases go to others, and this node may have become a home.
    pub(crate) fn handle_down(&mut self, cx: &mut Context<'_>, peer: &PeerId) {
        for table in self.tables.values_mut() {
            table.drop_registrant(cx, self.rules, peer);
        }
    }

    /// A member came: tables that it is now the first home of go to it.
    pub(crate) fn handle_new(&mut self, cx: &mut Context<'_>, peer: &PeerId) {
        for table in self.tables.values_mut() {
            if table.acts() && cx.homes(&table.task).first() == Some(peer) {
                table.give_way(cx, *peer);
            }
        }
    }

    /// Forgets a task (removed by its users).
    pub(crate) fn forget(&mut self, task: &TaskId) {
        self.tables.remove(task);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        let tables = self.tables.values();
        tables
            .flat_map(|table| [table.poll_timeout(), Some(table.last_used + TABLE_TTL)])
            .flatten()
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        for table in self.tables.values_mut() {
            if table.poll_timeout().is_some_and(|at| at <= cx.now) {
                table.handle_timeout(cx, self.rules);
            }
        }
        self.forget_unused(cx.now);
    }

    /// Who wants or holds a task speaks to its home at least every five minutes, and readers report: a table that hears of
    /// none of them costs nothing to forget.
    fn forget_unused(&mut self, now: Now) {
        self.tables
            .retain(|_, table| now < table.last_used + TABLE_TTL);
    }

    /// What all tables' sets of blocks take.
    pub(crate) fn bytes(&self) -> usize {
        self.tables.values().map(Table::bytes).sum()
    }

    /// Whether there would be place for one more table, if somebody wanted blocks.
    fn has_place(&self) -> bool {
        let is_full = self.tables.len() >= MAX_TABLES || self.bytes() >= MAX_TABLE_BYTES;
        !is_full || self.tables.values().any(Table::is_idle)
    }

    /// Whether there is place for one more table. For one who wants blocks, a table that nobody waits at makes way:
    /// holders come again.
    fn make_place(&mut self, now: Now, wants: bool) -> bool {
        self.forget_unused(now);
        if wants && (self.tables.len() >= MAX_TABLES || self.bytes() >= MAX_TABLE_BYTES) {
            let idle = self.tables.iter().filter(|(_, table)| table.is_idle());
            let oldest = idle.min_by_key(|(_, table)| table.last_used);
            if let Some(oldest) = oldest.map(|(task, _)| *task) {
                self.tables.remove(&oldest);
            }
        }
        self.tables.len() < MAX_TABLES && self.bytes() < MAX_TABLE_BYTES
    }

    /// All tables, whatever this node is to them.
    pub(crate) fn len(&self) -> usize {
        self.tables.len()
    }

    /// Leases that tables know of.
    pub(crate) fn leases(&self) -> usize {
        self.tables
            .values()
            .map(|table| table.leases.out.len())
            .sum()
    }

    /// Registrants, over all tables.
    pub(crate) fn registrants(&self) -> usize {
        self.tables
            .values()
            .map(|table| table.registrants.len())
            .sum()
    }

    /// Tables that this node acts on as a home.
    pub(crate) fn acting(&self) -> usize {
        self.tables
            .values()
            .filter(|table| table.role == Role::Granting)
            .count()
    }
}
