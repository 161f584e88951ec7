//! The Tracker that each node runs for itself: a switchboard between tasks, homes, neighbours and gossip.

mod arrivals;
mod dispatch;
mod footprint;
mod holders;
mod isolation;
mod tasks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use dfnode_gossip::{Event, EventKind, Member, Now, PeerId, Subject, Zone};

pub use self::footprint::Footprint;
use self::holders::Holders;
use self::tasks::Tasks;
use crate::blocks::BlockSet;
use crate::context::{Chance, Context};
use crate::events::Progress;
use crate::home::{Homes, SourceRules};
use crate::ids::{BlockDigest, BlockIndex, TaskId};
use crate::ledger::verify_signature;
use crate::message::{Message, SignedBatch};
use crate::meta::Meta;
use crate::output::{BlameReason, Output};
use crate::reads::Unsigned;
use crate::session::Arrival;
use crate::slots::{Places, Slots};
use crate::task::{Task, Wish};
use crate::tracker::{PieceReport, Tracker};
use crate::view::View;

/// Tasks that one node keeps state of; the store bounds what it holds, this bounds what a remote may add.
const MAX_TASKS: usize = 16_384;

/// Outputs that there is always room for.
const USUAL_OUTPUTS: usize = 32;

/// How a tracker behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// Readers of one task's source at once. Default 16: more gain nothing unless the source is slow to answer.
    pub source_readers: usize,
    /// Blocks that this host uploads at once, over all tasks. Default 12: an offer waits for its answer, 5 to 20 ms among
    /// busy hosts, and the link must not wait with it. 4 leave a quarter of a 100 Mbit/s link idle, 8 some percent; more
    /// than 12 only lengthen the queues.
    pub upload_slots: usize,
    /// Blocks that this host waits for at once, over all tasks. Default 12; equal to `upload_slots`, or hosts starve.
    pub download_slots: usize,
    /// Whether this node never uploads. Default: it does.
    pub leech: bool,
    /// Where this node stands; blocks come from its own zone where they can. Default: no name, as that of all others
    /// without one.
    pub zone: Zone,
    /// What says whether bytes are signed by a key. Default: [`verify_signature`]; a simulation of thousands of nodes
    /// remembers its answers.
    pub verify: Verify,
}

/// Says whether a peer's key signed these bytes: (key, bytes, signature).
pub type Verify = fn(&PeerId, &[u8], &[u8]) -> bool;

impl Default for Config {
    fn default() -> Self {
        Self {
            source_readers: 16,
            upload_slots: 12,
            download_slots: 12,
            leech: false,
            zone: Zone::default(),
            verify: verify_signature,
        }
    }
}

/// A change in the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// A member joined or changed.
    Up(Member),
    /// A member left or died.
    Down(PeerId),
}

/// A change of the link to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// It can carry messages and blocks.
    Up,
    /// It is gone, or could not be made.
    Down,
}

/// What a peer did that no correct peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A batch of digests that is not signed by its signer, or of blocks that cannot be.
    #[error("digests that are not signed by their signer")]
    BadBatch,
    /// Blocks beyond the end of the version.
    #[error("blocks that the version does not have")]
    NoSuchBlock,
}

/// What a task looks like from outside.
#[derive(Debug, Clone)]
pub struct TaskView {
    /// The task.
    pub task: TaskId,
    /// The version, once known.
    pub meta: Option<Meta>,
    /// Blocks held.
    pub blocks_held: u32,
    /// Whether every block is held.
    pub complete: bool,
    /// Whether a local caller wants it.
    pub wanted: bool,
    /// Own reads of the source under way.
    pub reads: usize,
    /// Neighbours that blocks are exchanged with.
    pub neighbours: usize,
    /// Neighbours that blocks are coming from at the moment.
    pub givers: usize,
}

