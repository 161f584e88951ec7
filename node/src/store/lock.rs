//! One process at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::error::OpenError;
use crate::disk::is_full;
use crate::private_file;

const LOCK_FILE: &str = "lock";

/// Holds a folder for this process; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the folder, or says who has it.
    pub(super) fn take(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(LOCK_FILE);
        let failed = |source: io::Error| OpenError::Folder {
            path: path.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Who holds it is a courtesy; that it is held is what counts.
                let _ = file.read_to_string(&mut pid);
                let pid = if pid.trim().is_empty() {
                    "unknown".to_owned()
                } else {
                    pid.trim().to_owned()
                };
                return Err(OpenError::InUse {
                    path: folder.to_owned(),
                    pid,
                });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        let pid = std::process::id().to_string();
        match private_file::write_in_place(&file, pid.as_bytes()) {
            // Others then learn that it is held, and not by whom.
            Err(error) if is_full(error.kind()) => {}
            written => written.map_err(failed)?,
        }
        Ok(Self { _file: file })
    }
}
