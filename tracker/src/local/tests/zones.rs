//! Hosts in several places: who is told of whom, and what crosses the border.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster::{Cluster, bytes, task};
use crate::message::{Have, Message, Outcome};
use crate::output::Output;
use crate::tracker::{PieceReport, Tracker};

const MOMENT: Duration = Duration::from_millis(100);
const ZONES: [&str; 8] = ["a", "a", "a", "a", "b", "b", "b", "b"];

/// Carries the blocks that nodes send, at once; `seen` counts the outputs looked at before. Returns what crossed into
/// which zone how often.
fn carry(cluster: &mut Cluster, zones: &[&str], seen: &mut usize) -> BTreeMap<(String, u32), u32> {
    let mut crossed = BTreeMap::new();
    while *seen < cluster.done.len() {
        let (_, from, output) = &cluster.done[*seen];
        *seen += 1;
        let from = *from;
        let &Output::SendBlock {
            to: taker,
            version,
            block,
            ..
        } = output
        else {
            continue;
        };
        let to = (0..zones.len()).find(|node| cluster.peer(*node) == taker);
        let to = to.expect("a member");
        if cluster.dead.contains(&from) || cluster.dead.contains(&to) {
            continue;
        }
        if zones[from] != zones[to] {
            *crossed.entry((zones[to].to_owned(), block.0)).or_default() += 1;
        }
        let report = PieceReport {
            from: cluster.peer(from),
            task: task(),
            version,
            block,
            digest: bytes(block.0),
        };
        let now = cluster.now;
        cluster.nodes[to].report_piece(now, report);
        cluster.nodes[from].handle_block_sent(now, taker, &task(), block, true);
        cluster.settle();
    }
    crossed
}

/// A crowd in two zones, one node of which has read the whole file; and what crossed until `time` later.
fn crowd(
    zones: &[&str],
    dies: &[usize],
    time: Duration,
) -> (Cluster, BTreeMap<(String, u32), u32>) {
    let mut cluster = Cluster::in_zones(zones);
    for node in 0..zones.len() {
        cluster.want(node);
    }
    cluster.pass(MOMENT * 6);
    let (_, reader, _) = cluster.reads()[0].clone();
    assert!(!dies.contains(&reader), "the reader is to live");
    cluster.dead.extend(dies);
    cluster.head(reader);
    let mut seen = 0;
    let mut crossed = BTreeMap::new();
    let layout = cluster.nodes[reader].task(&task()).expect("a task").meta;
    let blocks = layout
        .expect("a version")
        .layout
        .blocks()
        .expect("a length");
    for block in 0..blocks {
        cluster.read_block(reader, crate::ids::BlockIndex(block));
    }
    cluster.end_read(reader);
    let end = cluster.now + time;
    while cluster.now < end {
        for (what, often) in carry(&mut cluster, zones, &mut seen) {
            *crossed.entry(what).or_default() += often;
        }
        cluster.pass(Duration::from_millis(5));
    }
    (cluster, crossed)
}

#[test]
fn peers_of_other_zones_are_named_to_inlets_alone() {
    let zones = ["a", "a", "a", "a", "a", "a", "a", "a", "a", "b"];
    let mut cluster = Cluster::in_zones(&zones);
    for node in 0..zones.len() {
        cluster.want(node);
    }
    cluster.pass(MOMENT * 6);
    let zone_of = |peer| {
        let node = (0..zones.len()).find(|node| cluster.peer(*node) == peer);
        zones[node.expect("a member")]
    };
    let mut inlets = BTreeMap::new();
    for (_, _, to, message) in &cluster.said {
        if let Message::Registered(answer) = message
            && let Outcome::Welcome { peers, .. } = &answer.outcome
            && inlets.contains_key("b")
        {
            assert!(peers.iter().all(|named| zone_of(named.peer) == zones[*to]));
        }
        if let Message::Border(border) = message {
            let inlet = border
                .inlets
                .iter()
                .any(|named| named.peer == cluster.peer(*to));
            assert!(inlet || border.outside.is_empty());
            assert!(
                border
                    .inlets
                    .iter()
                    .all(|named| zone_of(named.peer) == zones[*to])
            );
            assert!(
                border
                    .outside
                    .iter()
                    .all(|named| zone_of(named.peer) != zones[*to])
            );
            inlets.insert(zones[*to], border.inlets.len());
        }
    }
    assert_eq!(inlets.get("b"), Some(&1), "the only one there is an inlet");
}

