//! Nodes that are the proxies of their hosts.

use crate::cluster::{Cluster, Options};
use crate::engines::PROXY;
use crate::lab::{Job, Lab, run_all};

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

/// The same, but none runs yet: makes each node's authority one that its host trusts.
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
    // Each host's list of trusted authorities is made anew, which takes a second of a processor.
    let installs = cluster
        .nodes()
        .iter()
        .map(|node| Job::new(node.command(&["ca", "install"])));
    for done in run_all(installs.collect()) {
        done.expect_success("dfnode ca install");
    }
    cluster
}
