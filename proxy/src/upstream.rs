//! Requests to upstreams, over connections that are kept.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::select_ok;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client, Error, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::body::{self, Body, BodyError};
use crate::dial::{CONNECT_PATIENCE, DialError, Dialer};
use crate::origin::{Authority, Origin, Scheme};

/// Idle connections kept to one upstream.
const MAX_IDLE_PER_HOST: usize = 32;
/// How long they are.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Connections whose handshake is done and that wait for their first request.
const MAX_SPARE: usize = 64;
/// How long one waits.
const SPARE_AGE: Duration = Duration::from_secs(10);
/// The longest head of an answer.
const MAX_HEAD_BYTES: usize = 256 * 1024;

/// Why an upstream did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("no secure connection to {0}: {1}")]
    Tls(String, io::Error),
    #[error("{0}")]
    Broken(String),
    #[error("{0} does not answer in time")]
    Silent(String),
}

/// The way to every upstream. Clones share their connections.
#[derive(Clone)]
pub(crate) struct Upstream {
    /// Made anew where kept connections are in doubt.
    client: Arc<Mutex<Client<Connector, Body>>>,
    connector: Connector,
    /// How long a kept connection may take to answer.
    patience: Duration,
}

impl Upstream {
    pub(crate) fn new(dialer: Arc<Dialer>, tls: ClientConfig, patience: Duration) -> Self {
        let connector = Connector {
            dialer,
            tls: TlsConnector::from(Arc::new(tls)),
            spare: Arc::default(),
        };
        let client = Arc::new(Mutex::new(connector.clone().client()));
        Self {
            client,
            connector,
            patience,
        }
    }

    fn client(&self) -> MutexGuard<'_, Client<Connector, Body>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets all idle connections go: whoever asks next does so over a new one.
    fn renew(&self) -> Client<Connector, Body> {
        let client = self.connector.clone().client();
        *self.client() = client.clone();
        client
    }

    /// The dialer behind it.
    pub(crate) fn dialer(&self) -> &Dialer {
        &self.connector.dialer
    }

    /// Whether `authority` can be reached and talks TLS with a certificate that is trusted. The connection waits for
    /// the next request.
    pub(crate) async fn shake_hands(&self, authority: &Authority) -> Result<(), UpstreamError> {
        let wire = self.connector.tls(authority).await?;
        let mut spare = self.connector.spare();
        let now = Instant::now();
        spare.retain(|_, (since, _)| now - *since < SPARE_AGE);
        if spare.len() < MAX_SPARE {
            spare.insert(authority.clone(), (now, wire));
        }
        Ok(())
    }

    /// Sends a request whose URI is absolute. One without a body is sent again if a kept connection turns out dead, or
    /// seems to be.
    pub(crate) async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let again = is_repeatable(&request).then(|| copy(&request));
        let host = request.uri().authority().map(ToString::to_string);
        let client = self.client().clone();
        let first = client.request(request);
        let answered = match again {
            None => first.await,
            Some(again) => self.send_twice(&client, first, again).await,
        };
        answered.map_err(|error| explain(host, &error))
    }

    async fn send_twice(
        &self,
        client: &Client<Connector, Body>,
        mut first: ResponseFuture,
        again: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        match timeout(self.patience, &mut first).await {
            Ok(Err(error)) if !error.is_connect() => client.request(again).await,
            Ok(answered) => answered,
            Err(_elapsed) => {
                let second = self.renew().request(again);
                match select_ok([first, second]).await {
                    Ok((answer, _slower)) => Ok(answer),
                    Err(error) => Err(error),
                }
            }
        }
    }
}

fn is_repeatable(request: &Request<Body>) -> bool {
    use hyper::body::Body as _;
    request.method().is_safe() && request.body().is_end_stream()
}

/// The head of a request, to be held while its body is on its way.
pub(crate) fn head<B>(request: &Request<B>) -> Request<()> {
    copy(request).map(drop)
}

/// The head of a request once more.
pub(crate) fn copy<B>(request: &Request<B>) -> Request<Body> {
    let mut again = Request::new(body::empty());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    again
}

fn explain(host: Option<String>, error: &Error) -> UpstreamError {
    let mut cause = error.source();
    let mut last = error.to_string();
    while let Some(error) = cause {
        if let Some(known) = error.downcast_ref::<UpstreamError>() {
            return UpstreamError::Broken(known.to_string());
        }
        last = error.to_string();
        cause = error.source();
    }
    let host = host.unwrap_or_default();
    UpstreamError::Broken(format!("{host} does not answer: {last}"))
}

/// Makes connections for the pool.
#[derive(Clone)]
struct Connector {
    dialer: Arc<Dialer>,
    tls: TlsConnector,
    spare: Arc<Mutex<BTreeMap<Authority, (Instant, Wire)>>>,
}

impl Connector {
    fn spare(&self) -> MutexGuard<'_, BTreeMap<Authority, (Instant, Wire)>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(self) -> Client<Self, Body> {
        Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(self)
    }

    async fn tls(&self, authority: &Authority) -> Result<Wire, UpstreamError> {
        let failed = |error| UpstreamError::Tls(authority.to_string(), error);
        let name = authority
            .server_name()
            .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let stream = self.dialer.dial(authority).await?;
        let shaken = timeout(CONNECT_PATIENCE, self.tls.connect(name, stream)).await;
        let stream = shaken
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        Ok(Wire(TokioIo::new(Box::new(stream))))
    }

    async fn connect(self, origin: Origin) -> Result<Wire, UpstreamError> {
        match origin.scheme {
            Scheme::Http => {
                let stream: TcpStream = self.dialer.dial(&origin.authority).await?;
                Ok(Wire(TokioIo::new(Box::new(stream))))
            }
            Scheme::Https => {
                let spare = self.spare().remove(&origin.authority);
                match spare.filter(|(since, _)| since.elapsed() < SPARE_AGE) {
                    Some((_, wire)) => Ok(wire),
                    None => self.tls(&origin.authority).await,
                }
            }
        }
    }
}

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = BodyError;
    type Future = Pin<Box<dyn Future<Output = Result<Wire, BodyError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let origin = Origin::of_uri(&uri).ok_or("a request without a host")?;
            Ok(connector.connect(origin).await?)
        })
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection, encrypted or not.
struct Wire(TokioIo<Box<dyn Duplex>>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }
}
