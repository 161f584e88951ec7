//! Packets in another member's name: whoever holds the cluster key can seal them.

use std::time::Duration;

use dfnode_node::identity::Identity;
use dfnode_node::transport::{PacketKind, Transport, TransportConfig};
use dfnode_tracker::{BlockDigest, BlockIndex, Message, SignedBatch, TaskId, VersionId, wire};

use crate::cluster::{Cluster, eventually};
use crate::origin::{Origin, Resource, noise};

/// What would end a session or a link if it came from the peer that it names.
fn lies(task: TaskId, version: VersionId, victim: dfnode_gossip::PeerId) -> Vec<Vec<u8>> {
    let unsigned = SignedBatch {
        version,
        signer: victim,
        first: BlockIndex(0),
        digests: vec![BlockDigest([7; 32])],
        signature: vec![7; 64],
    };
    let batches = dfnode_tracker::Batches {
        task,
        batches: vec![unsigned],
    };
    let rubbish = vec![0xff; 40];
    vec![
        wire::encode(&Message::Bye(task)),
        wire::encode(&Message::Batches(batches)),
        rubbish,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_in_anothers_name_ends_neither_its_session_nor_its_link() {
    let file = noise(6_000_000, 55);
    let origin = Origin::start(&[("/file", Resource::file(&file).slowly(1_000_000))]).await;
    let cluster = Cluster::start(2).await;
    let url = origin.url("/file");
    let (first, second, ()) = tokio::join!(
        cluster.get(0, url.clone()),
        cluster.get(1, url),
        forge(&cluster)
    );
    assert_eq!(first.unwrap().bytes, file);
    assert_eq!(second.unwrap().bytes, file);
}

/// Lies to node 0 in the name of node 1 while the two exchange blocks.
async fn forge(cluster: &Cluster) {
    let victim = cluster.node(0);
    let are_neighbours = async || {
        let (tasks, peers) = (victim.tasks().await, victim.peers().await);
        tasks.iter().any(|task| task.peers == 1) && peers.iter().all(|peer| peer.link)
    };
    eventually("the two exchange blocks", are_neighbours).await;
    let config = cluster.config(1);
    let (forger, _incoming) = Transport::bind(TransportConfig {
        listen: config.listen,
        identity: Identity::load_or_create(&config.data).unwrap(),
        keys: config.keys,
        allow: None,
        advertise: Vec::new(),
    })
    .await
    .unwrap();
    let task = victim.tasks().await.remove(0);
    let lies = lies(task.task, task.version.unwrap(), cluster.node(1).peer());
    let to = victim.status().await.listen.unwrap();
    for _ in 0..20 {
        for lie in &lies {
            forger.send_packet(PacketKind::Tracker, [to], lie);
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(are_neighbours().await);
        }
    }
    assert!(victim.peers().await.iter().all(|peer| !peer.isolated));
}
