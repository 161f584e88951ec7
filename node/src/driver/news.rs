//! What those who wait for a task are told, each as far as it may be.

use std::fs::File;
use std::sync::Arc;

use dfnode_tracker::{Digest, Meta};
use tokio::sync::watch;

use crate::get::GetError;
use crate::store::Progress;

/// What everybody who waits for a task may know.
#[derive(Debug, Clone, Default)]
pub(super) struct News {
    /// Counts the versions begun: a change makes everything so far void.
    pub(super) attempt: u64,
    /// The version and its file, once both are there.
    pub(super) ready: Option<Ready>,
    /// Counts how often what is here was found current.
    pub(super) currents: u64,
    /// Counts how often the task was found complete and current.
    pub(super) completions: u64,
    /// The attempt that was found so last, if it still is.
    pub(super) completed: Option<u64>,
    /// What the whole hashes to, as far as anybody asked.
    pub(super) digests: Vec<Digest>,
    /// Counts failures.
    pub(super) failures: u64,
    /// The last failure.
    pub(super) failure: Option<GetError>,
    /// How many bytes this host has no place for, if that was it; 0 if nobody knows.
    pub(super) has_no_place: Option<u64>,
    /// Bytes that peers gave, of this attempt.
    pub(super) from_peers: u64,
    /// Bytes that this node read, of this attempt.
    pub(super) from_source: u64,
    /// Peers that gave something.
    pub(super) peers: u32,
}

/// A version that can be read.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) meta: Meta,
    pub(super) file: Arc<File>,
    pub(super) written: watch::Receiver<Progress>,
}

/// Whether this caller may have the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gate {
    /// The source was not heard yet.
    Closed,
    /// The source said yes to this caller, or to everybody.
    Open,
    /// This caller's own failure.
    Failed(GetError),
    /// The source has other bytes for this caller: it belongs to another task.
    Moved,
    /// No two answers of the source are the same, and this one is another's: the caller gets an answer of its own.
    Through,
}