#[test]
fn where_all_stand_in_one_zone_no_border_is_spoken_of() {
    for zone in ["", "a"] {
        let (cluster, crossed) = crowd(&[zone; 8], &[], MOMENT * 20);
        let spoken = cluster
            .said
            .iter()
            .any(|(.., message)| matches!(message, Message::Border(_)));
        assert!(!spoken && crossed.is_empty());
        assert!((0..8).all(|node| cluster.completions(node) == 1));
    }
}

#[test]
fn each_block_crosses_a_border_once() {
    let (cluster, crossed) = crowd(&ZONES, &[], MOMENT * 30);
    assert!((0..8).all(|node| cluster.completions(node) == 1));
    assert!(crossed.values().all(|often| *often == 1), "{crossed:?}");
    assert_eq!(
        crossed.len(),
        92,
        "every block, into the zone that does not read"
    );
}

#[test]
fn a_lone_host_of_its_zone_fetches_across_itself() {
    let zones = ["a", "a", "a", "b"];
    let (cluster, crossed) = crowd(&zones, &[], MOMENT * 30);
    assert!((0..4).all(|node| cluster.completions(node) == 1));
    assert!(crossed.values().all(|often| *often == 1), "{crossed:?}");
}

#[test]
fn when_inlets_die_the_rest_of_their_zone_gets_everything() {
    // All but one of the zone that does not read die without a word, before anything crossed.
    let probe = Cluster::in_zones(&ZONES);
    let reader_zone = {
        let (cluster, _) = crowd(&ZONES, &[], Duration::ZERO);
        ZONES[cluster.reads()[0].1]
    };
    let others: Vec<usize> = (0..8).filter(|node| ZONES[*node] != reader_zone).collect();
    let homes = &probe.by_rank()[..1];
    let dies: Vec<usize> = others
        .into_iter()
        .filter(|node| !homes.contains(node))
        .take(3)
        .collect();
    let (cluster, _) = crowd(&ZONES, &dies, Duration::from_secs(15));
    for node in (0..8).filter(|node| !dies.contains(node)) {
        assert_eq!(cluster.completions(node), 1, "node {node}");
    }
}

#[test]
fn who_claims_all_blocks_and_gives_none_does_not_cut_its_zone_off() {
    let (mut cluster, _) = crowd(&ZONES, &[], Duration::ZERO);
    let reader = cluster.reads()[0].1;
    let home = cluster.by_rank()[0];
    let liar = (0..8)
        .find(|node| ZONES[*node] != ZONES[reader] && *node != home)
        .expect("four of them");
    let claim = Message::Have(Have {
        task: task(),
        version: cluster.version(reader),
        runs: std::iter::once(0..92).collect(),
        length: None,
        wants: false,
    });
    let (now, name) = (cluster.now, cluster.peer(liar));
    for node in (0..8).filter(|node| *node != liar) {
        cluster.nodes[node]
            .handle_message(now, name, claim.clone())
            .expect("no such thing can be seen in it");
    }
    cluster.dead.insert(liar);
    cluster.settle();
    let mut seen = 0;
    for _ in 0..4_000 {
        carry(&mut cluster, &ZONES, &mut seen);
        cluster.pass(Duration::from_millis(5));
    }
    for node in (0..8).filter(|node| *node != liar) {
        assert_eq!(cluster.completions(node), 1, "node {node}");
    }
}
