//! Cables, sources and daemons that are away for a while, or were never there.

use std::thread;
use std::time::Duration;

use crate::cluster::{Cluster, Options, dfnode};
use crate::crowd::{ONE_COPY, expect_copies, expect_right, output};
use crate::files::{noise, sha256, sha256_of};
use crate::lab::{Host, Job, Lab, Shape, run_all, take_turn};
use crate::origin::Origin;

/// Long enough for every patience of a session, short of the detector's verdict.
const OUTAGE: Duration = Duration::from_secs(3);
const LENGTH: usize = 12_000_000;
/// 12 MB take 2.4 s at least.
const LINK: Shape = Shape::Mbit(40);

/// Runs all downloads of a cluster while `outage` happens on another thread.
fn everybody_finishes_despite(
    lab: &Lab,
    origin: &mut Origin,
    outage: impl FnOnce(&Lab, &mut Origin) + Send,
) {
    let content = noise(31, LENGTH);
    origin.publish("file", &content);
    let cluster = Cluster::start(lab);
    let url = origin.url("file");
    let jobs: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|node| node.get(&url, &output(node)))
        .collect();
    let all = thread::scope(|scope| {
        let downloads = scope.spawn(|| run_all(jobs));
        thread::sleep(Duration::from_millis(700));
        outage(lab, origin);
        downloads.join().unwrap()
    });
    for (node, done) in cluster.nodes().iter().zip(&all) {
        expect_right(node, done, &sha256(&content));
    }
}

#[test]
fn a_cable_that_is_pulled_and_plugged_in_again_costs_time_and_nothing_else() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let lab = Lab::new(4, LINK, LINK);
    let mut origin = Origin::start(lab.source());
    everybody_finishes_despite(&lab, &mut origin, |lab, _origin| {
        lab.hosts()[2].set_link_up(false);
        thread::sleep(OUTAGE);
        lab.hosts()[2].set_link_up(true);
    });
}

/// Nobody gives an address back that a cable took away, and who was heard by it is still a peer: also one that a link
/// leads to.
#[test]
fn a_host_that_lost_ipv6_with_its_cable_reaches_its_peers_by_ipv4() {
    let Some(_turn) = take_turn(&["nginx", "iptables"]) else {
        return;
    };
    let lab = Lab::new(4, LINK, LINK);
    let origin = Origin::start(lab.source());
    let rule = |action: &str| {
        for host in lab.hosts() {
            let mut iptables = host.command("iptables");
            iptables.args(["-w", action, "INPUT", "-p", "udp", "-j", "DROP"]);
            Job::new(iptables).run().expect_success("iptables");
        }
    };
    let everybody_gets = |cluster: &Cluster<'_>, name: &str, seed: u64| {
        let content = noise(seed, LENGTH);
        origin.publish(name, &content);
        let url = origin.url(name);
        let jobs = cluster.nodes().iter();
        let all = run_all(jobs.map(|node| node.get(&url, &output(node))).collect());
        for (node, done) in cluster.nodes().iter().zip(&all) {
            expect_right(node, done, &sha256(&content));
        }
        expect_copies(origin.copies(name), LENGTH, ONE_COPY);
    };
    // All that they hear of each other until then comes by IPv6, and all links between them lead there.
    rule("-A");
    let cluster = Cluster::start(&lab);
    everybody_gets(&cluster, "before", 33);
    rule("-D");
    lab.hosts()[2].set_link_up(false);
    thread::sleep(Duration::from_millis(500));
    lab.hosts()[2].set_link_up(true);
    everybody_gets(&cluster, "after", 34);
}

#[test]
fn a_source_that_is_away_for_a_moment_costs_time_and_nothing_else() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let lab = Lab::new(4, LINK, LINK);
    let mut origin = Origin::start(lab.source());
    everybody_finishes_despite(&lab, &mut origin, |lab, origin| {
        origin.stop();
        thread::sleep(OUTAGE / 2);
        origin.resume(lab.source());
    });
}

/// `dfnode get` on a host without a daemon.
fn lone_get(host: &Host, url: &str, arguments: &[&str]) -> Job {
    let mut command = dfnode(host);
    command
        .args(["get", url, "--json", "-o"])
        .arg(host.dir().join("got"));
    command
        .arg("--data")
        .arg(host.dir().join("lone"))
        .args(arguments);
    Job::new(command)
}

#[test]
fn a_get_without_a_daemon_downloads_by_itself() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let lab = Lab::new(1, Shape::Mbit(100), Shape::Mbit(100));
    let origin = Origin::start(lab.source());
    let content = noise(32, LENGTH);
    origin.publish("file", &content);
    let host = &lab.hosts()[0];
    lone_get(host, &origin.url("file"), &["--linger", "0s"])
        .run()
        .expect_success("alone");
    assert_eq!(sha256_of(&host.dir().join("got")), Some(sha256(&content)));
    expect_copies(origin.copies("file"), LENGTH, ONE_COPY);
}

#[test]
fn a_get_without_a_daemon_takes_from_the_cluster_that_it_is_told_to_join() {
    let Some(_turn) = take_turn(&["nginx"]) else {
        return;
    };
    let lab = Lab::new(2, Shape::Mbit(100), Shape::Mbit(100));
    let mut origin = Origin::start(lab.source());
    let content = noise(33, LENGTH);
    origin.publish("file", &content);
    let mut cluster = Cluster::prepare(&lab, &Options::default());
    cluster.node_mut(0).start_and_wait();
    let holder = &cluster.nodes()[0];
    expect_right(
        holder,
        &holder.get(&origin.url("file"), &output(holder)).run(),
        &sha256(&content),
    );
    origin.stop();

    let host = &lab.hosts()[1];
    let key = lab.dir().join("cluster.key").display().to_string();
    let arguments = ["--join", "peer-a", "--cluster-key", &key, "--linger", "0s"];
    lone_get(host, &origin.url("file"), &arguments)
        .run()
        .expect_success("joined");
    assert_eq!(sha256_of(&host.dir().join("got")), Some(sha256(&content)));
    expect_copies(origin.copies("file"), LENGTH, ONE_COPY);
}
