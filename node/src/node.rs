//! A node from start to stop: opens what it needs, runs the loop, and closes it all again.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dfnode_gossip::{Gossip, MAX_ADDRS, Member, Now, PeerId};
use dfnode_tracker::LocalTracker;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::ambient::{self, Clock};
use crate::config::Config;
use crate::control::{self, ControlListener, ListenError, SOCKET_NAME};
use crate::discovery::{Discovery, DiscoveryConfig, MdnsConfig, remembered};
use crate::driver::{
    AboutMe, Activity, COMMANDS_AHEAD, Driver, Faults, GENERATION_FILE, Inputs, JOIN_PATIENCE,
    Limits, Parts, REMEMBERED_PATIENCE, REPORTS_AHEAD, Report, Stats, next_generation,
};
use crate::folder;
use crate::get::{Caller, Role};
use crate::handle::Handle;
use crate::identity::{Identity, IdentityError, libp2p_peer_of};
use crate::limits::Limiter;
use crate::source::{Source, SourceSetupError};
use crate::status::StatusPage;
use crate::store::{OpenError, Opened, Store, StoreEvent, StoredTask};
use crate::transport::{BindError, Incoming, Transport, TransportConfig};

/// Others may reach the socket in the node's folder, but not list it; keys and cache are closed to them.
const FOLDER_MODE: u32 = 0o711;
/// The folder of the cache within the node's.
const CACHE_FOLDER: &str = "cache";
/// What the key of credentials' hashes is derived for.
const CREDENTIAL_PURPOSE: &str = "dfnode 1 credential hash";
/// How long the node's own tasks may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a node does not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node's folder cannot be made or written.
    #[error("cannot use {path} as the node's folder")]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node's key is there but unusable, or cannot be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The cache does not open: another node may be using it.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The port for peers cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Sources cannot be read: a certificate file is missing or no certificate.
    #[error(transparent)]
    Source(#[from] SourceSetupError),
    /// The socket for local callers cannot be opened.
    #[error(transparent)]
    Control(#[from] ListenError),
    /// The status page cannot be shown there.
    #[error("cannot show the status page on {addr}")]
    Status {
        /// Where.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A node that runs. Dropping it ends it at once, without a farewell to its peers.
#[derive(Debug)]
pub struct Node {
    handle: Handle,
    store: Store,
    transport: Transport,
    looping: JoinHandle<()>,
    tasks: TaskTracker,
    stop: CancellationToken,
    listen: SocketAddr,
    status: Option<SocketAddr>,
}

impl Node {
    /// Opens the store, the sockets and the door for local callers, and starts to look for the cluster.
    ///
    /// Must be called within a multi-threaded tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let now = Clock::now();
        let ground = Ground::open(&config).await?;
        let page = status_page(&config).await?;
        let control = open_door(&config)?;
        let listen = ground.transport.local_addr();
        let status = page.as_ref().map(StatusPage::addr);
        let about = AboutMe {
            role: config.role,
            began: now,
            listen,
            status,
            is_open: config.keys.is_open(),
        };
        let (commands, commanded) = mpsc::channel(COMMANDS_AHEAD);
        let (reports, reported) = mpsc::channel(REPORTS_AHEAD);
        let parts = ground.parts(&config, about, reports);
        let handle = Handle {
            commands,
            me: parts.me,
            activity: Arc::clone(&parts.activity),
            stats: Arc::clone(&parts.stats),
            places: parts.store.places(),
            leave: parts.leave.clone(),
            metrics: Arc::default(),
        };
        let (gossip, tracker) = ground.machines(&config, now);
        let (discovery, patience) = look_around(&config, handle.me, &ground.transport);
        let (store, transport) = (ground.store, ground.transport);
        let (tasks, stop) = (parts.tasks.clone(), parts.stop.clone());
        if let Some(listener) = control {
            let owner = Caller {
                uid: rustix::process::geteuid().as_raw(),
            };
            tasks.spawn(control::serve(
                listener,
                owner,
                handle.clone(),
                stop.clone(),
            ));
        }
        if let Some(page) = page {
            tasks.spawn(page.serve(handle.clone(), stop.clone()));
        }
        let inputs = Inputs {
            commands: commanded,
            incoming: ground.incoming,
            reports: reported,
            discovery,
            stored: ground.events,
        };
        let driver = Driver::new(parts, gossip, tracker, now, patience);
        let looping = tokio::spawn(Box::pin(driver.run(inputs, ground.stored)));
        Ok(Self {
            handle,
            store,
            transport,
            looping,
            tasks,
            stop,
            listen,
            status,
        })
    }

    /// The door to the node; it may be cloned and given away.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Where it listens for peers.
    pub const fn listen_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Where its status page is, if it has one.
    pub const fn status_addr(&self) -> Option<SocketAddr> {
        self.status
    }

    /// Waits until the node was told to stop, then until it has: peers know, and what it holds is on disk.
    pub async fn stopped(mut self) {
        // A panic of the loop has been reported as such; the rest is closed all the same.
        let _ = (&mut self.looping).await;
        self.end().await;
        self.store.flush().await;
        info!("node stopped");
    }

    /// Ends the node at once, without a farewell, as a crash would; returns when its folder is free again.
    pub async fn kill(mut self) {
        self.stop.cancel();
        let _ = (&mut self.looping).await;
        self.end().await;
    }

    async fn end(&self) {
        self.stop.cancel();
        self.transport.shutdown().await;
        self.tasks.close();
        if tokio::time::timeout(FAREWELL, self.tasks.wait())
            .await
            .is_err()
        {
            warn!("some of the node's tasks did not end in time");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a node stands on: its folder, its name, its port.
struct Ground {
    store: Store,
    stored: Vec<StoredTask>,
    events: mpsc::UnboundedReceiver<StoreEvent>,
    identity: Identity,
    generation: u64,
    source: Source,
    transport: Transport,
    incoming: Incoming,
}

impl Ground {
    async fn open(config: &Config) -> Result<Self, StartError> {
        let unusable = |path: PathBuf| move |source| StartError::Folder { path, source };
        folder::make(&config.data, FOLDER_MODE).map_err(unusable(config.data.clone()))?;
        // The store's lock comes first: two nodes must not share a folder, a key or a generation.
        let cache = config.data.join(CACHE_FOLDER);
        let Opened {
            store,
            tasks: stored,
            events,
        } = Store::open(&cache, config.store.clone())?;
        let identity = Identity::load_or_create(&config.data)?;
        let path = config.data.join(GENERATION_FILE);
        let generation = next_generation(&path).map_err(unusable(path))?;
        let source = Source::new(config.source.clone())?;
        let (transport, incoming) = bind(config, &identity).await?;
        Ok(Self {
            store,
            stored,
            events,
            identity,
            generation,
            source,
            transport,
            incoming,
        })
    }

    fn machines(&self, config: &Config, now: Now) -> (Gossip, LocalTracker) {
        let me = Member {
            peer: self.identity.peer(),
            addrs: addresses(config, &self.transport),
            generation: self.generation,
            labels: config.labels,
        };
        let stored = self.stored.len();
        info!(peer = %me.peer.short(), addrs = ?me.addrs, stored, "node starts");
        let tracking = dfnode_tracker::Config {
            leech: config.labels.leech,
            zone: config.labels.zone,
            ..config.tracker.clone()
        };
        let tracker = LocalTracker::new(&tracking, me.peer, ambient::seed());
        (
            Gossip::new(config.gossip.clone(), me, ambient::seed(), now),
            tracker,
        )
    }

    fn parts(&self, config: &Config, about: AboutMe, reports: mpsc::Sender<Report>) -> Parts {
        Parts {
            me: self.identity.peer(),
            identity: self.identity.clone(),
            data: config.data.clone(),
            transport: self.transport.clone(),
            store: self.store.clone(),
            source: self.source.clone(),
            limits: Limits {
                download: Limiter::of(config.limits.total),
                upload: Limiter::of(config.limits.total),
                task: config.limits.task,
            },
            credential_key: config.keys.current().derive(CREDENTIAL_PURPOSE),
            max_age: config.max_age,
            activity: Arc::new(Activity::new(about.began)),
            about: Arc::new(about),
            stats: Arc::new(Stats::default()),
            faults: Faults::new(config.fault),
            reports,
            tasks: TaskTracker::new(),
            leave: CancellationToken::new(),
            stop: CancellationToken::new(),
        }
    }
}

async fn status_page(config: &Config) -> Result<Option<StatusPage>, StartError> {
    let Some(addr) = config.status.filter(|_| config.role == Role::Daemon) else {
        return Ok(None);
    };
    let page = StatusPage::bind(addr).await;
    page.map(Some)
        .map_err(|source| StartError::Status { addr, source })
}

fn open_door(config: &Config) -> Result<Option<ControlListener>, ListenError> {
    let path = config.data.join(SOCKET_NAME);
    config
        .control
        .then(|| ControlListener::bind(&path))
        .transpose()
}

/// Opens the port for peers; an embedded node takes any if the usual one is busy.
async fn bind(config: &Config, identity: &Identity) -> Result<(Transport, Incoming), BindError> {
    let transport = |listen| TransportConfig {
        listen,
        identity: identity.clone(),
        keys: config.keys.clone(),
        allow: config.allow.clone(),
        advertise: config.advertise.clone(),
    };
    match Transport::bind(transport(config.listen)).await {
        Err(error) if config.role == Role::Embedded && config.listen.port() != 0 => {
            info!(%error, "the usual port is busy; taking another");
            let any = SocketAddr::new(config.listen.ip(), 0);
            Transport::bind(transport(any)).await
        }
        bound => bound,
    }
}

/// Where others may be, and how long to listen for them before acting alone.
fn look_around(
    config: &Config,
    me: PeerId,
    transport: &Transport,
) -> (Discovery, Option<Duration>) {
    let remembered = remembered::load(&config.data);
    let patience = if !config.join.is_empty() || config.join_file.is_some() {
        Some(JOIN_PATIENCE)
    } else {
        (!remembered.is_empty()).then_some(REMEMBERED_PATIENCE)
    };
    let announced = transport.clone();
    let mdns = libp2p_peer_of(&me)
        .filter(|_| config.mdns)
        .map(|me| MdnsConfig {
            me,
            advertised: Box::new(move || announced.advertised()),
        });
    let discovery = Discovery::start(DiscoveryConfig {
        join: config.join.clone(),
        join_file: config.join_file.clone(),
        remembered,
        mdns,
    });
    (discovery, patience)
}

/// Where peers are told to find this node.
fn addresses(config: &Config, transport: &Transport) -> Vec<SocketAddr> {
    let port = transport.local_addr().port();
    let mut addrs: Vec<SocketAddr> = if config.advertise.is_empty() {
        transport.advertised()
    } else {
        let with_port = |addr: &SocketAddr| {
            if addr.port() == 0 {
                SocketAddr::new(addr.ip(), port)
            } else {
                *addr
            }
        };
        config.advertise.iter().map(with_port).collect()
    };
    addrs.truncate(MAX_ADDRS);
    addrs
}
