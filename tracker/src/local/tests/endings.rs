//! What is left of a task once nobody wants or holds it any more: nothing.

use std::time::Duration;

use dfnode_gossip::EventKind;

use super::cluster::{Cluster, task};
use super::sessions::pair;
use crate::local::Footprint;
use crate::message::{Message, Outcome, Registered};
use crate::output::Output;
use crate::tracker::Tracker;

/// Longer than a home remembers a task of which nobody speaks.
const LONG: Duration = Duration::from_mins(16);

fn nothing_is_left(cluster: &Cluster) {
    for node in &cluster.nodes {
        assert_eq!(node.footprint(), Footprint::default());
        assert_eq!(node.poll_timeout(), None, "nothing is waited for");
    }
}

#[test]
fn a_task_that_was_given_up_before_its_first_block_is_forgotten_everywhere() {
    let mut cluster = Cluster::new(4);
    cluster.want(3);
    let now = cluster.now;
    cluster.nodes[3].service_down(now, &task());
    assert!(cluster.nodes[3].task(&task()).is_none());
    cluster.settle();
    cluster.pass(LONG);
    nothing_is_left(&cluster);
}

#[test]
fn what_a_node_said_of_a_task_goes_with_it() {
    let mut cluster = Cluster::new(4);
    cluster.want(3);
    cluster.pass(Duration::from_secs(1));
    cluster.head(3);
    cluster.read_block(3, crate::ids::BlockIndex(0));
    let published = |output: &Output| matches!(output, Output::Publish { .. });
    assert!(cluster.done.iter().any(|(.., output)| published(output)));
    let now = cluster.now;
    cluster.nodes[3].forget(now, &task());
    cluster.settle();
    let withdrawn = |kind: EventKind| {
        cluster.done.iter().any(|(.., output)| {
            matches!(output, Output::Withdraw { kind: withdrawn, .. } if *withdrawn == kind)
        })
    };
    assert!(withdrawn(EventKind::DownloadStart) && withdrawn(EventKind::Length));
    assert!(withdrawn(EventKind::Progress) && withdrawn(EventKind::Recover));
    cluster.pass(LONG);
    nothing_is_left(&cluster);
}

#[test]
fn a_home_that_still_counts_on_a_node_is_told_that_it_left() {
    let mut cluster = Cluster::new(4);
    let home = cluster.peer(0);
    let welcome = Message::Registered(Registered {
        task: task(),
        request: 0,
        outcome: Outcome::Report,
    });
    let now = cluster.now;
    cluster.nodes[3]
        .handle_message(now, home, welcome)
        .expect("no violation");
    cluster.settle();
    let left = |message: &Message| matches!(message, Message::Leave(left) if *left == task());
    assert!(
        cluster
            .said
            .iter()
            .any(|(_, from, to, said)| (*from, *to) == (3, 0) && left(said))
    );
}

#[test]
fn a_silent_neighbour_is_told_that_its_node_left() {
    let (mut cluster, reader, taker) = pair();
    // Its block does not come, and nothing else.
    cluster.dead.insert(reader);
    cluster.pass(Duration::from_secs(3));
    cluster.dead.clear();
    cluster.said.clear();
    let now = cluster.now;
    cluster.nodes[taker].service_down(now, &task());
    cluster.settle();
    let bye = |message: &Message| matches!(message, Message::Bye(_));
    let said = |(_, from, to, said): &(_, usize, usize, Message)| {
        (*from, *to) == (taker, reader) && bye(said)
    };
    assert!(cluster.said.iter().any(said));
}
