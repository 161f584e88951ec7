//! From settings to a node's configuration, and a node from that.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use dfnode_gossip::Zone;
use dfnode_node::cluster_key::{ClusterKeys, Token};
use dfnode_node::folder;
use dfnode_node::get::Role;
use dfnode_node::store::StoreConfig;
use dfnode_node::{Config, StartError};
use dfnode_proxy::Config as ProxyConfig;

use crate::config::{FOLDER_MODE, Settings, absolute, certificates};
use crate::exit::{Exit, Failure};
use crate::key::Membership;
use crate::words::StatusAddr;

/// Makes the node's folder, if it is not there.
pub(crate) fn make_folder(data: &Path) -> Result<(), Failure> {
    folder::make(data, FOLDER_MODE).with_context(|| {
        format!(
            "cannot make the node's folder {}; give another with --data",
            data.display()
        )
    })?;
    Ok(())
}

/// The configuration of a node that `settings` describe.
pub(crate) fn node_config(
    settings: &Settings,
    membership: Membership,
    role: Role,
) -> Result<Config, Failure> {
    let said = &settings.said;
    let is_alone = matches!(membership, Membership::Alone);
    let keys = match membership {
        Membership::Keyed(keys, _) => keys,
        Membership::Open => ClusterKeys::open(),
        // A key that nobody else has.
        Membership::Alone => ClusterKeys::new(Token::generate()),
    };
    let mut config = Config::new(settings.data.clone(), keys);
    config.role = role;
    if role == Role::Embedded {
        // It dials its peers; on the usual port it would keep a daemon of another user from starting.
        config.listen.set_port(0);
    }
    set(&mut config.listen, said.listen);
    config.advertise = said
        .advertise
        .iter()
        .map(|told| SocketAddr::new(told.ip, told.port.unwrap_or(0)))
        .collect();
    config.join = said
        .join
        .iter()
        .map(|member| member.target.clone())
        .collect();
    config.join_file.clone_from(&said.join_file);
    config.mdns = !is_alone && said.no_mdns != Some(true);
    if let Some(zone) = &said.zone {
        config.labels.zone =
            Zone::try_new(zone).map_err(|error| Failure::new(Exit::Usage, error))?;
    }
    set(&mut config.labels.leech, said.leech);
    set(
        &mut config.tracker.source_readers,
        said.source_concurrency.map(|readers| readers.get().into()),
    );
    config.store = store_config(settings)?;
    config.limits.total = said.total_limit;
    config.limits.task = said.local_limit;
    set(&mut config.max_age, said.max_age.map(|span| span.0));
    if let Some(path) = &said.cacert {
        let pem = certificates(path).map_err(|error| Failure::new(Exit::Usage, error))?;
        config.source.cacert.push(pem);
    }
    config.source.proxy.clone_from(&said.upstream_proxy);
    config.source.direct = said
        .upstream_direct
        .iter()
        .map(ToString::to_string)
        .collect();
    match said.status {
        Some(StatusAddr::At(address)) => config.status = Some(address),
        Some(StatusAddr::Off) => config.status = None,
        None => {}
    }
    Ok(config)
}

/// The configuration of the proxy beside that node, unless there shall be none.
pub(crate) fn proxy_config(settings: &Settings) -> Result<Option<ProxyConfig>, Failure> {
    let said = &settings.said;
    let mut config = ProxyConfig::new(settings.data.clone());
    match said.proxy {
        Some(StatusAddr::Off) => return Ok(None),
        Some(StatusAddr::At(address)) => config.listen = address,
        None => {}
    }
    config.registries.clone_from(&said.registry);
    config.rules.clone_from(&said.proxy_rule);
    set(&mut config.prefetch, said.prefetch);
    set(&mut config.mirror_upstream, said.mirror_upstream.clone());
    config.upstream_proxy.clone_from(&said.upstream_proxy);
    config.upstream_direct.clone_from(&said.upstream_direct);
    if let Some(path) = &said.cacert {
        let pem = certificates(path).map_err(|error| Failure::new(Exit::Usage, error))?;
        config.cacert.push(pem);
    }
    Ok(Some(config))
}

/// Whether a node did not start because another process has its folder.
pub(crate) const fn is_folder_in_use(error: &StartError) -> bool {
    matches!(
        error,
        StartError::Store(dfnode_node::store::OpenError::InUse { .. })
    )
}

fn store_config(settings: &Settings) -> Result<StoreConfig, Failure> {
    // The folder may not be there yet: then the one that it will be made in.
    let data = absolute(&settings.data);
    let there = data
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(&data);
    let disk = StoreConfig::for_disk_of(there);
    let mut config = disk.with_context(|| format!("cannot use {}", there.display()))?;
    if let Some(size) = settings.said.cache_size {
        config.cache_bytes = size.0;
        config.spare_bytes = None;
    }
    config.idle_ttl = settings.said.cache_ttl.map(|span| span.0);
    Ok(config)
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}
