//! Bytes written from front to back, as a pipe wants them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dfnode_node::get::{CacheFile, Started};
use dfnode_tracker::VersionId;
use tokio_util::sync::CancellationToken;

use super::check;
use super::pour::{Pour, ended_early};

/// Bytes written at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// A stream, and how far into the content it is.
#[derive(Debug)]
pub(super) struct Stream {
    file: File,
    first: u64,
    position: u64,
    source: Option<(CacheFile, VersionId)>,
    /// The source, where it is a pipe.
    pour: Option<Pour>,
}

impl Stream {
    /// Stdout, to begin with byte `first` of the content.
    pub(super) fn stdout(first: u64) -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self {
            file,
            first,
            position: first,
            source: None,
            pour: None,
        })
    }

    /// Something at `path` that is no regular file.
    pub(super) fn open(path: &Path, first: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Self {
            file,
            first,
            position: first,
            source: None,
            pour: None,
        })
    }

    /// Whether anything was written.
    pub(super) const fn has_begun(&self) -> bool {
        self.position > self.first
    }

    /// Goes on with the bytes of `started`, if what was written so far is of the same version.
    pub(super) fn start(&mut self, started: &Started) -> bool {
        let same = self
            .source
            .as_ref()
            .is_some_and(|(_, version)| *version == started.version);
        if self.has_begun() && !same {
            return false;
        }
        self.source = Some((started.file.clone(), started.version));
        self.pour = Pour::of(&started.file, self.first);
        true
    }

    /// Writes the content up to byte `end`, its last.
    pub(super) fn finish(&mut self, end: u64, stop: &CancellationToken) -> io::Result<()> {
        self.write_to(end, stop)?;
        if self.position < end {
            return Err(ended_early());
        }
        Ok(())
    }

    /// Writes the content up to byte `end`. Blocks while the reader is slow.
    pub(super) fn write_to(&mut self, end: u64, stop: &CancellationToken) -> io::Result<()> {
        if let Some(pour) = &mut self.pour {
            let (file, position) = (&mut self.file, &mut self.position);
            return pour.pour(end, stop, |at, bytes| {
                // What an earlier attempt wrote is not written again.
                let known = usize::try_from(position.saturating_sub(at)).unwrap_or(usize::MAX);
                let fresh = bytes.get(known..).unwrap_or_default();
                file.write_all(fresh)?;
                *position += fresh.len() as u64;
                Ok(())
            });
        }
        let Some((source, _)) = &self.source else {
            return Ok(());
        };
        let mut buffer = vec![0; BUFFER_BYTES];
        while self.position < end {
            check(stop)?;
            let ask = usize::try_from(end - self.position)
                .unwrap_or(usize::MAX)
                .min(BUFFER_BYTES);
            source.0.read_exact_at(&mut buffer[..ask], self.position)?;
            self.file.write_all(&buffer[..ask])?;
            self.position += ask as u64;
        }
        Ok(())
    }
}
