//! The number of this life of the node, kept so that a clock that steps back cannot silence it.

use std::io;
use std::path::Path;

use tracing::warn;

use crate::ambient::unix_millis;
use crate::{disk, private_file};

/// A generation is a number of at most twenty digits.
const MAX_BYTES: u64 = 64;

/// The generation of a life that begins now, stored before anybody hears of it.
///
/// A full disk keeps no node from starting. Should the clock step back before the next start, that life begins below this
/// one, and is taken for it until the node hears that it is dead and speaks up.
pub(crate) fn next(path: &Path) -> io::Result<u64> {
    let stored = match private_file::read(path, MAX_BYTES) {
        Ok(text) => text.trim().parse::<u64>().unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let generation = unix_millis().max(stored.saturating_add(1));
    match store(path, generation) {
        Err(error) if disk::is_full(error.kind()) => {
            warn!(path = %path.display(), %error, "the node starts all the same, but cannot note its start: make room on this disk");
        }
        stored => stored?,
    }
    Ok(generation)
}

/// Stores a generation so that a power cut leaves the old one or the new one.
pub(crate) fn store(path: &Path, generation: u64) -> io::Result<()> {
    private_file::replace(path, generation.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_life_is_above_the_last_whatever_the_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("generation");
        let first = next(&path).unwrap();
        assert!(next(&path).unwrap() > first);
        let far = u64::MAX / 2;
        store(&path, far).unwrap();
        assert_eq!(next(&path).unwrap(), far + 1);
    }
}
