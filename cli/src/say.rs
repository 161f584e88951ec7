//! The one place that writes to stdout and stderr.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

use crate::exit::{Exit, Failure};

/// Why something was not printed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout")]
pub(crate) struct PrintError(#[from] io::Error);

/// Writes a line to stdout.
pub(crate) fn line(what: impl Display) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{what}").and_then(|()| out.flush());
    written.map_err(PrintError)?;
    Ok(Exit::Ok)
}

/// Writes `what` to stdout as it is.
pub(crate) fn text(what: &str) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(what.as_bytes()).and_then(|()| out.flush());
    written.map_err(PrintError)?;
    Ok(Exit::Ok)
}

/// Writes JSON to stdout, for people to read as well.
pub(crate) fn json<T: Serialize>(what: &T) -> Result<Exit, Failure> {
    line(serde_json::to_string_pretty(what)?)
}

/// Writes a line to stderr. Nobody can be told if that fails.
pub(crate) fn note(what: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{what}");
}

/// Whether `failure` is but a reader of what we print that has seen enough.
pub(crate) fn is_broken_pipe(failure: &Failure) -> bool {
    failure
        .error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<PrintError>())
        .any(|error| error.0.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reader_of_what_is_printed_may_leave() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let printed: Failure = PrintError(broken()).into();
        assert!(is_broken_pipe(&printed));
        let other: Failure = broken().into();
        assert!(!is_broken_pipe(&other));
    }
}
