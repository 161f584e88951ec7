//! `dfnode config check`: what would stop a node with these settings, all of it at once.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use dfnode_gossip::Zone;
use dfnode_proxy::Proxy;

use super::Settings;
use crate::args::NodeArgs;
use crate::exit::{Exit, Failure};
use crate::key;
use crate::log;
use crate::start::proxy_config;

/// What makes a file one of certificates.
const PEM_MARK: &str = "-----BEGIN CERTIFICATE-----";

/// The longest file of certificates that is taken: it travels with a request.
const MAX_CERTIFICATES_BYTES: usize = 768 * 1024;

/// Every fault of the settings.
pub(crate) fn check(settings: &Settings) -> Vec<Failure> {
    let said = &settings.said;
    let files = [
        said.cacert
            .as_deref()
            .map(|path| certificates(path).map(drop)),
        said.join_file.as_deref().map(readable),
        Some(folder(&settings.data)),
        said.get
            .as_ref()
            .and_then(|get| get.cacert.as_deref())
            .map(|path| certificates(path).map(drop)),
        said.zone
            .as_deref()
            .map(|zone| Ok(Zone::try_new(zone).map(drop)?)),
    ];
    let faults = files.into_iter().flatten().filter_map(Result::err);
    let mut faults: Vec<Failure> = faults
        .map(|error| Failure::new(Exit::Usage, error))
        .collect();
    faults.extend(
        said.log_level
            .as_deref()
            .and_then(|level| log::check(level).err()),
    );
    faults.extend(key::membership(settings).err());
    faults.extend(proxy(settings).err());
    faults
}

fn proxy(settings: &Settings) -> Result<(), Failure> {
    let config = proxy_config(&Settings {
        // Its file is looked at by itself.
        said: NodeArgs {
            cacert: None,
            ..settings.said.clone()
        },
        ..settings.clone()
    })?;
    let checked = config.map_or(Ok(()), |config| Proxy::check(&config));
    checked.map_err(|error| Failure::new(Exit::Usage, error))
}

/// The certificates in a file, as PEM.
pub(crate) fn certificates(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(path)
        .with_context(|| format!("cannot read the certificates {}", path.display()))?;
    let is_pem = bytes
        .windows(PEM_MARK.len())
        .any(|window| window == PEM_MARK.as_bytes());
    ensure!(is_pem, "{} holds no certificate in PEM", path.display());
    ensure!(
        bytes.len() <= MAX_CERTIFICATES_BYTES,
        "{} is too long",
        path.display()
    );
    Ok(bytes)
}

fn readable(path: &Path) -> anyhow::Result<()> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(())
}

fn folder(path: &Path) -> anyhow::Result<()> {
    match fs::metadata(path) {
        Ok(found) => ensure!(found.is_dir(), "{} is no folder", path.display()),
        // It will be made.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot use {}", path.display())),
    }
    Ok(())
}
