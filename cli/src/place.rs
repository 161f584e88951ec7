//! Where on this host a node may run, and finding it.

use std::env;
use std::path::{Path, PathBuf};

use dfnode_node::control::{Client, ClientError, SOCKET_NAME};

use crate::config::{SYSTEM_DATA, read_file, read_usual_file, user_folder};

/// A folder that a node may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place(PathBuf);

impl Place {
    /// The node whose folder is `folder`.
    pub(crate) const fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The node's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// Where its socket lies while it runs.
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join(SOCKET_NAME)
    }
}

/// Where to look, in order: only in the folder that was typed, else in those of `DFNODE_DATA`, of the configuration
/// file (`config`, or else the usual one), of the user and of the system.
pub(crate) fn places(typed: Option<&Path>, config: Option<&Path>) -> Vec<Place> {
    if let Some(folder) = typed {
        return vec![Place::new(folder.to_owned())];
    }
    // What is wrong with the file is for those to say who need it.
    let file = config.map_or_else(read_usual_file, |config| read_file(Some(config)));
    let in_file = file.ok().flatten().and_then(|said| said.data);
    let variable = env::var_os("DFNODE_DATA")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from);
    let mut places: Vec<Place> = Vec::new();
    let system = Some(PathBuf::from(SYSTEM_DATA));
    for folder in [variable, in_file, user_folder(), system]
        .into_iter()
        .flatten()
    {
        let place = Place::new(folder);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// The first node that answers; else where it was looked for, and why each did not.
pub(crate) async fn find(
    typed: Option<&Path>,
    config: Option<&Path>,
) -> Result<(Place, Client), Vec<(Place, ClientError)>> {
    let mut missed = Vec::new();
    for place in places(typed, config) {
        match Client::connect(&place.socket()).await {
            Ok(client) => return Ok((place, client)),
            Err(error) => missed.push((place, error)),
        }
    }
    Err(missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_typed_is_the_only_one() {
        assert_eq!(
            places(Some(Path::new("/a")), None),
            [Place::new(PathBuf::from("/a"))]
        );
    }

    #[test]
    fn the_system_is_asked_last() {
        let places = places(None, None);
        assert_eq!(places.last(), Some(&Place::new(PathBuf::from(SYSTEM_DATA))));
    }

    #[test]
    fn a_configuration_file_that_was_named_says_where_the_node_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("named.toml");
        std::fs::write(&file, "data = '/named'\n").unwrap();
        let places = places(None, Some(&file));
        assert!(places.contains(&Place::new(PathBuf::from("/named"))));
    }
}
