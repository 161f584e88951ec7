//! A registry that counts: with TLS, tokens, redirects to a "CDN", and faults where a test wants them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, LOCATION,
    RANGE, USER_AGENT, WWW_AUTHENTICATE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

const CHUNK_BYTES: usize = 64 * 1024;
/// What every registry says.
const MARK: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");

/// The authority that every host of a test trusts, as it does those of the internet.
pub(crate) struct Internet {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Internet {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "The Internet");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap(),
            key,
        }
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.certificate.pem().into_bytes()
    }

    fn acceptor(&self) -> TlsAcceptor {
        let params =
            CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = params
            .signed_by(&key, &self.certificate, &self.key)
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What a registry is like.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a trait of its own, and tests combine them"
)]
#[derive(Debug, Clone, Default)]
pub(crate) struct Kind {
    /// Whether it speaks plain HTTP.
    pub(crate) is_plain: bool,
    /// Who may read repositories that begin with `private`: their `Authorization`. `None`: there is no such thing.
    pub(crate) reader: Option<String>,
    /// Where blobs are sent to: the base of a CDN.
    pub(crate) cdn: Option<String>,
    /// Where tokens come from: the realm of its challenge.
    pub(crate) realm: Option<String>,
    /// Whether it is a CDN: it refuses an `Authorization`, and wants its signature.
    pub(crate) is_cdn: bool,
    /// Whether it says yes to whatever it is asked, and sends zeros.
    pub(crate) is_liar: bool,
    /// Whether it answers everything with a page where one is to say who one is.
    pub(crate) is_login: bool,
    /// Whether it says nothing that registries say.
    pub(crate) is_mute: bool,
    /// After how many bytes of a body its connections break, at each of the first so many bodies.
    pub(crate) breaks: Option<(usize, u64)>,
    /// Whether it takes requests and answers none.
    pub(crate) is_silent: bool,
    /// How it treats nodes, whose User-Agent is their own; a client of the tests has none.
    pub(crate) to_nodes: ToNodes,
    /// After how many bytes its bodies stand still, until it is told to go on.
    pub(crate) stalls: Option<usize>,
    /// Whether all its bits are the others.
    pub(crate) is_inverted: bool,
    /// The date that it gives its content in place of an `ETag`.
    pub(crate) modified: Option<&'static str>,
    /// Between two chunks of 64 KiB.
    pub(crate) pause: Duration,
}

/// How a registry treats the nodes among those who ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ToNodes {
    #[default]
    AsToAll,
    /// It answers none until it is told to go on.
    Silent,
    /// The same, and then it gives them something else, by another name.
    SilentAndOther,
    /// It fails.
    Failing,
    /// What it gives them does not stand still.
    Quick,
}

/// What it was asked, in numbers.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) blob_requests: AtomicU64,
    pub(crate) blob_bytes: AtomicU64,
    /// Of those, what nodes asked for.
    pub(crate) node_bytes: AtomicU64,
    pub(crate) questions: AtomicU64,
    pub(crate) heads: AtomicU64,
    pub(crate) tokens: AtomicU64,
    pub(crate) pushed_bytes: AtomicU64,
    pub(crate) authorized_cdn: AtomicU64,
    bodies: AtomicU64,
}

