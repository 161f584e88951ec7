//! How a download ended, in one line for people and one object for programs.

use std::path::Path;

use dfnode_node::get::{GetProgress, GetSummary};
use indicatif::{BinaryBytes, HumanBytes};
use serde::Serialize;
use url::Url;

use crate::exit::{Exit, Failure};

/// What `--json` prints.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    url: String,
    output: String,
    bytes: u64,
    seconds: f64,
    from_peers: u64,
    from_source: u64,
    from_cache: u64,
    peers: u32,
    digest: Option<String>,
    exit: u8,
    error: Option<String>,
}

impl Report {
    /// Nothing has happened yet.
    pub(super) fn new(url: &Url, output: &Path) -> Self {
        Self {
            url: shown(url),
            output: output.display().to_string(),
            bytes: 0,
            seconds: 0.0,
            from_peers: 0,
            from_source: 0,
            from_cache: 0,
            peers: 0,
            digest: None,
            exit: Exit::Other.code(),
            error: None,
        }
    }

    /// So much has happened.
    pub(super) const fn progress(&mut self, progress: &GetProgress) {
        self.bytes = progress.done_bytes;
        self.from_peers = progress.from_peers;
        self.from_source = progress.from_source;
        self.from_cache = progress.from_cache;
        self.peers = progress.peers;
    }

    /// It is done.
    pub(super) fn summary(&mut self, summary: &GetSummary) {
        self.bytes = summary.bytes;
        self.from_peers = summary.from_peers;
        self.from_source = summary.from_source;
        self.from_cache = summary.from_cache;
        self.peers = summary.peers;
        self.digest = summary.digest.as_ref().map(ToString::to_string);
    }

    /// It ended after so many seconds.
    pub(super) fn end(&mut self, seconds: f64, outcome: &Result<Exit, Failure>) {
        self.seconds = seconds;
        match outcome {
            Ok(exit) => self.exit = exit.code(),
            Err(failure) => {
                self.exit = failure.exit.code();
                self.error = Some(format!("{:#}", failure.error));
            }
        }
    }

    /// The one line for people.
    pub(super) fn line(&self) -> String {
        let parts = [
            (
                self.from_peers,
                format!("{} from {}", size(self.from_peers), peers(self.peers)),
            ),
            (
                self.from_source,
                format!("{} from the source", size(self.from_source)),
            ),
            (
                self.from_cache,
                format!("{} from the cache", size(self.from_cache)),
            ),
        ];
        let parts: Vec<_> = parts
            .into_iter()
            .filter(|(bytes, _)| *bytes > 0)
            .map(|(_, text)| text)
            .collect();
        let split = if parts.is_empty() {
            String::new()
        } else {
            format!(": {}", parts.join(", "))
        };
        let rate = HumanBytes(rate(self.bytes, self.seconds));
        let checked = if self.digest.is_some() {
            "; digest right"
        } else {
            ""
        };
        format!(
            "{}: {} in {:.1} s ({rate}/s){split}{checked}",
            self.output,
            size(self.bytes),
            self.seconds
        )
    }
}

/// A URL without what may be a secret in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // These fail only for URLs without a host, which are refused earlier.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

fn size(bytes: u64) -> BinaryBytes {
    BinaryBytes(bytes)
}

fn peers(count: u32) -> String {
    if count == 1 {
        "1 peer".to_owned()
    } else {
        format!("{count} peers")
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a rate for people"
)]
fn rate(bytes: u64, seconds: f64) -> u64 {
    (bytes as f64 / seconds.max(1e-3)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(
            &"https://me:secret@host/a?b".parse().unwrap(),
            Path::new("a"),
        )
    }

    #[test]
    fn the_object_has_the_documented_fields_and_no_password() {
        let mut report = report();
        report.summary(&GetSummary {
            bytes: 3,
            from_peers: 1,
            from_source: 2,
            peers: 1,
            ..GetSummary::default()
        });
        report.end(0.5, &Ok(Exit::Ok));
        let value = serde_json::to_value(&report).unwrap();
        let keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        let documented = [
            "url",
            "output",
            "bytes",
            "seconds",
            "from_peers",
            "from_source",
            "from_cache",
            "peers",
            "digest",
            "exit",
            "error",
        ];
        assert!(
            documented
                .iter()
                .all(|key| keys.contains(&(*key).to_owned()))
                && keys.len() == documented.len()
        );
        assert_eq!(value["url"], "https://host/a?b");
        assert_eq!(value["exit"], 0);
    }

    #[test]
    fn an_error_says_what_it_said_on_stderr() {
        let mut report = report();
        report.end(0.5, &Err(Failure::usage("no")));
        let value = serde_json::to_value(&report).unwrap();
        assert_eq!((&value["exit"], &value["error"]), (&2.into(), &"no".into()));
    }

    #[test]
    fn the_line_names_only_where_bytes_came_from() {
        let mut report = report();
        report.summary(&GetSummary {
            bytes: 2048,
            from_peers: 2048,
            peers: 2,
            ..GetSummary::default()
        });
        report.end(1.0, &Ok(Exit::Ok));
        assert_eq!(
            report.line(),
            "a: 2.00 KiB in 1.0 s (2.00 KiB/s): 2.00 KiB from 2 peers"
        );
    }
}
