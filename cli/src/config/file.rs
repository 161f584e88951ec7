//! The configuration file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::args::NodeArgs;
use crate::exit::{Exit, Failure};

/// Where the file lies, if nobody says otherwise.
pub(super) const DEFAULT_PATH: &str = "/etc/dfnode/dfnode.toml";

/// The longest file that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Reads the file that was named, or the usual one if it is there and may be read.
pub(super) fn read(named: Option<&Path>) -> Result<Option<(PathBuf, NodeArgs)>, Failure> {
    let path = named.unwrap_or_else(|| Path::new(DEFAULT_PATH));
    match read_text(path) {
        Ok(text) => parse(path, &text).map(|read| Some((path.to_owned(), read))),
        // The usual file may be for the daemon alone; a user's own `get` does without.
        Err(error)
            if named.is_none()
                && matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) =>
        {
            Ok(None)
        }
        Err(error) => {
            let error =
                Err::<(), _>(error).with_context(|| format!("cannot read {}", path.display()));
            error
                .map(|()| None)
                .map_err(|error| Failure::new(Exit::Usage, error))
        }
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    fs::read_to_string(path)
}

/// Reads `text`, pointing at the line that makes no sense.
pub(super) fn parse(path: &Path, text: &str) -> Result<NodeArgs, Failure> {
    toml::from_str(text)
        .map_err(|error| Failure::new(Exit::Usage, anyhow::anyhow!("{}: {error}", path.display())))
}
