//! The one loop around the pure machines: wait, hand over, drain.
//!
//! The loop owns the gossip machine and the tracker; nobody else touches them. It never waits for a disk,
//! a source or a peer: such work runs in tasks of its own, which report back over one bounded channel.
//! No byte of a block is looked at here: blocks are hashed where they arrive, and only handles move.

mod access;
mod activity;
mod audit;
mod credentials;
mod cutter;
mod direct;
mod direct_sink;
mod downloads;
mod errors;
mod faults;
mod files;
mod generation;
mod gossip_io;
mod links;
mod news;
mod outputs;
mod parked;
mod parts;
mod peers;
mod possession;
mod pump;
mod received;
mod removal;
mod report;
mod runs;
mod sends;
mod source_reads;
mod stats;
mod tasks;
mod views;

use std::collections::BTreeSet;
use std::time::Duration;

use dfnode_gossip::{Gossip, Now};
use dfnode_tracker::{LocalTracker, TaskId};
use tokio::select;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::sleep_until;
use tracing::debug;

pub(crate) use activity::Activity;
pub(crate) use downloads::Asker;
pub use faults::Fault;
pub(crate) use faults::Faults;
pub(crate) use generation::next as next_generation;
pub(crate) use gossip_io::{JOIN_PATIENCE, REMEMBERED_PATIENCE};
pub(crate) use parts::{Limits, Parts};
pub(crate) use report::Report;
pub(crate) use stats::Stats;
pub(crate) use views::AboutMe;

use self::credentials::Credential;
use self::gossip_io::Joining;
use self::links::Links;
use self::parked::Parked;
use self::peers::Peers;
use self::sends::Sends;
use self::source_reads::SourceReads;
use self::tasks::Tasks;
use crate::ambient::Clock;
use crate::discovery::{Candidate, Discovery};
use crate::get::{Caller, PeerView, RemoveError, RemoveOutcome, RemoveRequest, Status, TaskView};
use crate::store::{StoreEvent, StoredTask};
use crate::transport::{Arrival, Incoming};

/// Commands of local callers that may wait.
pub(crate) const COMMANDS_AHEAD: usize = 256;
/// Reports of the driver's own tasks that may wait; a task with more to say waits itself.
pub(crate) const REPORTS_AHEAD: usize = 1024;
/// Where this life's generation is kept, in the data folder.
pub(crate) const GENERATION_FILE: &str = "generation";
/// Callers remembered for whom the source has bytes of their own.
const MAX_OWNERS: usize = 4096;
/// How often idle links and the like are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// The shortest time between two looks at the timers when nothing else happens.
const MIN_SLEEP: Duration = Duration::from_millis(1);
/// Things handled in a row before the timers are looked at again.
const BATCH: usize = 64;

/// What a local caller asks of the loop.
pub(crate) enum Command {
    /// Begin a download.
    Get(Asker),
    /// The node at a glance.
    Status(oneshot::Sender<Status>),
    /// Every peer.
    Peers(oneshot::Sender<Vec<PeerView>>),
    /// Every task.
    Tasks(oneshot::Sender<Vec<TaskView>>),
    /// Forget a task.
    Remove(
        Caller,
        RemoveRequest,
        oneshot::Sender<Result<RemoveOutcome, RemoveError>>,
    ),
}

/// Where the loop's work comes from.
pub(crate) struct Inputs {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) incoming: Incoming,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) discovery: Discovery,
    pub(crate) stored: mpsc::UnboundedReceiver<StoreEvent>,
}

/// The loop's state.
pub(crate) struct Driver {
    parts: Parts,
    gossip: Gossip,
    tracker: LocalTracker,
    links: Links,
    reads: SourceReads,
    parked: Parked,
    sends: Sends,
    tasks: Tasks,
    peers: Peers,
    joining: Joining,
    owners: BTreeSet<(TaskId, Credential)>,
    /// Downloads that have nothing to do with the cluster.
    directs: usize,
    next_housekeeping: Now,
}

/// One thing that happened.
enum Happening {
    Command(Command),
    Arrival(Arrival),
    Report(Report),
    Candidate(Candidate),
    Store(StoreEvent),
}

impl Driver {
    /// A driver of two fresh machines. `join_patience`: how long to listen before acting, if anybody is to be joined.
    pub(crate) fn new(
        parts: Parts,
        gossip: Gossip,
        tracker: LocalTracker,
        now: Now,
        join_patience: Option<Duration>,
    ) -> Self {
        Self {
            parts,
            gossip,
            tracker,
            links: Links::default(),
            reads: SourceReads::default(),
            parked: Parked::default(),
            sends: Sends::default(),
            tasks: Tasks::default(),
            peers: Peers::default(),
            joining: Joining {
                give_up_at: join_patience.map(|patience| now + patience),
                ..Joining::default()
            },
            owners: BTreeSet::new(),
            directs: 0,
            next_housekeeping: now + HOUSEKEEPING,
        }
    }

