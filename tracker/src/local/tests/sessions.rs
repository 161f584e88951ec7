//! Between neighbours: who is asked, what is verified, who is shut out.

use std::time::Duration;

use super::cluster::{Cluster, bytes, task};
use super::homes::read_whole;
use crate::blocks::BlockSet;
use crate::holds::Holds;
use crate::ids::{BlockDigest, BlockIndex};
use crate::local::{Config, LocalTracker};
use crate::message::{Batches, Have, Hello, Message};
use crate::meta::{Meta, SourceHead, Validators};
use crate::output::{BlameReason, Output};
use crate::session::Arrival;
use crate::tracker::{PieceReport, Tracker};

/// One node read the first block of a task that a second wants.
pub(super) fn pair() -> (Cluster, usize, usize) {
    let mut cluster = Cluster::new(5);
    let ranks = cluster.by_rank();
    let (reader, taker) = (ranks[3], ranks[4]);
    cluster.want(reader);
    cluster.want(taker);
    cluster.pass(Duration::from_millis(600));
    cluster.head(reader);
    cluster.read_block(reader, BlockIndex(0));
    cluster.pass(Duration::from_millis(100));
    (cluster, reader, taker)
}

fn report(cluster: &mut Cluster, from: usize, to: usize, digest: BlockDigest) -> Arrival {
    let report = PieceReport {
        from: cluster.peer(from),
        task: task(),
        version: cluster.version(from),
        block: BlockIndex(0),
        digest,
    };
    let arrival = cluster.nodes[to].report_piece(cluster.now, report);
    cluster.settle();
    arrival
}

#[test]
fn a_block_that_was_read_is_offered_wanted_and_sent() {
    let (cluster, reader, taker) = pair();
    let sent = cluster.done.iter().any(|(_, node, output)| {
        *node == reader
            && matches!(output, Output::SendBlock { to, block, .. }
                if *to == cluster.peer(taker) && *block == BlockIndex(0))
    });
    assert!(sent);
    assert_eq!(cluster.nodes[taker].downloads(), 1);
}

#[test]
fn a_block_whose_bytes_are_those_signed_for_is_kept() {
    let (mut cluster, reader, taker) = pair();
    let arrival = report(&mut cluster, reader, taker, bytes(0));
    assert_eq!(arrival, Arrival::Good);
    assert_eq!(cluster.nodes[taker].downloads(), 0);
    let view = cluster.nodes[taker].task(&task()).expect("a task");
    assert_eq!(view.blocks_held, 1);
}

#[test]
fn a_block_that_is_damaged_later_comes_again_from_a_neighbour() {
    let (mut cluster, reader, taker) = pair();
    assert_eq!(report(&mut cluster, reader, taker, bytes(0)), Arrival::Good);
    let now = cluster.now;
    let to = cluster.peer(taker);
    cluster.nodes[reader].handle_block_sent(now, to, &task(), BlockIndex(0), true);
    cluster.pass(Duration::from_millis(100));
    let sent = |cluster: &Cluster| {
        let sent = cluster.done.iter().filter(|(_, node, output)| {
            *node == reader
                && matches!(output, Output::SendBlock { block, .. } if *block == BlockIndex(0))
        });
        sent.count()
    };
    assert_eq!(sent(&cluster), 1);
    let now = cluster.now;
    cluster.nodes[taker].handle_block_damaged(now, &task(), BlockIndex(0));
    cluster.pass(Duration::from_secs(2));
    assert!(
        sent(&cluster) > 1,
        "its neighbours took it for one that has the block"
    );
}

#[test]
fn who_alters_a_block_is_shut_out_at_once() {
    let (mut cluster, reader, taker) = pair();
    let arrival = report(&mut cluster, reader, taker, bytes(99));
    assert_eq!(arrival, Arrival::Altered);
    let liar = cluster.peer(reader);
    assert_eq!(
        cluster.nodes[taker].isolated().get(&liar),
        Some(&BlameReason::AlteredBytes)
    );
    assert_eq!(
        cluster.nodes[taker].downloads(),
        0,
        "nothing is awaited of it"
    );
}

#[test]
fn silence_on_a_wanted_block_frees_its_place() {
    let (mut cluster, reader, taker) = pair();
    cluster.dead.insert(reader);
    cluster.pass(Duration::from_millis(800));
    assert_eq!(cluster.nodes[taker].downloads(), 0);
}

