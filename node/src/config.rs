//! What a node is told before it starts. Defaults live here and in the parts' own configurations.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use dfnode_gossip::{Labels, PeerId};

use crate::cluster_key::ClusterKeys;
use crate::discovery::JoinTarget;
use crate::driver::Fault;
use crate::get::Role;
use crate::limits::ByteRate;
use crate::source::SourceConfig;
use crate::store::StoreConfig;

/// The UDP port for peers.
pub const PEER_PORT: u16 = 65000;
/// The TCP port of the status page.
pub const STATUS_PORT: u16 = 65002;

/// How fast bytes may flow through a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// What the whole node may receive, and what it may send, each. Default: no limit.
    pub total: Option<ByteRate>,
    /// What one task may receive, unless its caller says otherwise. Default: no limit.
    pub task: Option<ByteRate>,
}

/// Everything that a node must know before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's folder: identity, keys, cache and socket.
    pub data: PathBuf,
    /// Where to listen for peers. Default: port 65000 of every address, IPv6 and IPv4.
    ///
    /// An embedded node takes another port if this one is busy. For port 0 the system chooses one.
    pub listen: SocketAddr,
    /// Addresses to tell peers instead of those of the network interfaces. Default: none.
    pub advertise: Vec<SocketAddr>,
    /// Where members may be: addresses, or names with any number of them. Default: none.
    pub join: Vec<JoinTarget>,
    /// A file of such places, one a line, looked at again and again. Default: none.
    pub join_file: Option<PathBuf>,
    /// Whether to announce the node on the local network and find others there. Default: yes.
    pub mdns: bool,
    /// What makes this node a member.
    pub keys: ClusterKeys,
    /// The only peers to deal with, if not all members. Default: all.
    pub allow: Option<BTreeSet<PeerId>>,
    /// What the node says about itself.
    pub labels: Labels,
    /// Membership and events.
    pub gossip: dfnode_gossip::Config,
    /// Homes, leases and the exchange of blocks.
    pub tracker: dfnode_tracker::Config,
    /// The cache.
    pub store: StoreConfig,
    /// Reading sources.
    pub source: SourceConfig,
    /// How fast bytes may flow.
    pub limits: LimitsConfig,
    /// How old the source's last word may be for a caller who does not say. Default: 60 s.
    pub max_age: Duration,
    /// Where to show the status page. Default: port 65002 of the loopback address.
    pub status: Option<SocketAddr>,
    /// Whether to open the socket for local callers in the data folder. Default: yes.
    pub control: bool,
    /// Why the node runs. An embedded one shows no status page.
    pub role: Role,
    /// What to do wrong, for tests; a release build never does. Default: nothing.
    pub fault: Fault,
}

impl Config {
    /// The defaults for a node with this folder and these keys.
    pub fn new(data: PathBuf, keys: ClusterKeys) -> Self {
        Self {
            data,
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, PEER_PORT)),
            advertise: Vec::new(),
            join: Vec::new(),
            join_file: None,
            mdns: true,
            keys,
            allow: None,
            labels: Labels::default(),
            gossip: dfnode_gossip::Config::default(),
            tracker: dfnode_tracker::Config::default(),
            store: StoreConfig::default(),
            source: SourceConfig::default(),
            limits: LimitsConfig::default(),
            max_age: Duration::from_mins(1),
            status: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, STATUS_PORT))),
            control: true,
            role: Role::Daemon,
            fault: Fault::None,
        }
    }
}
