//! What every task of the driver may use.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dfnode_gossip::PeerId;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use super::{Activity, Faults, Report, Stats};
use crate::identity::Identity;
use crate::limits::{ByteRate, Limiter};
use crate::source::Source;
use crate::store::Store;
use crate::transport::Transport;

/// Handles to the sockets, the disk and the counters. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) me: PeerId,
    pub(crate) identity: Identity,
    pub(crate) data: PathBuf,
    pub(crate) transport: Transport,
    pub(crate) store: Store,
    pub(crate) source: Source,
    pub(crate) limits: Limits,
    /// Keys the hashes of callers' credentials; equal in the whole cluster.
    pub(crate) credential_key: [u8; 32],
    /// How old a validation may be for a caller who does not say.
    pub(crate) max_age: Duration,
    pub(crate) about: Arc<super::views::AboutMe>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) faults: Faults,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) tasks: TaskTracker,
    /// Asks the loop to say farewell and end.
    pub(crate) leave: CancellationToken,
    /// Ends everything at once.
    pub(crate) stop: CancellationToken,
}

/// How fast bytes may flow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    /// What the host receives.
    pub(crate) download: Limiter,
    /// What the host sends.
    pub(crate) upload: Limiter,
    /// What one task receives, unless its caller says otherwise.
    pub(crate) task: Option<ByteRate>,
}

impl Parts {
    /// Runs work beside the loop until it ends or the node stops.
    pub(crate) fn spawn<F>(&self, work: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_in(Span::none(), work)
    }

    /// The same, with every line of the log marked.
    pub(crate) fn spawn_in<F>(&self, span: Span, work: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        let work = async move {
            let _ = stop.run_until_cancelled(work).await;
        };
        self.tasks.spawn(work.instrument(span)).abort_handle()
    }

    /// Tells the loop; waits while it is behind. Lost once the node stops.
    pub(crate) async fn report(&self, report: Report) {
        let _ = self.reports.send(report).await;
    }
}
