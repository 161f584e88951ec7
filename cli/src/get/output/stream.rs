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

/// Why a stream does not go on.
#[derive(Debug)]
pub(super) enum StreamError {
    /// It cannot be written, or the node's file cannot be read.
    Io(io::Error),
    /// What was written is not what is shown now.
    Changed,
}

impl From<io::Error> for StreamError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A stream, and how far into the content it is.
#[derive(Debug)]
pub(super) struct Stream {
    file: File,
    first: u64,
    position: u64,
    /// What was written.
    written: blake3::Hasher,
    /// What is shown now of what was written, until all of it was compared: nothing is written meanwhile.
    shown: Option<blake3::Hasher>,
    source: Option<(CacheFile, VersionId)>,
    /// The source, where it is a pipe.
    pour: Option<Pour>,
}

impl Stream {
    /// Stdout, to begin with byte `first` of the content.
    pub(super) fn stdout(first: u64) -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::new(file, first))
    }

    /// Something at `path` that is no regular file.
    pub(super) fn open(path: &Path, first: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        Ok(Self::new(file, first))
    }

    fn new(file: File, first: u64) -> Self {
        Self {
            file,
            first,
            position: first,
            written: blake3::Hasher::new(),
            shown: None,
            source: None,
            pour: None,
        }
    }

    /// Whether anything was written.
    pub(super) const fn has_begun(&self) -> bool {
        self.position > self.first
    }

    /// Goes on with the bytes of `started`, if what was written so far is of the same version; whether it is still
    /// what the node has of it, is seen before more is written.
    pub(super) fn start(&mut self, started: &Started) -> bool {
        let same = self
            .source
            .as_ref()
            .is_some_and(|(_, version)| *version == started.version);
        if self.has_begun() && !same {
            return false;
        }
        // A block that was shown may have been found false since, or another node may have it otherwise.
        self.shown = self.has_begun().then(blake3::Hasher::new);
        self.source = Some((started.file.clone(), started.version));
        self.pour = Pour::of(&started.file, self.first);
        true
    }

    /// Writes the content up to byte `end`, its last.
    pub(super) fn finish(&mut self, end: u64, stop: &CancellationToken) -> Result<(), StreamError> {
        self.write_to(end, stop)?;
        if end < self.position {
            return Err(StreamError::Changed);
        }
        if self.position < end || self.shown.is_some() {
            return Err(ended_early().into());
        }
        Ok(())
    }

    /// Writes the content up to byte `end`. Blocks while the reader is slow.
    pub(super) fn write_to(
        &mut self,
        end: u64,
        stop: &CancellationToken,
    ) -> Result<(), StreamError> {
        if let Some(mut pour) = self.pour.take() {
            let poured = pour.pour(end, stop, |at, bytes| self.take(at, bytes));
            self.pour = Some(pour);
            return poured;
        }
        let Some((source, _)) = self.source.clone() else {
            return Ok(());
        };
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut at = self.position;
        if self.shown.is_some() {
            if end < self.position {
                // There is more to compare than can be read.
                return Ok(());
            }
            self.shown = Some(blake3::Hasher::new());
            at = self.first;
        }
        while at < end {
            check(stop)?;
            let ask = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(BUFFER_BYTES);
            source.0.read_exact_at(&mut buffer[..ask], at)?;
            self.take(at, &buffer[..ask])?;
            at += ask as u64;
        }
        Ok(())
    }

    /// Takes the bytes at `at`: those that were written already are compared, those behind them written.
    fn take(&mut self, at: u64, bytes: &[u8]) -> Result<(), StreamError> {
        let known = usize::try_from(self.position.saturating_sub(at)).unwrap_or(usize::MAX);
        let (known, fresh) = bytes.split_at(known.min(bytes.len()));
        if let Some(shown) = &mut self.shown {
            shown.update(known);
            if at + (bytes.len() as u64) < self.position {
                return Ok(());
            }
            if shown.finalize() != self.written.finalize() {
                return Err(StreamError::Changed);
            }
            self.shown = None;
        }
        self.file.write_all(fresh)?;
        self.written.update(fresh);
        self.position += fresh.len() as u64;
        Ok(())
    }
}
