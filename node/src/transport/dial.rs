//! Dialling a peer at the addresses where it may be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dfnode_gossip::PeerId;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use quinn::{Connection, ConnectionError, TransportErrorCode};

use super::Shared;
use super::admission::{self, AdmissionError};
use super::close::Close;
use super::link::Link;
use super::private_net::is_private;

/// Addresses tried for one peer.
const MAX_ADDRS: usize = 16;
/// How long one address is tried before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(150);
/// How long an address may take to finish the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the link is waited for that made a dial superfluous.
const OTHER_LINK_TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no link. Nothing is left behind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The peer holds another cluster key. Copy the right one to one of the two hosts.
    #[error("{0} belongs to another cluster (its cluster key differs)")]
    WrongClusterKey(SocketAddr),
    /// The peer does not want this node: isolated, not on the allow-list, or too busy. Try later.
    #[error("{0} refused the connection")]
    Refused(SocketAddr),
    /// This node does not want the peer: isolated or not on the allow-list.
    #[error("peer {0} is not wanted here")]
    Unwanted(PeerId),
    /// Another peer is at that address.
    #[error("{addr} is peer {found}, not the expected one")]
    OtherPeer {
        /// Where.
        addr: SocketAddr,
        /// Who is there.
        found: PeerId,
    },
    /// The address is this node's own.
    #[error("{0} is this node itself")]
    Myself(SocketAddr),
    /// What answers there is no dfnode, or its version differs.
    #[error("{0} does not speak dfnode/1")]
    NotDfnode(SocketAddr),
    /// An open cluster does not talk to public addresses.
    #[error(
        "{0} is a public address, and an open cluster stays on private ones: use a cluster key"
    )]
    PublicAddress(SocketAddr),
    /// Nobody answers.
    #[error("{0} does not answer")]
    Unreachable(SocketAddr),
    /// There is no address to try.
    #[error("no address to dial")]
    NoAddress,
    /// There are too many links already.
    #[error("too many links")]
    TooManyLinks,
    /// The transport has shut down.
    #[error("the transport has shut down")]
    Shutdown,
}

impl ConnectError {
    /// How much it tells: of many failures, the most telling one is reported.
    const fn weight(&self) -> u8 {
        match self {
            Self::WrongClusterKey(_) => 8,
            Self::Refused(_) => 7,
            Self::Unwanted(_) | Self::TooManyLinks => 6,
            Self::NotDfnode(_) => 5,
            Self::OtherPeer { .. } => 4,
            Self::Myself(_) => 3,
            Self::PublicAddress(_) => 2,
            Self::Unreachable(_) | Self::Shutdown => 1,
            Self::NoAddress => 0,
        }
    }
}

/// Dials all of `addrs`, each with a head start before the next; the first link wins.
pub(super) async fn connect(
    shared: &Arc<Shared>,
    addrs: &[SocketAddr],
    expect: Option<PeerId>,
) -> Result<Link, ConnectError> {
    if let Some(link) = expect.and_then(|peer| shared.links.get(&peer)) {
        return Ok(link);
    }
    let mut waiting = addrs.iter().take(MAX_ADDRS);
    let mut dials = FuturesUnordered::new();
    let mut worst = ConnectError::NoAddress;
    let mut next = waiting.next();
    loop {
        if let Some(addr) = next.take() {
            dials.push(dial(shared, *addr, expect));
        }
        tokio::select! {
            ended = dials.next() => match ended {
                Some(Ok(link)) => return Ok(link),
                Some(Err(error)) => {
                    if error.weight() > worst.weight() {
                        worst = error;
                    }
                    next = waiting.next();
                }
                None => return Err(worst),
            },
            () = tokio::time::sleep(HEAD_START), if waiting.len() > 0 => next = waiting.next(),
        }
    }
}

