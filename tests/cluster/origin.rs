//! A source that counts: how many bodies it began to send, how many bytes of them, how many questions came.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, IF_NONE_MATCH,
    IF_RANGE, RANGE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

const CHUNK_BYTES: usize = 64 * 1024;

/// What a path answers.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) body: Bytes,
    pub(crate) etag: Option<String>,
    pub(crate) tells_length: bool,
    pub(crate) ranges: bool,
    /// `Authorization` values that may read; empty: anybody.
    pub(crate) readers: Vec<String>,
    /// An `Authorization` value, and what is given to who shows it instead.
    pub(crate) other: Option<(String, Bytes)>,
    /// Whether each answer has an `ETag` of its own.
    pub(crate) is_fickle: bool,
    /// Between two chunks of 64 KiB.
    pub(crate) pause: Duration,
}

impl Resource {
    /// A file as a good server gives it.
    pub(crate) fn file(body: &[u8]) -> Self {
        let etag = format!("\"{}\"", &blake3::hash(body).to_hex()[..16]);
        Self {
            body: Bytes::copy_from_slice(body),
            etag: Some(etag),
            tells_length: true,
            ranges: true,
            readers: Vec::new(),
            other: None,
            is_fickle: false,
            pause: Duration::ZERO,
        }
    }

    /// An answer that ends when it ends and cannot be asked for again in parts.
    pub(crate) fn stream(body: &[u8]) -> Self {
        Self {
            etag: None,
            tells_length: false,
            ranges: false,
            ..Self::file(body)
        }
    }

    /// The same, sent at about this many bytes per second.
    pub(crate) fn slowly(self, bytes_per_sec: u64) -> Self {
        let pause = Duration::from_secs_f64(CHUNK_BYTES as f64 / bytes_per_sec as f64);
        Self { pause, ..self }
    }

    /// The same, without anything that tells one state of it from the next.
    pub(crate) fn without_a_name(self) -> Self {
        Self { etag: None, ..self }
    }

    /// The same, but other bytes for who shows this `Authorization`.
    pub(crate) fn but_for(self, authorization: &str, body: &[u8]) -> Self {
        let other = Some((authorization.to_owned(), Bytes::copy_from_slice(body)));
        Self { other, ..self }
    }

    /// The same, as it comes from servers that each name it differently.
    pub(crate) fn named_anew_each_time(self) -> Self {
        Self {
            is_fickle: true,
            ..self
        }
    }

    /// The same, for those alone who show this `Authorization`.
    pub(crate) fn only_for(mut self, authorization: &str) -> Self {
        self.readers.push(authorization.to_owned());
        self
    }
}

/// The source.
pub(crate) struct Origin {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Shared {
    resources: Mutex<BTreeMap<String, Resource>>,
    bodies: AtomicU64,
    body_bytes: AtomicU64,
    requests: AtomicU64,
    refusals: AtomicU64,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

impl Origin {
    /// Serves these paths.
    pub(crate) async fn start(resources: &[(&str, Resource)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let stop = CancellationToken::new();
        let origin = Self { addr, shared, stop };
        for (path, resource) in resources {
            origin.put(path, resource.clone());
        }
        tokio::spawn(serve(
            listener,
            Arc::clone(&origin.shared),
            origin.stop.clone(),
        ));
        origin
    }

    /// Changes what a path answers.
    pub(crate) fn put(&self, path: &str, resource: Resource) {
        self.shared
            .resources
            .lock()
            .unwrap()
            .insert(path.to_owned(), resource);
    }

    /// Closes everything: connections too.
    pub(crate) fn die(&self) {
        self.stop.cancel();
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.addr).parse().unwrap()
    }

    /// Answers whose body was begun.
    pub(crate) fn bodies(&self) -> u64 {
        self.shared.bodies.load(Ordering::Relaxed)
    }

    /// Bytes of bodies that were sent.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.shared.body_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn refusals(&self) -> u64 {
        self.shared.refusals.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { return };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &shared);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = stop.cancelled() => {}
                _ = connection => {}
            }
        });
    }
}

fn answer(request: &Request<Incoming>, shared: &Arc<Shared>) -> Response<Body> {
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let resource = shared
        .resources
        .lock()
        .unwrap()
        .get(request.uri().path())
        .cloned();
    let Some(mut resource) = resource else {
        return empty(StatusCode::NOT_FOUND);
    };
    if resource.is_fickle {
        let number = shared.requests.load(Ordering::Relaxed);
        resource.etag = Some(format!("\"{number}\""));
    }
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let shown = header(AUTHORIZATION).unwrap_or_default();
    if !resource.readers.is_empty() && !resource.readers.iter().any(|reader| reader == shown) {
        shared.refusals.fetch_add(1, Ordering::Relaxed);
        return empty(StatusCode::UNAUTHORIZED);
    }
    if let Some((authorization, body)) = resource.other.take()
        && authorization == shown
    {
        resource.body = body;
    }
    if let Some(etag) = &resource.etag {
        if header(IF_MATCH).is_some_and(|wanted| wanted != etag) {
            return empty(StatusCode::PRECONDITION_FAILED);
        }
        if header(IF_NONE_MATCH).is_some_and(|known| known == etag) {
            return empty(StatusCode::NOT_MODIFIED);
        }
    }
    let length = resource.body.len();
    let range_holds =
        header(IF_RANGE).is_none_or(|wanted| resource.etag.as_deref() == Some(wanted));
    let range = header(RANGE)
        .filter(|_| resource.ranges && range_holds)
        .and_then(|range| parse_range(range, length));
    let (start, end) = range.unwrap_or((0, length));
    let mut response = Response::builder().status(if range.is_some() { 206 } else { 200 });
    if resource.ranges {
        response = response.header(ACCEPT_RANGES, "bytes");
    }
    if let Some(etag) = &resource.etag {
        response = response.header(ETAG, etag);
    }
    if range.is_some() {
        response = response.header(CONTENT_RANGE, format!("bytes {start}-{}/{length}", end - 1));
    }
    if resource.tells_length {
        response = response.header(CONTENT_LENGTH, end - start);
    }
    let body = if request.method() == Method::HEAD {
        Bytes::new()
    } else {
        resource.body.slice(start..end)
    };
    if !body.is_empty() {
        shared.bodies.fetch_add(1, Ordering::Relaxed);
    }
    response
        .body(slow_body(body, resource.pause, Arc::clone(shared)))
        .unwrap()
}

fn slow_body(body: Bytes, pause: Duration, shared: Arc<Shared>) -> Body {
    let chunks = stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
        Some((chunk, rest))
    });
    let frames = chunks.map(move |chunk| {
        shared
            .body_bytes
            .fetch_add(chunk.len() as u64, Ordering::Relaxed);
        Ok(Frame::data(chunk))
    });
    StreamBody::new(frames.boxed()).boxed_unsync()
}

fn parse_range(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let end = last
        .parse::<usize>()
        .map_or(length, |last| (last + 1).min(length));
    (first < end).then_some((first, end))
}

fn empty(status: StatusCode) -> Response<Body> {
    let nothing = http_body_util::Empty::new().boxed_unsync();
    Response::builder()
        .status(status)
        .header(CONTENT_LENGTH, 0)
        .body(nothing)
        .unwrap()
}

/// Bytes that no compression and no luck makes equal.
pub(crate) fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_keyed(&[seed; 32])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}
