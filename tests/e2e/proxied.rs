//! Nodes that are the proxies of their hosts.

use std::process::Command;

use crate::cluster::{Cluster, Node, Options};
use crate::engines::PROXY;
use crate::lab::{Job, Lab};

/// The registries of the lab that no list of public ones knows.
#[rustfmt::skip]
pub(crate) const REGISTRIES: [&str; 6] = [
    "registry.test", "basic.test", "token.test", "redir.test", "evil.test", "fault.test:7443",
];

/// Starts a node on every host, as its proxy; the hosts trust it from now on. `env` are further
/// variables of the nodes.
///
/// The engines must be started afterwards: they read the trusted authorities once.
pub(crate) fn start<'lab>(lab: &'lab Lab, env: &[(&str, &str)]) -> Cluster<'lab> {
    let mut cluster = prepare(lab, env);
    cluster.start_all();
    cluster
}

/// The same, but none runs yet.
pub(crate) fn prepare<'lab>(lab: &'lab Lab, env: &[(&str, &str)]) -> Cluster<'lab> {
    let mut run = vec!["--proxy".to_owned(), PROXY.to_owned()];
    for registry in REGISTRIES {
        run.extend(["--registry".to_owned(), registry.to_owned()]);
    }
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let cluster = Cluster::prepare(lab, &Options { run, env });
    for node in cluster.nodes() {
        trust(node);
    }
    cluster
}

/// Makes the node's authority and one that its host trusts.
fn trust(node: &Node<'_>) {
    let install: Command = node.command(&["ca", "install"]);
    Job::new(install).run().expect_success("dfnode ca install");
}
