//! `dfnode run`: a node that stays.

use std::io;
use std::time::Duration;

use anyhow::anyhow;
use dfnode_node::cluster_key::KeyOrigin;
use dfnode_node::control::{Client, ClientError};
use dfnode_node::get::Role;
use dfnode_node::transport::BindError;
use dfnode_node::{Config, Node, StartError};
use dfnode_proxy::Proxy;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::config::{Settings, absolute};
use crate::exit::{Exit, Failure};
use crate::key::{self, Membership};
use crate::place::Place;
use crate::signals;
use crate::start::{is_folder_in_use, make_folder, node_config, proxy_config};

/// Between two tries to take the folder over from a node that is about to leave it.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// How often to try: for fifteen seconds.
const TRIES: u32 = 300;

/// How long a node may take to stop in good order.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Runs a node until somebody stops it.
pub(crate) async fn command(settings: Settings) -> Result<Exit, Failure> {
    // Before anything is made: a node that cannot join must not leave a folder behind.
    key::membership(&settings)?;
    make_folder(&settings.data)?;
    let membership = key::membership_of_daemon(&settings)?;
    announce(&membership, &settings);
    let proxy = proxy_config(&settings)?;
    let node = start(node_config(&settings, membership, Role::Daemon)?, &settings).await?;
    let proxy = match proxy {
        None => None,
        Some(config) => match Proxy::start(config, node.handle()).await {
            Ok(proxy) => Some(proxy),
            Err(error) => {
                // A node that nobody can reach as configured shall not stay half.
                node.handle().shutdown();
                node.stopped().await;
                return Err(Failure::new(Exit::Other, error));
            }
        },
    };
    info!(
        listen = %node.listen_addr(),
        proxy = proxy.as_ref().map(|proxy| format!("http://{}/", proxy.addr())),
        status = node.status_addr().map(|address| format!("http://{address}/")),
        data = %settings.data.display(),
        "serving"
    );
    let exit = stay(node).await;
    if let Some(proxy) = proxy {
        proxy.stop().await;
    }
    exit
}

async fn stay(node: Node) -> Result<Exit, Failure> {
    let handle = node.handle();
    let mut stopped = Box::pin(node.stopped());
    tokio::select! {
        biased;
        () = signals::asked_to_stop() => {}
        // By `dfnode` itself, over the socket.
        () = &mut stopped => return Ok(Exit::Ok),
    }
    info!("stopping; once more to stop at once");
    handle.shutdown();
    tokio::select! {
        outcome = timeout(STOP_PATIENCE, stopped) => match outcome {
            Ok(()) => Ok(Exit::Ok),
            Err(_) => Err(Failure::new(Exit::Other, anyhow!("the node did not stop in time"))),
        },
        () = signals::asked_to_stop() => Ok(Exit::Interrupted),
    }
}

/// Says how the cluster is closed, and above all if it is not.
fn announce(membership: &Membership, settings: &Settings) {
    match membership {
        Membership::Open => warn!(
            "RUNNING WITHOUT A KEY (--open): whoever reaches this host on a private address joins the cluster, \
             gets what it shares and can give it wrong files"
        ),
        Membership::Keyed(_, KeyOrigin::Created(path)) => info!(
            "made a cluster key in {}; hosts that are to join need a copy of it",
            absolute(path).display()
        ),
        Membership::Keyed(_, KeyOrigin::File(path)) => info!("cluster key from {}", path.display()),
        Membership::Keyed(_, KeyOrigin::Variable) => info!("cluster key from DFNODE_CLUSTER_KEY"),
        Membership::Alone => {}
    }
    if let Some(file) = &settings.file {
        info!("configuration from {}", file.display());
    }
}

/// Starts the node; a node that runs in the folder for one download is asked to give way.
async fn start(config: Config, settings: &Settings) -> Result<Node, Failure> {
    let place = Place::new(settings.data.clone());
    let mut last = None;
    for _ in 0..TRIES {
        match Node::start(config.clone()).await {
            Ok(node) => return Ok(node),
            Err(error) if !is_folder_in_use(&error) => return Err(not_started(error, settings)),
            Err(error) => last = Some(error),
        }
        match ask_to_give_way(&place).await {
            Ok(()) | Err(ClientError::Absent | ClientError::Gone) => sleep(TRY_AGAIN).await,
            Err(error) => {
                let error = anyhow!(error);
                let error = match last {
                    Some(in_use) => error.context(in_use),
                    None => error,
                };
                return Err(Failure::new(Exit::Other, error));
            }
        }
    }
    Err(last.map_or_else(|| Failure::usage("the folder is in use"), Failure::from))
}

/// Why a node did not start, and what helps.
fn not_started(error: StartError, settings: &Settings) -> Failure {
    let is_busy = matches!(
        &error,
        StartError::Bind(BindError::Listen { source, .. }) if source.kind() == io::ErrorKind::AddrInUse
    );
    let error = anyhow!(error);
    let error = if is_busy && settings.said.listen.is_none() {
        error.context("another program has the usual port; give the node another with --listen")
    } else {
        error
    };
    Failure::new(Exit::Other, error)
}

/// Asks a node that runs for one download to stop; a daemon is left alone and is an error.
async fn ask_to_give_way(place: &Place) -> Result<(), ClientError> {
    let mut client = Client::connect(&place.socket()).await?;
    let status = client.status().await?;
    match status.role {
        Role::Daemon => {
            let what = format!(
                "a node runs in {} already (process {})",
                place.folder().display(),
                status.pid
            );
            Err(ClientError::Refused(what))
        }
        Role::Embedded => {
            info!(pid = status.pid, "taking over from the node of a download");
            client.shutdown().await
        }
    }
}
