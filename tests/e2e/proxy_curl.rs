//! curl through the nodes' proxies: big files by rule, everything else untouched.

use std::path::Path;
use std::process::Command;

use crate::cluster::{Cluster, DFNODE, Node, Options};
use crate::crowd::{ONE_COPY, expect_copies, expect_right, output};
use crate::files::{noise, sha256};
use crate::lab::{Job, Lab, Shape, run_all, take_turn};
use crate::origin::Origin;

/// The URL of every node's proxy, on its own host.
const PROXY: &str = "http://127.0.0.1:65001";

pub(crate) fn curl(node: &Node<'_>, url: &str, args: &[&str]) -> Command {
    let mut command = node.host().command("curl");
    command.args(["-sS", "--fail", "-x", PROXY, "-o"]);
    command.arg(output(node)).args(args).arg(url);
    command
}

#[test]
fn big_files_that_a_rule_names_are_read_once_however_many_curls_ask() {
    let Some(_turn) = take_turn(&["nginx", "curl"]) else {
        return;
    };
    let lab = Lab::new(4, Shape::Mbit(100), Shape::Mbit(100));
    let origin = Origin::start(lab.source());
    let content = noise(61, 12_000_000);
    origin.publish("big.iso", &content);
    origin.publish("other.txt", &content);
    let options = Options {
        run: vec!["--proxy-rule".to_owned(), "\\.iso$".to_owned()],
        ..Options::default()
    };
    let cluster = Cluster::start_with(&lab, &options);
    let digest = sha256(&content);
    let curls = |name: &str| {
        let url = origin.url(name);
        let jobs = cluster.nodes().iter();
        run_all(jobs.map(|node| Job::new(curl(node, &url, &[]))).collect())
    };
    for (node, done) in cluster.nodes().iter().zip(curls("big.iso")) {
        expect_right(node, &done, &digest);
    }
    // Each proxy asks for one byte in its client's name.
    expect_copies(origin.copies("big.iso"), content.len(), ONE_COPY);
    for (node, done) in cluster.nodes().iter().zip(curls("other.txt")) {
        expect_right(node, &done, &digest);
    }
    assert_eq!(origin.copies("other.txt").gets, 4);
}

#[test]
fn a_site_that_is_no_registry_shows_its_own_certificate() {
    let Some(_turn) = take_turn(&["nginx", "curl"]) else {
        return;
    };
    let lab = Lab::new(1, Shape::Mbit(100), Shape::Mbit(100));
    let origin = Origin::start(lab.source());
    let content = noise(62, 500_000);
    origin.publish("page", &content);
    let ca = origin.ca().display().to_string();
    let options = Options {
        run: vec!["--cacert".to_owned(), ca.clone()],
        ..Options::default()
    };
    let mut cluster = Cluster::prepare(&lab, &options);
    // With a certificate authority the proxy could open the connection, and with --registry it does.
    let made = aside(
        Path::new(DFNODE),
        &["ca", "install", "--data"],
        cluster.nodes()[0].data(),
    );
    let made = Job::new(made).run();
    assert!(made.stderr.contains("proxy-ca.crt"), "{made:#?}");
    cluster.start_all();
    let node = &cluster.nodes()[0];
    let seen = Job::new(curl(node, &origin.https_url("page"), &["--cacert", &ca])).run();
    expect_right(node, &seen, &sha256(&content));
    let path = Job::new(node.command(&["ca", "path"])).run();
    let own = path.stdout.trim();
    let refused = Job::new(curl(node, &origin.https_url("page"), &["--cacert", own])).run();
    assert_eq!(refused.code, Some(60), "{refused:#?}");
}

/// A command whose changes of the trusted certificates are its own and end with it.
fn aside(program: &Path, args: &[&str], last: &Path) -> Command {
    const HIDE: &str = "mount -t tmpfs none /usr/local/share/ca-certificates && \
                        mount -t tmpfs none /etc/ssl/certs && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", HIDE, "sh"]);
    command.arg(program).args(args).arg(last);
    command
}

#[test]
fn a_busy_port_is_said_and_nothing_is_left_running() {
    let Some(_turn) = take_turn(&["nginx", "curl"]) else {
        return;
    };
    let lab = Lab::new(1, Shape::Mbit(100), Shape::Mbit(100));
    let cluster = Cluster::start(&lab);
    let host = &lab.hosts()[0];
    let mut second = crate::cluster::dfnode(host);
    let data = host.dir().join("second");
    second.args([
        "run",
        "--no-mdns",
        "--listen",
        "[::]:0",
        "--status",
        "off",
        "--data",
    ]);
    second.arg(&data);
    let done = Job::new(second).run();
    assert_eq!(done.code, Some(1), "{done:#?}");
    assert!(
        done.stderr.contains("cannot listen on 127.0.0.1:65001") && done.stderr.contains("--proxy"),
        "{done:#?}"
    );
    drop(cluster);
}