/// The machine. See the crate's documentation for how it is driven.
#[derive(Debug)]
pub struct LocalTracker {
    view: View,
    links: BTreeMap<PeerId, Now>,
    isolated: BTreeMap<PeerId, BlameReason>,
    /// Who accuses whom, of all whom this node deals with.
    accusations: BTreeMap<PeerId, BTreeSet<PeerId>>,
    ready: bool,
    verify: Verify,
    tasks: Tasks,
    homes: Homes,
    holders: Holders,
    slots: Slots,
    chance: Chance,
    outputs: VecDeque<Output>,
    to_self: VecDeque<Message>,
    blamed: Vec<(PeerId, BlameReason)>,
    signing: BTreeMap<u64, (TaskId, Unsigned)>,
    next_signing: u64,
}

/// Lends the parts that everything shares, beside the tasks and homes themselves.
macro_rules! context {
    ($self:ident, $now:expr) => {
        $crate::context::Context {
            now: $now,
            view: &$self.view,
            links: &$self.links,
            isolated: &$self.isolated,
            ready: $self.ready,
            verify: $self.verify,
            slots: &mut $self.slots,
            chance: &mut $self.chance,
            out: &mut $self.outputs,
            to_self: &mut $self.to_self,
            blamed: &mut $self.blamed,
        }
    };
}
use context;

impl LocalTracker {
    /// A tracker that knows nobody yet. Equal seeds and inputs give equal outputs.
    pub fn new(config: &Config, me: PeerId, seed: u64) -> Self {
        Self {
            view: View::new(me, config.leech, config.zone),
            links: BTreeMap::new(),
            isolated: BTreeMap::new(),
            accusations: BTreeMap::new(),
            ready: false,
            verify: config.verify,
            tasks: Tasks::default(),
            homes: Homes::new(SourceRules {
                readers: config.source_readers.max(1),
            }),
            holders: Holders::default(),
            slots: Slots {
                uploads: Places::new(config.upload_slots.max(1)),
                downloads: Places::new(config.download_slots.max(1)),
            },
            chance: Chance::new(seed),
            outputs: VecDeque::new(),
            to_self: VecDeque::new(),
            blamed: Vec::new(),
            signing: BTreeMap::new(),
            next_signing: 1,
        }
    }

    /// The node knows its cluster: from now on it may act as a home and read sources.
    pub fn set_ready(&mut self, now: Now) {
        if !std::mem::replace(&mut self.ready, true) {
            self.for_wanted(now, Task::view_changed);
            self.settle(now);
        }
    }

