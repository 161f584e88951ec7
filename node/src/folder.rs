//! Folders with the mode that they are meant to have, whatever the process's umask takes away.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Makes `folder` and those above it that are not there, each with `mode`. What is there is left as it is.
///
/// # Errors
/// What the system said; some of them may be made by then.
pub fn make(folder: &Path, mode: u32) -> io::Result<()> {
    let above: Vec<_> = folder
        .ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
        .collect();
    for missing in above.into_iter().rev() {
        match DirBuilder::new().create(missing) {
            Ok(()) => fs::set_permissions(missing, Permissions::from_mode(mode))?,
            // Somebody else was faster.
            Err(_) if missing.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_made_has_the_mode_and_what_was_there_keeps_its_own() {
        let root = tempfile::tempdir().unwrap();
        let there = root.path().join("there");
        fs::create_dir(&there).unwrap();
        fs::set_permissions(&there, Permissions::from_mode(0o700)).unwrap();
        let folder = there.join("a/b");
        // No usual umask leaves others all rights, so this shows that none counts.
        make(&folder, 0o777).unwrap();
        make(&folder, 0o711).unwrap();
        assert_eq!(mode_of(&there), 0o700);
        assert_eq!(mode_of(&there.join("a")), 0o777);
        assert_eq!(mode_of(&folder), 0o777);
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "").unwrap();
        assert!(make(&root.path().join("a/b"), 0o711).is_err());
        assert!(make(&root.path().join("a"), 0o711).is_err());
    }
}
