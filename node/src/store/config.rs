//! How much the store may keep.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The part of a disk that the cache takes if nothing is said.
const DEFAULT_SHARE: u64 = 10;
/// What is left free on a disk in any case, unless it is small.
const DEFAULT_FLOOR_BYTES: u64 = 1 << 30;
/// The part of a small disk that is left free.
const FLOOR_SHARE: u64 = 50;

/// How much the store may keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// The most bytes that the store's own tasks may take. Default: 10 GiB; a node sets a tenth of the disk.
    pub cache_bytes: u64,
    /// If set, `cache_bytes` bounds only what stays. A file in use may be beyond it where the disk has, besides the file,
    /// place for a client's copy of it and so many bytes: a file without a place is read by each node for itself, as many
    /// copies. Default: `None`; a node that was not told how much to keep sets a tenth of the disk.
    pub spare_bytes: Option<u64>,
    /// Bytes of the disk that are left to others, whatever `cache_bytes` says. Default: 1 GiB.
    pub free_floor_bytes: u64,
    /// How long what nobody uses is kept; `None` for as long as there is room. Default: `None`.
    pub idle_ttl: Option<Duration>,
    /// Threads that write. Default: 2; a file takes one writer at a time.
    pub writers: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 10 << 30,
            spare_bytes: None,
            free_floor_bytes: DEFAULT_FLOOR_BYTES,
            idle_ttl: None,
            writers: 2,
        }
    }
}

impl StoreConfig {
    /// A tenth of the disk that `folder` lies on for what stays, and a floor that suits its size.
    ///
    /// # Errors
    /// If the disk does not tell its size.
    pub fn for_disk_of(folder: &Path) -> io::Result<Self> {
        let (total, _free) = disk_bytes(folder)?;
        Ok(Self {
            cache_bytes: total / DEFAULT_SHARE,
            spare_bytes: Some(total / DEFAULT_SHARE),
            free_floor_bytes: DEFAULT_FLOOR_BYTES.min(total / FLOOR_SHARE),
            ..Self::default()
        })
    }
}

/// The size of the disk that `folder` lies on, and what of it this user may still fill.
///
/// # Errors
/// If the folder is not there or the disk does not tell.
pub fn disk_bytes(folder: &Path) -> io::Result<(u64, u64)> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok((
        disk.f_blocks.saturating_mul(disk.f_frsize),
        disk.f_bavail.saturating_mul(disk.f_frsize),
    ))
}
