//! `--join-file`: one target a line, read again when it changes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::join::JoinTarget;
use crate::private_file;

const MAX_FILE_BYTES: u64 = 256 * 1024;
const MAX_TARGETS: usize = 1024;

/// A file with targets.
#[derive(Debug)]
pub(crate) struct JoinFile {
    path: PathBuf,
    /// What the file looked like when it was read.
    seen: Option<(SystemTime, u64)>,
}

impl JoinFile {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    /// The targets, if the file changed since the last call. It may be missing for a while.
    pub(crate) fn read_if_changed(&mut self) -> Option<BTreeSet<JoinTarget>> {
        let looks = look(&self.path);
        if looks == self.seen {
            return None;
        }
        let text = private_file::read(&self.path, MAX_FILE_BYTES)
            .inspect_err(|error| {
                tracing::warn!(path = %self.path.display(), %error, "cannot read the join file");
            })
            .ok()?;
        self.seen = looks;
        Some(parse(&self.path, &text))
    }
}

fn look(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = path.metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Empty lines and what follows a `#` are skipped; a line that is no target is told and skipped.
fn parse(path: &Path, text: &str) -> BTreeSet<JoinTarget> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .filter_map(|line| {
            line.parse()
                .inspect_err(|error| {
                    tracing::warn!(path = %path.display(), %error, "a line of the join file is skipped");
                })
                .ok()
        })
        .take(MAX_TARGETS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers");
        let mut file = JoinFile::new(path.clone());
        assert_eq!(file.read_if_changed(), None);
        std::fs::write(&path, "# peers\npeer-a\n\n10.0.0.1:7 # b\nhttp://no\n").unwrap();
        let expected = ["peer-a", "10.0.0.1:7"].map(|text| text.parse().unwrap());
        assert_eq!(file.read_if_changed(), Some(expected.into()));
        assert_eq!(file.read_if_changed(), None);
        std::fs::write(&path, "peer-b\n").unwrap();
        assert_eq!(file.read_if_changed().unwrap().len(), 1);
    }
}
