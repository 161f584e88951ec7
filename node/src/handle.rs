//! The node as a library: what programs in the same process, and the control socket, ask it.

use std::sync::Arc;
use std::time::Duration;

use dfnode_gossip::PeerId;
use dfnode_tracker::TaskId;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::ambient::Clock;
use crate::control::Service;
use crate::driver::{Activity, Asker, Command, Stats};
use crate::further_metrics::{FurtherMetrics, MetricRow};
use crate::get::{
    Caller, Download, GetError, GetRequest, PeerView, RemoveError, RemoveOutcome, RemoveRequest,
    Status, TaskView,
};
use crate::store::{PlaceWatch, Places, Returns};

/// A running node. Clones are cheap and mean the same node; dropping them does not stop it.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) me: PeerId,
    pub(crate) activity: Arc<Activity>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) places: Places,
    pub(crate) leave: CancellationToken,
    pub(crate) metrics: Arc<FurtherMetrics>,
}

impl Handle {
    /// Begins a download, or joins the one under way. Dropping the [`Download`] leaves it.
    ///
    /// # Errors
    /// Only if the node stops. What goes wrong with the download itself is told through it.
    pub async fn get(&self, caller: Caller, request: GetRequest) -> Result<Download, GetError> {
        let (sender, download) = Download::channel();
        let asker = Asker {
            caller,
            request: Arc::new(request),
            sender,
        };
        self.commands
            .send(Command::Get(asker))
            .await
            .map_err(|_| GetError::Cancelled)?;
        Ok(download)
    }

    /// For a download, of `task` if that became known, that goes on without the node because its cache had no place.
    pub fn watch_place(&self, task: Option<TaskId>) -> PlaceWatch {
        self.places.watch(task, Returns::default())
    }

    /// The node at a glance; empty if it stops.
    pub async fn status(&self) -> Status {
        self.ask(Command::Status).await.unwrap_or_default()
    }

    /// Every peer it knows.
    pub async fn peers(&self) -> Vec<PeerView> {
        self.ask(Command::Peers).await.unwrap_or_default()
    }

    /// Every task it stores anything of or waits for, of every user.
    pub async fn tasks(&self) -> Vec<TaskView> {
        self.ask(Command::Tasks).await.unwrap_or_default()
    }

    /// Forgets a task, here or everywhere.
    ///
    /// # Errors
    /// If it is not here, in use, or the node stops. Nothing was removed then.
    pub async fn remove(
        &self,
        caller: Caller,
        request: RemoveRequest,
    ) -> Result<RemoveOutcome, RemoveError> {
        let stopping = || RemoveError::Internal {
            what: "the node is stopping".to_owned(),
        };
        self.ask(|reply| Command::Remove(caller, request, reply))
            .await
            .ok_or_else(stopping)?
    }

    /// Begins to stop the node: it says farewell to its peers and writes what it has. Returns at once.
    pub fn shutdown(&self) {
        self.leave.cancel();
    }

    /// Has the node's page show further counters, whose prefix is not yet `dfnode_`. For the first who asks.
    pub fn show_metrics(&self, rows: impl Fn() -> Vec<MetricRow> + Send + Sync + 'static) {
        self.metrics.set(Box::new(rows));
    }

    /// How long there has been neither a download nor an upload; `None` while there is one.
    pub fn idle_for(&self) -> Option<Duration> {
        self.activity.idle_for(Clock::now())
    }

    /// The node's name among its peers.
    pub const fn peer(&self) -> PeerId {
        self.me
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

impl Service for Handle {
    async fn get(&self, caller: Caller, request: GetRequest) -> Result<Download, GetError> {
        Self::get(self, caller, request).await
    }

    async fn status(&self) -> Status {
        Self::status(self).await
    }

    async fn peers(&self) -> Vec<PeerView> {
        Self::peers(self).await
    }

    async fn tasks(&self) -> Vec<TaskView> {
        Self::tasks(self).await
    }

    async fn remove(
        &self,
        caller: Caller,
        request: RemoveRequest,
    ) -> Result<RemoveOutcome, RemoveError> {
        Self::remove(self, caller, request).await
    }

    async fn shutdown(&self) {
        Self::shutdown(self);
    }
}
