//! What a node is told: on the command line, in the environment or in a file, under the same names.

use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use dfnode_node::limits::{ByteRate, ByteSize};
use dfnode_proxy::{HostPattern, Rule};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{GetOptions, LogFormat};
use crate::words::{Advertised, Endpoint, Span, StatusAddr};

/// Every setting of a node. Nothing is required; what is left out has the default that `config print` shows.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[command(next_help_heading = "Node")]
pub(crate) struct NodeArgs {
    /// A member of the cluster; a name with many addresses stands for all of them
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        env = "DFNODE_JOIN",
        value_delimiter = ','
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) join: Vec<Endpoint>,

    /// A file that names members, one a line; it is read again when it changes
    #[arg(long, value_name = "FILE", env = "DFNODE_JOIN_FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) join_file: Option<PathBuf>,

    /// Do not look for members on the local network
    #[arg(long, env = "DFNODE_NO_MDNS", value_parser = BoolishValueParser::new())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_mdns: Option<bool>,

    /// Run without a key: whoever reaches this host on a private address belongs to the cluster
    #[arg(long, env = "DFNODE_OPEN", value_parser = BoolishValueParser::new())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open: Option<bool>,

    /// The file with the cluster's key [default: the key in `DFNODE_CLUSTER_KEY`, then DATA/cluster.key, then
    /// /etc/dfnode/cluster.key]
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster_key: Option<PathBuf>,

    /// The configuration file [default: /etc/dfnode/dfnode.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "DFNODE_CONFIG")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,

    /// The node's folder [default: /var/lib/dfnode for root, else ~/.local/share/dfnode]
    #[arg(long, value_name = "DIR", env = "DFNODE_DATA")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,

    /// Where to listen for peers (UDP) [default: port 65000 of every address; any free port for the node of a `get`]
    #[arg(long, value_name = "ADDR", env = "DFNODE_LISTEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<SocketAddr>,

    /// The address that peers are told, where it is not one of this host's own
    #[arg(
        long,
        value_name = "ADDR",
        env = "DFNODE_ADVERTISE",
        value_delimiter = ','
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) advertise: Vec<Advertised>,

    /// Where to show metrics and the status page, or `off`; elsewhere than on this host alone, whoever reaches it reads
    /// them [default: 127.0.0.1:65002]
    #[arg(long, value_name = "ADDR", env = "DFNODE_STATUS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<StatusAddr>,

    /// The name of this host's place, such as a rack or a data centre: files cross into each about once
    #[arg(long, value_name = "ZONE", env = "DFNODE_ZONE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,

    /// Never upload
    #[arg(long, env = "DFNODE_LEECH", value_parser = BoolishValueParser::new())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) leech: Option<bool>,

    /// The most that this host receives, and the most that it sends, a second
    #[arg(long, value_name = "RATE", env = "DFNODE_TOTAL_LIMIT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total_limit: Option<ByteRate>,

    /// The most that one download receives a second, unless it says otherwise
    #[arg(long, value_name = "RATE", env = "DFNODE_LOCAL_LIMIT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) local_limit: Option<ByteRate>,

    /// The most disk that the cache takes, in use or not [default: what stays a tenth of the disk, and what is in use
    /// more where the disk has plenty]
    #[arg(long, value_name = "SIZE", env = "DFNODE_CACHE_SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_size: Option<ByteSize>,

    /// How long a file that nobody uses stays in the cache [default: as long as there is room]
    #[arg(long, value_name = "TIME", env = "DFNODE_CACHE_TTL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_ttl: Option<Span>,

    /// How many nodes may read one file from its source at once [default: 16]
    #[arg(long, value_name = "COUNT", env = "DFNODE_SOURCE_CONCURRENCY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source_concurrency: Option<NonZeroU8>,

    /// How old an answer of a source may be to be believed without asking again
    #[arg(long, value_name = "TIME", env = "DFNODE_MAX_AGE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_age: Option<Span>,

    /// Certificates to trust beside the system's, as PEM
    #[arg(long, value_name = "FILE", env = "DFNODE_CACERT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cacert: Option<PathBuf>,

    /// Where to listen for clients of the proxy, or `off` [default: 127.0.0.1:65001]
    #[arg(
        long,
        value_name = "ADDR",
        env = "DFNODE_PROXY",
        help_heading = "Proxy"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proxy: Option<StatusAddr>,

    /// A further host whose TLS connections the proxy opens, as it does those of public registries; `.example`
    /// means that host and every one below it
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        env = "DFNODE_REGISTRY",
        value_delimiter = ',',
        help_heading = "Proxy"
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) registry: Vec<HostPattern>,

    /// A regular expression: URLs that it matches are shared though they are no blobs; those of https only on hosts
    /// whose connections are opened, as those named with --registry are
    #[arg(
        long,
        value_name = "REGEX",
        env = "DFNODE_PROXY_RULE",
        help_heading = "Proxy"
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) proxy_rule: Vec<Rule>,

    /// Fetch a blob to its end also when the client wanted a part of it or left
    #[arg(long, env = "DFNODE_PREFETCH", value_parser = BoolishValueParser::new())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(hide_possible_values = true, help_heading = "Proxy")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefetch: Option<bool>,

    /// The registry behind the proxy where it is used as docker's mirror [default: <https://registry-1.docker.io>]
    #[arg(
        long,
        value_name = "URL",
        env = "DFNODE_MIRROR_UPSTREAM",
        help_heading = "Proxy"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mirror_upstream: Option<Url>,

    /// An HTTP proxy that leads to sources and registries; the usual variables are not looked at, because they may
    /// well name this node
    #[arg(
        long,
        value_name = "URL",
        env = "DFNODE_UPSTREAM_PROXY",
        help_heading = "Proxy"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream_proxy: Option<Url>,

    /// A host that is reached without that proxy
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        env = "DFNODE_UPSTREAM_DIRECT",
        value_delimiter = ',',
        help_heading = "Proxy"
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) upstream_direct: Vec<HostPattern>,

    /// As `--log-format`.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_format: Option<LogFormat>,

    /// As `--log-level`.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_level: Option<String>,

    /// What `dfnode get` is told.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) get: Option<GetOptions>,
}
