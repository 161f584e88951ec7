//! What the server was asked, so that tests can count.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// One request and how it was answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// GET or HEAD.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// The `Range` header.
    pub(crate) range: Option<String>,
    /// The `If-Match` header.
    pub(crate) if_match: Option<String>,
    /// Whether an `Authorization` header came along.
    pub(crate) authorized: bool,
    /// The status of the answer.
    pub(crate) status: u16,
    /// How many bytes of the body were written.
    pub(crate) body_bytes: u64,
}

/// The file that the requests go to, a line each. The first line says that the server is ready.
pub(super) struct Log(Mutex<File>);

impl Log {
    pub(super) fn open(path: &Path) -> Self {
        Self(Mutex::new(File::options().append(true).open(path).unwrap()))
    }

    pub(super) fn ready(&self) {
        self.line("ready");
    }

    pub(super) fn note(&self, asked: &Asked) {
        self.line(&serde_json::to_string(asked).unwrap());
    }

    fn line(&self, text: &str) {
        writeln!(self.0.lock().unwrap(), "{text}").unwrap();
    }
}

/// All requests in the file at `path`.
pub(super) fn read(path: &Path) -> Vec<Asked> {
    let text = fs::read_to_string(path).unwrap();
    // A line that is being written has no end yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
