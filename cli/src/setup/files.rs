//! Files of dfnode's own among those of others.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use dfnode_node::folder;

use super::OwnFile;
use crate::exit::{Exit, Failure};

/// The first line of every file that dfnode wrote.
pub(super) const MARK: &str =
    "# Written by `dfnode setup`; `dfnode setup ENGINE --undo` takes it back.";

/// Engines read what is made here, also those that users run.
const FILE_MODE: u32 = 0o644;
/// As [`FILE_MODE`].
const FOLDER_MODE: u32 = 0o755;

/// What was there before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Nothing.
    New,
    /// An older file of ours, which lies here now.
    Replaced(PathBuf),
    /// The very same.
    Same,
}

/// Whether the file may be written: it is not there, or it is ours.
pub(super) fn check(file: &OwnFile) -> Result<(), Failure> {
    match read(&file.path)? {
        Some(text) if !is_ours(&text) => {
            let what = format!(
                "{} is there already and is not dfnode's; nothing was changed. Add this to it by hand:\n{}",
                file.path.display(),
                file.text
            );
            Err(Failure::new(Exit::Other, anyhow!(what)))
        }
        Some(_) | None => Ok(()),
    }
}

/// Writes a file, keeping what was there.
pub(super) fn write(file: &OwnFile) -> Result<Written, Failure> {
    check(file)?;
    let written = match read(&file.path)? {
        Some(text) if text == file.text => return Ok(Written::Same),
        Some(_) => {
            let backup = backup(&file.path);
            fs::copy(&file.path, &backup)
                .with_context(|| format!("cannot write {}", backup.display()))?;
            Written::Replaced(backup)
        }
        None => Written::New,
    };
    if let Some(folder) = file.path.parent() {
        folder::make(folder, FOLDER_MODE)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let draft = file.path.with_extension("dfnode-draft");
    fs::write(&draft, &file.text)
        .and_then(|()| fs::set_permissions(&draft, Permissions::from_mode(FILE_MODE)))
        .and_then(|()| fs::rename(&draft, &file.path))
        .with_context(|| format!("cannot write {}", file.path.display()))?;
    Ok(written)
}

/// Takes a file back, with what we kept of older ones of ours; says whether there was one.
pub(super) fn undo(file: &OwnFile) -> Result<bool, Failure> {
    let Some(text) = read(&file.path)? else {
        return Ok(false);
    };
    if !is_ours(&text) {
        return Ok(false);
    }
    for path in [file.path.clone(), backup(&file.path)] {
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let what = Err::<(), _>(error)
                    .with_context(|| format!("cannot remove {}", path.display()));
                what?;
            }
        }
    }
    Ok(true)
}

fn backup(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".dfnode-backup");
    path.with_file_name(name)
}

fn is_ours(text: &str) -> bool {
    text.lines().next() == Some(MARK)
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Ok(Err(error).with_context(|| format!("cannot read {}", path.display()))?),
    }
}
