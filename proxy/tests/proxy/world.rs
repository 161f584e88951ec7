//! Hosts of one cluster, each with a node, a proxy and clients that trust it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use dfnode_node::cluster_key::{ClusterKeys, Token};
use dfnode_node::source::trusting;
use dfnode_node::{Config as NodeConfig, Handle, Node};
use dfnode_proxy::{Ca, Config, Proxy};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tempfile::TempDir;

use crate::registry::{Internet, Kind, Registry};

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct World {
    pub(crate) internet: Internet,
    hosts: Vec<Host>,
    folder: TempDir,
}

pub(crate) struct Host {
    node: Option<Node>,
    handle: Handle,
    proxy: Proxy,
    ca: Ca,
}

/// What a client got.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Bytes,
}

impl World {
    /// So many hosts that know each other.
    pub(crate) async fn start(hosts: usize) -> Self {
        Self::start_with(hosts, |_| {}).await
    }

    /// The same, with proxies that are told something of their own.
    pub(crate) async fn start_with(hosts: usize, tune: impl Fn(&mut Config)) -> Self {
        log();
        let folder = tempfile::tempdir().unwrap();
        let keys = ClusterKeys::new(Token::generate());
        let internet = Internet::new();
        let mut world = Self {
            internet,
            hosts: Vec::new(),
            folder,
        };
        let mut first: Option<SocketAddr> = None;
        for number in 0..hosts {
            let data = world.folder.path().join(number.to_string());
            let mut config = NodeConfig::new(data.clone(), keys.clone());
            config.listen = "127.0.0.1:0".parse().unwrap();
            config.advertise = vec!["127.0.0.1:0".parse().unwrap()];
            config.mdns = false;
            config.join = first
                .iter()
                .map(|addr| addr.to_string().parse().unwrap())
                .collect();
            config.status = None;
            config.control = false;
            config.store.cache_bytes = 1 << 30;
            config.store.free_floor_bytes = 0;
            config.source.cacert = vec![world.internet.pem()];
            let node = Node::start(config).await.unwrap();
            first = first.or_else(|| Some(node.listen_addr()));
            let ca = Ca::load_or_create(&data).unwrap();
            let mut config = Config::new(data);
            config.listen = "127.0.0.1:0".parse().unwrap();
            config.cacert = vec![world.internet.pem()];
            tune(&mut config);
            let handle = node.handle();
            let proxy = Proxy::start(config, handle.clone()).await.unwrap();
            world.hosts.push(Host {
                node: Some(node),
                handle,
                proxy,
                ca,
            });
        }
        for host in &world.hosts {
            eventually("every node knows every other", async || {
                let status = host.handle.status().await;
                status.ready && status.peers as usize == hosts - 1
            })
            .await;
        }
        world
    }

    pub(crate) async fn registry(&self, kind: Kind) -> Registry {
        Registry::start(&self.internet, kind).await
    }

    pub(crate) fn host(&self, number: usize) -> &Host {
        &self.hosts[number]
    }

    pub(crate) async fn kill_node(&mut self, number: usize) {
        self.hosts[number].node.take().unwrap().kill().await;
    }
}

impl Host {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.proxy.addr()
    }

    pub(crate) const fn node(&self) -> &Handle {
        &self.handle
    }

    /// A client that goes through the proxy and trusts it alone: what it is shown is the proxy's certificate.
    pub(crate) fn client(&self) -> Client {
        self.client_trusting(self.ca.pem().as_bytes())
    }

    /// A client that goes through the proxy and does not trust it.
    pub(crate) fn stranger(&self, internet: &Internet) -> Client {
        self.client_trusting(&internet.pem())
    }

    fn client_trusting(&self, pem: &[u8]) -> Client {
        let proxy = reqwest::Proxy::all(format!("http://{}", self.addr())).unwrap();
        Client::builder()
            .tls_backend_preconfigured(trusting([pem]).unwrap())
            .proxy(proxy)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .unwrap()
    }

    /// GETs a URL without credentials.
    pub(crate) async fn get(&self, url: &str) -> Got {
        collect(self.client().get(url)).await.unwrap()
    }

    /// GETs a URL with an `Authorization`.
    pub(crate) async fn get_as(&self, url: &str, who: &str) -> Got {
        collect(self.client().get(url).header("authorization", who))
            .await
            .unwrap()
    }
}

/// Sends a request and reads the answer to its end.
pub(crate) async fn collect(request: RequestBuilder) -> Result<Got, reqwest::Error> {
    let answer: Response = request.send().await?;
    Ok(Got {
        status: answer.status(),
        headers: answer.headers().clone(),
        body: answer.bytes().await?,
    })
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Shows the log when `DFNODE_TEST_LOG` says which part.
fn log() {
    if let Ok(filter) = std::env::var("DFNODE_TEST_LOG") {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
    }
}
