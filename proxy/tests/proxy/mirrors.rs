//! The proxy as a mirror.

use std::sync::atomic::Ordering::SeqCst;

use dfnode_node::source::trusting;
use reqwest::{Client, StatusCode};

use crate::registry::{Internet, Kind, Registry, content};
use crate::world::{World, collect};

fn client() -> Client {
    Client::builder()
        .tls_backend_preconfigured(trusting([]).unwrap())
        .no_proxy()
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_finds_the_configured_registry_behind_the_mirror() {
    let internet = Internet::new();
    let hub = Registry::start(
        &internet,
        Kind {
            is_plain: true,
            ..Kind::default()
        },
    )
    .await;
    let upstream = hub.url("").parse().unwrap();
    let world =
        World::start_with(2, |config| config.mirror_upstream = Clone::clone(&upstream)).await;
    let bytes = content(50, 2_000_000);
    let digest = hub.put("library/a", &bytes);
    hub.put_manifest("library/a", &[&digest]);
    for host in 0..2 {
        let base = format!("http://{}", world.host(host).addr());
        let get = |path: String| collect(client().get(format!("{base}{path}")));
        assert_eq!(get("/v2/".to_owned()).await.unwrap().status, StatusCode::OK);
        let manifest = get("/v2/library/a/manifests/latest".to_owned()).await;
        assert_eq!(manifest.unwrap().status, StatusCode::OK);
        let blob = get(format!("/v2/library/a/blobs/{digest}")).await.unwrap();
        assert!(blob.body == bytes);
    }
    assert!(hub.counts().blob_bytes.load(SeqCst) < 2_100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_names_the_registry_and_shares_with_the_proxys_clients() {
    let world = World::start(1).await;
    let registry = world
        .registry(Kind {
            is_plain: true,
            reader: Some("Bearer alice".to_owned()),
            ..Kind::default()
        })
        .await;
    let bytes = content(51, 1_000_000);
    let digest = registry.put("private/a", &bytes);
    let base = format!("http://{}", world.host(0).addr());
    let url = format!("{base}/v2/private/a/blobs/{digest}?ns={}", registry.addr());
    let refused = collect(client().get(&url)).await.unwrap();
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.headers.contains_key("www-authenticate"));
    let allowed = client().get(&url).header("authorization", "Bearer alice");
    assert!(collect(allowed).await.unwrap().body == bytes);
    let sent = registry.counts().blob_bytes.load(SeqCst);
    let other = registry.blob_url("private/a", &digest);
    assert!(world.host(0).get_as(&other, "Bearer alice").await.body == bytes);
    assert_eq!(registry.counts().blob_bytes.load(SeqCst), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_there_makes_the_client_look_elsewhere() {
    let world = World::start(1).await;
    let base = format!("http://{}", world.host(0).addr());
    let gone = client().get(format!("{base}/v2/a/manifests/latest?ns=127.0.0.1:1"));
    assert_eq!(
        collect(gone).await.unwrap().status,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_cannot_use_the_mirror() {
    let world = World::start(1).await;
    let registry = world
        .registry(Kind {
            is_plain: true,
            ..Kind::default()
        })
        .await;
    let digest = registry.put("a", &content(54, 1000));
    let url = format!(
        "http://{}/v2/a/blobs/{digest}?ns={}",
        world.host(0).addr(),
        registry.addr()
    );
    let ask = |name: &'static str, value: &'static str| {
        collect(client().get(url.clone()).header(name, value))
    };
    for (name, value) in [
        ("origin", "https://page.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let got = ask(name, value).await.unwrap();
        assert_eq!(got.status, StatusCode::FORBIDDEN, "{name}: {value}");
    }
    assert_eq!(registry.counts().requests.load(SeqCst), 0);
    let typed = ask("sec-fetch-site", "none").await.unwrap();
    assert_eq!(typed.status, StatusCode::OK);
}
