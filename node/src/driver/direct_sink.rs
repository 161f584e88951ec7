//! Where the bytes of a download from the source alone go: a file without a name, or a pipe to the caller.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use dfnode_tracker::Digest;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::task::spawn_blocking;

use crate::ambient;
use crate::disk::is_full;
use crate::get::{CacheFile, GetError};
use crate::whole_digest::{self, Algorithm, Hasher};

/// The place of a download's bytes.
pub(super) enum Sink {
    /// All of them stay until the caller has them.
    File {
        written: Arc<File>,
        shown: Arc<File>,
    },
    /// None of them stays: this host may have no room.
    Pipe(Pipe),
}

/// A pipe whose other end the caller holds.
pub(super) struct Pipe {
    sender: pipe::Sender,
    shown: Arc<File>,
    /// The place in the content of the next byte that goes in.
    next: u64,
    hasher: Hasher,
}

impl Sink {
    /// A file in `folder` that is gone with its last descriptor: whoever gets it cannot change it.
    pub(super) async fn file(folder: &Path) -> Result<Self, GetError> {
        let folder = folder.to_owned();
        let made = spawn_blocking(move || nameless_file(&folder)).await;
        let (written, shown) = made
            .map_err(io::Error::other)
            .and_then(|made| made)
            .map_err(of_disk)?;
        Ok(Self::File {
            written: Arc::new(written),
            shown: Arc::new(shown),
        })
    }

    /// A pipe for the content from byte `first` on, which is hashed on its way.
    pub(super) fn pipe(first: u64, digest: Option<&Digest>) -> Result<Self, GetError> {
        let algorithms: Vec<Algorithm> = digest.map(Algorithm::of).into_iter().collect();
        let (sender, receiver) = pipe::pipe().map_err(of_disk)?;
        let shown = receiver.into_blocking_fd().map_err(of_disk)?;
        Ok(Self::Pipe(Pipe {
            sender,
            shown: Arc::new(File::from(shown)),
            next: first,
            hasher: Hasher::new(&algorithms),
        }))
    }

    /// What the caller reads.
    pub(super) fn shown(&self) -> CacheFile {
        CacheFile(Arc::clone(match self {
            Self::File { shown, .. } => shown,
            Self::Pipe(pipe) => &pipe.shown,
        }))
    }

    /// Whether the caller may be told the length of a stream once it ended: it would begin a pipe anew.
    pub(super) const fn may_be_shown_again(&self) -> bool {
        matches!(self, Self::File { .. })
    }

    /// Writes `bytes`, which lie at `at`; of a pipe, what lies within `wanted` and did not go through it yet.
    /// `tell` is called with what is new before a pipe is written to, and after a file is.
    pub(super) async fn write(
        &mut self,
        at: u64,
        mut bytes: Bytes,
        wanted: &Range<u64>,
        tell: impl FnOnce(Range<u64>) -> Result<(), GetError>,
    ) -> Result<(), GetError> {
        let place = at..at + bytes.len() as u64;
        let fresh = |from: u64| {
            let fresh = place.start.max(from)..place.end.min(wanted.end);
            (fresh.start < fresh.end).then_some(fresh)
        };
        match self {
            Self::File { written, .. } => {
                let file = Arc::clone(written);
                let written = spawn_blocking(move || file.write_all_at(&bytes, at)).await;
                written
                    .map_err(io::Error::other)
                    .and_then(|written| written)
                    .map_err(of_disk)?;
                fresh(wanted.start).map_or(Ok(()), tell)
            }
            Self::Pipe(pipe) => {
                let Some(fresh) = fresh(pipe.next) else {
                    return Ok(());
                };
                let length = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
                bytes.advance(length(fresh.start - place.start));
                bytes.truncate(length(fresh.end - fresh.start));
                pipe.next = fresh.end;
                // The caller reads what it was told of: told later, both would wait for each other.
                tell(fresh)?;
                pipe.hasher.update(&bytes);
                // The other end is gone only with the caller.
                let written = pipe.sender.write_all(&bytes).await;
                written.map_err(|_| GetError::Cancelled)
            }
        }
    }

    /// What all `length` bytes hash to.
    pub(super) async fn digest(
        &self,
        algorithm: Algorithm,
        length: u64,
    ) -> Result<Digest, GetError> {
        let found = match self {
            Self::File { shown, .. } => {
                let file = shown.try_clone().map_err(of_disk)?;
                whole_digest::of_file(file, length, &[algorithm])
                    .await
                    .map_err(|error| internal(&error))?
            }
            Self::Pipe(pipe) => pipe.hasher.clone().finish(),
        };
        let first = found.into_iter().next();
        first.ok_or_else(|| internal(&"nothing was hashed"))
    }
}

/// Once to write and once to read.
fn nameless_file(folder: &Path) -> io::Result<(File, File)> {
    let path = folder.join(format!("direct-{:016x}", ambient::seed()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    let shown = File::open(&path);
    std::fs::remove_file(&path)?;
    Ok((written, shown?))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it stands where a function of an owned error is wanted"
)]
fn of_disk(error: io::Error) -> GetError {
    if is_full(error.kind()) {
        GetError::NoSpace
    } else {
        internal(&error)
    }
}

fn internal(error: &impl ToString) -> GetError {
    GetError::Internal {
        what: error.to_string(),
    }
}
