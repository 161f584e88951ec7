//! What died with the node that read it.

use std::time::Duration;

use super::cluster::{Cluster, task};
use super::homes::read_whole;
use super::sessions::pair;
use crate::holds::Holds;
use crate::ids::BlockIndex;
use crate::message::{Extent, Hello, Lease, Message};
use crate::meta::SourceFailure;
use crate::output::BlameReason;
use crate::tracker::Tracker as _;

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

/// One node holds a whole task, and a second one that is not its home.
fn held_by_one() -> (Cluster, usize, usize) {
    let mut cluster = Cluster::new(5);
    cluster.file_bytes = 100_000_000;
    let ranks = cluster.by_rank();
    let (holder, other) = (ranks[3], ranks[4]);
    cluster.want(holder);
    read_whole(&mut cluster, holder);
    cluster.nodes[holder].service_down(cluster.now, &task());
    cluster.pass(Duration::from_secs(4));
    (cluster, holder, other)
}

fn isolate(cluster: &mut Cluster, node: usize, whom: usize) {
    let (now, peer) = (cluster.now, cluster.peer(whom));
    cluster.nodes[node].set_isolated(now, peer, Some(BlameReason::AlteredBytes));
    cluster.settle();
}

#[test]
fn whom_every_holder_refuses_reads_by_itself_in_the_end() {
    let (mut cluster, holder, refused) = held_by_one();
    isolate(&mut cluster, holder, refused);
    let before = cluster.reads().len();
    cluster.want(refused);
    cluster.pass(Duration::from_secs(4));
    assert_eq!(cluster.reads().len(), before, "its peers may yet come");
    cluster.pass(Duration::from_secs(5));
    let reads = cluster.reads().split_off(before);
    let readers: Vec<usize> = reads.iter().map(|(_, reader, _)| *reader).collect();
    assert_eq!(readers, [refused]);
    cluster.read_all();
    assert_eq!(cluster.completions(refused), 1);
    let all = cluster.reads().split_off(before);
    let bytes: Vec<u32> = all
        .iter()
        .filter_map(|(.., lease)| blocks_in(lease))
        .collect();
    assert_eq!(bytes.iter().sum::<u32>(), blocks(&cluster, refused));
    assert!(bytes.len() > 2, "a piece at a time: {bytes:?}");
    assert!(bytes.is_sorted_by(|few, more| few < more || *more == bytes[bytes.len() - 1]));
}

fn blocks_in(lease: &Lease) -> Option<u32> {
    match &lease.extent {
        Extent::Blocks { run, .. } => Some(run.end - run.start),
        Extent::Probe | Extent::Validate { .. } => None,
    }
}

#[test]
fn who_shuts_out_somebody_waits_for_others_while_the_source_is_given_a_rest() {
    let (mut cluster, reader, taker) = pair();
    let other = cluster.by_rank()[2];
    cluster.want(other);
    isolate(&mut cluster, taker, reader);
    let before = cluster.reads().len();
    let rest = SourceFailure::Busy {
        status: 503,
        retry_after_ms: 30_000,
    };
    cluster.fail_read(reader, rest);
    cluster.pass(Duration::from_secs(25));
    assert_eq!(cluster.reads().len(), before);
}

#[test]
fn of_two_who_shut_out_the_only_holder_one_reads_for_both() {
    let (mut cluster, holder, one) = held_by_one();
    let two = cluster.by_rank()[1];
    for node in [one, two] {
        isolate(&mut cluster, node, holder);
    }
    let before = cluster.reads().len();
    for node in [one, two] {
        cluster.want(node);
    }
    let mut answered = before;
    for _ in 0..600 {
        cluster.pass(Duration::from_millis(50));
        let news = cluster.reads().split_off(answered);
        answered += news.len();
        for (_, reader, lease) in news {
            cluster.give(reader, &lease);
        }
        while cluster.carry_a_block(one, two) || cluster.carry_a_block(two, one) {}
    }
    assert_eq!([one, two].map(|node| cluster.completions(node)), [1, 1]);
    let reads = cluster.reads().split_off(before);
    let read: u32 = reads
        .iter()
        .filter_map(|(.., lease)| blocks_in(lease))
        .sum();
    assert_eq!(read, blocks(&cluster, one), "{reads:?}");
}

#[test]
fn who_is_cut_off_leaves_a_source_alone_that_gives_nothing() {
    let (mut cluster, holder, refused) = held_by_one();
    isolate(&mut cluster, holder, refused);
    cluster.want(refused);
    cluster.pass(Duration::from_secs(9));
    let before = cluster.reads().len();
    let what = "no answer".to_owned();
    cluster.fail_read(refused, SourceFailure::Transient { what });
    cluster.pass(Duration::from_secs(4));
    assert_eq!(cluster.reads().len(), before);
    cluster.pass(Duration::from_secs(6));
    assert_eq!(cluster.reads().len(), before + 1);
}
