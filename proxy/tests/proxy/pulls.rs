//! Blobs that many want, whole and in part.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use futures::future::join_all;
use reqwest::StatusCode;

use crate::registry::{Kind, content};
use crate::world::{World, collect, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_comes_whole_and_with_its_headers() {
    let world = World::start(1).await;
    let registry = world.registry(Kind::default()).await;
    let bytes = content(1, 3_000_000);
    let digest = registry.put("a", &bytes);
    let got = world.host(0).get(&registry.blob_url("a", &digest)).await;
    assert_eq!(got.status, StatusCode::OK);
    assert!(got.body == bytes);
    let header = |name: &str| got.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-length"), "3000000");
    assert_eq!(header("docker-content-digest"), digest);
    assert_eq!(header("etag"), format!("\"{digest}\""));
    assert_eq!(header("accept-ranges"), "bytes");
    assert_eq!(header("content-type"), "application/octet-stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_costs_the_registry_one_copy() {
    let world = World::start(4).await;
    let registry = world.registry(Kind::default()).await;
    let bytes = content(2, 12_000_000);
    let digest = registry.put("a", &bytes);
    let url = registry.blob_url("a", &digest);
    let gets = (0..4).map(|host| world.host(host).get(&url));
    for got in join_all(gets).await {
        assert!(got.body == bytes);
    }
    let sent = registry.counts().blob_bytes.load(SeqCst);
    assert!(
        sent <= 12_000_000 * 102 / 100,
        "{sent} bytes left the registry"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirecting_registry_is_followed_without_its_credentials() {
    let world = World::start(2).await;
    let cdn = world
        .registry(Kind {
            is_cdn: true,
            ..Kind::default()
        })
        .await;
    let registry = world
        .registry(Kind {
            cdn: Some(cdn.url("")),
            reader: Some("Bearer alice".to_owned()),
            ..Kind::default()
        })
        .await;
    let bytes = content(3, 2_000_000);
    let digest = registry.put("private/a", &bytes);
    cdn.put("private/a", &bytes);
    let url = registry.blob_url("private/a", &digest);
    for host in 0..2 {
        let got = world.host(host).get_as(&url, "Bearer alice").await;
        assert_eq!(got.status, StatusCode::OK);
        assert!(got.body == bytes);
    }
    assert_eq!(cdn.counts().authorized_cdn.load(SeqCst), 0);
    // Each host asked for one byte first.
    assert!(cdn.counts().blob_bytes.load(SeqCst) <= 2_000_002);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_given_as_they_are_asked_for() {
    let world = World::start(1).await;
    let registry = world.registry(Kind::default()).await;
    let bytes = content(4, 1_000_000);
    let digest = registry.put("a", &bytes);
    let url = registry.blob_url("a", &digest);
    let client = world.host(0).client();
    for (range, expected) in [
        ("bytes=400000-", 400_000..1_000_000),
        ("bytes=10-19", 10..20),
        ("bytes=999999-2000000", 999_999..1_000_000),
        ("bytes=-7", 999_993..1_000_000),
    ] {
        let got = collect(client.get(&url).header("range", range)).await;
        let got = got.unwrap();
        // The last few bytes are the registry's own business.
        if range != "bytes=-7" {
            assert_eq!(got.status, StatusCode::PARTIAL_CONTENT, "{range}");
            let told = format!("bytes {}-{}/1000000", expected.start, expected.end - 1);
            assert_eq!(got.headers["content-range"].to_str().unwrap(), told);
            assert!(got.body == bytes.slice(expected), "{range}");
        }
    }
    let beyond = collect(client.get(&url).header("range", "bytes=1000000-")).await;
    let beyond = beyond.unwrap();
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(beyond.headers["content-range"], "bytes */1000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_pulls_ask_the_registry_once_for_each_credential_and_blob() {
    let world = World::start(1).await;
    let registry = world
        .registry(Kind {
            reader: Some("Bearer alice".to_owned()),
            ..Kind::default()
        })
        .await;
    let bytes = content(5, 500_000);
    let digest = registry.put("private/a", &bytes);
    let url = registry.blob_url("private/a", &digest);
    let gets = (0..12).map(|_| world.host(0).get_as(&url, "Bearer alice"));
    for got in join_all(gets).await {
        assert!(got.body == bytes);
    }
    assert_eq!(registry.counts().questions.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_manifest_lists_its_reader_may_have() {
    let world = World::start(1).await;
    let registry = world.registry(Kind::default()).await;
    let bytes = content(6, 500_000);
    let digest = registry.put("a", &bytes);
    registry.put_manifest("a", &[&digest]);
    let host = world.host(0);
    let manifest = host.get(&registry.url("/v2/a/manifests/latest")).await;
    assert_eq!(manifest.status, StatusCode::OK);
    assert!(manifest.headers.contains_key("docker-content-digest"));
    let got = host.get(&registry.blob_url("a", &digest)).await;
    assert!(got.body == bytes);
    assert_eq!(registry.counts().questions.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_registry_with_the_same_blob_shows_that_it_has_it_and_sends_no_copy() {
    let world = World::start(2).await;
    let (one, two) = (
        world.registry(Kind::default()).await,
        world.registry(Kind::default()).await,
    );
    let bytes = content(7, 4_000_000);
    let digest = one.put("a", &bytes);
    two.put("b", &bytes);
    assert!(world.host(0).get(&one.blob_url("a", &digest)).await.body == bytes);
    // On the same host, and on another that has nothing of it yet.
    for host in 0..2 {
        let got = world.host(host).get(&two.blob_url("b", &digest)).await;
        assert!(got.body == bytes);
    }
    let sent = two.counts().blob_bytes.load(SeqCst);
    assert!(sent < 100_000, "{sent} bytes left the second registry");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_and_comes_again_gets_the_rest() {
    let world = World::start(1).await;
    let registry = world
        .registry(Kind {
            pause: Duration::from_millis(10),
            ..Kind::default()
        })
        .await;
    let bytes = content(8, 6_000_000);
    let digest = registry.put("a", &bytes);
    let url = registry.blob_url("a", &digest);
    let client = world.host(0).client();
    let mut answer = client.get(&url).send().await.unwrap();
    let mut seen = 0;
    while seen < 1_000_000 {
        seen += answer.chunk().await.unwrap().unwrap().len();
    }
    drop(answer);
    let rest = client.get(&url).header("range", format!("bytes={seen}-"));
    let rest = collect(rest).await.unwrap();
    assert_eq!(rest.status, StatusCode::PARTIAL_CONTENT);
    assert!(rest.body == bytes.slice(seen..));
    eventually("the node is at rest", async || {
        world.host(0).node().status().await.downloads == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_named_by_its_digest_alone() {
    let world = World::start(1).await;
    let registry = world.registry(Kind::default()).await;
    let bytes = content(9, 300_000);
    let digest = registry.put("a", &bytes);
    registry.put("b/c", &bytes);
    let host = world.host(0);
    assert!(host.get(&registry.blob_url("a", &digest)).await.body == bytes);
    assert!(host.get(&registry.blob_url("b/c", &digest)).await.body == bytes);
    assert_eq!(host.node().tasks().await.len(), 1);
}