/// A registry.
pub(crate) struct Registry {
    addr: SocketAddr,
    kind: Kind,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    kind: Mutex<Kind>,
    counts: Counts,
    blobs: Mutex<BTreeMap<(String, String), Bytes>>,
    manifests: Mutex<BTreeMap<String, Bytes>>,
    addr: SocketAddr,
    goes_on: CancellationToken,
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

impl Registry {
    pub(crate) async fn start(internet: &Internet, kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            kind: Mutex::new(kind.clone()),
            counts: Counts::default(),
            blobs: Mutex::default(),
            manifests: Mutex::default(),
            addr,
            goes_on: CancellationToken::new(),
        });
        let stop = CancellationToken::new();
        let acceptor = (!kind.is_plain).then(|| internet.acceptor());
        let (served, stopped) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stopped.cancelled() => return,
                    accepted = listener.accept() => accepted.unwrap().0,
                };
                let (served, acceptor, stopped) =
                    (Arc::clone(&served), acceptor.clone(), stopped.clone());
                tokio::spawn(async move {
                    let serving = async {
                        match acceptor {
                            Some(acceptor) => {
                                if let Ok(stream) = acceptor.accept(accepted).await {
                                    converse(served, TokioIo::new(stream)).await;
                                }
                            }
                            None => converse(served, TokioIo::new(accepted)).await,
                        }
                    };
                    tokio::select! { () = stopped.cancelled() => {}, () = serving => {} }
                });
            }
        });
        Self {
            addr,
            kind,
            shared,
            stop,
        }
    }

    /// Puts a blob into a repository; returns its digest.
    pub(crate) fn put(&self, repository: &str, bytes: &Bytes) -> String {
        let digest = digest_of(bytes);
        self.put_as(repository, &digest, bytes);
        digest
    }

    /// Puts whatever bytes under a digest.
    pub(crate) fn put_as(&self, repository: &str, digest: &str, bytes: &Bytes) {
        let place = (repository.to_owned(), digest.to_owned());
        self.shared
            .blobs
            .lock()
            .unwrap()
            .insert(place, bytes.clone());
    }

    /// Puts a manifest that lists these blobs under the tag `latest`.
    pub(crate) fn put_manifest(&self, repository: &str, digests: &[&str]) {
        let layers: Vec<_> = digests
            .iter()
            .map(|digest| serde_json::json!({ "digest": digest }))
            .collect();
        let manifest = serde_json::json!({ "schemaVersion": 2, "layers": layers }).to_string();
        self.shared
            .manifests
            .lock()
            .unwrap()
            .insert(repository.to_owned(), manifest.into());
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.kind.is_plain { "http" } else { "https" };
        format!("{scheme}://{}{path}", self.addr)
    }

    pub(crate) fn blob_url(&self, repository: &str, digest: &str) -> String {
        self.url(&format!("/v2/{repository}/blobs/{digest}"))
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Changes what it is like.
    pub(crate) fn become_kind(&self, change: impl FnOnce(&mut Kind)) {
        change(&mut self.shared.kind.lock().unwrap());
    }

    /// Lets bodies that stand still go on.
    pub(crate) fn go_on(&self) {
        self.shared.goes_on.cancel();
    }

    /// Ends it, and every connection.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(digest(&SHA256, bytes)))
}

/// Bytes that are told apart by their seed.
pub(crate) fn content(seed: u64, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes.into()
}

async fn converse<T>(shared: Arc<Shared>, stream: T)
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    // A client that leaves is no fault.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(stream, service)
        .with_upgrades()
        .await;
}

async fn answer(shared: &Arc<Shared>, mut request: Request<Incoming>) -> Response<Body> {
    let mut kind = shared.kind.lock().unwrap().clone();
    let counts = &shared.counts;
    counts.requests.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    let authorization = request
        .headers()
        .get(AUTHORIZATION)
        .map(|value| value.to_str().unwrap().to_owned());
    if request.headers().contains_key(hyper::header::UPGRADE) {
        return upgrade(&mut request);
    }
    if kind.is_silent {
        std::future::pending::<()>().await;
    }
    match kind.to_nodes {
        _ if !is_of_node(&request) => {}
        ToNodes::AsToAll => {}
        ToNodes::Silent => shared.goes_on.cancelled().await,
        ToNodes::SilentAndOther => {
            shared.goes_on.cancelled().await;
            kind.modified = Some("Wed, 21 Oct 2015 07:28:00 GMT");
            kind.is_inverted = true;
        }
        ToNodes::Failing => return text(StatusCode::INTERNAL_SERVER_ERROR, "it fails"),
        ToNodes::Quick => kind.stalls = None,
    }
    if path == "/token" {
        counts.tokens.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(200)).await;
        let token = authorization.unwrap_or_else(|| "anonymous".to_owned());
        return text(StatusCode::OK, &format!("{{\"token\":\"{token}\"}}"));
    }
    if kind.is_mute {
        return text(StatusCode::NOT_FOUND, "no registry");
    }
    if kind.is_login {
        return text(StatusCode::OK, "<form>");
    }
    if kind.is_cdn {
        return cdn(shared, &kind, &request, authorization.as_deref());
    }
    if path == "/v2/" {
        return match &kind.reader {
            Some(_) if authorization.is_none() && kind.realm.is_some() => challenge(&kind),
            _ => text(StatusCode::OK, "{}"),
        };
    }
    let Some((repository, what, reference)) = split(&path) else {
        return text(StatusCode::NOT_FOUND, "no such place");
    };
    let is_private = repository.starts_with("private");
    if is_private && kind.reader != authorization && !kind.is_liar {
        return challenge(&kind);
    }
    match (request.method(), what) {
        (&Method::GET | &Method::HEAD, "manifests") => {
            let manifest = shared.manifests.lock().unwrap().get(repository).cloned();
            match manifest {
                Some(manifest) => {
                    let mut answer = text(StatusCode::OK, std::str::from_utf8(&manifest).unwrap());
                    let digest = digest_of(&manifest).parse().unwrap();
                    answer.headers_mut().insert("docker-content-digest", digest);
                    answer
                }
                None => text(StatusCode::NOT_FOUND, "no such manifest"),
            }
        }
        (&Method::GET | &Method::HEAD, "blobs") => {
            blob(shared, &kind, &request, repository, reference)
        }
        (&Method::PATCH | &Method::PUT, "blobs") => {
            let is_chunked = !request.headers().contains_key(CONTENT_LENGTH);
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                let bytes = frame.into_data().unwrap_or_default();
                counts
                    .pushed_bytes
                    .fetch_add(bytes.len() as u64, Ordering::SeqCst);
            }
            let mut answer = text(StatusCode::ACCEPTED, "");
            let place = format!("https://{}/v2/{repository}/blobs/uploads/1", shared.addr);
            answer
                .headers_mut()
                .insert(LOCATION, place.parse().unwrap());
            let chunked = if is_chunked { "yes" } else { "no" };
            answer
                .headers_mut()
                .insert("x-chunked", chunked.parse().unwrap());
            answer
        }
        _ => text(StatusCode::METHOD_NOT_ALLOWED, "no"),
    }
}

