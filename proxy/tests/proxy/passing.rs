//! What passes through as it is: tunnels, pushes, tokens, plain HTTP, other protocols.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::stream;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::registry::{Kind, content};
use crate::world::{World, collect};

/// What a client of HTTP/2 says first: the preface, and that it has no wishes.
const H2_HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Sends text to a proxy and reads until the head of the answer is there.
async fn talk(addr: std::net::SocketAddr, text: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => seen.push(byte),
            Err(_) => break,
        }
    }
    (stream, String::from_utf8(seen).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_no_registry_shows_its_own_certificate() {
    let world = World::start(1).await;
    let site = world
        .registry(Kind {
            is_mute: true,
            ..Kind::default()
        })
        .await;
    let stranger = world.host(0).stranger(&world.internet);
    let got = collect(stranger.get(site.url("/x"))).await.unwrap();
    assert_eq!(got.status, StatusCode::NOT_FOUND);
    assert!(
        collect(world.host(0).client().get(site.url("/x")))
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_trust_the_proxy_is_let_through_the_next_time() {
    let world = World::start(1).await;
    let registry = world.registry(Kind::default()).await;
    let stranger = world.host(0).stranger(&world.internet);
    assert!(collect(stranger.get(registry.url("/v2/"))).await.is_err());
    crate::world::eventually("the host is let through", async || {
        collect(stranger.get(registry.url("/v2/")))
            .await
            .is_ok_and(|got| got.status == StatusCode::OK)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_not_there_is_named_in_the_reason() {
    let world = World::start(1).await;
    let text = "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n";
    let (_, answer) = talk(world.host(0).addr(), text).await;
    let line = answer.lines().next().unwrap();
    assert!(
        line.starts_with("HTTP/1.1 502 dfnode: cannot reach 127.0.0.1:1: ")
            && line.contains("refused"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_to_what_speaks_no_tls_carries_bytes_and_passes_an_end_on() {
    let world = World::start(1).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    tokio::spawn(async move {
        // The first connection is the proxy's own look; whoever speaks no TLS drops it.
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut first = [0; 5];
                if stream.read_exact(&mut first).await.is_ok() && &first == b"hello" {
                    let mut rest = Vec::new();
                    stream.read_to_end(&mut rest).await.unwrap();
                    stream.write_all(&rest).await.unwrap();
                }
            });
        }
    });
    let text = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let (mut stream, answer) = talk(world.host(0).addr(), &text).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stream.write_all(b"hello, world").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, ", world");
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_answered_or_cut_off() {
    let world = World::start(1).await;
    let addr = world.host(0).addr();
    for (text, status) in [
        ("CONNECT nowhere HTTP/1.1\r\n\r\n", "400"),
        ("CONNECT :0 HTTP/1.1\r\n\r\n", "400"),
        ("GET /other HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "404"),
        ("GET /v2/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421"),
        ("GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", "400"),
        (
            "GET /v2/?ns=a%2fb HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "404",
        ),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let (_, answer) = talk(addr, text).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{text}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_would_come_back_here_is_refused() {
    let world = World::start(1).await;
    let addr = world.host(0).addr();
    let text = format!("CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    let (_, answer) = talk(addr, &text).await;
    assert!(
        answer.starts_with("HTTP/1.1 502") && answer.contains("leads back"),
        "{answer}"
    );
    let text =
        format!("GET http://{addr}/v2/ HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    let (_, answer) = talk(addr, &text).await;
    assert!(
        answer.starts_with("HTTP/1.1 502") && answer.contains("leads back"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_streamed_chunk_by_chunk() {
    let world = World::start(1).await;
    let registry = world.registry(Kind::default()).await;
    let chunk = content(40, 100_000);
    let chunks = (0..50).map(move |_| Ok::<Bytes, std::io::Error>(chunk.clone()));
    let body = reqwest::Body::wrap_stream(stream::iter(chunks));
    let push = world.host(0).client();
    let push = push.patch(registry.url("/v2/a/blobs/uploads/1")).body(body);
    let got = collect(push).await.unwrap();
    assert_eq!(got.status, StatusCode::ACCEPTED);
    assert_eq!(got.headers["x-chunked"], "yes");
    assert!(
        got.headers["location"]
            .to_str()
            .unwrap()
            .starts_with("https://127.0.0.1")
    );
    assert_eq!(registry.counts().pushed_bytes.load(SeqCst), 5_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_forwarded_and_its_blobs_are_shared() {
    let world = World::start(2).await;
    let registry = world
        .registry(Kind {
            is_plain: true,
            ..Kind::default()
        })
        .await;
    let bytes = content(41, 2_000_000);
    let digest = registry.put("a", &bytes);
    for host in 0..2 {
        let got = world.host(host).get(&registry.blob_url("a", &digest)).await;
        assert!(got.body == bytes);
    }
    assert!(registry.counts().blob_bytes.load(SeqCst) < 2_100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_token_requests_at_the_same_time_are_one_and_none_is_kept() {
    let world = World::start(1).await;
    let registry = world.registry(Kind::default()).await;
    registry.become_kind(|kind| {
        kind.reader = Some("Bearer alice".to_owned());
        kind.realm = Some(registry.url("/token"));
    });
    let host = world.host(0);
    let refused = host.get(&registry.blob_url("private/a", "sha256:00")).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let url = registry.url("/token?service=registry");
    let gets = (0..8).map(|number| {
        let who = if number % 2 == 0 {
            "Basic alice"
        } else {
            "Basic bob"
        };
        let url = url.clone();
        async move { (who, host.get_as(&url, who).await) }
    });
    for (who, got) in join_all(gets).await {
        assert_eq!(got.body, format!("{{\"token\":\"{who}\"}}"));
    }
    assert_eq!(registry.counts().tokens.load(SeqCst), 2);
    host.get_as(&url, "Basic alice").await;
    assert_eq!(registry.counts().tokens.load(SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_passes_through_an_opened_connection() {
    let world = World::start(1).await;
    let registry = world
        .registry(Kind {
            is_plain: true,
            ..Kind::default()
        })
        .await;
    let there = registry.addr();
    let text = format!(
        "GET http://{there}/v2/ HTTP/1.1\r\nHost: {there}\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
    );
    let (mut stream, answer) = talk(world.host(0).addr(), &text).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    stream.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_files_are_shared_where_a_rule_names_them() {
    let rule = "^http://127\\.0\\.0\\.1(:\\d+)?/v2/a/blobs/shared"
        .parse()
        .unwrap();
    let world = World::start_with(2, |config| config.rules = vec![Clone::clone(&rule)]).await;
    let registry = world
        .registry(Kind {
            is_plain: true,
            ..Kind::default()
        })
        .await;
    let bytes = content(42, 3_000_000);
    registry.put_as("a", "shared", &bytes);
    registry.put_as("a", "other", &bytes);
    for host in 0..2 {
        let got = world
            .host(host)
            .get(&registry.blob_url("a", "shared"))
            .await;
        assert!(got.body == bytes);
        assert!(got.headers.contains_key("etag"));
        let part = world
            .host(host)
            .client()
            .get(registry.blob_url("a", "shared"));
        let part = collect(part.header("range", "bytes=5-9")).await.unwrap();
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
        assert!(part.body == bytes.slice(5..10));
    }
    let sent = registry.counts().blob_bytes.load(SeqCst);
    assert!(sent < 3_100_000, "{sent} bytes");
    world.host(0).get(&registry.blob_url("a", "other")).await;
    assert!(registry.counts().blob_bytes.load(SeqCst) >= sent + 3_000_000);
}

/// Whether a proxy ends a connection on which it is sent just this, soon.
async fn is_ended(addr: std::net::SocketAddr, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut seen = Vec::new();
    // An end is an end, also one without a farewell.
    timeout(Duration::from_secs(10), stream.read_to_end(&mut seen))
        .await
        .is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_nothing_gives_its_place_back() {
    let world = World::start_with(1, |config| {
        config.patience.head = Duration::from_secs(1);
    })
    .await;
    let addr = world.host(0).addr();
    // Nothing, what may be either version, HTTP/2 without a request, and half a head.
    for bytes in [&b""[..], b"PRI *", H2_HELLO, b"GET /v2/ HT"] {
        let text = String::from_utf8_lossy(bytes);
        assert!(is_ended(addr, bytes).await, "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_2_that_is_gone_gives_its_place_back() {
    let world = World::start_with(1, |config| {
        config.patience.ping = Duration::from_secs(1);
    })
    .await;
    assert!(is_ended(world.host(0).addr(), H2_HELLO).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_takes_a_place_whatever_it_began_as() {
    let world = World::start_with(1, |config| config.max_connections = 2).await;
    let registry = world
        .registry(Kind {
            is_plain: true,
            ..Kind::default()
        })
        .await;
    let (there, addr) = (registry.addr(), world.host(0).addr());
    let text = format!(
        "GET http://{there}/v2/ HTTP/1.1\r\nHost: {there}\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
    );
    let (first, answer) = talk(addr, &text).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let (_, answer) = talk(addr, &text).await;
    assert!(!answer.starts_with("HTTP/1.1 101"), "{answer}");
    drop(first);
    crate::world::eventually("the first one's place is free", async || {
        talk(addr, &text).await.1.starts_with("HTTP/1.1 101")
    })
    .await;
}
