//! What comes in on a connection: CONNECT, a whole URL, or a path as a mirror is asked for it.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue, VIA};
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use crate::answer;
use crate::body::{self, Body, BodyError};
use crate::config::Patience;
use crate::connect;
use crate::exchange;
use crate::mirror;
use crate::origin::Origin;
use crate::proxy::Shared;

/// The longest head of a request.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Streams at once on one connection.
const MAX_STREAMS: u32 = 128;

/// Serves a connection to the proxy itself, to its end.
pub(crate) async fn converse(shared: &Arc<Shared>, stream: TcpStream) {
    let service = |request: Request<Incoming>| {
        let shared = Arc::clone(shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    };
    if let Err(error) = serve(shared, TokioIo::new(stream), service).await {
        debug!(%error, "a client's connection broke");
    }
}

/// Serves what a client sends within a connection that was meant for `origin`, to its end.
pub(crate) async fn converse_within<T>(shared: &Arc<Shared>, origin: Origin, stream: T)
where
    T: Read + Write + Unpin + Send + 'static,
{
    let origin = Arc::new(origin);
    let service = |request: Request<Incoming>| {
        let (shared, origin) = (Arc::clone(shared), Arc::clone(&origin));
        async move {
            let request = request.map(body::incoming);
            Ok::<_, Infallible>(exchange::serve(&shared, &origin, request).await)
        }
    };
    if let Err(error) = serve(shared, stream, service).await {
        debug!(host = %origin.authority, %error, "a client's connection broke");
    }
}

/// Serves a connection to its end. One on which nothing was asked in time ends then: the server itself waits for ever
/// for the bytes that tell the versions of HTTP apart.
async fn serve<T, F>(
    shared: &Shared,
    stream: T,
    service: impl Fn(Request<Incoming>) -> F,
) -> Result<(), BodyError>
where
    T: Read + Write + Unpin + Send + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let has_asked = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&has_asked);
    let service = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        service(request)
    });
    let serving = server(shared.patience);
    let mut connection = pin!(serving.serve_connection_with_upgrades(stream, service));
    match timeout(shared.patience.head, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) if has_asked.load(Ordering::Relaxed) => connection.await,
        Err(_) => Err("nothing was asked on it".into()),
    }
}

pub(crate) fn server(patience: Patience) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    // Without `half_close`: a client that is gone must leave at once the turns that it holds.
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(MAX_HEAD_BYTES);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(patience.ping)
        .keep_alive_timeout(patience.ping)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .adaptive_window(true);
    server
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    if comes_from_here(shared, &request) {
        return answer::error(
            StatusCode::LOOP_DETECTED,
            "the request came back to this proxy",
        );
    }
    if request.method() == Method::CONNECT {
        return Box::pin(connect::serve(shared, request)).await;
    }
    if request.uri().scheme().is_none() {
        return Box::pin(mirror::serve(shared, request.map(body::incoming))).await;
    }
    let Some(origin) = Origin::of_uri(request.uri()) else {
        return answer::error(
            StatusCode::BAD_REQUEST,
            "only http and https URLs are forwarded",
        );
    };
    let mut request = request.map(body::incoming);
    let (name, host) = (shared.upstream.dialer().name(), request.uri().authority());
    let host = host.map(|host| host.as_str().rsplit('@').next().unwrap_or_default());
    let host = host.and_then(|host| HeaderValue::from_str(host).ok());
    let headers = request.headers_mut();
    // A whole URL says whom it is for, whatever the header says.
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    if let Ok(via) = HeaderValue::from_str(&format!("1.1 {name}")) {
        headers.append(VIA, via);
    }
    Box::pin(exchange::serve(shared, &origin, request)).await
}

/// Whether this proxy has passed the request on before.
fn comes_from_here(shared: &Shared, request: &Request<Incoming>) -> bool {
    let name = shared.upstream.dialer().name();
    request
        .headers()
        .get_all(VIA)
        .iter()
        .filter_map(|via| via.to_str().ok())
        .flat_map(|via| via.split(','))
        .any(|hop| hop.split_whitespace().nth(1) == Some(name))
}