#[test]
fn bytes_that_trickle_keep_a_wanted_block_alive() {
    let (mut cluster, reader, taker) = pair();
    let from = cluster.peer(reader);
    for _ in 0..20 {
        cluster.nodes[taker].handle_flow(cluster.now, &from, &task(), BlockIndex(0));
        cluster.pass(Duration::from_millis(100));
    }
    assert_eq!(cluster.nodes[taker].downloads(), 1);
}

#[test]
fn an_upload_to_a_node_that_died_is_taken_back() {
    let (mut cluster, reader, taker) = pair();
    assert_eq!(cluster.nodes[reader].uploads(), 1);
    cluster.dead.insert(taker);
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.nodes[reader].uploads(), 0);
}

#[test]
fn a_block_that_was_broken_off_on_its_way_can_be_had_again() {
    let (mut cluster, reader, taker) = pair();
    let to = cluster.peer(taker);
    cluster.nodes[reader].handle_send_broken_off(cluster.now, to, &task(), BlockIndex(0));
    cluster.settle();
    cluster.done.clear();
    cluster.pass(Duration::from_secs(2));
    assert!(cluster.carry_a_block(reader, taker), "it is offered again");
}

#[test]
fn a_caller_that_leaves_calls_off_what_was_wanted() {
    let (mut cluster, reader, taker) = pair();
    cluster.nodes[taker].service_down(cluster.now, &task());
    cluster.settle();
    let cancelled = cluster.said.iter().any(|(_, from, to, message)| {
        (*from, *to) == (taker, reader) && matches!(message, Message::Cancel(_))
    });
    assert!(cancelled);
    assert_eq!(cluster.nodes[taker].downloads(), 0);
    assert_eq!(cluster.nodes[reader].uploads(), 0);
}

#[test]
fn a_caller_that_comes_after_one_that_left_is_offered_blocks_again() {
    let (mut cluster, reader, taker) = pair();
    report(&mut cluster, reader, taker, bytes(0));
    cluster.nodes[taker].service_down(cluster.now, &task());
    cluster.settle();
    cluster.said.clear();
    cluster.want(taker);
    let is_told = cluster.said.iter().any(|(_, from, to, message)| {
        (*from, *to) == (taker, reader) && matches!(message, Message::Have(have) if have.wants)
    });
    assert!(
        is_told,
        "the neighbour still takes it for one that wants nothing"
    );
}

#[test]
fn digests_that_their_signer_did_not_sign_are_a_violation() {
    let (mut cluster, reader, taker) = pair();
    let forged = forged_by(&cluster);
    let from = cluster.peer(reader);
    let result = cluster.nodes[taker].handle_message(cluster.now, from, Message::Batches(forged));
    assert_eq!(result, Err(crate::local::Violation::BadBatch));
}

/// What the reader said of its first block, said of another block and of other bytes.
fn forged_by(cluster: &Cluster) -> Batches {
    let mut forged = cluster
        .said
        .iter()
        .find_map(|(.., message)| match message {
            Message::Batches(batches) => Some(batches.clone()),
            Message::Register(_)
            | Message::Registered(_)
            | Message::LeaseReport(_)
            | Message::Leave(_)
            | Message::HomeProbe(_)
            | Message::HomeState(_)
            | Message::Hello(_)
            | Message::Have(_)
            | Message::Offer(_)
            | Message::Want(_)
            | Message::Decline(_)
            | Message::Room(_)
            | Message::Cancel(_)
            | Message::Refuse(_)
            | Message::Bye(_)
            | Message::AskDigests(_)
            | Message::Border(_) => None,
        })
        .expect("the reader's digests");
    forged.batches[0].digests[0] = bytes(99);
    forged.batches[0].first = BlockIndex(5);
    forged
}

/// Two nodes want a task, one of them reads it, and a third lies about its first block before it is read.
fn lied_to(hearer: usize) -> (Cluster, [usize; 3]) {
    let mut cluster = Cluster::new(5);
    let ranks = cluster.by_rank();
    let (reader, taker, liar) = (ranks[3], ranks[4], ranks[2]);
    cluster.want(reader);
    cluster.want(taker);
    cluster.pass(Duration::from_millis(600));
    cluster.head(reader);
    cluster.read_block(reader, BlockIndex(1));
    cluster.pass(Duration::from_millis(100));
    let hearer = [reader, taker][hearer];
    cluster.claim((liar, hearer), BlockIndex(0), bytes(99));
    cluster.read_block(reader, BlockIndex(0));
    cluster.pass(Duration::from_millis(300));
    (cluster, [reader, taker, liar])
}

