//! Content that the source gives to some callers only.

use std::time::Duration;

use super::cluster::{Cluster, task};
use crate::ids::BlockIndex;
use crate::output::Output;
use crate::task::Wish;
use crate::tracker::Tracker;

fn want_with_credentials(cluster: &mut Cluster, node: usize) {
    let wish = Wish {
        can_read: true,
        credentialed: true,
        named: None,
        seen: None,
        max_age: Duration::from_mins(1),
        part: None,
    };
    cluster.nodes[node].register(cluster.now, task(), wish);
    cluster.settle();
}

#[test]
fn who_was_let_in_by_the_source_is_given_what_a_peer_holds() {
    for (first, second) in [(0, 1), (1, 0)] {
        let mut cluster = Cluster::new(2);
        let ranks = cluster.by_rank();
        let (holder, asker) = (ranks[first], ranks[second]);
        want_with_credentials(&mut cluster, holder);
        cluster.pass(Duration::from_millis(600));
        cluster.private_head(holder);
        let meta = cluster.nodes[holder].task(&task()).expect("a task").meta;
        let blocks = meta.as_ref().and_then(|meta| meta.layout.blocks());
        for block in 0..blocks.expect("a known length") {
            cluster.read_block(holder, BlockIndex(block));
        }
        cluster.end_read(holder);
        cluster.nodes[holder].service_down(cluster.now, &task());
        cluster.settle();

        want_with_credentials(&mut cluster, asker);
        cluster.pass(Duration::from_millis(100));
        let (_, reader, _) = cluster.reads().pop().expect("a question to the source");
        assert_eq!(reader, asker);
        cluster.end_read(asker);
        cluster.pass(Duration::from_secs(3));
        let given = cluster
            .done
            .iter()
            .any(|(_, node, output)| *node == holder && matches!(output, Output::SendBlock { .. }));
        assert!(given, "holder of rank {first}, asker of rank {second}");
    }
}
