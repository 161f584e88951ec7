//! Sources and nodes that fail under a pull.

use std::time::Duration;

use reqwest::StatusCode;
use tokio::time::timeout;

use crate::registry::{Kind, content};
use crate::world::{World, collect};

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_breaks_off_costs_no_client_its_answer() {
    let world = World::start(2).await;
    let registry = world
        .registry(Kind {
            breaks: Some((100_000, 4)),
            ..Kind::default()
        })
        .await;
    let bytes = content(30, 5_000_000);
    let digest = registry.put("a", &bytes);
    for host in 0..2 {
        let got = world.host(host).get(&registry.blob_url("a", &digest)).await;
        assert_eq!(got.status, StatusCode::OK);
        assert!(got.body == bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_under_a_pull_is_replaced_by_the_registry_within_the_answer() {
    let mut world = World::start(1).await;
    let registry = world
        .registry(Kind {
            pause: Duration::from_millis(5),
            ..Kind::default()
        })
        .await;
    let bytes = content(31, 8_000_000);
    let digest = registry.put("a", &bytes);
    let client = world.host(0).client();
    let mut answer = client
        .get(registry.blob_url("a", &digest))
        .send()
        .await
        .unwrap();
    let mut seen = answer.chunk().await.unwrap().unwrap().to_vec();
    world.kill_node(0).await;
    while let Some(chunk) = answer.chunk().await.unwrap() {
        seen.extend_from_slice(&chunk);
    }
    assert!(seen == bytes);
    // And the next one comes from the registry from the start.
    let again = collect(client.get(registry.blob_url("a", &digest))).await;
    assert!(again.unwrap().body == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_gone_is_no_obstacle_for_who_was_let_in() {
    let world = World::start(1).await;
    let registry = world.registry(Kind::default()).await;
    let bytes = content(32, 900_000);
    let digest = registry.put("a", &bytes);
    let url = registry.blob_url("a", &digest);
    let host = world.host(0);
    let client = host.client();
    assert!(collect(client.get(&url)).await.unwrap().body == bytes);
    registry.stop();
    assert!(collect(client.get(&url)).await.unwrap().body == bytes);
    let stranger = client.get(&url).header("authorization", "Bearer bob");
    assert_eq!(
        collect(stranger).await.unwrap().status,
        StatusCode::BAD_GATEWAY
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_source_is_never_taken_for_the_blob() {
    let world = World::start(1).await;
    let registry = world.registry(Kind::default()).await;
    let bytes = content(33, 700_000);
    let digest = registry.put("a", &bytes);
    let mut wrong = bytes.to_vec();
    wrong[350_000] ^= 1;
    registry.put_as("a", &digest, &wrong.into());
    let url = registry.blob_url("a", &digest);
    let client = world.host(0).client();
    // As without a proxy, the client gets what the registry has, and notices.
    let got = timeout(Duration::from_secs(30), collect(client.get(&url))).await;
    assert!(got.unwrap().is_ok_and(|got| got.body != bytes));
    registry.put_as("a", &digest, &bytes);
    crate::world::eventually("the registry's better bytes arrive", async || {
        collect(client.get(&url))
            .await
            .is_ok_and(|got| got.body == bytes)
    })
    .await;
}
