//! What the system says of disks.

use std::io::ErrorKind;

/// Whether there is no room on a disk, or none for this user.
pub const fn is_full(error: ErrorKind) -> bool {
    matches!(error, ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
