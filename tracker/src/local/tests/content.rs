//! Content named by its digest, which more than one authority may give.

use std::time::Duration;

use super::cluster::Cluster;
use crate::ids::{BlockIndex, Digest, VersionId};

const DIGEST: Digest = Digest::Sha256([7; 32]);
const OURS: &str = "https://ours.example:443";
const THEIRS: &str = "https://theirs.example:443";

#[test]
fn what_one_authority_gives_is_never_read_in_the_name_of_another() {
    let mut cluster = Cluster::new(6);
    let ranks = cluster.by_rank();
    let (first, stranger, friend) = (ranks[3], ranks[4], ranks[5]);
    let (ours, theirs) = (
        VersionId::of_content(&DIGEST, OURS),
        VersionId::of_content(&DIGEST, THEIRS),
    );
    cluster.want_named(first, Some(ours));
    cluster.head_of(first, Some((DIGEST, OURS)));
    assert_eq!(cluster.version(first), ours);
    cluster.want_named(stranger, Some(theirs));
    cluster.want_named(friend, Some(ours));
    cluster.read_block(first, BlockIndex(0));
    cluster.pass(Duration::from_secs(1));
    // Its first reader dies: the rest is to be read by somebody else.
    cluster.dead.insert(first);
    cluster.down(first);
    cluster.pass(Duration::from_secs(5));
    // The stranger takes part in the version, so that it can be shown to its caller once that is proved.
    assert_eq!(cluster.version(stranger), ours);
    let readers: Vec<usize> = cluster.reads().iter().map(|(_, node, _)| *node).collect();
    assert!(
        readers.contains(&friend) && !readers.contains(&stranger),
        "{readers:?}, friend {friend}, stranger {stranger}"
    );
    assert_eq!(cluster.failure(stranger), None);
}
