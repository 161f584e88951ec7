//! What died with the node that read it.

use std::time::Duration;

use super::cluster::{Cluster, task};
use super::sessions::pair;
use crate::holds::Holds;
use crate::ids::BlockIndex;
use crate::message::{Extent, Hello, Message};

/// One node read all of a task that a second wants, who has got nothing of it yet.
fn read_by_one() -> (Cluster, usize, usize) {
    let (mut cluster, reader, taker) = pair();
    for block in 1..blocks(&cluster, reader) {
        cluster.read_block(reader, BlockIndex(block));
    }
    cluster.end_read(reader);
    (cluster, reader, taker)
}

fn blocks(cluster: &Cluster, node: usize) -> u32 {
    let view = cluster.nodes[node].task(&task());
    let meta = view.and_then(|view| view.meta).expect("a version");
    meta.layout.blocks().expect("a length")
}

/// How long after its death a node's blocks were read by another, and from which on.
fn read_again(cluster: &mut Cluster, dead: usize, reads: usize) -> Option<(Duration, u32)> {
    cluster.dead.insert(dead);
    let since = cluster.now;
    cluster.pass(Duration::from_secs(6));
    let all = cluster.reads();
    let (at, _, lease) = all
        .iter()
        .find(|(at, reader, _)| *reader == reads && *at > since)?;
    let Extent::Blocks { run, .. } = &lease.extent else {
        return None;
    };
    Some((at.saturating_since(since), run.start))
}

#[test]
fn what_a_reader_read_and_nobody_has_is_read_again_a_second_after_its_death() {
    let (mut cluster, reader, taker) = read_by_one();
    assert!(cluster.carry_a_block(reader, taker));
    cluster.pass(Duration::from_millis(300));
    let (after, from) = read_again(&mut cluster, reader, taker).expect("a second read");
    assert_eq!(from, 1, "the first block had left the reader");
    assert!(after <= Duration::from_millis(1500), "{after:?}");
}

#[test]
fn a_holder_that_wants_nothing_is_counted_on_as_long_as_it_answers() {
    let (mut cluster, reader, taker) = read_by_one();
    // The lease is over, however little has left its reader.
    cluster.pass(Duration::from_secs(4));
    let before = cluster.reads().len();
    cluster.pass(Duration::from_secs(4));
    assert_eq!(cluster.reads().len(), before);
    let (after, _) = read_again(&mut cluster, reader, taker).expect("a second read");
    assert!(after <= Duration::from_secs(5), "{after:?}");
}

#[test]
fn a_holder_that_wants_nothing_and_answers_nothing_is_not_counted_on() {
    let (mut cluster, reader, taker) = read_by_one();
    cluster.pass(Duration::from_secs(4));
    let holder = cluster.by_rank()[2];
    cluster.dead.insert(holder);
    let hello = Hello {
        task: task(),
        meta: cluster.nodes[reader]
            .task(&task())
            .and_then(|view| view.meta),
        holds: Holds::All,
        wants: false,
        age_ms: 0,
    };
    let from = cluster.peer(holder);
    let told = cluster.nodes[taker].handle_message(cluster.now, from, Message::Hello(hello));
    told.expect("an honest hello");
    cluster.settle();
    let (after, _) = read_again(&mut cluster, reader, taker).expect("a second read");
    assert!(after <= Duration::from_secs(5), "{after:?}");
}
