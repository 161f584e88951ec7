//! Nobody gets a byte that the registry would refuse to this very client.

use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use reqwest::StatusCode;

use crate::registry::{Kind, content};
use crate::world::{World, collect};

const ALICE: &str = "Basic YWxpY2U6c2VjcmV0";

fn private() -> Kind {
    Kind {
        reader: Some(ALICE.to_owned()),
        ..Kind::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_registry_refuses_is_refused_also_when_it_lies_here() {
    let world = World::start(2).await;
    let registry = world.registry(private()).await;
    let bytes = content(20, 800_000);
    let digest = registry.put("private/secret", &bytes);
    let url = registry.blob_url("private/secret", &digest);
    for host in 0..2 {
        let got = world.host(host).get_as(&url, ALICE).await;
        assert!(got.status == StatusCode::OK && got.body == bytes);
    }
    for host in 0..2 {
        let host = world.host(host);
        let anonymous = host.get(&url).await;
        assert_eq!(anonymous.status, StatusCode::UNAUTHORIZED);
        assert!(anonymous.headers.contains_key("www-authenticate"));
        assert!(anonymous.body.starts_with(b"{\"errors\""));
        assert_eq!(
            host.get_as(&url, "Basic Ym9iOng=").await.status,
            StatusCode::UNAUTHORIZED
        );
        // The path counts, not only the digest.
        let elsewhere = host
            .get_as(&registry.blob_url("public", &digest), ALICE)
            .await;
        assert_eq!(elsewhere.status, StatusCode::NOT_FOUND);
        let part = host.client().get(&url).header("range", "bytes=0-9");
        assert_eq!(
            collect(part).await.unwrap().status,
            StatusCode::UNAUTHORIZED
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_of_the_attackers_own_gets_nothing() {
    let world = World::start(2).await;
    let registry = world.registry(private()).await;
    let liar = world
        .registry(Kind {
            is_liar: true,
            ..Kind::default()
        })
        .await;
    let bytes = content(21, 1_000_000);
    let digest = registry.put("private/secret", &bytes);
    let url = registry.blob_url("private/secret", &digest);
    assert!(world.host(0).get_as(&url, ALICE).await.body == bytes);
    for host in 0..2 {
        let got = world.host(host).get(&liar.blob_url("x", &digest)).await;
        // It may have what the liar itself sends: a million zeros.
        assert!(
            got.body.iter().all(|byte| *byte == 0),
            "a byte of the secret"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_knows_a_part_gets_no_more_than_that() {
    let world = World::start(1).await;
    let registry = world.registry(private()).await;
    let liar = world.registry(Kind::default()).await;
    let bytes = content(22, 2_000_000);
    let digest = registry.put("private/secret", &bytes);
    let mut half = bytes.to_vec();
    half[100_000..].fill(0);
    let half = Bytes::from(half);
    liar.put_as("x", &digest, &half);
    let url = registry.blob_url("private/secret", &digest);
    assert!(world.host(0).get_as(&url, ALICE).await.body == bytes);
    let got = world.host(0).get(&liar.blob_url("x", &digest)).await;
    assert!(got.body == half || got.body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_who_comes_first_spoils_nothing_for_others() {
    let world = World::start(2).await;
    let registry = world.registry(Kind::default()).await;
    let liar = world.registry(Kind::default()).await;
    let bytes = content(23, 1_500_000);
    let digest = registry.put("a", &bytes);
    let wrong = content(24, 1_500_000);
    liar.put_as("x", &digest, &wrong);
    // The liar's own client gets what it asked for, or an end.
    let lied = collect(world.host(0).client().get(liar.blob_url("x", &digest))).await;
    assert!(lied.is_err() || lied.is_ok_and(|got| got.body != bytes));
    for host in 0..2 {
        let got = world.host(host).get(&registry.blob_url("a", &digest)).await;
        assert_eq!(got.status, StatusCode::OK);
        assert!(got.body == bytes, "the liar's bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_header_does_not_say_who_allows() {
    let world = World::start(1).await;
    let registry = world.registry(Kind::default()).await;
    let bytes = content(25, 200_000);
    let digest = registry.put("a", &bytes);
    let url = registry.blob_url("a", &digest);
    assert!(world.host(0).get(&url).await.body == bytes);
    let asked = registry.counts().blob_bytes.load(SeqCst);
    let other = world
        .host(0)
        .client()
        .get(&url)
        .header("host", "evil.example");
    assert!(collect(other).await.unwrap().body == bytes);
    let sent = registry.counts().blob_bytes.load(SeqCst) - asked;
    assert_eq!(sent, 200_000, "passed on to whoever the host is");
    let strange = world
        .host(0)
        .client()
        .get(&url)
        .header("x-original-url", "/v2/b");
    assert!(collect(strange).await.unwrap().body == bytes);
    assert_eq!(registry.counts().blob_bytes.load(SeqCst) - asked, 400_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_answered_by_the_registry_alone() {
    let world = World::start(1).await;
    let registry = world.registry(Kind::default()).await;
    let bytes = content(26, 200_000);
    let digest = registry.put("a", &bytes);
    let host = world.host(0);
    assert!(host.get(&registry.blob_url("a", &digest)).await.body == bytes);
    let head = |url: String| async move { host.client().head(url).send().await.unwrap() };
    let found = head(registry.blob_url("a", &digest)).await;
    assert_eq!(found.status(), StatusCode::OK);
    assert_eq!(found.headers()["content-length"], "200000");
    // A 200 here would make a client skip its upload.
    let absent = head(registry.blob_url("b", &digest)).await;
    assert_eq!(absent.status(), StatusCode::NOT_FOUND);
    assert_eq!(registry.counts().heads.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_page_is_no_yes() {
    let world = World::start(1).await;
    let registry = world.registry(private()).await;
    let login = world
        .registry(Kind {
            is_login: true,
            ..Kind::default()
        })
        .await;
    let bytes = content(27, 400_000);
    let digest = registry.put("private/secret", &bytes);
    let url = registry.blob_url("private/secret", &digest);
    let host = world.host(0);
    assert!(host.get_as(&url, ALICE).await.body == bytes);
    registry.become_kind(|kind| {
        kind.reader = None;
        kind.cdn = Some(login.url("/login"));
    });
    let sent_on = host.get(&url).await;
    assert_eq!(sent_on.status, StatusCode::TEMPORARY_REDIRECT);
    assert!(login.counts().requests.load(SeqCst) > 0);
    registry.become_kind(|kind| kind.is_login = true);
    let page = host.get(&url).await;
    assert_eq!(
        (page.status, &page.body[..]),
        (StatusCode::OK, &b"<form>"[..])
    );
}
