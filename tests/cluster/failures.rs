//! Nodes, homes and sources that go away cost time, never a download.

use std::time::Duration;

use dfnode_node::get::{GetError, GetRequest, SourcePolicy};
use tokio::time::sleep;

use crate::cluster::{Cluster, ME, collect, get};
use crate::origin::{Origin, Resource, noise};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_midway_does_not_stop_the_others() {
    let file = noise(12_000_000, 20);
    let origin = Origin::start(&[("/file", Resource::file(&file).slowly(6_000_000))]).await;
    let mut cluster = Cluster::start(4).await;
    let mut downloads = Vec::new();
    for node in 0..4 {
        downloads.push(
            cluster
                .node(node)
                .get(ME, GetRequest::new(origin.url("/file")))
                .await
                .unwrap(),
        );
    }
    sleep(Duration::from_millis(700)).await;
    cluster.kill(2).await;
    drop(downloads.remove(2));
    let all = futures::future::join_all(downloads.into_iter().map(collect)).await;
    assert!(all.into_iter().all(|got| got.unwrap().bytes == file));
    let copies = origin.body_bytes() as f64 / file.len() as f64;
    assert!(copies <= 1.5, "{copies} copies left the source");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_gone_is_not_missed_while_a_peer_holds_the_file() {
    let file = noise(2_000_000, 21);
    let origin = Origin::start(&[("/file", Resource::file(&file))]).await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/file");
    cluster.get(1, url.clone()).await.unwrap();
    origin.die();
    let got = cluster.get(2, url).await.unwrap();
    assert_eq!(got.bytes, file);
    assert_eq!(got.summary.from_peers, 2_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_does_not_have_fails_with_its_own_error() {
    let origin = Origin::start(&[]).await;
    let cluster = Cluster::start(2).await;
    assert_eq!(
        cluster.get(0, origin.url("/nothing")).await.unwrap_err(),
        GetError::NotFound
    );
    assert_eq!(
        cluster.get(1, origin.url("/nothing")).await.unwrap_err(),
        GetError::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_source_only_peers_serve() {
    let file = noise(500_000, 22);
    let origin = Origin::start(&[("/file", Resource::file(&file))]).await;
    let cluster = Cluster::start(2).await;
    let mut request = GetRequest::new(origin.url("/file"));
    request.source = SourcePolicy::Never;
    assert_eq!(
        get(&cluster.node(0), request.clone()).await.unwrap_err(),
        GetError::NoSource
    );
    assert_eq!(origin.requests(), 0);
    cluster.get(1, origin.url("/file")).await.unwrap();
    assert_eq!(get(&cluster.node(0), request).await.unwrap().bytes, file);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_changed_at_the_source_is_fetched_anew() {
    let (old, new) = (noise(1_000_000, 23), noise(1_500_000, 24));
    let origin = Origin::start(&[("/file", Resource::file(&old))]).await;
    let cluster = Cluster::start(2).await;
    let url = origin.url("/file");
    assert!(
        cluster
            .get_all(&url)
            .await
            .iter()
            .all(|got| got.bytes == old)
    );
    origin.put("/file", Resource::file(&new));
    let mut request = GetRequest::new(url);
    request.max_age = Some(Duration::ZERO);
    for node in 0..2 {
        assert_eq!(
            get(&cluster.node(node), request.clone())
                .await
                .unwrap()
                .bytes,
            new,
            "node {node}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_never_the_same_is_given_up() {
    let file = noise(6_000_000, 51);
    let resource = Resource::file(&file).named_anew_each_time();
    let origin = Origin::start(&[("/file", resource)]).await;
    let cluster = Cluster::start(1).await;
    let mut request = GetRequest::new(origin.url("/file"));
    request.source = SourcePolicy::Only;
    let ended = get(&cluster.node(0), request).await.unwrap_err();
    assert_eq!(ended, GetError::Changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_says_so() {
    let mut cluster = Cluster::start(3).await;
    cluster.stop(2).await;
    cluster.meet().await;
}
