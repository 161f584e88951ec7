//! Files of every kind of length.

use std::time::Duration;

use dfnode_node::get::{GetError, GetRequest, SourcePolicy};
use dfnode_tracker::Digest;

use crate::cluster::{Cluster, get};
use crate::origin::{Origin, Resource, noise};

/// Around the edges of blocks (64 KiB), pieces (4 MiB) and nothing at all.
const INTERESTING_SIZES: [usize; 7] = [0, 1, 65_535, 65_536, 65_537, 4_194_304, 4_194_305];

#[tokio::test(flavor = "multi_thread")]
async fn every_interesting_size_arrives_whole_on_two_nodes() {
    let origin = Origin::start(&[]).await;
    let cluster = Cluster::start(2).await;
    for size in INTERESTING_SIZES {
        let file = noise(size, 9);
        let path = format!("/{size}");
        origin.put(&path, Resource::file(&file));
        for got in cluster.get_all(&origin.url(&path)).await {
            assert!(got.bytes == file, "{size}");
            assert_eq!(got.summary.bytes, size as u64);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_unknown_length_is_read_once_and_shared_while_it_runs() {
    let file = noise(3_000_000, 6);
    let origin = Origin::start(&[("/stream", Resource::stream(&file).slowly(6_000_000))]).await;
    let cluster = Cluster::start(3).await;
    let all = cluster.get_all(&origin.url("/stream")).await;
    assert!(all.iter().all(|got| got.bytes == file));
    assert_eq!(origin.bodies(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_ranges_is_read_in_one_go() {
    let file = noise(6_000_000, 7);
    let origin = Origin::start(&[(
        "/file",
        Resource {
            ranges: false,
            ..Resource::file(&file)
        },
    )])
    .await;
    let cluster = Cluster::start(2).await;
    let all = cluster.get_all(&origin.url("/file")).await;
    assert!(all.iter().all(|got| got.bytes == file));
    assert_eq!(origin.body_bytes(), file.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_done_before_the_rest() {
    let file = noise(2_000_000, 8);
    let origin = Origin::start(&[("/file", Resource::file(&file))]).await;
    let cluster = Cluster::start(1).await;
    let mut request = GetRequest::new(origin.url("/file"));
    request.range = Some((1000, Some(200_999)));
    let got = get(&cluster.node(0), request).await.unwrap();
    assert_eq!(got.bytes[1000..201_000], file[1000..201_000]);
    assert_eq!(got.summary.bytes, 200_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_range_no_more_is_read_than_it_touches() {
    let file = noise(40_000_000, 11);
    // Slowly, so that the first answer is left before much of it lies in the kernel's buffers.
    let source = Resource::file(&file).slowly(20_000_000);
    let origin = Origin::start(&[("/file", source)]).await;
    let cluster = Cluster::start(3).await;
    let mut request = GetRequest::new(origin.url("/file"));
    request.range = Some((30_000_000, Some(30_299_999)));
    let nodes: Vec<_> = (0..3).map(|node| cluster.node(node)).collect();
    let gets = nodes.iter().map(|node| get(node, request.clone()));
    for got in futures::future::join_all(gets).await {
        let got = got.unwrap();
        assert!(got.bytes[30_000_000..30_300_000] == file[30_000_000..30_300_000]);
        assert_eq!(got.summary.bytes, 300_000);
    }
    let read = origin.body_bytes();
    assert!(read < 3_000_000, "{read} bytes for a part of 300,000");

    let whole = cluster.get(1, origin.url("/file")).await.unwrap();
    assert!(whole.bytes == file);
    let read = origin.body_bytes() - read;
    assert!(read < 41_000_000, "{read} bytes for the rest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_cache_is_shown_only_while_it_is_what_the_source_has() {
    let (old, new) = (noise(9_000_000, 12), noise(9_000_000, 13));
    let with_tag = |body: &[u8], etag: &str| Resource {
        etag: Some(etag.to_owned()),
        ..Resource::file(body)
    };
    let origin = Origin::start(&[("/file", with_tag(&old, "\"1\""))]).await;
    let cluster = Cluster::start(1).await;
    let mut request = GetRequest::new(origin.url("/file"));
    request.range = Some((5_000_000, Some(5_099_999)));
    request.max_age = Some(Duration::ZERO);
    for (etag, body) in [(None, &old), (None, &old), (Some("\"2\""), &new)] {
        if let Some(etag) = etag {
            origin.put("/file", with_tag(body, etag));
        }
        let got = get(&cluster.node(0), request.clone()).await.unwrap();
        assert!(got.bytes[5_000_000..5_100_000] == body[5_000_000..5_100_000]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_a_download_holds() {
    let file = noise(2_000_000, 10);
    let origin = Origin::start(&[("/file", Resource::file(&file))]).await;
    let cluster = Cluster::start(2).await;
    for node in 0..2 {
        let mut request = GetRequest::new(origin.url("/file"));
        request.local_limit = Some(2_000_000);
        let got = get(&cluster.node(node), request).await.unwrap();
        assert_eq!(got.bytes, file);
        assert!(
            got.took > Duration::from_millis(800),
            "node {node}: {:?}",
            got.took
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_a_download_and_asking_again_resumes() {
    let file = noise(4_000_000, 11);
    let origin = Origin::start(&[("/file", Resource::file(&file).slowly(2_000_000))]).await;
    let cluster = Cluster::start(1).await;
    let mut request = GetRequest::new(origin.url("/file"));
    request.timeout = Some(Duration::from_secs(1));
    assert_eq!(
        get(&cluster.node(0), request).await.unwrap_err(),
        GetError::Timeout
    );
    let got = cluster.get(0, origin.url("/file")).await.unwrap();
    assert_eq!(got.bytes, file);
    assert!(got.summary.from_cache > 500_000, "{:?}", got.summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_from_the_source_alone_asks_nobody_else_and_keeps_nothing() {
    let file = noise(9_000_000, 12);
    let origin = Origin::start(&[
        ("/file", Resource::file(&file)),
        ("/stream", Resource::stream(&file)),
    ])
    .await;
    let cluster = Cluster::start(2).await;
    cluster.get(0, origin.url("/file")).await.unwrap();
    for path in ["/file", "/stream"] {
        let before = origin.body_bytes();
        let mut request = GetRequest::new(origin.url(path));
        request.source = SourcePolicy::Only;
        request.digest = Some(Digest::Blake3(*blake3::hash(&file).as_bytes()));
        let got = get(&cluster.node(1), request).await.unwrap();
        assert!(got.bytes == file && got.summary.digest_checked, "{path}");
        assert_eq!(origin.body_bytes() - before, file.len() as u64, "{path}");
    }
    assert_eq!(cluster.node(1).status().await.tasks, 0);
}