fn is_of_node(request: &Request<Incoming>) -> bool {
    let agent = request.headers().get(USER_AGENT);
    agent.is_some_and(|agent| agent.as_bytes().starts_with(b"dfnode/"))
}

/// Repository, kind and reference of a path.
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let rest = path.strip_prefix("/v2/")?;
    for what in ["blobs", "manifests"] {
        if let Some((repository, reference)) = rest.split_once(&format!("/{what}/")) {
            return Some((repository, what, reference));
        }
    }
    None
}

fn blob(
    shared: &Shared,
    kind: &Kind,
    request: &Request<Incoming>,
    repository: &str,
    digest: &str,
) -> Response<Body> {
    let counts = &shared.counts;
    counts.blob_requests.fetch_add(1, Ordering::SeqCst);
    let range = request
        .headers()
        .get(RANGE)
        .map(|range| range.to_str().unwrap());
    if range == Some("bytes=0-0") {
        counts.questions.fetch_add(1, Ordering::SeqCst);
    }
    let place = (repository.to_owned(), digest.to_owned());
    let found = shared.blobs.lock().unwrap().get(&place).cloned();
    let found = found.or_else(|| kind.is_liar.then(|| Bytes::from(vec![0; 1_000_000])));
    let Some(bytes) = found else {
        return text(
            StatusCode::NOT_FOUND,
            "{\"errors\":[{\"code\":\"BLOB_UNKNOWN\"}]}",
        );
    };
    if request.method() == Method::HEAD {
        counts.heads.fetch_add(1, Ordering::SeqCst);
    }
    if let Some(cdn) = &kind.cdn {
        let mut answer = text(StatusCode::TEMPORARY_REDIRECT, "");
        let nonce = counts.requests.load(Ordering::SeqCst);
        let place = format!("{cdn}/{repository}/{digest}?signature=good&nonce={nonce}");
        answer
            .headers_mut()
            .insert(LOCATION, place.parse().unwrap());
        return answer;
    }
    send(shared, kind, request, &bytes)
}

fn cdn(
    shared: &Shared,
    kind: &Kind,
    request: &Request<Incoming>,
    authorization: Option<&str>,
) -> Response<Body> {
    if authorization.is_some() {
        shared.counts.authorized_cdn.fetch_add(1, Ordering::SeqCst);
        return text(StatusCode::BAD_REQUEST, "two ways to authorise");
    }
    let is_signed = request
        .uri()
        .query()
        .is_some_and(|query| query.starts_with("signature=good"));
    if !is_signed {
        return text(StatusCode::FORBIDDEN, "not signed");
    }
    let path = request.uri().path().trim_start_matches('/');
    let (repository, digest) = path.rsplit_once('/').unwrap();
    let place = (repository.to_owned(), digest.to_owned());
    let found = shared.blobs.lock().unwrap().get(&place).cloned();
    match found {
        Some(bytes) => {
            shared.counts.blob_requests.fetch_add(1, Ordering::SeqCst);
            send(shared, kind, request, &bytes)
        }
        None => text(StatusCode::NOT_FOUND, "nothing there"),
    }
}

