//! Not one wrong byte.

use dfnode_node::Fault;
use dfnode_node::get::GetRequest;
use dfnode_tracker::Digest;

use crate::cluster::{Cluster, eventually, get};
use crate::origin::{Origin, Resource, noise};

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_alters_blocks_is_isolated_and_nobody_gets_one() {
    let file = noise(4_000_000, 50);
    let origin = Origin::start(&[("/file", Resource::file(&file))]).await;
    let cluster = Cluster::start_with(3, |index, config| {
        if index == 1 {
            config.fault = Fault::FlipRelay;
        }
    })
    .await;
    let url = origin.url("/file");
    cluster.get(1, url.clone()).await.unwrap();
    let got = cluster.get(2, url).await.unwrap();
    assert_eq!(got.bytes, file);
    let liar = cluster.node(1).peer().to_string();
    let victim = cluster.node(2);
    eventually("the liar is isolated", async || {
        victim
            .peers()
            .await
            .iter()
            .any(|peer| peer.peer == liar && peer.isolated)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_signs_altered_blocks_is_found_out_by_the_digest() {
    let file = noise(2_000_000, 51);
    let origin = Origin::start(&[("/file", Resource::file(&file))]).await;
    let cluster = Cluster::start_with(3, |index, config| {
        if index == 1 {
            config.fault = Fault::SignWrong;
        }
    })
    .await;
    let url = origin.url("/file");
    cluster.get(1, url.clone()).await.unwrap();
    let mut request = GetRequest::new(url);
    request.digest = Some(Digest::Blake3(*blake3::hash(&file).as_bytes()));
    let got = get(&cluster.node(2), request).await.unwrap();
    assert_eq!(got.bytes, file);
    assert!(got.summary.digest_checked);
    let liar = cluster.node(1).peer().to_string();
    assert!(
        cluster
            .node(2)
            .peers()
            .await
            .iter()
            .any(|peer| peer.peer == liar && peer.isolated)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_a_wrong_digest_fails_alone() {
    let file = noise(3_000_000, 53);
    let slow = Resource::file(&file).slowly(3_000_000);
    let origin = Origin::start(&[("/file", slow)]).await;
    let cluster = Cluster::start(2).await;
    let node = cluster.node(0);
    let right = GetRequest::new(origin.url("/file"));
    let mut wrong = GetRequest::new(origin.url("/file"));
    wrong.digest = Some(Digest::Blake3([7; 32]));
    let (right, wrong) = futures::join!(get(&node, right), get(&node, wrong));
    assert_eq!(right.unwrap().bytes, file);
    let error = wrong.unwrap_err();
    assert!(
        matches!(error, dfnode_node::get::GetError::DigestMismatch { .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_the_source_does_not_have_is_a_mismatch() {
    let origin = Origin::start(&[("/file", Resource::file(&noise(700_000, 52)))]).await;
    let cluster = Cluster::start(2).await;
    let mut request = GetRequest::new(origin.url("/file"));
    request.digest = Some(Digest::Blake3([7; 32]));
    let error = get(&cluster.node(0), request).await.unwrap_err();
    assert!(
        matches!(error, dfnode_node::get::GetError::DigestMismatch { .. }),
        "{error}"
    );
    assert!(
        cluster
            .node(0)
            .peers()
            .await
            .iter()
            .all(|peer| !peer.isolated)
    );
}
