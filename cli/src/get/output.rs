//! Where the bytes go: copied out of the node's file by this process, with this user's rights.
//!
//! A file appears at its name whole or not at all. Stdout, and whatever else is no regular file (a pipe,
//! `/dev/null`), is written from front to back while the download runs.

mod draft;
mod pour;
mod stream;

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dfnode_node::get::{GetProgress, GetSummary, Started};

use tokio_util::sync::CancellationToken;

use draft::Draft;
use stream::{Stream, StreamError};

use crate::exit::Failure;

/// What stands for stdout.
const STDOUT: &str = "-";

/// Links after each other that are followed, as the kernel does.
const MAX_LINKS: u32 = 40;

/// Bytes that a disk takes in no time to speak of.
const QUICK_BYTES: u64 = 1024 * 1024;

/// Why the output could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    /// The system said no. Nothing is left at a file's name.
    #[error("cannot write {}", path.display())]
    Write {
        /// What was written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A part of an older version, or of a block that was found false, is written already and cannot be taken back.
    #[error("the content changed when a part of it was written already")]
    Changed,
}

/// The output of one download, over all its attempts.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    stop: CancellationToken,
    /// First byte, and the byte behind the last, where only a part is wanted.
    part: (u64, u64),
    way: Way,
}

#[derive(Debug)]
enum Way {
    File(Option<Draft>),
    Stream(Box<Stream>),
}

impl Output {
    /// Prepares to write to `path`, `range` of the content. Long writes end early after `stop`.
    ///
    /// # Errors
    ///
    /// If nothing can be written there.
    pub(super) fn open(
        path: &Path,
        range: Option<(u64, Option<u64>)>,
        stop: CancellationToken,
    ) -> Result<Self, OutputError> {
        let (first, last) = range.unwrap_or((0, None));
        let end = last.map_or(u64::MAX, |last| last.saturating_add(1));
        let failed = |source| OutputError::Write {
            path: path.to_owned(),
            source,
        };
        let mut path = path.to_owned();
        let way = match fs::metadata(&path) {
            _ if is_stdout(&path) => Way::Stream(Box::new(Stream::stdout(first).map_err(failed)?)),
            Ok(found) if found.is_dir() => return Err(failed(io::ErrorKind::IsADirectory.into())),
            Ok(found) if !found.is_file() => {
                Way::Stream(Box::new(Stream::open(&path, first).map_err(failed)?))
            }
            Ok(_) => {
                // What a symbolic link points at is replaced, not the link.
                path = fs::canonicalize(&path).map_err(failed)?;
                Way::File(None)
            }
            Err(_) if names_a_folder(&path) => {
                return Err(failed(io::ErrorKind::NotADirectory.into()));
            }
            Err(error) => {
                // Where a link may not be followed, it may not be followed by hand either.
                if error.kind() == io::ErrorKind::NotFound {
                    path = behind_links(&path).map_err(failed)?;
                }
                Way::File(None)
            }
        };
        let output = Self {
            path,
            stop,
            part: (first, end),
            way,
        };
        output.check_folder()?;
        Ok(output)
    }

    /// A download begins, or begins again.
    pub(super) fn start(&mut self, started: &Started) -> Result<(), OutputError> {
        let outcome = match &mut self.way {
            Way::File(draft) => {
                Draft::new(&self.path, started, self.part).map(|made| *draft = Some(made))
            }
            Way::Stream(stream) => {
                if !stream.start(started) {
                    return Err(OutputError::Changed);
                }
                Ok(())
            }
        };
        outcome.map_err(|source| self.failed(source))
    }

    /// Whether writing so much may take long enough to do it aside.
    pub(super) fn is_slow(&self, bytes: u64) -> bool {
        match &self.way {
            Way::File(_) => bytes > QUICK_BYTES,
            Way::Stream(_) => true,
        }
    }

    /// More bytes are in the node's file. May take long.
    pub(super) fn advance(&mut self, progress: &GetProgress) -> Result<(), OutputError> {
        let outcome = match &mut self.way {
            Way::File(draft) => draft
                .as_mut()
                .map_or(Ok(()), |draft| draft.copy(&progress.runs, &self.stop))
                .map_err(StreamError::Io),
            Way::Stream(stream) => stream.write_to(progress.contiguous, &self.stop),
        };
        outcome.map_err(|error| self.ended(error))
    }

    /// What came so far does not count any more.
    pub(super) fn restart(&mut self) {
        match &mut self.way {
            Way::File(draft) => *draft = None,
            // Whether it can go on depends on what follows: it is compared with what was written.
            Way::Stream(_) => {}
        }
    }

    /// Every byte is in the node's file: after this, in the output too.
    pub(super) fn finish(&mut self, summary: &GetSummary) -> Result<(), OutputError> {
        let outcome = match &mut self.way {
            Way::File(draft) => draft
                .take()
                .map_or(Ok(()), |draft| draft.finish(summary.bytes, &self.stop))
                .map_err(StreamError::Io),
            Way::Stream(stream) => {
                stream.finish(self.part.0.saturating_add(summary.bytes), &self.stop)
            }
        };
        outcome.map_err(|error| self.ended(error))
    }

    /// Fails before the download rather than after it if the folder is not there.
    fn check_folder(&self) -> Result<(), OutputError> {
        let Way::File(_) = self.way else {
            return Ok(());
        };
        match fs::metadata(draft::folder_of(&self.path)) {
            Ok(folder) if folder.is_dir() => Ok(()),
            Ok(_) => Err(self.failed(io::ErrorKind::NotADirectory.into())),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn ended(&self, error: StreamError) -> OutputError {
        match error {
            StreamError::Io(source) => self.failed(source),
            StreamError::Changed => OutputError::Changed,
        }
    }

    fn failed(&self, source: io::Error) -> OutputError {
        OutputError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

/// Whether a path can only be that of a folder.
fn names_a_folder(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    path.file_name().is_none() || bytes.ends_with(b"/") || bytes.ends_with(b"/.")
}

/// What is to be made so that the link at `path`, if it is one, leads to something.
fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&path) else {
            return Ok(path);
        };
        path = draft::folder_of(&path).join(target);
    }
    Err(io::Error::other("too many links"))
}

/// Ends a long write that nobody wants any more.
fn check(stop: &CancellationToken) -> io::Result<()> {
    if stop.is_cancelled() {
        Err(io::ErrorKind::Interrupted.into())
    } else {
        Ok(())
    }
}

/// Whether `failure` is but a reader of the output that has seen enough, or died.
pub(super) fn is_broken_pipe(failure: &Failure) -> bool {
    let mut causes = failure.error.chain();
    causes.any(|cause| {
        matches!(
            cause.downcast_ref(),
            Some(OutputError::Write { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe
        )
    })
}

/// Whether a path means stdout.
pub(super) fn is_stdout(path: &Path) -> bool {
    path == Path::new(STDOUT)
}

#[cfg(test)]
mod tests;