fn wants_first_block(message: &Message) -> bool {
    matches!(message, Message::Want(want) if want.block == BlockIndex(0))
}

#[test]
fn who_was_lied_to_does_not_take_an_honest_node_for_a_liar() {
    let (cluster, [reader, taker, _]) = lied_to(1);
    let wants = cluster
        .said
        .iter()
        .filter(|(.., message)| wants_first_block(message));
    assert_eq!(wants.count(), 1, "it asks for what it believes in");
    let refused = cluster.said.iter().any(|(_, from, to, message)| {
        (*from, *to) == (reader, taker)
            && matches!(message, Message::Refuse(what) if what.block == BlockIndex(0))
    });
    assert!(refused);
    assert!(cluster.nodes.iter().all(|node| node.isolated().is_empty()));
}

#[test]
fn who_reads_the_source_believes_it_and_blames_who_signed_otherwise() {
    let (mut cluster, [reader, taker, liar]) = lied_to(0);
    let liar = cluster.peer(liar);
    assert_eq!(
        cluster.nodes[reader].isolated().get(&liar),
        Some(&BlameReason::FalseDigest)
    );
    let arrival = report(&mut cluster, reader, taker, bytes(0));
    assert_eq!(
        arrival,
        Arrival::Good,
        "what the source gave is what spreads"
    );
}

#[test]
fn a_neighbour_cannot_tell_a_stream_a_length_that_its_cut_cannot_have() {
    let cluster = Cluster::new(2);
    let (me, other, now) = (cluster.peer(0), cluster.peer(1), cluster.now);
    let head = SourceHead {
        length: None,
        validators: Validators::default(),
        ranges: false,
        digest: None,
        authority: None,
        public: true,
    };
    let meta = Meta::of(&head, [1; 32]).unwrap();
    let version = meta.version;
    let mut tracker = LocalTracker::new(&Config::default(), me, 1);
    tracker.restore(now, task(), meta.clone(), BlockSet::all(3), Vec::new());
    let hello = Hello {
        task: task(),
        meta: Some(meta),
        holds: Holds::Nothing,
        wants: true,
        age_ms: 0,
    };
    let _ = tracker.handle_message(now, other, Message::Hello(hello));
    let mut told = |length| {
        let have = Have {
            task: task(),
            version,
            runs: Vec::new(),
            length: Some(length),
            wants: false,
        };
        let _ = tracker.handle_message(now, other, Message::Have(have));
        let meta = tracker.task(&task()).and_then(|view| view.meta);
        meta.and_then(|meta| meta.layout.length())
    };
    assert_eq!(told(u64::MAX), None);
    assert_eq!(told(300_000), None, "three blocks are here");
    assert_eq!(told(5_000_000), Some(5_000_000));
}

#[test]
fn who_reads_along_does_not_wait_for_what_others_are_to_bring() {
    let mut cluster = Cluster::new(5);
    let ranks = cluster.by_rank();
    let [holder, taker, slow] = [ranks[2], ranks[3], ranks[4]];
    cluster.file_bytes = 50_000_000;
    cluster.want(holder);
    read_whole(&mut cluster, holder);
    // What one holder has it suggests in turn: half of it to a node that nothing gets to.
    cluster.want(slow);
    cluster.want(taker);
    let mut here = BlockSet::new();
    let (mut front, mut since, mut longest) = (BlockIndex(0), cluster.now, Duration::ZERO);
    let began = cluster.now;
    while cluster.completions(taker) == 0 {
        cluster.pass(Duration::from_millis(100));
        assert!(cluster.now < began + Duration::from_mins(5), "it stands");
        if let Some(block) = cluster.carry_oldest(holder, taker) {
            here.insert(block);
        }
        if here.contains(front) {
            longest = longest.max(cluster.now.saturating_since(since));
            (front, since) = (here.first_absent(front.0), cluster.now);
        }
    }
    assert!(longest <= Duration::from_secs(6), "{longest:?}");
}
