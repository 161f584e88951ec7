//! The number of this life of the node, kept so that a clock that steps back cannot silence it.

use std::io;
use std::path::Path;

use tracing::warn;

use crate::ambient::unix_millis;
use crate::disk::is_full;
use crate::private_file;

/// A generation is a number of at most twenty digits.
const MAX_BYTES: u64 = 64;

/// The generation of a life that begins now, stored before anybody hears of it.
///
/// A full disk keeps no node from starting: if it cannot be stored, a next life may begin with the same number, or below it
/// should the clock step back. It is then taken for this one until it hears so and speaks up.
pub(crate) fn next(path: &Path) -> io::Result<u64> {
    let stored = match private_file::read(path, MAX_BYTES) {
        Ok(text) => text.trim().parse::<u64>().unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let generation = unix_millis().max(stored.saturating_add(1));
    match store(path, generation) {
        Err(error) if is_full(error.kind()) => {
            warn!(path = %path.display(), %error, "the node starts all the same, but cannot note its start: make room on this disk");
        }
        stored => stored?,
    }
    Ok(generation)
}

/// Stores a generation so that a power cut leaves the old one or the new one; where there is no room for both, over the old.
pub(crate) fn store(path: &Path, generation: u64) -> io::Result<()> {
    let digits = generation.to_string();
    match private_file::replace(path, digits.as_bytes()) {
        Err(error) if is_full(error.kind()) && path.exists() => {
            private_file::overwrite(path, digits.as_bytes())
        }
        stored => stored,
    }
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
