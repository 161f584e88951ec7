//! Small files that only their owner may read, written so that a crash leaves the old or the new one.
//!
//! But where they are written in place, because there is no room for both.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::ambient;

/// Reads at most `limit` bytes; a longer file is an error, since nobody of ours wrote it.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(limit + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("larger than {limit} bytes"),
        ));
    }
    Ok(text)
}

/// The permission bits that let others than the owner in.
pub(crate) fn others_may(path: &Path) -> io::Result<u32> {
    Ok(path.metadata()?.permissions().mode() & 0o077)
}

/// Creates `path` with mode 0600 unless it exists; says whether it did.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let draft = write_draft(path, bytes)?;
    // A link never replaces: of two processes that start at once, one wins and both read its file.
    let linked = std::fs::hard_link(&draft, path);
    let cleaned = std::fs::remove_file(&draft);
    match linked {
        Ok(()) => cleaned.and_then(|()| sync_folder(path)).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes `path` with mode 0600, replacing what was there in one step.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = write_draft(path, bytes)?;
    if let Err(error) = std::fs::rename(&draft, path) {
        // The rename's failure is what the caller must hear of.
        let _ = std::fs::remove_file(&draft);
        return Err(error);
    }
    sync_folder(path)
}

/// Writes over `path`, which is there, where it lies: on a full disk there is no room beside it. A crash may leave a part
/// of each.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    write_in_place(&file, bytes)?;
    file.sync_all()
}

/// Makes `bytes` all that `file` has, and gives back none of its room in between: somebody else might take it.
pub(crate) fn write_in_place(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)
}

fn write_draft(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}", ambient::seed()));
    let draft = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // The write's failure is what the caller must hear of.
        let _ = std::fs::remove_file(&draft);
        return Err(error);
    }
    Ok(draft)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_created_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(create(&path, b"one").unwrap());
        assert!(!create(&path, b"two").unwrap());
        assert_eq!(read(&path, 10).unwrap(), "one");
        assert_eq!(others_may(&path).unwrap(), 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_replaced_file_leaves_no_draft() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("members");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path, 10).unwrap(), "two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_written_over_has_the_new_content_alone_and_stays_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("generation");
        assert!(overwrite(&path, b"one").is_err());
        replace(&path, b"three").unwrap();
        let other = File::open(&path).unwrap();
        overwrite(&path, b"two").unwrap();
        assert_eq!(read(&path, 10).unwrap(), "two");
        assert_eq!(other.metadata().unwrap().len(), 3);
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        replace(&path, b"12345").unwrap();
        assert!(read(&path, 4).is_err());
        assert!(read(&path, 5).is_ok());
    }
}
