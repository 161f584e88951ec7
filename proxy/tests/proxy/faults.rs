//! Sources and nodes that fail under a pull.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::registry::{Kind, Registry, ToNodes, content};
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
    registry.put_as("a", &digest, &wrong.clone().into());
    let url = registry.blob_url("a", &digest);
    let client = world.host(0).client();
    // As without a proxy, the client gets what the registry has, and notices; or the node does, in the middle of it.
    let got = timeout(Duration::from_secs(30), collect(client.get(&url))).await;
    match got.unwrap() {
        Ok(got) => assert!(got.body == wrong),
        Err(error) => assert!(error.is_body() || error.is_decode(), "{error:?}"),
    }
    registry.put_as("a", &digest, &bytes);
    crate::world::eventually("the registry's better bytes arrive", async || {
        collect(client.get(&url))
            .await
            .is_ok_and(|got| got.body == bytes)
    })
    .await;
}

/// Less than the node and registries are given by default, far more than a test machine needs.
const SHORT: Duration = Duration::from_secs(1);
/// Less than anything takes that waits as long as it does by default.
const SOON: Duration = Duration::from_secs(5);
const DATE: &str = "Wed, 21 Oct 2015 07:28:00 GMT";
const LATER: &str = "Wed, 21 Oct 2015 07:28:01 GMT";

/// A host whose node counts as one that stands still after a second, and that shares files.
async fn impatient_world() -> World {
    world_of_patience(SHORT).await
}

/// The same, with a patience of its own.
async fn world_of_patience(patience: Duration) -> World {
    let rule = "/shared$".parse().unwrap();
    World::start_with(1, |config| {
        config.rules = vec![Clone::clone(&rule)];
        config.patience.node = patience;
    })
    .await
}

/// A registry whose bodies stand still after some blocks.
async fn standing(world: &World, modified: Option<&'static str>) -> Registry {
    let kind = Kind {
        is_plain: true,
        stalls: Some(300_000),
        modified,
        ..Kind::default()
    };
    world.registry(kind).await
}

