//! Who is there, how soon all know, and what knowing costs at rest.

use std::thread;
use std::time::Duration;

use crate::cluster::{Cluster, Options};
use crate::crowd::as_float;
use crate::lab::{Host, Lab, Shape, take_turn};
use crate::sizes::full;

/// The README's promises.
const ALL_KNOW_ALL: Duration = Duration::from_secs(5);
const DEATH_IS_KNOWN: Duration = Duration::from_secs(15);
const IDLE_BYTES_PER_SEC: f64 = 700.0;
const IDLE_RSS_BYTES: u64 = 50 * 1024 * 1024;
/// A loaded machine may take longer; a test that judges results waits so long.
const PATIENCE: u32 = 4;

#[test]
fn all_nodes_know_all_soon_learn_of_a_death_and_cost_little_at_rest() {
    let Some(_turn) = take_turn(&[]) else { return };
    let (nodes, seconds) = if full() { (20, 60) } else { (10, 30) };
    let patience = if full() { 1 } else { PATIENCE };
    let lab = Lab::new(nodes, Shape::Mbit(100), Shape::Mbit(100));
    let mut cluster = Cluster::prepare(&lab, &Options::default());
    for place in 0..nodes {
        cluster.node_mut(place).start();
    }
    cluster.wait_for_members(nodes, ALL_KNOW_ALL * patience);

    // What joining itself sends is not the cost at rest.
    thread::sleep(Duration::from_secs(5));
    let before: Vec<_> = lab.hosts().iter().map(Host::counters).collect();
    thread::sleep(Duration::from_secs(seconds));
    for (host, before) in lab.hosts().iter().zip(before) {
        let rate = as_float(host.counters().since(before).sent_bytes) / as_float(seconds);
        assert!(
            rate <= IDLE_BYTES_PER_SEC,
            "{} sends {rate:.0} bytes a second at rest",
            host.name()
        );
    }
    for node in cluster.nodes() {
        let rss = node.usage().rss_bytes;
        assert!(
            rss <= IDLE_RSS_BYTES,
            "{} holds {rss} bytes at rest",
            node.host().name()
        );
    }

    cluster.node_mut(nodes / 2).kill();
    cluster.wait_for_members(nodes - 1, DEATH_IS_KNOWN * patience);
}
