//! The digest of a whole file, taken in order while the file still grows.
//!
//! Hashing follows the blocks that lie in the file without a gap, so that little is left to do when the last
//! one arrives. It runs on blocking threads, a slice at a time.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use dfnode_tracker::{Digest, Meta, TaskId};
use md5::{Digest as _, Md5};
use ring::digest::{Context, SHA256};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, spawn_blocking};

use crate::store::{Progress, ReadError, Store, WriteFailure};

/// Bytes hashed before the progress is looked at again.
const SLICE_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes read at a time: they stay in the processor's cache for each algorithm.
const BUFFER_BYTES: usize = 256 * 1024;

/// How a whole is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// MD5.
    Md5,
    /// BLAKE3.
    Blake3,
}

impl Algorithm {
    /// The one that a digest is of.
    pub const fn of(digest: &Digest) -> Self {
        match digest {
            Digest::Sha256(_) => Self::Sha256,
            Digest::Md5(_) => Self::Md5,
            Digest::Blake3(_) => Self::Blake3,
        }
    }
}

/// Why there is no digest of the whole.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// The task was removed or restarted.
    #[error("the task was removed while it was hashed")]
    Gone,
    /// The file will never be whole.
    #[error(transparent)]
    Write(#[from] WriteFailure),
    /// The file could not be read.
    #[error("cannot read the file to hash it: {0}")]
    Read(#[from] io::Error),
}

/// Several digests of the same bytes, taken in one pass.
#[derive(Debug, Clone)]
pub struct Hasher(Vec<State>);

#[derive(Clone)]
enum State {
    /// By assembly that is two to three times as fast as portable code where the processor has no instructions for it:
    /// each layer of an image is hashed on each host.
    Sha256(Context),
    Md5(Md5),
    Blake3(Box<blake3::Hasher>),
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Md5(_) => Algorithm::Md5,
            Self::Blake3(_) => Algorithm::Blake3,
        };
        algorithm.fmt(f)
    }
}

impl Hasher {
    /// Of no bytes yet.
    pub fn new(algorithms: &[Algorithm]) -> Self {
        let state = |algorithm: &Algorithm| match algorithm {
            Algorithm::Sha256 => State::Sha256(Context::new(&SHA256)),
            Algorithm::Md5 => State::Md5(Md5::new()),
            Algorithm::Blake3 => State::Blake3(Box::default()),
        };
        Self(algorithms.iter().map(state).collect())
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for state in &mut self.0 {
            match state {
                State::Sha256(hasher) => hasher.update(bytes),
                State::Md5(hasher) => hasher.update(bytes),
                State::Blake3(hasher) => drop(hasher.update(bytes)),
            }
        }
    }

    /// The digests, in the order of the algorithms.
    pub fn finish(self) -> Vec<Digest> {
        let finish = |state| match state {
            State::Sha256(hasher) => {
                let mut digest = [0; 32];
                digest.copy_from_slice(hasher.finish().as_ref());
                Digest::Sha256(digest)
            }
            State::Md5(hasher) => Digest::Md5(hasher.finalize().into()),
            State::Blake3(hasher) => Digest::Blake3(*hasher.finalize().as_bytes()),
        };
        self.0.into_iter().map(finish).collect()
    }

    /// Takes the bytes of `file` from `from` to `to`. Blocking.
    fn update_from(&mut self, file: &File, mut from: u64, to: u64) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        while from < to {
            let count = usize::try_from(to - from)
                .unwrap_or(usize::MAX)
                .min(BUFFER_BYTES);
            file.read_exact_at(&mut buffer[..count], from)?;
            self.update(&buffer[..count]);
            from += count as u64;
        }
        Ok(())
    }
}

/// Hashes a file that grows. Dropping it ends the work.
#[derive(Debug)]
pub struct WholeDigest {
    work: Option<JoinHandle<Result<Vec<Digest>, DigestError>>>,
    abort: AbortHandle,
}

impl WholeDigest {
    /// Begins to hash `file` as far as `progress` says that it can be read. Must be called within a tokio
    /// runtime.
    pub fn follow(
        file: File,
        progress: watch::Receiver<Progress>,
        algorithms: &[Algorithm],
    ) -> Self {
        let empty = Hasher::new(algorithms);
        let work = tokio::spawn(follow(Arc::new(file), progress, empty));
        Self {
            abort: work.abort_handle(),
            work: Some(work),
        }
    }

    /// Returns the digests once the file is whole.
    ///
    /// # Errors
    /// If the file will never be, or cannot be read.
    pub async fn finish(mut self) -> Result<Vec<Digest>, DigestError> {
        match self.work.take() {
            Some(work) => work
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error).into())),
            None => Err(DigestError::Gone),
        }
    }
}

