//! Nodes that know each other, and what a caller of one sees.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dfnode_node::cluster_key::{ClusterKeys, Token};
use dfnode_node::get::{Caller, Download, GetError, GetEvent, GetProgress, GetRequest, GetSummary};
use dfnode_node::{Config, Handle, Node};
use tempfile::TempDir;
use url::Url;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whoever asks in these tests.
pub(crate) const ME: Caller = Caller { uid: 1000 };

/// Some nodes of one cluster.
pub(crate) struct Cluster {
    folder: TempDir,
    keys: ClusterKeys,
    nodes: Vec<Option<Node>>,
    addrs: Vec<SocketAddr>,
}

/// What a download ended with.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) bytes: Vec<u8>,
    pub(crate) summary: GetSummary,
    pub(crate) took: Duration,
}

impl Cluster {
    /// So many nodes that all know each other.
    pub(crate) async fn start(size: usize) -> Self {
        Self::start_with(size, |_, _| {}).await
    }

    /// The same, each told something of its own first.
    pub(crate) async fn start_with(size: usize, tune: impl Fn(usize, &mut Config)) -> Self {
        log();
        let mut cluster = Self {
            folder: tempfile::tempdir().unwrap(),
            keys: ClusterKeys::new(Token::generate()),
            nodes: Vec::new(),
            addrs: Vec::new(),
        };
        for index in 0..size {
            cluster.add_with(|config| tune(index, config)).await;
        }
        cluster.meet().await;
        cluster
    }

    /// One more node.
    pub(crate) async fn add(&mut self) -> usize {
        self.add_with(|_| {}).await
    }

    /// One more node that is told something of its own first.
    pub(crate) async fn add_with(&mut self, tune: impl FnOnce(&mut Config)) -> usize {
        let index = self.nodes.len();
        let mut config = self.config(index);
        tune(&mut config);
        let node = Node::start(config).await.unwrap();
        self.addrs.push(node.listen_addr());
        self.nodes.push(Some(node));
        index
    }

    /// What a node is told.
    pub(crate) fn config(&self, index: usize) -> Config {
        let mut config = Config::new(
            self.folder.path().join(index.to_string()),
            self.keys.clone(),
        );
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.advertise = vec!["127.0.0.1:0".parse().unwrap()];
        config.mdns = false;
        config.join = self
            .addrs
            .first()
            .map(|addr| addr.to_string().parse().unwrap())
            .into_iter()
            .collect();
        config.status = None;
        config.control = false;
        config.store.cache_bytes = 1 << 30;
        config.store.free_floor_bytes = 0;
        config
    }

    /// Starts a node again with what it had.
    pub(crate) async fn restart(&mut self, index: usize) {
        self.kill(index).await;
        let node = Node::start(self.config(index)).await.unwrap();
        self.addrs[index] = node.listen_addr();
        self.nodes[index] = Some(node);
    }

    /// Ends a node as a crash would.
    pub(crate) async fn kill(&mut self, index: usize) {
        if let Some(node) = self.nodes[index].take() {
            node.kill().await;
        }
    }

    /// Stops a node as a signal would.
    pub(crate) async fn stop(&mut self, index: usize) {
        if let Some(node) = self.nodes[index].take() {
            node.handle().shutdown();
            node.stopped().await;
        }
    }

    pub(crate) fn node(&self, index: usize) -> Handle {
        self.nodes[index].as_ref().unwrap().handle()
    }

    fn alive(&self) -> Vec<Handle> {
        self.nodes.iter().flatten().map(Node::handle).collect()
    }

    /// Waits until every node knows every other.
    pub(crate) async fn meet(&self) {
        let alive = self.alive();
        for node in &alive {
            eventually("every node knows every other", async || {
                let status = node.status().await;
                status.ready && status.peers as usize == alive.len() - 1
            })
            .await;
        }
    }

    /// Downloads on one node.
    pub(crate) async fn get(&self, index: usize, url: Url) -> Result<Got, GetError> {
        get(&self.node(index), GetRequest::new(url)).await
    }

    /// Downloads on every node at once.
    pub(crate) async fn get_all(&self, url: &Url) -> Vec<Got> {
        let gets = self.alive().into_iter().map(|node| {
            let request = GetRequest::new(url.clone());
            async move { get(&node, request).await.unwrap() }
        });
        futures::future::join_all(gets).await
    }
}

/// Downloads to the end and reads what the node's file says.
pub(crate) async fn get(node: &Handle, request: GetRequest) -> Result<Got, GetError> {
    get_as(ME, node, request).await
}

pub(crate) async fn get_as(
    caller: Caller,
    node: &Handle,
    request: GetRequest,
) -> Result<Got, GetError> {
    let download = node.get(caller, request).await?;
    collect(download).await
}

/// Follows a download to its end.
pub(crate) async fn collect(download: Download) -> Result<Got, GetError> {
    let began = now();
    tokio::time::timeout(PATIENCE, follow(download, began))
        .await
        .expect("a download never hangs")
}

async fn follow(mut download: Download, began: Instant) -> Result<Got, GetError> {
    let (mut file, mut bytes): (Option<Arc<File>>, Vec<u8>) = (None, Vec::new());
    while let Some(event) = download.next().await {
        match event? {
            GetEvent::Started(started) => file = Some(started.file.0),
            GetEvent::Progress(progress) => read(
                file.as_deref().expect("a start first"),
                &progress,
                &mut bytes,
            ),
            GetEvent::Restarted => {
                (file, bytes) = (None, Vec::new());
            }
            GetEvent::Done(summary) => {
                return Ok(Got {
                    bytes,
                    summary,
                    took: began.elapsed(),
                });
            }
        }
    }
    panic!("a download ends with done or an error");
}

fn read(file: &File, progress: &GetProgress, bytes: &mut Vec<u8>) {
    for run in &progress.runs {
        let (start, end) = (
            usize::try_from(run.start).unwrap(),
            usize::try_from(run.end).unwrap(),
        );
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        file.read_exact_at(&mut bytes[start..end], run.start)
            .unwrap();
    }
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The time, for tests.
#[expect(
    clippy::disallowed_methods,
    reason = "a test looks at the clock on the wall"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Shows the nodes' log when `DFNODE_TEST_LOG` says which part.
fn log() {
    if let Ok(filter) = std::env::var("DFNODE_TEST_LOG") {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
    }
}
