//! What `dfnode setup` writes is what the engines read.

use crate::cluster::{Cluster, Node};
use crate::engines::{self, Client, Engines, Way};
use crate::engines_themselves::{Shelf, expected};
use crate::lab::{Finished, Host, Job, Lab, Shape, take_turn};
use crate::proxied;
use crate::registries::{self, Registries};

/// What each engine needs, and the client that shows that it took effect.
const ENGINES: [(&str, &str, Client); 3] = [
    (
        "docker",
        "/etc/systemd/system/docker.service.d/dfnode.conf",
        Client::Docker,
    ),
    (
        "containerd",
        "/etc/containerd/certs.d/_default/hosts.toml",
        Client::Cri,
    ),
    (
        "podman",
        "/etc/containers/containers.conf.d/60-dfnode.conf",
        Client::Podman,
    ),
];

fn setup(node: &Node<'_>, engine: &str, more: &[&str]) -> Finished {
    Job::new(node.command(&[&["setup", engine], more].concat())).run()
}

fn exists(host: &Host, path: &str) -> bool {
    let mut test = host.command("test");
    test.args(["-e", path]);
    Job::new(test).run().code == Some(0)
}

fn prepared(lab: &Lab) -> Cluster<'_> {
    let cluster = proxied::prepare(lab, &[]);
    let node = &cluster.nodes()[0];
    for (engine, path, _) in ENGINES {
        let refused = setup(node, engine, &["--write"]);
        assert_eq!(refused.code, Some(1), "{engine}: {refused:#?}");
        let told = "start `dfnode run` first";
        assert!(refused.stderr.contains(told), "{engine}: {refused:#?}");
        assert!(!exists(node.host(), path), "{engine}: written all the same");
    }
    cluster
}

#[test]
fn engines_pull_through_the_node_once_setup_wrote_and_by_themselves_once_it_took_back() {
    let programs = [&engines::PROGRAMS[..], &registries::PROGRAMS].concat();
    let Some(_turn) = take_turn(&programs) else {
        return;
    };
    let mut lab = Lab::new(2, Shape::Unshaped, Shape::Unshaped);
    let registries = Registries::open(&mut lab);
    let shelf = Shelf::fill(&registries);
    let mut cluster = prepared(&lab);
    cluster.start_all();
    let name = "registry.test/test/one";
    for node in cluster.nodes() {
        for (engine, path, _) in ENGINES {
            let shown = setup(node, engine, &[]);
            shown.expect_success(engine);
            assert!(shown.stdout.contains(path), "{engine}: {shown:#?}");
            assert!(
                !exists(node.host(), path),
                "{engine}: showing writes nothing"
            );
            setup(node, engine, &["--write"]).expect_success(engine);
            assert!(exists(node.host(), path), "{engine}");
        }
        let mut engines = Engines::new(node.host(), Way::Settings);
        for (_, _, client) in ENGINES {
            let got = engines.pull(client, name, None);
            let got = got.unwrap_or_else(|done| panic!("{client:?}: {done:#?}"));
            assert_eq!(got, expected(client, &shelf.one), "{client:?}");
        }
    }
    let (read, one_copy) = (registries.blob_bytes(&shelf.one), shelf.one.wire_bytes());
    assert!(
        read <= one_copy * 102 / 100,
        "six engines made the registry send {read} bytes, one copy is {one_copy}"
    );

    for node in cluster.nodes() {
        for (engine, path, _) in ENGINES {
            setup(node, engine, &["--undo"]).expect_success(engine);
            assert!(!exists(node.host(), path), "{engine}");
        }
    }
    cluster.node_mut(0).kill();
    let mut engines = Engines::new(&lab.hosts()[0], Way::Settings);
    let name = "registry.test/test/many";
    for (_, _, client) in ENGINES {
        let got = engines.pull(client, name, None);
        let got = got.unwrap_or_else(|done| panic!("{client:?}: {done:#?}"));
        assert_eq!(got, expected(client, &shelf.many), "{client:?}");
    }
}
