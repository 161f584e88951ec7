//! The cluster's key: which one a node has, and what to do about having none.

use std::path::PathBuf;

use anyhow::anyhow;
use dfnode_node::cluster_key::{
    ClusterKeys, KEY_FILE, KEY_VARIABLE, KeyError, KeyLookup, KeyOrigin, Token,
};

use crate::args::{KeyCommand, ShowKeyArgs};
use crate::config::{Origin, Settings, absolute, node_folder, read_usual_file};
use crate::exit::{Exit, Failure};
use crate::say;

/// How a node belongs to a cluster.
#[derive(Debug)]
pub(crate) enum Membership {
    /// Whoever holds the same key is a peer.
    Keyed(ClusterKeys, KeyOrigin),
    /// Whoever reaches it is a peer.
    Open,
    /// Nobody is.
    Alone,
}

/// `dfnode key …`.
pub(crate) fn command(command: KeyCommand) -> Result<Exit, Failure> {
    match command {
        KeyCommand::New => say::line(Token::generate()),
        KeyCommand::Show(args) => show(args),
    }
}

fn show(args: ShowKeyArgs) -> Result<Exit, Failure> {
    let data = node_folder(args.data.as_deref())?;
    let in_file = read_usual_file()?.and_then(|said| said.cluster_key);
    let found = under(KeyLookup::new(args.cluster_key, &data), in_file)
        .find()
        .map_err(unusable)?;
    let Some((keys, _)) = found else {
        let what = format!(
            "there is no cluster key here: not in {KEY_VARIABLE}, {} or /etc/dfnode/{KEY_FILE}; \
             `dfnode run` makes one, `dfnode key new` prints a new one",
            data.join(KEY_FILE).display()
        );
        return Err(Failure::new(Exit::Cluster, anyhow!(what)));
    };
    say::line(keys.current())
}

/// How the node that `settings` describe belongs to a cluster; [`Membership::Alone`] where nothing says so.
pub(crate) fn membership(settings: &Settings) -> Result<Membership, Failure> {
    let said = &settings.said;
    if said.open == Some(true) {
        if said.cluster_key.is_some() {
            return Err(Failure::usage(
                "--open is for running without a key, but --cluster-key names one",
            ));
        }
        return Ok(Membership::Open);
    }
    match lookup(settings).find().map_err(unusable)? {
        Some((keys, origin)) => Ok(Membership::Keyed(keys, origin)),
        None if said.join.is_empty() && said.join_file.is_none() => Ok(Membership::Alone),
        None => Err(Failure::new(
            Exit::Cluster,
            anyhow!(nothing_to_join_with(settings)),
        )),
    }
}

/// The same for a node that stays: it makes a key rather than being alone.
pub(crate) fn membership_of_daemon(settings: &Settings) -> Result<Membership, Failure> {
    if let Membership::Alone = membership(settings)? {
        let (keys, origin) = lookup(settings).find_or_create().map_err(unusable)?;
        return Ok(Membership::Keyed(keys, origin));
    }
    membership(settings)
}

fn lookup(settings: &Settings) -> KeyLookup {
    let said = settings.said.cluster_key.clone();
    if let Origin::File(_) = settings.origin("cluster-key") {
        return under(KeyLookup::new(None, &settings.data), said);
    }
    KeyLookup::new(said, &settings.data)
}

/// What was typed wins over the variable, that over the file that the configuration names.
fn under(mut lookup: KeyLookup, in_file: Option<PathBuf>) -> KeyLookup {
    let has_variable = lookup
        .variable
        .as_ref()
        .is_some_and(|text| !text.is_empty());
    if lookup.file.is_none() && !has_variable {
        lookup.file = in_file;
    }
    lookup
}

fn unusable(error: KeyError) -> Failure {
    Failure::new(Exit::Cluster, error)
}

fn nothing_to_join_with(settings: &Settings) -> String {
    let here = absolute(&settings.data.join(KEY_FILE));
    format!(
        "to join a cluster this host needs the cluster's key, and has none.\n\
         On a host of the cluster, `dfnode key show` prints it (it lies in DATA/{KEY_FILE} there). \
         Copy it to {here} on this host, readable for this user alone; \
         or name its file with --cluster-key FILE; or put it into {KEY_VARIABLE}.\n\
         On a network that you trust, every node can be run with --open instead.",
        here = here.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_wins_over_the_variable_and_that_over_the_configuration() {
        let lookup = |typed: Option<&str>, variable: Option<&str>| {
            let lookup = KeyLookup {
                file: typed.map(PathBuf::from),
                variable: variable.map(str::to_owned),
                data: PathBuf::from("/data"),
                system: PathBuf::from("/system"),
            };
            under(lookup, Some(PathBuf::from("/named"))).file
        };
        assert_eq!(
            lookup(Some("/typed"), Some("key")),
            Some(PathBuf::from("/typed"))
        );
        assert_eq!(lookup(None, Some("key")), None);
        assert_eq!(lookup(None, Some("")), Some(PathBuf::from("/named")));
        assert_eq!(lookup(None, None), Some(PathBuf::from("/named")));
    }
}
