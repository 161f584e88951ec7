//! The proxy from start to stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dfnode_node::get::Caller;
use dfnode_node::source::{TrustError, trusting};
use dfnode_node::{Handle, ambient};
use rustls::crypto::CryptoProvider;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::ca::{Ca, CaError};
use crate::config::{Config, Patience, Rule};
use crate::dial::{self, Dialer};
use crate::entry;
use crate::flight::Flights;
use crate::hosts::Hosts;
use crate::leaf::Leaves;
use crate::origin::{Authority, Origin};
use crate::stats::Stats;
use crate::token::Tokens;
use crate::upstream::Upstream;
use crate::yes::{Key, Yeses};

/// Between two tries to take a connection when the system has no room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a proxy without a certificate authority looks for one.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long connections may take to end when the proxy stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why the proxy does not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be had: another program listens there, or it is not this host's.
    #[error(
        "cannot listen on {addr} for clients of the proxy; give another address with --proxy, or `--proxy off`"
    )]
    Bind {
        /// Where.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificate authority is there but cannot be used.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// Upstreams cannot be judged.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The proxy on the way to the upstreams is not one that can be used.
    #[error("the upstream proxy must be an http:// URL with a host")]
    UpstreamProxy,
    /// The default upstream of the mirror mode is not one that can be used.
    #[error("the mirror's upstream must be an http:// or https:// URL with a host")]
    MirrorUpstream,
}

/// A proxy that runs. Dropping it ends it at once.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    addr: SocketAddr,
}

/// What every connection may use.
pub(crate) struct Shared {
    pub(crate) node: Handle,
    /// In whose name the node is asked.
    pub(crate) caller: Caller,
    pub(crate) listen: SocketAddr,
    pub(crate) upstream: Upstream,
    pub(crate) hosts: Hosts,
    pub(crate) probing: Flights<Authority>,
    pub(crate) yeses: Yeses,
    pub(crate) asking: Flights<Key>,
    pub(crate) tokens: Tokens,
    pub(crate) rules: Vec<Rule>,
    pub(crate) prefetch: bool,
    pub(crate) patience: Patience,
    pub(crate) mirror: Origin,
    pub(crate) stats: Arc<Stats>,
    /// Places for connections: of clients, and of what they are joined to.
    room: Arc<Semaphore>,
    leaves: Mutex<Certificates>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// The certificate authority, once there is one.
struct Certificates {
    data: PathBuf,
    provider: Arc<CryptoProvider>,
    leaves: Option<Arc<Leaves>>,
    looked: Instant,
}

fn dialer(config: &Config, listen: SocketAddr) -> Result<Dialer, StartError> {
    let name = format!("dfnode-{:08x}", ambient::seed() >> 32);
    let proxy = config.upstream_proxy.as_ref();
    Dialer::new(proxy, config.upstream_direct.clone(), listen, name)
        .ok_or(StartError::UpstreamProxy)
}

fn mirror(config: &Config) -> Result<Origin, StartError> {
    Origin::of_url(&config.mirror_upstream).ok_or(StartError::MirrorUpstream)
}

impl Proxy {
    /// What in these settings would stop a proxy, as far as it can be told without listening.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn check(config: &Config) -> Result<(), StartError> {
        dialer(config, config.listen)?;
        mirror(config).map(drop)
    }

    /// Listens, and serves until it is stopped.
    ///
    /// Must be called within a multi-threaded tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn start(config: Config, node: Handle) -> Result<Self, StartError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let bind = |source| StartError::Bind {
            addr: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(bind)?;
        let listen = listener.local_addr().map_err(bind)?;
        let tls = trusting(config.cacert.iter().map(Vec::as_slice))?;
        let dialer = Arc::new(dialer(&config, listen)?);
        let ca = Ca::load(&config.data)?;
        let stats = Arc::new(Stats::default());
        let shown = Arc::clone(&stats);
        let mirror = mirror(&config)?;
        let shared = Arc::new(Shared {
            caller: Caller { uid: 0 },
            listen,
            upstream: Upstream::new(dialer, tls, config.patience.kept),
            hosts: Hosts::new(&config.registries),
            probing: Flights::default(),
            yeses: Yeses::new(),
            asking: Flights::default(),
            tokens: Tokens::new(),
            rules: config.rules,
            prefetch: config.prefetch,
            patience: config.patience,
            mirror,
            stats,
            room: Arc::new(Semaphore::new(config.max_connections)),
            leaves: Mutex::new(Certificates {
                leaves: ca.map(|ca| Arc::new(Leaves::new(ca, Arc::clone(&provider)))),
                data: config.data,
                provider,
                looked: Instant::now(),
            }),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            node,
        });
        shared.node.show_metrics(move || shown.rows());
        if shared.leaves().is_none() {
            info!(
                "no certificate authority yet (dfnode ca install): TLS connections pass unopened, mirror mode works"
            );
        }
        if !listen.ip().is_loopback() {
            warn!(%listen, "whoever reaches this address can use this host's network through the proxy");
        }
        tokio::spawn(accept(Arc::clone(&shared), listener));
        Ok(Self {
            shared,
            addr: listen,
        })
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops, cutting what is under way after a short while.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        // What does not end in time is dropped with the runtime.
        let _ = tokio::time::timeout(FAREWELL, self.shared.tasks.wait()).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    /// A place for one more connection; `None`, and counted, if there is none.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.room).try_acquire_owned().ok();
        if place.is_none() {
            self.stats.refused.add(1);
        }
        place
    }

    /// Runs work beside a connection, until it ends or the proxy stops.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let _ = stop.run_until_cancelled(work).await;
        });
    }

    /// The certificates to show, if there is an authority to sign them.
    pub(crate) fn leaves(&self) -> Option<Arc<Leaves>> {
        let mut certificates = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if certificates.leaves.is_none() && certificates.looked.elapsed() >= LOOK_AGAIN {
            certificates.looked = Instant::now();
            match Ca::load(&certificates.data) {
                Ok(Some(ca)) => {
                    info!("found a certificate authority: registries' TLS connections are opened");
                    let leaves = Leaves::new(ca, Arc::clone(&certificates.provider));
                    certificates.leaves = Some(Arc::new(leaves));
                }
                Ok(None) => {}
                Err(error) => debug!(%error, "the certificate authority cannot be used"),
            }
        }
        certificates.leaves.clone()
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let Some(place) = shared.place() else {
                    continue;
                };
                shared.stats.connections.add(1);
                dial::tune(&stream);
                let own = Arc::clone(&shared);
                shared.spawn(async move {
                    entry::converse(&own, stream).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot take a connection to the proxy");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
