//! Where a node keeps its things.

use std::env;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::ensure;

/// Others reach the socket in a node's folder, but do not see what else is there.
pub(crate) const FOLDER_MODE: u32 = 0o711;

/// The folder of a node that root runs.
pub(crate) const SYSTEM_DATA: &str = "/var/lib/dfnode";

/// The folder of a node that this user runs, if nobody says otherwise.
pub(crate) fn data_folder() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from(SYSTEM_DATA));
    }
    match home_folder() {
        Some(folder) => Ok(folder),
        None => temporary_folder(),
    }
}

/// The user's own folder, whether there is a node in it or not.
pub(crate) fn user_folder() -> Option<PathBuf> {
    home_folder().or_else(|| Some(temporary_name()).filter(|folder| is_ours(folder)))
}

/// For a user who has a home.
fn home_folder() -> Option<PathBuf> {
    let named = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let share =
        named("XDG_DATA_HOME").or_else(|| named("HOME").map(|home| home.join(".local/share")));
    share.map(|share| share.join("dfnode"))
}

/// For a user without a home: a folder that nobody else can have prepared.
fn temporary_folder() -> anyhow::Result<PathBuf> {
    let folder = temporary_name();
    let made = DirBuilder::new().mode(FOLDER_MODE).create(&folder);
    let made =
        made.and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(FOLDER_MODE)));
    ensure!(
        made.is_ok() || is_ours(&folder),
        "there is no home folder, and {} is not ours either; give a folder with --data",
        folder.display()
    );
    Ok(folder)
}

fn temporary_name() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    env::temp_dir().join(format!("dfnode-{uid}"))
}

fn is_ours(folder: &Path) -> bool {
    let uid = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(folder).is_ok_and(|seen| seen.is_dir() && seen.uid() == uid)
}
