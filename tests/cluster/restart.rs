//! Nothing verified is lost.

use std::time::Duration;

use dfnode_node::get::{GetEvent, GetRequest};

use crate::cluster::{Cluster, ME, eventually};
use crate::origin::{Origin, Resource, noise};

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_survives_a_restart_and_serves_others() {
    let file = noise(3_000_000, 30);
    let origin = Origin::start(&[("/file", Resource::file(&file))]).await;
    let mut cluster = Cluster::start(2).await;
    let url = origin.url("/file");
    cluster.get(1, url.clone()).await.unwrap();
    cluster.stop(1).await;
    cluster.restart(1).await;
    cluster.meet().await;
    origin.die();
    assert_eq!(cluster.get(0, url.clone()).await.unwrap().bytes, file);
    let again = cluster.get(1, url).await.unwrap();
    assert_eq!(again.bytes, file);
    assert_eq!(again.summary.from_cache, 3_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_a_crash_ended_resumes() {
    let file = noise(8_000_000, 31);
    let origin = Origin::start(&[("/file", Resource::file(&file).slowly(4_000_000))]).await;
    let mut cluster = Cluster::start(1).await;
    let url = origin.url("/file");
    let mut download = cluster
        .node(0)
        .get(ME, GetRequest::new(url.clone()))
        .await
        .unwrap();
    let mut done = 0;
    while done < 4_000_000 {
        if let GetEvent::Progress(progress) = download.next().await.unwrap().unwrap() {
            done = progress.done_bytes;
        }
    }
    // What is more than a second old is on disk.
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.restart(0).await;
    let got = cluster.get(0, url).await.unwrap();
    assert_eq!(got.bytes, file);
    assert!(got.summary.from_cache > 0, "{:?}", got.summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_is_refused_the_same_folder() {
    let cluster = Cluster::start(1).await;
    let refused = dfnode_node::Node::start(cluster.config(0)).await;
    assert!(
        matches!(refused, Err(dfnode_node::StartError::Store(_))),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_killed_is_known_again_when_it_returns() {
    let mut cluster = Cluster::start(3).await;
    cluster.kill(2).await;
    cluster.restart(2).await;
    let returned = cluster.node(2);
    eventually("the node that returned knows the others", async || {
        returned.status().await.peers == 2
    })
    .await;
}
