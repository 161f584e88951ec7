//! Callers who want a part of a file alone.

use std::ops::Range;
use std::time::Duration;

use super::cluster::{Cluster, task};
use crate::ids::BlockIndex;
use crate::message::Extent;
use crate::scope::Part;
use crate::task::Wish;
use crate::tracker::Tracker;

const BLOCK: u64 = 32 << 10;
/// 160 pieces' worth of blocks would take long; three and a bit are enough.
const FILE: u64 = 13 << 20;
const BLOCKS: u32 = 416;

fn cluster(nodes: u8) -> Cluster {
    let mut cluster = Cluster::new(nodes);
    cluster.file_bytes = FILE;
    cluster
}

fn want(cluster: &mut Cluster, node: usize, part: Option<Part>) {
    let wish = Wish {
        can_read: true,
        credentialed: false,
        named: None,
        seen: None,
        max_age: Duration::from_mins(1),
        part,
    };
    cluster.nodes[node].register(cluster.now, task(), wish);
    cluster.settle();
}

fn blocks(run: Range<u32>) -> Part {
    let (first, end) = (u64::from(run.start) * BLOCK, u64::from(run.end) * BLOCK);
    (first, Some(end - 1))
}

/// What the leases let be read, in the order in which they were given, without the probes.
fn leased(cluster: &Cluster) -> Vec<(usize, Range<u32>)> {
    let reads = cluster.reads().into_iter();
    reads
        .filter_map(|(_, node, lease)| match lease.extent {
            Extent::Blocks { run, .. } => Some((node, run)),
            Extent::Probe | Extent::Validate { .. } => None,
        })
        .collect()
}

#[test]
fn a_part_is_read_and_nothing_else() {
    let mut cluster = cluster(1);
    want(&mut cluster, 0, Some(blocks(200..203)));
    cluster.pass(Duration::from_millis(400));
    cluster.head(0);
    cluster.pass(Duration::from_millis(100));
    assert_eq!(
        leased(&cluster),
        [(0, 200..203)],
        "the probe's own piece is not read on"
    );
    for block in 200..203 {
        cluster.read_block(0, BlockIndex(block));
    }
    cluster.end_read(0);
    cluster.pass(Duration::from_secs(5));
    assert_eq!(leased(&cluster).len(), 1, "enough is enough");
    let view = cluster.nodes[0].task(&task()).expect("a task");
    assert!(!view.complete && view.blocks_held == 3);
}

#[test]
fn the_part_in_the_probes_piece_comes_with_the_probe() {
    let mut cluster = cluster(1);
    want(&mut cluster, 0, Some(blocks(2..3)));
    cluster.pass(Duration::from_millis(400));
    cluster.head(0);
    for block in 0..128 {
        cluster.read_block(0, BlockIndex(block));
    }
    cluster.end_read(0);
    cluster.pass(Duration::from_secs(2));
    assert_eq!(leased(&cluster), []);
}

#[test]
fn who_wants_the_whole_later_gets_the_rest() {
    let mut cluster = cluster(1);
    want(&mut cluster, 0, Some(blocks(200..203)));
    cluster.pass(Duration::from_millis(400));
    cluster.head(0);
    cluster.pass(Duration::from_millis(100));
    for block in 200..203 {
        cluster.read_block(0, BlockIndex(block));
    }
    cluster.end_read(0);
    want(&mut cluster, 0, None);
    cluster.read_all();
    let view = cluster.nodes[0].task(&task()).expect("a task");
    assert_eq!(view.blocks_held, BLOCKS);
    let mut read: Vec<u32> = leased(&cluster)
        .into_iter()
        .flat_map(|(_, run)| run)
        .collect();
    read.sort_unstable();
    assert_eq!(read, (0..BLOCKS).collect::<Vec<_>>(), "each block once");
}

#[test]
fn two_nodes_that_want_one_part_read_it_once() {
    let mut cluster = cluster(4);
    for node in 0..4 {
        want(&mut cluster, node, Some(blocks(300..310)));
    }
    cluster.pass(Duration::from_millis(400));
    let (_, prober, _) = cluster.reads().pop().expect("a probe");
    cluster.head(prober);
    cluster.pass(Duration::from_millis(100));
    let leases = leased(&cluster);
    assert_eq!(leases.len(), 1, "{leases:?}");
    assert_eq!(leases[0].1, 300..310);
}
