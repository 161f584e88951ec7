//! The status page: what a node does, for people, scripts and Prometheus. Read-only, and for this host alone unless it is
//! told to listen elsewhere.

mod metrics;
mod page;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::get::TaskView;
use crate::handle::Handle;

/// Connections to the page at once.
const MAX_CONNECTIONS: usize = 64;
/// A connection lives no longer.
const CONNECTION_PATIENCE: Duration = Duration::from_mins(1);
/// Between two tries to take a connection when the system has no room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The port of the page, open but not served yet.
#[derive(Debug)]
pub(crate) struct StatusPage {
    listener: TcpListener,
    addr: SocketAddr,
}

type Answer = Response<Full<Bytes>>;

impl StatusPage {
    /// Opens the port.
    pub(crate) async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr })
    }

    /// Where it is.
    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `stop`.
    pub(crate) async fn serve(self, handle: Handle, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let tasks = TaskTracker::new();
        let for_all = !self.addr.ip().is_loopback();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match (accepted, Arc::clone(&room).try_acquire_owned()) {
                (Ok((stream, _)), Ok(place)) => {
                    let (handle, stop) = (handle.clone(), stop.clone());
                    tasks.spawn(async move {
                        let _ = stop
                            .run_until_cancelled(converse(stream, handle, for_all))
                            .await;
                        drop(place);
                    });
                }
                (Ok(_), Err(_)) => debug!("too many connections to the status page"),
                (Err(error), _) => {
                    warn!(%error, "cannot take a connection to the status page");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn converse(stream: TcpStream, handle: Handle, for_all: bool) {
    let service = service_fn(move |request: Request<Incoming>| {
        let handle = handle.clone();
        async move {
            // Of a page that others may open, the names under which they do so are not known here.
            let is_meant = for_all || names_this_host(request.headers().get(HOST));
            let answer = if is_meant {
                answer(&request, &handle).await
            } else {
                elsewhere()
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION_PATIENCE, connection).await {
        debug!(%error, "a connection to the status page broke");
    }
}

fn elsewhere() -> Answer {
    text(
        StatusCode::FORBIDDEN,
        "text/plain",
        "this page is for this host alone\n".to_owned(),
    )
}

async fn answer(request: &Request<Incoming>, handle: &Handle) -> Answer {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "this page is read-only\n".to_owned(),
        );
    }
    match request.uri().path() {
        "/" => text(
            StatusCode::OK,
            "text/html; charset=utf-8",
            page::PAGE.to_owned(),
        ),
        "/healthz" => text(StatusCode::OK, "text/plain", "ok\n".to_owned()),
        "/readyz" => {
            if handle.status().await.ready {
                text(StatusCode::OK, "text/plain", "ready\n".to_owned())
            } else {
                text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "text/plain",
                    "looking for the cluster\n".to_owned(),
                )
            }
        }
        "/metrics" => {
            let body = metrics::render(&handle.status().await, handle);
            text(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                body,
            )
        }
        "/api/v1/status" => json(&handle.status().await),
        "/api/v1/peers" => json(&handle.peers().await),
        "/api/v1/tasks" => json(&visible(handle.tasks().await)),
        _ => text(
            StatusCode::NOT_FOUND,
            "text/plain",
            "there is no such page\n".to_owned(),
        ),
    }
}

/// Whoever opens the page is unknown: tasks that somebody's credentials fetched are not for everybody.
fn visible(mut tasks: Vec<TaskView>) -> Vec<TaskView> {
    tasks.retain(|task| task.owners.is_none());
    tasks
}

/// Whether a request was meant for this host, and not sent here by a web page under a name of its own.
fn names_this_host(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else {
        return false;
    };
    if let Ok(addr) = host.parse::<SocketAddr>() {
        return addr.ip().is_loopback();
    }
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.parse::<u16>().is_ok())
        .map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn json<T: Serialize>(value: &T) -> Answer {
    match serde_json::to_string(value) {
        Ok(body) => text(StatusCode::OK, "application/json", body),
        Err(error) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain",
            format!("{error}\n"),
        ),
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_are_answered() {
        for host in [
            "localhost",
            "localhost:65002",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]:65002",
            "[::1]",
            "LOCALHOST",
        ] {
            assert!(
                names_this_host(Some(&HeaderValue::from_static(host))),
                "{host}"
            );
        }
        for host in [
            "example.com",
            "example.com:65002",
            "10.0.0.1:65002",
            "",
            "localhost.example.com",
        ] {
            assert!(
                !names_this_host(Some(&HeaderValue::from_static(host))),
                "{host}"
            );
        }
        assert!(!names_this_host(None));
    }
}
