//! What can go wrong in the store, one type per operation.

use std::io;
use std::path::PathBuf;

use dfnode_tracker::BlockIndex;

use crate::limits::ByteSize;

/// Why a store does not open. Nothing on disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path} is in use by another dfnode (process {pid}); stop it or choose another --data")]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who, as it wrote itself down.
        pid: String,
    },
    /// The folder cannot be made, read or written.
    #[error("cannot use {path} as the cache folder")]
    Folder {
        /// The folder or a file in it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The index can be neither read nor made anew.
    #[error("cannot make the index of the cache in {path}: {why}")]
    Index {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// Why there is no place for a task. The store holds nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// It is larger than what the cache may hold, less what is in use.
    #[error(
        "no room in the cache for {}: {} of {} hold what is in use (see --cache-size)",
        ByteSize(*need_bytes), ByteSize(*held_bytes), ByteSize(*cache_bytes)
    )]
    NoRoom {
        /// What the task needs.
        need_bytes: u64,
        /// What cannot be evicted.
        held_bytes: u64,
        /// What the cache may hold.
        cache_bytes: u64,
    },
    /// The disk has too little left, even after evicting what may be evicted.
    #[error(
        "no space on the disk of the cache for {}: {} are free, of which {} stay untouched",
        ByteSize(*need_bytes), ByteSize(*free_bytes), ByteSize(*floor_bytes)
    )]
    DiskFull {
        /// What the task needs.
        need_bytes: u64,
        /// What is free.
        free_bytes: u64,
        /// What must stay free.
        floor_bytes: u64,
    },
    /// The file could not be made.
    #[error("cannot make a file in the cache: {why}")]
    Io {
        /// Why.
        why: String,
    },
    /// The task was removed or restarted before its place was ready.
    #[error("the task was removed before its place in the cache was ready")]
    Gone,
}

/// Why a block or batch was not taken. Nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Nothing is reserved for the task, or it is for another version, or it failed.
    #[error("no place is reserved for this version of the task")]
    NotReserved,
    /// The version has no such block, or one of another length.
    #[error("block {0} has another length in this version")]
    Length(BlockIndex),
    /// More signed batches than a version of this size can need.
    #[error("the task has more signed batches than it can need")]
    TooManyBatches,
}

/// Why a block or file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store does not have it.
    #[error("not in the cache")]
    Absent,
    /// Its bytes are not what was written. It was dropped, and must be fetched again.
    #[error("block {0} is damaged on disk")]
    Damaged(BlockIndex),
    /// The disk failed. It is still indexed; another try may succeed.
    #[error("cannot read the cache")]
    Io(#[from] io::Error),
}
