//! From words to settings: what was typed, what the environment says, what the file says, what is usual.
//!
//! All three speak of the same [`NodeArgs`], so they are laid over each other as tables, key by key.

mod check;
mod file;
mod folders;
mod print;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _};
use dfnode_node::get::Role;
use dfnode_node::limits::ByteSize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Table;

use crate::args::{LogArgs, LogFormat, NodeArgs};
use crate::exit::{Exit, Failure};
use crate::say;
use crate::words::{Span, StatusAddr};

pub(crate) use check::certificates;
use folders::data_folder;
pub(crate) use folders::{FOLDER_MODE, SYSTEM_DATA, user_folder};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was typed.
    Flag(String),
    /// From this variable.
    Variable(String),
    /// From this file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(name) => f.write_str(name),
            Self::File(path) => path.display().fmt(f),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A node's settings, and where each comes from.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// What was said, by whomever; what was not said is empty.
    pub(crate) said: NodeArgs,
    /// Who said it, by key.
    origins: BTreeMap<String, Origin>,
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
    /// The node's folder.
    pub(crate) data: PathBuf,
}

impl Settings {
    /// Lays `args`, as clap read them into `matches`, over the configuration file.
    ///
    /// # Errors
    ///
    /// If the file was named and cannot be read, or what it says makes no sense.
    pub(crate) fn load(
        args: &NodeArgs,
        log: &LogArgs,
        matches: &ArgMatches,
    ) -> Result<Self, Failure> {
        let mut typed = args.clone();
        typed.log_format = log.log_format;
        typed.log_level.clone_from(&log.log_level);
        let typed = table_of(&typed)?;
        let (file, from_file) = match file::read(args.config.as_deref())? {
            Some((path, read)) => (Some(path), table_of(&read)?),
            None => (None, Table::new()),
        };
        let mut origins = BTreeMap::new();
        for key in from_file.keys() {
            origins.extend(file.clone().map(|file| (key.clone(), Origin::File(file))));
        }
        for key in typed.keys() {
            origins.insert(key.clone(), origin_of(key, matches));
        }
        let said: NodeArgs = overlay(from_file, typed)?;
        let data = match &said.data {
            Some(data) => data.clone(),
            None => data_folder()?,
        };
        Ok(Self {
            said,
            origins,
            file,
            data,
        })
    }

    /// Where the value of `key` comes from.
    pub(crate) fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }
}

/// `dfnode config check`.
pub(crate) fn check_command(settings: &Settings) -> Result<Exit, Failure> {
    let mut faults = check::check(settings);
    match faults.len() {
        0 => say::line("the configuration is sound"),
        1 => Err(faults.remove(0)),
        count => {
            let lines: Vec<_> = faults
                .iter()
                .map(|fault| format!("{:#}", fault.error))
                .collect();
            let what = format!("{count} faults\n{}", lines.join("\n"));
            Err(Failure::new(faults[0].exit, anyhow!(what)))
        }
    }
}

/// `dfnode config print`.
pub(crate) fn print_command(settings: &Settings) -> Result<Exit, Failure> {
    say::text(&print::print(settings, &defaults(settings)?)?)
}

/// What the configuration file says, if there is one.
pub(crate) fn read_file(named: Option<&Path>) -> Result<Option<NodeArgs>, Failure> {
    Ok(file::read(named)?.map(|(_, said)| said))
}

/// What the configuration file says that a command without `--config` goes by, if there is one.
pub(crate) fn read_usual_file() -> Result<Option<NodeArgs>, Failure> {
    let named = std::env::var_os("DFNODE_CONFIG").filter(|path| !path.is_empty());
    read_file(named.as_deref().map(Path::new))
}

/// The folder of the node here: the one that was typed, else the one in the configuration file, else the usual one.
pub(crate) fn node_folder(typed: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(folder) = typed {
        return Ok(folder.to_owned());
    }
    match read_usual_file()?.and_then(|said| said.data) {
        Some(folder) => Ok(folder),
        None => Ok(data_folder()?),
    }
}

/// What a node does where nobody says anything, as far as there are words for it.
fn defaults(settings: &Settings) -> Result<NodeArgs, Failure> {
    let alone = crate::key::Membership::Alone;
    let silent = Settings {
        said: NodeArgs::default(),
        ..settings.clone()
    };
    let config = crate::start::node_config(&silent, alone, Role::Daemon)?;
    let proxy = dfnode_proxy::Config::new(settings.data.clone());
    Ok(NodeArgs {
        no_mdns: Some(false),
        open: Some(false),
        data: Some(settings.data.clone()),
        listen: Some(config.listen),
        status: config.status.map(StatusAddr::At),
        proxy: Some(StatusAddr::At(proxy.listen)),
        prefetch: Some(proxy.prefetch),
        mirror_upstream: Some(proxy.mirror_upstream),
        leech: Some(config.labels.leech),
        cache_size: Some(ByteSize(config.store.cache_bytes)),
        source_concurrency: u8::try_from(config.tracker.source_readers)
            .ok()
            .and_then(NonZeroU8::new),
        max_age: Some(Span(config.max_age)),
        log_format: Some(LogFormat::default()),
        log_level: Some(crate::log::DEFAULT_LEVEL.to_owned()),
        ..NodeArgs::default()
    })
}

/// Lays `upper` over `lower`, key by key; tables within are laid over each other likewise.
pub(crate) fn overlay<T: DeserializeOwned>(lower: Table, upper: Table) -> Result<T, Failure> {
    let mut merged = lower;
    for (key, value) in upper {
        merged.insert(key, value);
    }
    // Both halves were read as `T` before, so this only fails if they were written by hand.
    merged
        .try_into()
        .map_err(|error| Failure::new(Exit::Usage, error))
}

/// What was said, as a table without what was not.
pub(crate) fn table_of<T: Serialize>(said: &T) -> Result<Table, Failure> {
    Table::try_from(said).map_err(Failure::from)
}

fn origin_of(key: &str, matches: &ArgMatches) -> Origin {
    match matches.value_source(&key.replace('-', "_")) {
        Some(ValueSource::EnvVariable) => Origin::Variable(variable_of(key)),
        _ => Origin::Flag(format!("--{key}")),
    }
}

/// The variable that says what `key` says.
fn variable_of(key: &str) -> String {
    format!("DFNODE_{}", key.replace('-', "_").to_uppercase())
}

/// The keys of a node's settings in the order of the help.
fn keys() -> Vec<String> {
    let command = NodeArgs::augment_args(clap::Command::new("run"));
    let flags = command
        .get_arguments()
        .filter_map(|argument| argument.get_long());
    let flags = flags.filter(|flag| *flag != "config").map(str::to_owned);
    flags
        .chain(["log-format", "log-level"].map(str::to_owned))
        .collect()
}

/// `path` as it is to be found from anywhere.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests;
