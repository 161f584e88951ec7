//! CONNECT: which connections are opened, and which are passed on as they are.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::AlertDescription;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use crate::answer;
use crate::body::{self, Body};
use crate::entry;
use crate::hosts::Verdict;
use crate::leaf::Leaves;
use crate::origin::{Authority, Origin, Scheme};
use crate::probe;
use crate::proxy::Shared;
use crate::tunnel;
use crate::upstream::UpstreamError;

/// How long a client's handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of a connection.
enum Way {
    /// It is opened, with one of these certificates.
    Open(Arc<Leaves>),
    /// It is passed on to here.
    Pass(TcpStream),
}

/// Answers a CONNECT.
pub(crate) async fn serve(shared: &Arc<Shared>, mut request: Request<Incoming>) -> Response<Body> {
    let target = request
        .uri()
        .authority()
        .and_then(|target| Authority::parse(target.as_str(), None));
    let Some(target) = target else {
        return answer::error(StatusCode::BAD_REQUEST, "CONNECT needs a host and a port");
    };
    let Some(place) = shared.place() else {
        return answer::no_room();
    };
    let way = match choose(shared, &target).await {
        Ok(way) => way,
        Err(error) => {
            shared.stats.failures.add(1);
            return answer::unreachable(&error.to_string());
        }
    };
    let client = hyper::upgrade::on(&mut request);
    match way {
        Way::Open(leaves) => {
            let owned = Arc::clone(shared);
            shared.spawn(async move {
                open(&owned, target, &leaves, client).await;
                drop(place);
            });
        }
        Way::Pass(stream) => {
            shared.stats.tunnels.add(1);
            debug!(host = %target, "tunnel");
            shared.spawn(async move {
                tunnel::join(client, stream).await;
                drop(place);
            });
        }
    }
    Response::new(body::empty())
}

async fn choose(shared: &Shared, target: &Authority) -> Result<Way, UpstreamError> {
    if let Some(leaves) = shared
        .leaves()
        .filter(|_| !shared.hosts.is_rejected(target))
        && may_open(shared, target).await?
    {
        return Ok(Way::Open(leaves));
    }
    Ok(Way::Pass(shared.upstream.dialer().dial(target).await?))
}

/// Whether to open connections to `target`. It must talk TLS itself, with a certificate that is trusted: else its
/// clients would see our errors in place of its own, and those that fall back to plain HTTP would not.
async fn may_open(shared: &Shared, target: &Authority) -> Result<bool, UpstreamError> {
    let hosts = &shared.hosts;
    let verdict = hosts.verdict(target);
    if matches!(verdict, Some(Verdict::Other | Verdict::Unclear)) {
        return Ok(false);
    }
    if verdict.is_some() && hosts.is_shaken(target) {
        return Ok(true);
    }
    match shared.upstream.shake_hands(target).await {
        Ok(()) => hosts.shake(target.clone()),
        Err(error @ UpstreamError::Tls(..)) => {
            if verdict.is_some() {
                warn!(host = %target, %error, "passed on unopened; if it is to be trusted, name its certificate with --cacert");
            } else {
                hosts.judge(target.clone(), Verdict::Unclear);
            }
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    if verdict.is_some() {
        return Ok(true);
    }
    let _flight = shared.probing.enter(target.clone()).await;
    if let Some(verdict) = hosts.verdict(target) {
        return Ok(verdict == Verdict::Registry);
    }
    let origin = Origin {
        scheme: Scheme::Https,
        authority: target.clone(),
    };
    let verdict = probe::ask(&shared.upstream, &origin).await;
    debug!(host = %target, ?verdict, "asked whether it is a registry");
    hosts.judge(target.clone(), verdict);
    Ok(verdict == Verdict::Registry)
}

/// Talks TLS with the client in the name of `target`, then serves what it asks.
async fn open(shared: &Arc<Shared>, target: Authority, leaves: &Leaves, client: OnUpgrade) {
    let client = match client.await {
        Ok(client) => client,
        Err(error) => return debug!(%error, "a client left before its connection was open"),
    };
    match timeout(HANDSHAKE_PATIENCE, shake_hands(&target, leaves, client)).await {
        Ok(Ok(stream)) => {
            shared.stats.opened.add(1);
            let origin = Origin {
                scheme: Scheme::Https,
                authority: target,
            };
            entry::converse_within(shared, origin, TokioIo::new(stream)).await;
        }
        Ok(Err(error)) if is_distrust(&error) => {
            warn!(host = %target, "a client does not trust this proxy's certificate; the host is let through unopened for a while");
            shared.stats.rejected.add(1);
            shared.hosts.reject(target);
        }
        Ok(Err(error)) => debug!(host = %target, %error, "a client's handshake failed"),
        Err(_) => debug!(host = %target, "a client's handshake took too long"),
    }
}

async fn shake_hands(
    target: &Authority,
    leaves: &Leaves,
    client: Upgraded,
) -> io::Result<TlsStream<TokioIo<Upgraded>>> {
    let acceptor =
        LazyConfigAcceptor::new(rustls::server::Acceptor::default(), TokioIo::new(client));
    let start = acceptor.await?;
    // Whoever connects to an address may name no host.
    let asked = start
        .client_hello()
        .server_name()
        .map(str::to_ascii_lowercase);
    let config = leaves.get(asked.as_deref().unwrap_or_else(|| target.host()))?;
    start.into_stream(config).await
}

/// Whether a handshake failed because the client does not know who signed our certificate.
fn is_distrust(error: &io::Error) -> bool {
    let alert = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(
        alert,
        Some(rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnsupportedCertificate
        ))
    )
}