async fn dial(
    shared: &Arc<Shared>,
    addr: SocketAddr,
    expect: Option<PeerId>,
) -> Result<Link, ConnectError> {
    let connection = handshake(shared, addr).await?;
    let peer = admission::peer_at(&connection).map_err(|_| ConnectError::NotDfnode(addr))?;
    let refuse = |why: Close, error: ConnectError| {
        why.close(&connection);
        Err(error)
    };
    if peer == shared.me {
        return refuse(Close::Myself, ConnectError::Myself(addr));
    }
    if expect.is_some_and(|expected| expected != peer) {
        let error = ConnectError::OtherPeer { addr, found: peer };
        return refuse(Close::Unwanted, error);
    }
    if shared.refused.has(&peer) {
        return refuse(Close::Refused, ConnectError::Unwanted(peer));
    }
    if let Some(link) = shared.links.get(&peer) {
        Close::Duplicate.close(&connection);
        return Ok(link);
    }
    let admitted = match admission::dial(shared.admission(), connection, peer).await {
        Ok(admitted) => admitted,
        Err(AdmissionError::Ended(reason)) if Close::of(&reason) == Some(Close::Duplicate) => {
            return other_link(shared, addr, &peer).await;
        }
        Err(error) => return Err(admission_error(addr, &error)),
    };
    match shared.establish(admitted).await {
        Ok(link) => Ok(link),
        Err(Close::Duplicate) => other_link(shared, addr, &peer).await,
        Err(Close::Busy) => Err(ConnectError::TooManyLinks),
        Err(close) => Err(close_error(addr, Some(close))),
    }
}

async fn handshake(shared: &Shared, addr: SocketAddr) -> Result<Connection, ConnectError> {
    if shared.keys.is_open() && !is_private(addr.ip()) {
        return Err(ConnectError::PublicAddress(addr));
    }
    let connecting = shared
        .endpoint
        .connect(addr, SERVER_NAME)
        .map_err(|error| match error {
            quinn::ConnectError::EndpointStopping => ConnectError::Shutdown,
            quinn::ConnectError::CidsExhausted
            | quinn::ConnectError::InvalidServerName(_)
            | quinn::ConnectError::InvalidRemoteAddress(_)
            | quinn::ConnectError::NoDefaultClientConfig
            | quinn::ConnectError::UnsupportedVersion => ConnectError::Unreachable(addr),
        })?;
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(handshake_error(addr, &error)),
        Err(_) => Err(ConnectError::Unreachable(addr)),
    }
}

/// Certificates name keys, not hosts; TLS wants a name all the same.
const SERVER_NAME: &str = "dfnode";

fn handshake_error(addr: SocketAddr, error: &ConnectionError) -> ConnectError {
    match error {
        ConnectionError::ConnectionClosed(frame)
            if frame.error_code == TransportErrorCode::CONNECTION_REFUSED =>
        {
            ConnectError::Refused(addr)
        }
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_) => ConnectError::NotDfnode(addr),
        ConnectionError::ApplicationClosed(_) => close_error(addr, Close::of(error)),
        ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => ConnectError::Unreachable(addr),
    }
}

fn admission_error(addr: SocketAddr, error: &AdmissionError) -> ConnectError {
    match error {
        AdmissionError::WrongClusterKey => ConnectError::WrongClusterKey(addr),
        AdmissionError::Malformed => ConnectError::NotDfnode(addr),
        AdmissionError::TimedOut => ConnectError::Unreachable(addr),
        AdmissionError::Ended(reason) => match reason {
            // The peer judged our certificate after the handshake was over for us: its allow-list.
            ConnectionError::ConnectionClosed(_) => ConnectError::Refused(addr),
            ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => handshake_error(addr, reason),
        },
    }
}

fn close_error(addr: SocketAddr, close: Option<Close>) -> ConnectError {
    match close {
        Some(Close::WrongClusterKey) => ConnectError::WrongClusterKey(addr),
        Some(Close::Myself) => ConnectError::Myself(addr),
        Some(Close::Refused | Close::Busy | Close::Unwanted) => ConnectError::Refused(addr),
        Some(Close::Violation) => ConnectError::NotDfnode(addr),
        Some(
            Close::Shutdown
            | Close::Duplicate
            | Close::Replaced
            | Close::Overflow
            | Close::Silent
            | Close::NotAdmitted,
        )
        | None => ConnectError::Unreachable(addr),
    }
}

/// The peer has a link with us, or will in a moment.
async fn other_link(
    shared: &Shared,
    addr: SocketAddr,
    peer: &PeerId,
) -> Result<Link, ConnectError> {
    shared
        .links
        .wait_for(peer, OTHER_LINK_TIMEOUT)
        .await
        .ok_or(ConnectError::Unreachable(addr))
}