    fn for_wanted(&mut self, now: Now, mut act: impl FnMut(&mut Task, &mut Context<'_>)) {
        let mut cx = context!(self, now);
        for task in self.tasks.values_mut() {
            act(task, &mut cx);
        }
    }

    /// A member joined, changed, left or died.
    pub fn handle_member(&mut self, now: Now, change: &MemberChange) {
        match change {
            MemberChange::Up(member) => {
                let new = !self.view.contains(&member.peer);
                self.view.up(member);
                if new {
                    let mut cx = context!(self, now);
                    self.homes.handle_new(&mut cx, &member.peer);
                    self.weigh_anew(&member.peer);
                }
            }
            MemberChange::Down(peer) => {
                self.view.down(peer);
                let mut cx = context!(self, now);
                self.homes.handle_down(&mut cx, peer);
            }
        }
        self.for_wanted(now, Task::view_changed);
        self.settle(now);
    }

    /// A gossip event came in.
    pub fn handle_event(&mut self, now: Now, event: &Event) {
        let task = TaskId::from_bytes(*event.subject.as_bytes());
        match event.kind {
            EventKind::Progress | EventKind::Recover => {
                let complete = Progress::decode(&event.body)
                    .is_some_and(|told| told.quarters == Progress::COMPLETE);
                if complete {
                    self.holders.add(task, event.origin, event.kind, &self.view);
                } else {
                    self.holders.remove(&task, &event.origin, event.kind);
                }
            }
            EventKind::FileRemove => {
                self.holders.forget_task(&task);
                self.homes.forget(&task);
            }
            EventKind::Isolate => {
                self.accused(PeerId::from_bytes(*event.subject.as_bytes()), event.origin);
            }
            EventKind::DownloadStart | EventKind::Length => {}
        }
        self.settle(now);
    }

    /// A gossip event is no more: its origin withdrew it, or has been gone for long.
    pub fn handle_removed(&mut self, origin: &PeerId, subject: &Subject, kind: EventKind) {
        if kind == EventKind::Isolate {
            self.accusation_ends(&PeerId::from_bytes(*subject.as_bytes()), origin);
        } else {
            let task = TaskId::from_bytes(*subject.as_bytes());
            self.holders.remove(&task, origin, kind);
        }
    }

    /// The link to a peer is up or gone. A failed [`Output::Connect`] is answered with `Down`.
    pub fn handle_link(&mut self, now: Now, peer: PeerId, state: LinkState) {
        match state {
            LinkState::Up => self.links.insert(peer, now),
            LinkState::Down => self.links.remove(&peer),
        };
        self.for_wanted(now, |task, cx| match state {
            LinkState::Up => task.session.link_up(cx, peer),
            LinkState::Down => task.session.lose(cx, &peer),
        });
        self.settle(now);
    }

    /// What the store holds of a task, told once at the start.
    pub fn restore(
        &mut self,
        now: Now,
        id: TaskId,
        meta: Meta,
        have: BlockSet,
        batches: Vec<SignedBatch>,
    ) {
        let task = self.tasks.get_or_begin(now, id);
        let mut cx = context!(self, now);
        task.restore(&mut cx, meta, have, batches);
        self.settle(now);
    }

    /// The store no longer holds anything of a task (evicted or removed).
    pub fn forget(&mut self, now: Now, id: &TaskId) {
        if let Some(mut task) = self.tasks.remove(id) {
            let mut cx = context!(self, now);
            task.leave(&mut cx);
        }
        self.settle(now);
    }

    /// Deadlines passed.
    pub fn handle_timeout(&mut self, now: Now) {
        let mut cx = context!(self, now);
        self.homes.handle_timeout(&mut cx);
        let mut unsigned = Vec::new();
        let mut alone = Vec::new();
        for id in self.tasks.due(now) {
            let Some(task) = self.tasks.get_mut(&id) else {
                continue;
            };
            let interested = self.holders.of(&id, &self.view).count();
            let (due, acts) = task.handle_timeout(&mut cx, interested);
            task.tell_alone(&mut cx);
            unsigned.extend(due.into_iter().map(|due| (id, due)));
            if acts {
                alone.push(id);
            }
        }
        for id in alone {
            self.homes.act_alone(&mut cx, id);
        }
        for (id, due) in unsigned {
            self.sign(id, Some(due));
        }
        self.settle(now);
    }

    /// When [`LocalTracker::handle_timeout`] is due, if ever.
    pub fn poll_timeout(&self) -> Option<Now> {
        [self.tasks.poll_timeout(), self.homes.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next effect, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            // A burst has passed: its room is not kept for the next one.
            self.outputs.shrink_to(USUAL_OUTPUTS);
        }
        output
    }

    /// One task, if this node knows it.
    pub fn task(&self, id: &TaskId) -> Option<TaskView> {
        self.tasks.get(id).map(|task| Self::look(*id, task))
    }

    /// All tasks that this node knows.
    pub fn tasks(&self) -> impl Iterator<Item = TaskView> + '_ {
        self.tasks.iter().map(|(id, task)| Self::look(*id, task))
    }

    fn look(id: TaskId, task: &Task) -> TaskView {
        TaskView {
            task: id,
            meta: task.session.meta.clone(),
            blocks_held: task.session.have.len(),
            complete: task.session.is_complete(),
            wanted: task.is_wanted(),
            reads: task.readers(),
            neighbours: task.session.neighbours().count(),
            givers: task.session.givers(),
        }
    }

