//! The socket file itself: made so that nobody ever sees it half made, and removed when the node stops.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tokio::net::UnixListener;

use crate::disk::is_full;

/// Anybody on the host may ask; what for is judged by who asks.
const SOCKET_MODE: u32 = 0o666;

/// The longest path that the kernel takes for a socket, its final zero not counted.
const MAX_SOCKET_PATH: usize = 107;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The folder is missing, or not ours to write to.
    #[error("cannot make the control socket {path}")]
    Io {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A socket that callers can find. Dropping it removes the file.
#[derive(Debug)]
pub struct ControlListener {
    pub(super) inner: UnixListener,
    path: PathBuf,
    file: Option<(u64, u64)>,
}

impl ControlListener {
    /// Makes the socket at `path`, in place of whatever lies there.
    ///
    /// The caller holds the folder's lock, so what lies there belongs to a process that is gone.
    ///
    /// # Errors
    ///
    /// [`ListenError`] if the file cannot be made; nothing is left behind.
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Io {
            path: path.to_owned(),
            source,
        };
        let draft = path.with_extension(format!("sock.{}", std::process::id()));
        // Left by a process that had our id and died in between.
        let _ = fs::remove_file(&draft);
        let bind = || with_short_path(&draft, |short| UnixListener::bind(short));
        let inner = match bind() {
            Err(error) if is_full(error.kind()) => {
                // What the last process left may be all the room that there is.
                let _ = fs::remove_file(path);
                bind().map_err(failed)?
            }
            bound => bound.map_err(failed)?,
        };
        fs::set_permissions(&draft, Permissions::from_mode(SOCKET_MODE))
            .and_then(|()| fs::rename(&draft, path))
            .map_err(|source| {
                let _ = fs::remove_file(&draft);
                failed(source)
            })?;
        Ok(Self {
            inner,
            path: path.to_owned(),
            file: identity(path),
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        // What lies there now may be the socket of the node that took over.
        if self.file.is_some() && identity(&self.path) == self.file {
            // Gone already is as good.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What tells one file from another of the same name.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path)
        .ok()
        .map(|seen| (seen.dev(), seen.ino()))
}

/// Runs `with` on a path to the same file that is short enough for a socket.
pub(super) fn with_short_path<T>(
    path: &Path,
    with: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return with(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return with(path);
    };
    let folder: OwnedFd = rustix::fs::open(
        folder,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    with(
        &Path::new("/proc/self/fd")
            .join(folder.as_raw_fd().to_string())
            .join(name),
    )
}
