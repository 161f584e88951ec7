//! What a node shows of itself, its peers and its tasks.

use std::net::SocketAddr;
use std::time::Duration;

use dfnode_tracker::{TaskId, VersionId};
use serde::{Deserialize, Serialize};

/// Why a node runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// To serve this host until it is told to stop.
    #[default]
    Daemon,
    /// For one download, and whoever asks meanwhile: it gives way to a daemon.
    Embedded,
}

/// Bytes that a node moved since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BytesView {
    /// Payload received from peers.
    pub from_peers: u64,
    /// Payload read from sources.
    pub from_source: u64,
    /// Payload given to local callers that was here before they asked.
    pub from_cache: u64,
    /// Payload sent to peers.
    pub to_peers: u64,
}

/// A node at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// The node's name among its peers.
    pub peer: String,
    /// Why it runs.
    pub role: Role,
    /// The process.
    pub pid: u32,
    /// Since it started.
    pub uptime: Duration,
    /// Where it listens for peers.
    pub listen: Option<SocketAddr>,
    /// Where it tells peers to find it.
    pub advertised: Vec<SocketAddr>,
    /// Where it shows its status page.
    pub status: Option<SocketAddr>,
    /// Whether it runs without a cluster key.
    pub open: bool,
    /// Whether it has found the cluster, or has none to look for.
    pub ready: bool,
    /// Its zone.
    pub zone: String,
    /// Whether it never uploads.
    pub leech: bool,
    /// Peers that are alive, itself not among them.
    pub peers: u32,
    /// Peers that it holds a connection to.
    pub links: u32,
    /// Tasks that it stores anything of.
    pub tasks: u32,
    /// Downloads under way.
    pub downloads: u32,
    /// Uploads under way.
    pub uploads: u32,
    /// How long there has been neither; `None` while there is one.
    pub idle: Option<Duration>,
    /// Bytes that the cache takes.
    pub cache_bytes: u64,
    /// Bytes that it may take.
    pub cache_limit: u64,
    /// What moved since the start.
    pub bytes: BytesView,
}

/// A peer as this node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// Its name.
    pub peer: String,
    /// Where it says it can be found.
    pub addrs: Vec<SocketAddr>,
    /// Its zone.
    pub zone: String,
    /// `alive`, `suspect` or `down`.
    pub state: String,
    /// Whether this node refuses to deal with it.
    pub isolated: bool,
    /// Why.
    pub reason: Option<String>,
    /// Whether there is a connection to it.
    pub link: bool,
    /// The round trip on that connection.
    pub rtt: Option<Duration>,
    /// Payload sent to it.
    pub bytes_up: u64,
    /// Payload received from it.
    pub bytes_down: u64,
}

/// A task as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// Its id.
    pub task: TaskId,
    /// Where it came from, without user info and with the query hidden; empty if only peers asked for it.
    pub url: String,
    /// Which version of it.
    pub version: Option<VersionId>,
    /// The length of the whole, once known.
    pub length: Option<u64>,
    /// Bytes of it that are here.
    pub done: u64,
    /// Whether that is all of it.
    pub complete: bool,
    /// Local callers that wait for it.
    pub readers: u32,
    /// Peers that it is exchanged with.
    pub peers: u32,
    /// When it was last asked for or sent, in milliseconds since 1970.
    pub last_used_unix_ms: u64,
    /// Of what was read with credentials, the users of whose credentials the source has approved: it is shown to them
    /// and to root alone.
    pub owners: Option<Vec<u32>>,
}
