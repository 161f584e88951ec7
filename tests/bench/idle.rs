//! A cluster at rest.

use std::thread;
use std::time::Duration;

use crate::cluster::{Cluster, Options};
use crate::figures::{Report, float, median};
use crate::lab::{Host, Lab, Shape};

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Plan {
    /// How many nodes.
    #[arg(long, default_value_t = 20)]
    hosts: usize,
    /// How long they are watched, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

const TIMEOUT: Duration = Duration::from_mins(1);
/// What the join itself sends must not count.
const SETTLE: Duration = Duration::from_secs(5);

/// Starts all, waits, watches, kills one and waits until all others know.
pub(crate) fn measure(plan: &Plan) -> Report {
    let lab = Lab::new(plan.hosts, Shape::Mbit(100), Shape::Mbit(100));
    let mut cluster = Cluster::prepare(&lab, &Options::default());
    for place in 0..plan.hosts {
        cluster.node_mut(place).start();
    }
    let known = cluster.wait_for_members(plan.hosts, TIMEOUT);
    thread::sleep(SETTLE);

    let before: Vec<_> = lab.hosts().iter().map(Host::counters).collect();
    let used: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|node| node.usage().cpu)
        .collect();
    thread::sleep(Duration::from_secs(plan.seconds.into()));
    let seconds = f64::from(plan.seconds);
    let sent: Vec<_> = lab
        .hosts()
        .iter()
        .zip(before)
        .map(|(host, before)| float(host.counters().since(before).sent_bytes) / seconds)
        .collect();
    let cpu = cluster
        .nodes()
        .iter()
        .zip(used)
        .map(|(node, before)| node.usage().cpu.saturating_sub(before).as_secs_f64() / seconds);
    let cpu: Vec<_> = cpu.map(|share| share * 100.0).collect();
    let rss: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|node| float(node.usage().rss_bytes) / float(1 << 20))
        .collect();

    cluster.node_mut(plan.hosts - 1).kill();
    let noticed = cluster.wait_for_members(plan.hosts - 1, TIMEOUT);

    let title = format!("{} nodes at rest for {} s", plan.hosts, plan.seconds);
    let mut report = Report::new(title, &["median", "worst"]);
    report.fact("all know all after the last start, s", known.as_secs_f64());
    report.fact(
        "a killed node is known down everywhere after, s",
        noticed.as_secs_f64(),
    );
    for (name, list) in [
        ("sent bytes/s on the link", sent),
        ("RSS MiB", rss),
        ("CPU %", cpu),
    ] {
        report.row(
            name,
            vec![
                Some(median(list.clone())),
                list.into_iter().reduce(f64::max),
            ],
        );
    }
    report
}
