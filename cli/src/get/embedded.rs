//! A node within `dfnode get`, where none runs on this host.

use std::ffi::OsString;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use dfnode_node::get::Role;
use dfnode_node::{Handle, Node};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::progress::Progress;
use crate::args::{Cli, Command, EmbeddedArgs};
use crate::config::Settings;
use crate::exit::{Exit, Failure};
use crate::key;
use crate::signals;
use crate::start::{is_folder_in_use, make_folder, node_config};
use crate::threads::Threads;

/// How long nobody must have asked for anything before a node with peers leaves.
const IDLE_ENOUGH: Duration = Duration::from_secs(5);

/// Between two looks at how idle the node is.
const LOOK: Duration = Duration::from_millis(100);

/// How long a node may take to say whether it has peers.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// How long a node may take to stop in good order.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A node in this process. It has threads of its own: a download alone needs none.
#[derive(Debug)]
pub(super) struct Embedded {
    threads: Threads,
    handle: Handle,
    stopped: JoinHandle<()>,
}

/// Why there is no node in this process.
#[derive(Debug)]
pub(super) enum EmbeddedError {
    /// Another process uses the folder; it can be asked in a moment.
    Busy,
    /// It cannot be.
    Failed(Failure),
}

impl From<Failure> for EmbeddedError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Embedded {
    /// Starts a node as `dfnode run` would with `args`, but for one download: alone if nothing says how to
    /// belong to a cluster, and on other ports if those are taken.
    pub(super) async fn start(args: &EmbeddedArgs) -> Result<Self, EmbeddedError> {
        let settings = settings(args)?;
        let membership = key::membership(&settings)?;
        make_folder(&settings.data)?;
        let config = node_config(&settings, membership, Role::Embedded)?;
        let threads = Threads::of_node().map_err(Failure::from)?;
        let started = threads
            .spawn(Node::start(config))
            .await
            .map_err(Failure::from)?;
        match started {
            Ok(node) => {
                let handle = node.handle();
                let stopped = threads.spawn(node.stopped());
                Ok(Self {
                    threads,
                    handle,
                    stopped,
                })
            }
            Err(error) if is_folder_in_use(&error) => Err(EmbeddedError::Busy),
            Err(error) => Err(Failure::new(Exit::Other, error).into()),
        }
    }

    /// The door to it.
    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Stays while others may want what it has: for as long as was said, else if it has peers at all.
    pub(super) async fn linger(&self, said: Option<Duration>, progress: &Progress) {
        let enough = match said {
            Some(said) => said,
            None if self.has_peers().await => IDLE_ENOUGH,
            None => return,
        };
        if enough.is_zero() {
            return;
        }
        let is_idle = || self.handle.idle_for().is_some_and(|idle| idle >= enough);
        progress.note("giving it to peers while they want it; Ctrl-C ends that");
        let left = async {
            while !is_idle() && !self.stopped.is_finished() {
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = left => {}
            () = signals::asked_to_stop() => {}
        }
    }

    /// Ends it in good order: peers know, and what was verified is on disk.
    pub(super) async fn stop(self) {
        self.handle.shutdown();
        // What is not on disk in time is downloaded again; nothing worse.
        tokio::select! {
            _ = timeout(STOP_PATIENCE, self.stopped) => {}
            () = signals::asked_to_stop() => {}
        }
        drop(self.threads);
    }

    async fn has_peers(&self) -> bool {
        timeout(ANSWER_PATIENCE, self.handle.status())
            .await
            .is_ok_and(|status| status.peers > 0)
    }
}

/// What `dfnode run` would be told: the same variables and the same file.
fn settings(args: &EmbeddedArgs) -> Result<Settings, Failure> {
    let mut words: Vec<OsString> = vec!["dfnode".into(), "run".into()];
    let mut push = |flag: &str, value: OsString| words.extend([flag.into(), value]);
    if let Some(data) = &args.data {
        push("--data", data.into());
    }
    if let Some(key) = &args.cluster_key {
        push("--cluster-key", key.into());
    }
    if let Some(config) = &args.config {
        push("--config", config.into());
    }
    for member in &args.join {
        push("--join", member.to_string().into());
    }
    let matches = crate::usual(Cli::command()).try_get_matches_from(words)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let Command::Run(run) = cli.command else {
        return Err(Failure::usage("no node to run"));
    };
    Settings::load(&run, &cli.log, crate::leaf(&matches))
}