    /// Runs until the node stops. After `leave` it says farewell first; after `stop` it just ends.
    pub(crate) async fn run(mut self, mut inputs: Inputs, stored: Vec<StoredTask>) {
        let now = Clock::now();
        for task in stored {
            self.restore(now, task);
        }
        self.check_ready(now);
        self.drain(now);
        let (leave, stop) = (self.parts.leave.clone(), self.parts.stop.clone());
        loop {
            let deadline = self.deadline();
            select! {
                biased;
                () = stop.cancelled() => return,
                () = leave.cancelled() => break,
                happening = next(&mut inputs) => {
                    let Some(happening) = happening else { break };
                    self.handle(Clock::now(), happening, &mut inputs.discovery);
                    for _ in 1..BATCH {
                        let Some(happening) = waiting(&mut inputs) else { break };
                        self.handle(Clock::now(), happening, &mut inputs.discovery);
                    }
                }
                () = sleep_until(Clock::instant(deadline)) => {}
            }
            self.handle_time(Clock::now());
            inputs.discovery.set_alone(self.is_alone());
        }
        let now = Clock::now();
        self.remember_members();
        self.gossip.leave(now);
        self.drain(now);
    }

    fn handle(&mut self, now: Now, happening: Happening, discovery: &mut Discovery) {
        match happening {
            Happening::Command(command) => self.handle_command(now, command),
            Happening::Arrival(arrival) => self.handle_arrival(now, arrival),
            Happening::Report(Report::Joined { candidate, link }) => {
                self.handle_joined(discovery, candidate, link);
            }
            Happening::Report(report) => self.handle_report(now, report),
            Happening::Candidate(candidate) => self.handle_candidate(discovery, candidate),
            Happening::Store(event) => self.handle_store_event(now, event),
        }
        self.drain(now);
    }

    fn handle_command(&mut self, now: Now, command: Command) {
        // A caller who does not wait for the answer any more is no reason to fail.
        match command {
            Command::Get(asker) => self.handle_get(now, asker),
            Command::Status(reply) => drop(reply.send(self.status(now))),
            Command::Peers(reply) => drop(reply.send(self.peer_views(now))),
            Command::Tasks(reply) => drop(reply.send(self.task_views())),
            Command::Remove(caller, request, reply) => {
                self.handle_remove(now, caller, &request, reply);
            }
        }
    }

    fn handle_time(&mut self, now: Now) {
        if self.gossip.poll_timeout().is_some_and(|due| due <= now) {
            self.gossip.handle_timeout(now);
            self.drain(now);
        }
        if self.tracker.poll_timeout().is_some_and(|due| due <= now) {
            self.tracker.handle_timeout(now);
            self.drain(now);
            if let Some(still) = self.tracker.poll_timeout().filter(|due| *due <= now) {
                tracing::trace!(
                    late_us = (now - still).as_micros(),
                    "the tracker is due again at once"
                );
            }
        }
        if self.joining.give_up_at.is_some_and(|at| at <= now) {
            debug!("nobody answered; serving alone");
            self.check_ready(now);
            self.drain(now);
        }
        if self.next_housekeeping <= now {
            self.next_housekeeping = now + HOUSEKEEPING;
            self.close_idle_links(now);
            self.remember_members();
            self.end_isolations(now);
            let store = self.parts.store.clone();
            self.parts.spawn(async move {
                // Large files take long to remove.
                drop(spawn_blocking(move || store.evict_idle()).await);
            });
            self.drain(now);
        }
        let is_busy = self.tasks.callers() + self.directs > 0 || self.sends.len() > 0;
        self.parts.activity.set(now, is_busy);
    }

    fn deadline(&self) -> Now {
        let due = [
            self.gossip.poll_timeout(),
            self.tracker.poll_timeout(),
            self.joining.give_up_at,
        ]
        .into_iter()
        .flatten()
        .fold(self.next_housekeeping, Ord::min);
        // A machine that is due over and over must not keep the processor from everybody else.
        due.max(Clock::now() + MIN_SLEEP)
    }
}

/// Waits for the next thing to happen: local callers first, then whoever has something.
async fn next(inputs: &mut Inputs) -> Option<Happening> {
    if let Ok(command) = inputs.commands.try_recv() {
        return Some(Happening::Command(command));
    }
    select! {
        command = inputs.commands.recv() => command.map(Happening::Command),
        arrival = inputs.incoming.recv() => arrival.map(Happening::Arrival),
        report = inputs.reports.recv() => report.map(Happening::Report),
        candidate = inputs.discovery.next() => Some(Happening::Candidate(candidate)),
        Some(event) = inputs.stored.recv() => Some(Happening::Store(event)),
    }
}

/// The next thing that has happened already, if any.
fn waiting(inputs: &mut Inputs) -> Option<Happening> {
    use futures::FutureExt as _;
    next(inputs).now_or_never().flatten()
}
