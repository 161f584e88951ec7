//! Offers and news: who is told what, and when who had no use for an offer says that it has.

use std::time::Duration;

use super::cluster::{Cluster, bytes, task};
use super::sessions::pair;
use crate::blocks::BlockSet;
use crate::holds::Holds;
use crate::ids::BlockIndex;
use crate::message::{DeclineReason, Grant, Have, Hello, Message};

/// A pair whose taker waits for the first block, and a third node that offers what it holds.
struct Offered {
    cluster: Cluster,
    taker: usize,
    other: usize,
}

impl Offered {
    fn of(held: [u32; 2]) -> Self {
        let (mut cluster, reader, taker) = pair();
        let other = (0..5).find(|node| ![reader, taker].contains(node));
        let other = other.expect("five nodes");
        // What it says is said for it: it knows nothing of the task itself.
        cluster.dead.insert(other);
        let mut offered = Self {
            cluster,
            taker,
            other,
        };
        let view = offered.cluster.nodes[reader].task(&task());
        let meta = view.and_then(|view| view.meta).expect("a version");
        let holds: BlockSet = held.into_iter().map(BlockIndex).collect();
        let version = meta.version;
        let holds = Holds::pack(&holds, meta.layout.blocks());
        offered.tell(Message::Hello(Hello {
            task: task(),
            meta: Some(meta),
            holds,
            wants: true,
            age_ms: 0,
        }));
        offered.cluster.said.clear();
        offered.tell(Message::Offer(Grant {
            task: task(),
            version,
            grant: 77,
            suggest: Vec::new(),
        }));
        offered
    }

    fn tell(&mut self, message: Message) {
        let (now, from) = (self.cluster.now, self.cluster.peer(self.other));
        let told = self.cluster.nodes[self.taker].handle_message(now, from, message);
        told.expect("a sound message");
        self.cluster.settle();
    }

    fn said(&self, is_meant: impl Fn(&Message) -> bool) -> bool {
        let mut said = self.cluster.said.iter();
        said.any(|(_, from, to, message)| {
            (*from, *to) == (self.taker, self.other) && is_meant(message)
        })
    }

    fn declines(&self) -> bool {
        self.said(|message| {
            matches!(message, Message::Decline(decline) if decline.grant == 77 && decline.reason == DeclineReason::Nothing)
        })
    }

    fn calls(&self) -> bool {
        self.said(|message| matches!(message, Message::Room(_)))
    }
}

#[test]
fn who_found_nothing_in_an_offer_calls_when_it_hears_of_something() {
    let mut offered = Offered::of([0, 0]);
    assert!(offered.declines(), "that block is on its way");
    let (signer, taker) = (offered.other, offered.taker);
    offered
        .cluster
        .claim((signer, taker), BlockIndex(1), bytes(1));
    assert!(!offered.calls(), "the other does not hold that block");
    let version = offered.cluster.version(taker);
    offered.tell(Message::Have(Have {
        task: task(),
        version,
        runs: std::iter::once(1..2).collect(),
        length: None,
        wants: true,
    }));
    assert!(offered.calls());
}

#[test]
fn who_lacked_digests_calls_when_it_has_them() {
    let mut offered = Offered::of([0, 1]);
    assert!(offered.declines(), "nobody has signed the second block");
    assert!(!offered.calls());
    let (signer, taker) = (offered.other, offered.taker);
    offered
        .cluster
        .claim((signer, taker), BlockIndex(1), bytes(1));
    assert!(offered.calls());
}

#[test]
fn some_neighbours_are_told_at_once_and_all_soon() {
    let mut cluster = Cluster::new(16);
    let reader = cluster.by_rank()[3];
    for node in 0..16 {
        cluster.want(node);
    }
    cluster.pass(Duration::from_millis(600));
    cluster.head(reader);
    for block in 0..20 {
        cluster.read_block(reader, BlockIndex(block));
    }
    cluster.pass(Duration::from_secs(1));
    cluster.said.clear();
    cluster.read_block(reader, BlockIndex(20));
    let told = |cluster: &Cluster| {
        let said = cluster.said.iter().filter(|(_, from, _, message)| {
            *from == reader
                && matches!(message, Message::Have(have) if have.runs.iter().any(|run| run.contains(&20)))
        });
        said.count()
    };
    cluster.pass(Duration::from_millis(30));
    let at_once = told(&cluster);
    assert!((1..=6).contains(&at_once), "{at_once} at once");
    cluster.pass(Duration::from_millis(300));
    assert!(told(&cluster) > 6, "{} in all", told(&cluster));
}
