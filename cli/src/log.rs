//! Log lines, on stderr.

use std::env;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;
use crate::exit::Failure;

/// What a node logs, if nobody says otherwise.
pub(crate) const DEFAULT_LEVEL: &str = "info";

/// What a single command logs, if nobody says otherwise: it has other ways to say what it does.
pub(crate) const QUIET_LEVEL: &str = "error";

/// Begins to log. `level` is what was typed; without it `RUST_LOG`, and else `usual`.
pub(crate) fn start(
    format: Option<LogFormat>,
    level: Option<&str>,
    usual: &str,
) -> Result<(), Failure> {
    let variable = env::var(EnvFilter::DEFAULT_ENV)
        .ok()
        .filter(|text| !text.is_empty());
    let directives = level
        .map(str::to_owned)
        .or(variable)
        .unwrap_or_else(|| usual.to_owned());
    let filter = filter(&directives)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would be told on stderr too, and end the process where that takes nothing: a log on a full disk.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    match format.unwrap_or_default() {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}

/// Whether `directives` say what to log.
pub(crate) fn check(directives: &str) -> Result<(), Failure> {
    filter(directives).map(drop)
}

fn filter(directives: &str) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(directives)
        .map_err(|error| Failure::usage(format!("`{directives}` is no log level: {error}")))
}