    /// Who signed the digest that a block was verified against.
    pub fn signer(&self, id: &TaskId, block: BlockIndex) -> Option<PeerId> {
        self.tasks
            .get(id)
            .and_then(|task| task.session.ledger.signer(block))
    }

    /// What a block must hash to, as its reader signed.
    pub fn digest(&self, id: &TaskId, block: BlockIndex) -> Option<BlockDigest> {
        self.tasks
            .get(id)
            .and_then(|task| task.session.ledger.digest(block))
    }

    /// Isolated peers and why.
    pub fn isolated(&self) -> &BTreeMap<PeerId, BlameReason> {
        &self.isolated
    }

    /// Uploads that this host has offered or under way, over all tasks.
    pub const fn uploads(&self) -> usize {
        self.slots.uploads.taken()
    }

    /// Blocks that this host waits for, over all tasks.
    pub const fn downloads(&self) -> usize {
        self.slots.downloads.taken()
    }

    /// What the sets of blocks take that it keeps as a home.
    #[cfg(test)]
    fn home_bytes(&self) -> usize {
        self.homes.bytes()
    }

    /// Tasks for which this node acts as the home.
    pub fn acting_homes(&self) -> usize {
        self.homes.acting()
    }

    /// Carries out what one input set off within the machine: words to itself, and peers to isolate.
    fn settle(&mut self, now: Now) {
        loop {
            if let Some(message) = self.to_self.pop_front() {
                // What this node says to itself is sound.
                let _ = self.dispatch(now, self.view.me(), message);
            } else if let Some((peer, reason)) = self.blamed.pop() {
                self.isolate(now, peer, reason);
            } else {
                self.tasks.refresh();
                return;
            }
        }
    }
}

impl Tracker for LocalTracker {
    fn register(&mut self, now: Now, id: TaskId, wish: Wish) {
        if self.tasks.len() >= MAX_TASKS && !self.tasks.contains(&id) {
            let idle = self
                .tasks
                .iter()
                .find(|(_, task)| !task.is_wanted() && task.session.have.is_empty());
            if let Some(idle) = idle.map(|(idle, _)| *idle) {
                self.tasks.remove(&idle);
                self.slots.forget(&idle);
            }
        }
        let task = self.tasks.get_or_begin(now, id);
        let mut cx = context!(self, now);
        task.register(&mut cx, wish);
        self.settle(now);
    }

    fn report_piece(&mut self, now: Now, report: PieceReport) -> Arrival {
        self.note_flow(now, &report.from);
        let mut cx = context!(self, now);
        let PieceReport {
            from,
            task: id,
            version,
            block,
            digest,
        } = report;
        let arrival = if let Some(task) = self.tasks.get_mut(&id) {
            task.handle_block(&mut cx, from, version, block, digest)
        } else {
            let origin = crate::output::Origin::Peer(from);
            cx.out.push_back(Output::Drop {
                task: id,
                block,
                origin,
            });
            Arrival::Useless
        };
        self.settle(now);
        arrival
    }

    fn service_down(&mut self, now: Now, id: &TaskId) {
        if self.tasks.get(id).is_some_and(Task::holds_nothing) {
            // Nothing of it is worth keeping, and nobody would ever come to throw it away.
            self.forget(now, id);
            return;
        }
        let mut cx = context!(self, now);
        if let Some(task) = self.tasks.get_mut(id) {
            task.service_down(&mut cx);
        }
        self.settle(now);
    }

    fn report_error(&mut self, now: Now, peer: PeerId, reason: BlameReason) {
        self.set_isolated(now, peer, Some(reason));
    }
}

/// How long an isolated peer stays so before it is tried again, doubled each time.
pub const PROBATION: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests;
