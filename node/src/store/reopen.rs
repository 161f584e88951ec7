//! Bringing the folder and the index into agreement, whatever the last process left.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tracing::warn;

use super::entry::Entry;
use super::error::OpenError;
use super::index::{Index, Indexed};
use super::inner::Inner;
use super::lock::FolderLock;
use super::{StoreConfig, StoreEvent, StoredTask};

/// The folder is the node's own: other users read the cache through it alone.
const FOLDER_MODE: u32 = 0o700;
/// Digits of a task's id at the start of its file's name.
const TASK_DIGITS: usize = 64;

/// Takes the folder and says what in it is believed. Files that the index does not name are removed.
pub(super) fn reopen(
    folder: &Path,
    config: StoreConfig,
    events: mpsc::UnboundedSender<StoreEvent>,
) -> Result<(Inner, FolderLock, Vec<StoredTask>), OpenError> {
    let failed = |source: io::Error| OpenError::Folder {
        path: folder.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder)
        .map_err(failed)?;
    let lock = FolderLock::take(folder)?;
    let (index, indexed) = Index::open(folder).map_err(|error| OpenError::Index {
        path: folder.to_owned(),
        why: error.to_string(),
    })?;
    let inner = Inner::new(folder.to_owned(), config, index, events);
    let mut files = task_files(folder).map_err(failed)?;
    let mut tasks = Vec::new();
    for found in indexed {
        let path = inner.path_of(found.task, found.record.generation);
        let is_there = is_long_enough(&path, &found);
        if is_there {
            files.remove(&path);
            inner.restore(Entry::restored(&found, path));
            tasks.push(stored(found));
        } else {
            warn!(task = %found.task, "a task of the cache is dropped: its file is missing or too short");
            inner.committer.doom(found.task);
        }
    }
    for orphan in files {
        if let Err(error) = fs::remove_file(&orphan) {
            warn!(path = %orphan.display(), %error, "cannot remove a file of the cache");
        }
    }
    Ok((inner, lock, tasks))
}

/// Every file that holds a task's bytes, believed or not.
fn task_files(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        let name = file.file_name();
        let name = name.as_encoded_bytes();
        let is_task = name.len() > TASK_DIGITS
            && name[TASK_DIGITS] == b'.'
            && name[..TASK_DIGITS].iter().all(u8::is_ascii_hexdigit);
        if is_task {
            files.insert(file.path());
        }
    }
    Ok(files)
}

/// Whether the file reaches as far as the blocks that the index names.
fn is_long_enough(path: &Path, found: &Indexed) -> bool {
    let layout = found.record.meta.layout;
    let last = found
        .have
        .runs()
        .last()
        .map_or(0..0, |run| run.end - 1..run.end);
    let range = layout.range_of_run(&last);
    // The last block of a stream whose end was not reached may be shorter than its place.
    let end = if layout.length().is_some() {
        range.end
    } else {
        range.start
    };
    fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.len() >= end)
}

fn stored(found: Indexed) -> StoredTask {
    StoredTask {
        task: found.task,
        meta: found.record.meta,
        about: found.record.about,
        have: found.have,
        batches: found.batches,
        complete: found.record.complete,
        used_at_ms: found.record.used_at_ms,
    }
}
