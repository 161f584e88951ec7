//! What can be typed.
//!
//! The words are kept as typed; [`crate::config`] and the commands turn them into what they need.

mod get;
mod node;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::words::StatusAddr;

pub(crate) use get::{EmbeddedArgs, GetArgs, GetOptions};
pub(crate) use node::NodeArgs;

/// Downloads a file once from its source, however many hosts ask for it: they give it to each other.
#[derive(Debug, Parser)]
#[command(
    name = "dfnode",
    version,
    propagate_version = true,
    infer_subcommands = false
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node that serves this host until it is stopped
    Run(Box<NodeArgs>),
    /// Download a URL
    Get(Box<GetArgs>),
    /// Show the node that runs on this host
    Status(ListArgs),
    /// Show the peers that it knows
    Peers(ListArgs),
    /// Show what it stores and downloads
    Tasks(ListArgs),
    /// Forget what was stored of a URL
    Rm(RmArgs),
    /// Make or show the key of a cluster
    #[command(subcommand)]
    Key(KeyCommand),
    /// The certificate authority with which the proxy opens TLS connections of registries
    #[command(subcommand)]
    Ca(CaCommand),
    /// Show, or write, what makes a container engine pull through this host's node
    Setup(SetupArgs),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What to do with a cluster key.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Print a new key and nothing else; it is stored nowhere
    New,
    /// Print the key that a node here would use
    Show(ShowKeyArgs),
}

/// Which key.
#[derive(Debug, Args)]
pub(crate) struct ShowKeyArgs {
    /// The file with the key [default: as `dfnode run` looks for it]
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster_key: Option<PathBuf>,

    /// The node's folder
    #[arg(long, value_name = "DIR", env = "DFNODE_DATA")]
    pub(crate) data: Option<PathBuf>,
}

/// What to do with the certificate authority.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Make it, unless there is one, and have this host's programs trust it
    Install(CaArgs),
    /// Print where its certificate lies
    Path(CaArgs),
    /// Print its certificate
    Print(CaArgs),
    /// Have nobody trust it any more, and delete it with its key
    Remove(CaArgs),
}

/// Which certificate authority.
#[derive(Debug, Args)]
pub(crate) struct CaArgs {
    /// The node's folder [default: as `dfnode run` finds it]
    #[arg(long, value_name = "DIR", env = "DFNODE_DATA")]
    pub(crate) data: Option<PathBuf>,
}

/// Which engine, and what to do.
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// The engine
    #[arg(value_name = "ENGINE")]
    pub(crate) engine: Engine,

    /// Write the files; without it they are only shown
    #[arg(long, conflicts_with = "undo")]
    pub(crate) write: bool,

    /// Take back what --write wrote
    #[arg(long)]
    pub(crate) undo: bool,

    /// How the engine finds the node [default: mirror for containerd, proxy for the others]
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<Mode>,

    /// Where the proxy listens [default: as the configuration file says, else 127.0.0.1:65001]
    #[arg(long, value_name = "ADDR", env = "DFNODE_PROXY")]
    pub(crate) proxy: Option<StatusAddr>,

    /// The node's folder [default: as `dfnode run` finds it]
    #[arg(long, value_name = "DIR", env = "DFNODE_DATA")]
    pub(crate) data: Option<PathBuf>,

    /// The folder that holds the host's /etc
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/",
        hide_default_value = true
    )]
    pub(crate) root: PathBuf,
}

/// A container engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// dockerd.
    Docker,
    /// containerd, and what stands on it (Kubernetes, nerdctl).
    Containerd,
    /// podman and buildah.
    Podman,
    /// CRI-O.
    Crio,
}

/// How an engine finds the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// By `HTTPS_PROXY`: every registry; nothing is pulled while the node is down.
    Proxy,
    /// As a mirror: docker knows one for Docker Hub alone; while the node is down, pulls go straight to the registry.
    Mirror,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether a node could run with it, and what is wrong
    Check(Box<NodeArgs>),
    /// Print each setting that `dfnode run` would use, and where it comes from
    Print(Box<NodeArgs>),
}

/// How a list is shown, and whose.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

/// Which node of this host is asked.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlaceArgs {
    /// The node's folder [default: the user's, then /var/lib/dfnode; env: `DFNODE_DATA`]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// What to forget.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// The URL as it was downloaded, or the id that `dfnode tasks` shows: what was read with headers or certificates
    /// of one's own, and what images are made of, has no URL of its own
    #[arg(value_name = "URL|ID")]
    pub(crate) what: crate::words::Removed,

    /// On every node of the cluster
    #[arg(long)]
    pub(crate) cluster: bool,

    /// The query parameters that were named in the download, as in `k1&k2`
    #[arg(long, value_name = "K1&K2", value_parser = crate::words::filter)]
    pub(crate) filter: Option<crate::words::Filter>,

    /// The tag that was given in the download
    #[arg(
        long,
        value_name = "TAG",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) tag: String,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

/// What is logged, and how. Everything logged goes to stderr.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Log")]
pub(crate) struct LogArgs {
    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT", env = "DFNODE_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// What is logged: error, warn, info, debug, trace, or directives as for `RUST_LOG`
    #[arg(long, global = true, value_name = "LEVEL", env = "DFNODE_LOG_LEVEL")]
    pub(crate) log_level: Option<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}