/// Begins to read an answer; its first bytes.
async fn begin(world: &World, url: &str) -> (reqwest::Response, Vec<u8>) {
    let mut answer = world.host(0).client().get(url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let seen = answer.chunk().await.unwrap().unwrap().to_vec();
    (answer, seen)
}

/// Reads an answer to its end or as far as it comes soon; whether that was the end.
async fn rest(mut answer: reqwest::Response, seen: &mut Vec<u8>) -> bool {
    let reading = async {
        while let Some(chunk) = answer.chunk().await? {
            seen.extend_from_slice(&chunk);
        }
        Ok::<_, reqwest::Error>(())
    };
    timeout(SOON, reading).await.is_ok_and(|end| end.is_ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_on_from_the_source_that_still_gives_it_its_date() {
    let world = impatient_world().await;
    let registry = standing(&world, Some(DATE)).await;
    let bytes = content(34, 2_000_000);
    registry.put_as("a", "shared", &bytes);
    let (answer, mut seen) = begin(&world, &registry.blob_url("a", "shared")).await;
    registry.become_kind(|kind| kind.stalls = None);
    assert!(rest(answer, &mut seen).await);
    assert!(seen == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_while_the_node_stood_still_is_not_two_versions() {
    let world = impatient_world().await;
    let registry = standing(&world, Some(DATE)).await;
    let bytes = content(35, 2_000_000);
    registry.put_as("a", "shared", &bytes);
    let (answer, mut seen) = begin(&world, &registry.blob_url("a", "shared")).await;
    registry.put_as("a", "shared", &content(36, 2_000_000));
    registry.become_kind(|kind| {
        kind.stalls = None;
        kind.modified = Some(LATER);
    });
    let is_whole = rest(answer, &mut seen).await;
    assert!(bytes.starts_with(&seen), "bytes of another version");
    assert!(!is_whole, "the node stands still, and only it has the rest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_on_need_not_wait_for_a_registry_that_says_nothing() {
    let world = impatient_world().await;
    let registry = standing(&world, None).await;
    let bytes = content(37, 2_000_000);
    let digest = registry.put("a", &bytes);
    let (answer, mut seen) = begin(&world, &registry.blob_url("a", &digest)).await;
    let asked = registry.counts().requests.load(SeqCst);
    registry.become_kind(|kind| kind.is_silent = true);
    crate::world::eventually("the registry is asked to go on", async || {
        registry.counts().requests.load(SeqCst) > asked
    })
    .await;
    registry.go_on();
    assert!(rest(answer, &mut seen).await);
    assert!(seen == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_gave_at_the_end_the_node_still_fetches_and_checks() {
    let world = impatient_world().await;
    let registry = standing(&world, None).await;
    let bytes = content(40, 2_000_000);
    let digest = registry.put("a", &bytes);
    let url = registry.blob_url("a", &digest);
    let (answer, mut seen) = begin(&world, &url).await;
    registry.become_kind(|kind| kind.stalls = None);
    assert!(rest(answer, &mut seen).await);
    assert!(seen == bytes);
    registry.go_on();
    crate::world::eventually("the node is at rest", async || {
        world.host(0).node().status().await.downloads == 0
    })
    .await;
    let sent = registry.counts().blob_bytes.load(SeqCst);
    assert!(world.host(0).get(&url).await.body == bytes);
    assert_eq!(registry.counts().blob_bytes.load(SeqCst), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_says_nothing_keeps_nobody_waiting() {
    let rule = "/shared$".parse().unwrap();
    let world = World::start_with(1, |config| {
        config.rules = vec![Clone::clone(&rule)];
        config.patience.question = SHORT;
    })
    .await;
    let registry = world.registry(Kind::default()).await;
    registry.become_kind(|kind| {
        kind.reader = Some("Bearer alice".to_owned());
        kind.realm = Some(registry.url("/token"));
    });
    let digest = registry.put("a", &content(38, 1000));
    registry.put_as("a", "shared", &content(38, 1000));
    let host = world.host(0);
    let refused = host.get(&registry.blob_url("private/a", &digest)).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    for url in [
        registry.blob_url("a", &digest),
        registry.blob_url("a", "shared"),
        registry.url("/token?service=registry"),
    ] {
        registry.become_kind(|kind| kind.is_silent = true);
        let asked = registry.counts().requests.load(SeqCst);
        let second = async {
            crate::world::eventually("the registry is asked", async || {
                registry.counts().requests.load(SeqCst) > asked
            })
            .await;
            registry.become_kind(|kind| kind.is_silent = false);
            // It waits behind the first, who may not keep its turn for long.
            timeout(SOON, host.get(&url)).await
        };
        let (_stuck, got) = tokio::join!(timeout(SOON, host.get(&url)), second);
        assert_eq!(got.expect(&url).status, StatusCode::OK, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_says_nothing_is_not_waited_for() {
    let world = World::start_with(1, |config| config.patience.kept = SHORT).await;
    let registry = world
        .registry(Kind {
            is_plain: true,
            ..Kind::default()
        })
        .await;
    let host = world.host(0);
    let url = registry.url("/v2/");
    let asks = async || timeout(SOON, host.get(&url)).await;
    asks().await.expect("a connection that is kept");
    registry.become_kind(|kind| kind.is_silent = true);
    let heals = async {
        tokio::time::sleep(SHORT / 2).await;
        registry.become_kind(|kind| kind.is_silent = false);
    };
    let (got, ()) = tokio::join!(asks(), heals);
    got.expect("the same is asked over a new one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_left_holds_up_nobody() {
    let world = World::start(1).await;
    let registry = world
        .registry(Kind {
            is_plain: true,
            is_silent: true,
            ..Kind::default()
        })
        .await;
    let bytes = content(39, 100_000);
    let digest = registry.put("a", &bytes);
    let url = registry.blob_url("a", &digest);
    let mut left = TcpStream::connect(world.host(0).addr()).await.unwrap();
    let request = format!("GET {url} HTTP/1.1\r\nHost: {}\r\n\r\n", registry.addr());
    left.write_all(request.as_bytes()).await.unwrap();
    crate::world::eventually("the registry is asked", async || {
        registry.counts().requests.load(SeqCst) > 0
    })
    .await;
    registry.become_kind(|kind| kind.is_silent = false);
    drop(left);
    let got = timeout(SOON, world.host(0).get(&url)).await;
    assert!(got.expect("it waits behind who left").body == bytes);
}

/// How the one is asked for that a late node is to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    File,
    Blob,
    /// The registry's yes is that to the manifest which lists it.
    ListedBlob,
}

/// A registry that is silent to nodes, and something there: its address.
async fn slow_to_nodes(world: &World, thing: Thing, bytes: &Bytes) -> (Registry, String) {
    let kind = Kind {
        is_plain: true,
        to_nodes: ToNodes::Silent,
        ..Kind::default()
    };
    let registry = world.registry(kind).await;
    let name = match thing {
        Thing::File => {
            registry.put_as("a", "shared", bytes);
            "shared".to_owned()
        }
        Thing::Blob | Thing::ListedBlob => registry.put("a", bytes),
    };
    if thing == Thing::ListedBlob {
        registry.put_manifest("a", &[&name]);
        let manifest = registry.url("/v2/a/manifests/latest");
        assert_eq!(world.host(0).get(&manifest).await.status, StatusCode::OK);
    }
    let url = registry.blob_url("a", &name);
    (registry, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_late_goes_on_behind_what_the_registry_gave_first() {
    for thing in [Thing::File, Thing::Blob, Thing::ListedBlob] {
        // It has so long to begin once it can.
        let world = world_of_patience(3 * SHORT).await;
        let bytes = content(41, 40_000_000);
        let (registry, url) = slow_to_nodes(&world, thing, &bytes).await;
        let (answer, mut seen) = begin(&world, &url).await;
        registry.go_on();
        assert!(rest(answer, &mut seen).await, "{thing:?}");
        assert!(seen == bytes, "{thing:?}");
        // Two holes at most, of 4 MiB and of 8.
        let counts = registry.counts();
        let of_node = counts.node_bytes.load(SeqCst);
        let given = counts.blob_bytes.load(SeqCst) - of_node;
        assert!(given < 13 << 20, "{given} bytes of {thing:?}");
        assert!(of_node > 20_000_000, "{of_node} bytes of {thing:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_what_a_node_never_begins_is_one_question_to_the_registry() {
    let world = impatient_world().await;
    let bytes = content(47, 40_000_000);
    let (registry, url) = slow_to_nodes(&world, Thing::File, &bytes).await;
    let (answer, mut seen) = begin(&world, &url).await;
    assert!(rest(answer, &mut seen).await);
    assert!(seen == bytes);
    // What it has, the first 4 MiB, and the rest.
    assert_eq!(registry.counts().blob_requests.load(SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_has_replaced_while_the_node_was_late_comes_from_it_whole() {
    let world = impatient_world().await;
    let (registry, url) = slow_to_nodes(&world, Thing::File, &content(44, 2_000_000)).await;
    let newer = content(45, 3_000_000);
    let replaces = async {
        crate::world::eventually("the registry is asked what it has", async || {
            registry.counts().questions.load(SeqCst) > 0
        })
        .await;
        registry.put_as("a", "shared", &newer);
        registry.become_kind(|kind| kind.modified = Some(LATER));
    };
    let host = world.host(0);
    let (got, ()) = tokio::join!(host.get(&url), replaces);
    assert_eq!(got.status, StatusCode::OK);
    assert!(got.body == newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_what_it_allowed_while_the_node_was_late_says_so_itself() {
    let world = impatient_world().await;
    let bytes = content(46, 2_000_000);
    let (registry, url) = slow_to_nodes(&world, Thing::Blob, &bytes).await;
    let refuses = async {
        crate::world::eventually("the registry is asked", async || {
            registry.counts().questions.load(SeqCst) > 0
        })
        .await;
        registry.become_kind(|kind| kind.is_mute = true);
    };
    let host = world.host(0);
    let (got, ()) = tokio::join!(host.get(&url), refuses);
    assert_eq!(got.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_source_failed_goes_on_once_it_fares_better() {
    let rule = "/shared$".parse().unwrap();
    let world = World::start_with(1, |config| config.rules = vec![Clone::clone(&rule)]).await;
    let kind = Kind {
        is_plain: true,
        to_nodes: ToNodes::Failing,
        stalls: Some(4_000_000),
        ..Kind::default()
    };
    let registry = world.registry(kind).await;
    let bytes = content(42, 40_000_000);
    registry.put_as("a", "shared", &bytes);
    let (mut answer, mut seen) = begin(&world, &registry.blob_url("a", "shared")).await;
    registry.become_kind(|kind| kind.to_nodes = ToNodes::Quick);
    // The registry itself would need nine further questions, and stand still before each.
    while let Some(chunk) = answer.chunk().await.unwrap() {
        seen.extend_from_slice(&chunk);
    }
    assert!(seen == bytes);
    let counts = registry.counts();
    let of_node = counts.node_bytes.load(SeqCst);
    assert!(of_node > 20_000_000, "{of_node} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_node_that_has_another_version_is_left_alone() {
    let world = impatient_world().await;
    let bytes = content(43, 20_000_000);
    let (registry, url) = slow_to_nodes(&world, Thing::File, &bytes).await;
    registry.become_kind(|kind| kind.to_nodes = ToNodes::SilentAndOther);
    let (answer, mut seen) = begin(&world, &url).await;
    registry.go_on();
    assert!(rest(answer, &mut seen).await);
    assert!(seen == bytes);
    assert!(registry.counts().node_bytes.load(SeqCst) > 0);
}