fn send(
    shared: &Shared,
    kind: &Kind,
    request: &Request<Incoming>,
    bytes: &Bytes,
) -> Response<Body> {
    let inverted = || bytes.iter().map(|byte| !byte).collect::<Bytes>();
    let bytes = if kind.is_inverted { &inverted() } else { bytes };
    let length = bytes.len();
    let range = request
        .headers()
        .get(RANGE)
        .map(|range| range.to_str().unwrap());
    let part = range.map(|range| {
        let (first, last) = range
            .strip_prefix("bytes=")
            .unwrap()
            .split_once('-')
            .unwrap();
        let last = last.parse().unwrap_or(length - 1).min(length - 1);
        (first.parse::<usize>().unwrap(), last)
    });
    let (status, body) = match part {
        Some((first, _)) if first >= length => {
            let mut answer = text(StatusCode::RANGE_NOT_SATISFIABLE, "");
            let range = format!("bytes */{length}").parse().unwrap();
            answer.headers_mut().insert(CONTENT_RANGE, range);
            return answer;
        }
        Some((first, last)) => (StatusCode::PARTIAL_CONTENT, bytes.slice(first..=last)),
        None => (StatusCode::OK, bytes.clone()),
    };
    let mut answer = Response::new(UnsyncBoxBody::default());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(MARK.0, MARK.1.parse().unwrap());
    headers.insert(CONTENT_LENGTH, body.len().to_string().parse().unwrap());
    match kind.modified {
        Some(date) => headers.insert(LAST_MODIFIED, date.parse().unwrap()),
        None => headers.insert(ETAG, format!("\"{}\"", shared.addr).parse().unwrap()),
    };
    if let Some((first, last)) = part {
        let range = format!("bytes {first}-{last}/{length}");
        headers.insert(CONTENT_RANGE, range.parse().unwrap());
    }
    if request.method() == Method::HEAD {
        return answer;
    }
    let number = shared.counts.bodies.fetch_add(1, Ordering::SeqCst);
    shared
        .counts
        .blob_bytes
        .fetch_add(body.len() as u64, Ordering::SeqCst);
    if is_of_node(request) {
        shared
            .counts
            .node_bytes
            .fetch_add(body.len() as u64, Ordering::SeqCst);
    }
    let breaks = kind
        .breaks
        .filter(|(at, times)| number < *times && body.len() > *at)
        .map(|(at, _)| at);
    let shown = body.slice(..breaks.unwrap_or(body.len()));
    let pause = kind.pause;
    let stalls = kind.stalls.unwrap_or(usize::MAX);
    let chunks: Vec<(usize, Bytes)> = shown
        .chunks(CHUNK_BYTES)
        .enumerate()
        .map(|(number, chunk)| (number * CHUNK_BYTES, Bytes::copy_from_slice(chunk)))
        .collect();
    let goes_on = shared.goes_on.clone();
    let frames = stream::iter(chunks).then(move |(at, chunk)| {
        let goes_on = goes_on.clone();
        async move {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            if at >= stalls {
                goes_on.cancelled().await;
            }
            Ok(Frame::data(chunk))
        }
    });
    let end = stream::iter(breaks.map(|_| Err(std::io::Error::other("broken"))));
    *answer.body_mut() = StreamBody::new(frames.chain(end)).boxed_unsync();
    answer
}

fn challenge(kind: &Kind) -> Response<Body> {
    let mut answer = text(
        StatusCode::UNAUTHORIZED,
        "{\"errors\":[{\"code\":\"UNAUTHORIZED\"}]}",
    );
    let how = match &kind.realm {
        Some(realm) => format!("Bearer realm=\"{realm}\",service=\"registry\",scope=\"a\""),
        None => "Basic realm=\"registry\"".to_owned(),
    };
    answer
        .headers_mut()
        .insert(WWW_AUTHENTICATE, how.parse().unwrap());
    answer
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    let body = http_body_util::Full::new(Bytes::copy_from_slice(text.as_bytes()));
    let mut answer = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
    if status != StatusCode::NOT_FOUND || text != "no registry" {
        headers.insert(MARK.0, MARK.1.parse().unwrap());
    }
    answer
}

/// Talks an echo of bytes from here on.
fn upgrade(request: &mut Request<Incoming>) -> Response<Body> {
    let client = hyper::upgrade::on(request);
    tokio::spawn(async move {
        if let Ok(client) = client.await {
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(client));
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        }
    });
    let mut answer = text(StatusCode::SWITCHING_PROTOCOLS, "");
    answer
        .headers_mut()
        .insert("upgrade", "echo".parse().unwrap());
    answer
        .headers_mut()
        .insert("connection", "upgrade".parse().unwrap());
    answer.headers_mut().remove(CONTENT_TYPE);
    answer
}
