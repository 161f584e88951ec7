//! The status page.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::origin::{Origin, Resource, noise};

async fn ask(addr: SocketAddr, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_listens_for_all_answers_all() {
    let cluster = Cluster::start_with(1, |_, config| {
        config.status = Some("0.0.0.0:0".parse().unwrap());
    })
    .await;
    let addr = cluster.node(0).status().await.status.unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], addr.port()));
    assert!(
        ask(addr, "/metrics", "10.0.0.5")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_node_to_this_host_alone_and_hides_queries() {
    let origin = Origin::start(&[("/file", Resource::file(&noise(10_000, 60)))]).await;
    let cluster = Cluster::start_with(1, |_, config| {
        config.status = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let addr = cluster.node(0).status().await.status.unwrap();
    cluster
        .get(0, origin.url("/file?token=secret"))
        .await
        .unwrap();
    assert!(
        ask(addr, "/healthz", "localhost")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        ask(addr, "/readyz", "127.0.0.1")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let metrics = ask(addr, "/metrics", "localhost").await;
    assert!(
        metrics.contains("dfnode_received_source_bytes_total 10000"),
        "{metrics}"
    );
    let tasks = ask(addr, "/api/v1/tasks", "localhost").await;
    assert!(
        tasks.contains("/file") && !tasks.contains("secret"),
        "{tasks}"
    );
    assert!(
        ask(addr, "/api/v1/status", "localhost")
            .await
            .contains("\"ready\":true")
    );
    assert!(
        ask(addr, "/", "localhost")
            .await
            .contains("<title>dfnode</title>")
    );
    assert!(
        ask(addr, "/metrics", "evil.example")
            .await
            .starts_with("HTTP/1.1 403")
    );
}