impl Drop for WholeDigest {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// The digests of a task of the store by the algorithms of `wanted`, once it is whole. May be called before:
/// then most of the work is done when it is.
///
/// # Errors
/// If the task is not in the store, will never be whole, or cannot be read.
pub async fn of_task(
    store: &Store,
    task: TaskId,
    meta: &Meta,
    wanted: &[Digest],
) -> Result<Vec<Digest>, DigestError> {
    let mut algorithms: Vec<Algorithm> = wanted.iter().map(Algorithm::of).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    let progress = store.progress(task).ok_or(DigestError::Gone)?;
    let is_it = progress.borrow().version == meta.version;
    let file = store.open_file(task).map_err(|error| match error {
        ReadError::Absent | ReadError::Damaged(_) => DigestError::Gone,
        ReadError::Io(error) => error.into(),
    })?;
    if !is_it {
        return Err(DigestError::Gone);
    }
    WholeDigest::follow(file, progress, &algorithms)
        .finish()
        .await
}

/// The digests of the first `length` bytes of a file that does not change.
///
/// # Errors
/// If the file is shorter or cannot be read.
pub async fn of_file(
    file: File,
    length: u64,
    algorithms: &[Algorithm],
) -> Result<Vec<Digest>, DigestError> {
    let mut hasher = Hasher::new(algorithms);
    let work = spawn_blocking(move || {
        hasher
            .update_from(&file, 0, length)
            .map(|()| hasher.finish())
    });
    Ok(work.await.map_err(io::Error::other)??)
}

async fn follow(
    file: Arc<File>,
    mut progress: watch::Receiver<Progress>,
    empty: Hasher,
) -> Result<Vec<Digest>, DigestError> {
    let (mut hasher, mut done, mut epoch) = (empty.clone(), 0, progress.borrow().epoch);
    loop {
        let seen = Seen::of(&progress.borrow_and_update());
        if seen.gone {
            return Err(DigestError::Gone);
        }
        if seen.epoch != epoch {
            // A block that was read already is not believed any more.
            (hasher, done, epoch) = (empty.clone(), 0, seen.epoch);
        }
        if seen.end == Some(done) {
            return Ok(hasher.finish());
        }
        if seen.readable > done {
            let (file, to) = (Arc::clone(&file), seen.readable.min(done + SLICE_BYTES));
            let slice =
                spawn_blocking(move || hasher.update_from(&file, done, to).map(|()| hasher));
            hasher = slice.await.map_err(io::Error::other)??;
            done = to;
            continue;
        }
        if let Some(failure) = seen.failure {
            return Err(failure.into());
        }
        if progress.changed().await.is_err() {
            return Err(DigestError::Gone);
        }
    }
}

/// What matters here of a progress.
struct Seen {
    epoch: u32,
    readable: u64,
    /// Where the file ends, once all of it is there.
    end: Option<u64>,
    failure: Option<WriteFailure>,
    gone: bool,
}

impl Seen {
    fn of(progress: &Progress) -> Self {
        Self {
            epoch: progress.epoch,
            readable: progress.watermark(),
            end: progress.layout.length().filter(|_| progress.is_whole()),
            failure: progress.failure.clone(),
            gone: progress.gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use dfnode_tracker::{BlockIndex, SourceHead, Validators};

    use super::*;
    use crate::store::{About, StoreConfig};

    const ALL: [Algorithm; 3] = [Algorithm::Sha256, Algorithm::Md5, Algorithm::Blake3];

    fn content(length: usize) -> Vec<u8> {
        (0..length)
            .map(|at| u8::try_from(at * 7 % 253).unwrap())
            .collect()
    }

    fn of_bytes(bytes: &[u8]) -> Vec<Digest> {
        let mut hasher = Hasher::new(&ALL);
        hasher.update(bytes);
        hasher.finish()
    }

    fn meta(length: u64) -> Meta {
        let validators = Validators {
            etag: Some("\"e\"".into()),
            last_modified: None,
        };
        let head = SourceHead {
            length: Some(length),
            validators,
            ranges: true,
            digest: None,
            authority: None,
            public: true,
        };
        Meta::of(&head, [0; 32]).unwrap()
    }

    #[test]
    fn known_digests_of_nothing_come_out() {
        let texts: Vec<String> = of_bytes(b"").iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "md5:d41d8cd98f00b204e9800998ecf8427e",
                "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            ]
        );
    }

    #[tokio::test]
    async fn blocks_in_any_order_and_one_replaced_give_the_digest_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreConfig::default())
            .unwrap()
            .store;
        let (task, bytes) = (TaskId::from_bytes([1; 32]), content(1_000_003));
        let meta = meta(1_000_003);
        store.reserve(task, &meta, About::default()).await.unwrap();
        let put = |block: u32, bytes: &[u8]| {
            let range = meta.layout.range_of(BlockIndex(block));
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let block_bytes = bytes[range].to_vec().into();
            store
                .put(task, meta.version, BlockIndex(block), block_bytes)
                .unwrap();
        };
        let wanted = of_bytes(&bytes);
        let hashing = tokio::spawn({
            let (store, meta, wanted) = (store.clone(), meta.clone(), wanted.clone());
            async move { of_task(&store, task, &meta, &wanted).await }
        });
        let wrong = vec![9; bytes.len()];
        put(0, &wrong);
        for block in [5, 2, 1, 3, 4] {
            put(block, &bytes);
            store.flush().await;
        }
        put(0, &bytes);
        for block in 6..meta.layout.blocks().unwrap() {
            put(block, &bytes);
        }
        let mut found = hashing.await.unwrap().unwrap();
        found.sort();
        let mut wanted = wanted;
        wanted.sort();
        assert_eq!(found, wanted);
        let file = store.open_file(task).unwrap();
        assert_eq!(
            of_file(file, 1_000_003, &ALL).await.unwrap(),
            of_bytes(&bytes)
        );
        let file = store.open_file(task).unwrap();
        assert!(matches!(
            of_file(file, 1_000_004, &ALL).await,
            Err(DigestError::Read(_))
        ));
    }

    #[tokio::test]
    async fn a_removed_task_has_no_digest() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreConfig::default())
            .unwrap()
            .store;
        let (task, meta) = (TaskId::from_bytes([1; 32]), meta(100));
        store.reserve(task, &meta, About::default()).await.unwrap();
        let file = store.open_file(task).unwrap();
        let hashing = WholeDigest::follow(file, store.progress(task).unwrap(), &ALL);
        store.remove(task);
        assert!(matches!(hashing.finish().await, Err(DigestError::Gone)));
    }
}
