//! What a reader was given of a file, so that it can be known again.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::spawn_blocking;

/// Bytes read from the file at a time.
pub(super) const CHUNK_BYTES: u64 = 512 * 1024;

/// What a stream gave, as far as it must be known again.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Where it lies, in order; holes were had from elsewhere.
    runs: Vec<Range<u64>>,
    hash: Box<blake3::Hasher>,
}

impl Given {
    pub(super) fn add(&mut self, at: u64, bytes: &[u8]) {
        let end = at + bytes.len() as u64;
        match self.runs.last_mut() {
            Some(last) if last.end == at => last.end = end,
            _ => self.runs.push(at..end),
        }
        self.hash.update(bytes);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether all of it lies in these runs.
    pub(super) fn lies_within(&self, runs: &[Range<u64>]) -> bool {
        let is_there = |given: &Range<u64>| {
            let mut runs = runs.iter();
            runs.any(|run| run.start <= given.start && given.end <= run.end)
        };
        self.runs.iter().all(is_there)
    }

    /// Whether a file has the same bytes there. One that cannot be read has not.
    pub(super) async fn is_what_lies_in(&self, file: Arc<File>) -> bool {
        let runs = self.runs.clone();
        let found = spawn_blocking(move || hash_of(&file, &runs)).await;
        matches!(found, Ok(Ok(found)) if found == self.hash.finalize())
    }
}

pub(super) fn read(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.into())
}

fn hash_of(file: &File, runs: &[Range<u64>]) -> io::Result<blake3::Hash> {
    let mut hash = blake3::Hasher::new();
    for run in runs {
        let mut at = run.start;
        while at < run.end {
            let bytes = read(file, at, (run.end - at).min(CHUNK_BYTES))?;
            hash.update(&bytes);
            at += bytes.len() as u64;
        }
    }
    Ok(hash.finalize())
}
