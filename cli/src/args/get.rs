//! What a download is told.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use dfnode_node::limits::ByteRate;
use dfnode_tracker::Digest;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::exit;
use crate::words::{self, Endpoint, Filter, Range, Span};

/// One download.
#[derive(Debug, Clone, Args)]
#[command(after_help = exit::HELP)]
pub(crate) struct GetArgs {
    /// What to download: http://… or https://…
    #[arg(value_parser = words::source_url)]
    pub(crate) url: Url,

    /// Where to put it; `-` is stdout [default: the last part of the URL's path, in the current folder]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// A header for the source, as in `Authorization: Bearer …`; it may be given many times
    #[arg(short = 'H', long, value_name = "K: V")]
    pub(crate) header: Vec<String>,

    /// What the file must hash to: sha256:HEX, blake3:HEX or md5:HEX
    #[arg(long, value_name = "DIGEST")]
    pub(crate) digest: Option<Digest>,

    /// What the file's MD5 must be
    #[arg(long, value_name = "HEX", conflicts_with = "digest", value_parser = words::md5)]
    pub(crate) md5: Option<Digest>,

    /// Only these bytes, first and last counted in, from 0; `a-` is to the end
    #[arg(long, value_name = "A-B", conflicts_with_all = ["digest", "md5"])]
    pub(crate) range: Option<Range>,

    /// Take it from peers or this host's cache, or not at all
    #[arg(long, conflicts_with = "source_only")]
    pub(crate) no_source: bool,

    /// Take it from the source, whatever peers and this host's cache have
    #[arg(long)]
    pub(crate) source_only: bool,

    #[command(flatten)]
    pub(crate) options: GetOptions,

    #[command(flatten)]
    pub(crate) node: EmbeddedArgs,
}

/// What may also stand in the `[get]` part of the configuration file.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct GetOptions {
    /// The most that this download receives a second, as in `10M`
    #[arg(long, value_name = "RATE", env = "DFNODE_LOCAL_LIMIT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) local_limit: Option<ByteRate>,

    /// Give up after so long, as in `5m` [default: never]
    #[arg(long, value_name = "TIME", env = "DFNODE_TIMEOUT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<Span>,

    /// Query parameters that do not select content, as in `token&expires`
    #[arg(long, value_name = "K1&K2", env = "DFNODE_FILTER", value_parser = words::filter)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<Filter>,

    /// Keeps equal URLs with different content apart
    #[arg(long, value_name = "TAG", env = "DFNODE_TAG")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tag: Option<String>,

    /// How old an answer of the source may be to be believed without asking again [default: as the node is told]
    #[arg(long, value_name = "TIME", env = "DFNODE_MAX_AGE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_age: Option<Span>,

    /// Certificates to trust for this source beside the system's, as PEM
    #[arg(long, value_name = "FILE", env = "DFNODE_CACERT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cacert: Option<PathBuf>,

    /// Without a node on this host: stay for so long to give the file to peers [default: until nobody asked for 5s]
    #[arg(long, value_name = "TIME", env = "DFNODE_LINGER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) linger: Option<Span>,

    /// Print one JSON object at the end: on stdout, or on stderr with `-o -`
    #[arg(long, env = "DFNODE_JSON", value_parser = BoolishValueParser::new())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) json: Option<bool>,

    /// Show nothing but errors
    #[arg(short, long, env = "DFNODE_QUIET", value_parser = BoolishValueParser::new())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quiet: Option<bool>,
}

/// The node that is asked, and the node that `get` is by itself where none runs.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Node")]
pub(crate) struct EmbeddedArgs {
    /// The node's folder [default: the user's, then /var/lib/dfnode; env: `DFNODE_DATA`]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Without a node on this host: a member of the cluster to join
    #[arg(long, value_name = "HOST[:PORT]", action = ArgAction::Append)]
    pub(crate) join: Vec<Endpoint>,

    /// Without a node on this host: the file with the cluster's key [default: as `dfnode run` looks for it]
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster_key: Option<PathBuf>,

    /// The configuration file [default: /etc/dfnode/dfnode.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "DFNODE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}
