//! One copy from the source, however many ask.

use std::time::Duration;

use dfnode_node::get::GetRequest;

use crate::cluster::{Cluster, get};
use crate::origin::{Origin, Resource, noise};

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_at_once_cost_the_source_one_copy() {
    let file = noise(20_000_000, 1);
    let origin = Origin::start(&[("/file", Resource::file(&file))]).await;
    let cluster = Cluster::start(5).await;
    let all = cluster.get_all(&origin.url("/file")).await;
    assert!(all.iter().all(|got| got.bytes == file));
    let copies = origin.body_bytes() as f64 / file.len() as f64;
    assert!(copies <= 1.02, "{copies} copies left the source");
    assert!(all.iter().any(|got| got.summary.from_peers > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_is_one_request_with_a_body_for_the_whole_cluster() {
    let file = noise(4096, 2);
    let origin = Origin::start(&[("/small", Resource::file(&file))]).await;
    let cluster = Cluster::start(4).await;
    let all = cluster.get_all(&origin.url("/small")).await;
    assert!(all.iter().all(|got| got.bytes == file));
    assert_eq!(origin.bodies(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_joiner_gets_everything_from_peers() {
    let file = noise(3_000_000, 3);
    let origin = Origin::start(&[("/file", Resource::file(&file))]).await;
    let mut cluster = Cluster::start(2).await;
    assert_eq!(
        cluster.get(0, origin.url("/file")).await.unwrap().bytes,
        file
    );
    let sent = origin.body_bytes();
    let late = cluster.add().await;
    cluster.meet().await;
    let got = cluster.get(late, origin.url("/file")).await.unwrap();
    assert_eq!(got.bytes, file);
    assert_eq!(origin.body_bytes(), sent);
    assert_eq!(got.summary.from_peers, 3_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_that_a_neighbour_holds_takes_milliseconds() {
    let file = noise(4096, 4);
    let origin = Origin::start(&[("/small", Resource::file(&file))]).await;
    let cluster = Cluster::start(3).await;
    cluster.get(0, origin.url("/small")).await.unwrap();
    let first = cluster.get(1, origin.url("/small")).await.unwrap();
    let second = cluster.get(2, origin.url("/small")).await.unwrap();
    let best = first.took.min(second.took);
    assert!(
        best < Duration::from_millis(250),
        "{:?} and {:?}",
        first.took,
        second.took
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_on_one_node_share_one_download() {
    let file = noise(5_000_000, 5);
    let origin = Origin::start(&[("/file", Resource::file(&file).slowly(10_000_000))]).await;
    let cluster = Cluster::start(1).await;
    let node = cluster.node(0);
    let url = origin.url("/file");
    let (one, two) = tokio::join!(
        get(&node, GetRequest::new(url.clone())),
        get(&node, GetRequest::new(url.clone())),
    );
    assert_eq!(
        (one.unwrap().bytes, two.unwrap().bytes),
        (file.clone(), file.clone())
    );
    assert_eq!(origin.body_bytes(), file.len() as u64);
    let third = get(&node, GetRequest::new(url)).await.unwrap();
    assert_eq!(third.bytes, file);
    assert_eq!(third.summary.from_cache, file.len() as u64);
    assert_eq!(origin.body_bytes(), file.len() as u64);
}
