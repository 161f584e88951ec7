//! How nodes talk: one UDP port with QUIC links and sealed packets.
//!
//! A connection becomes a [`Link`] only after both ends proved to hold the cluster's key; nothing else of it can
//! be used before. What comes in is told in one line, [`Incoming`].

mod addresses;
mod admission;
mod arrival;
mod block_header;
mod block_stream;
mod close;
mod control;
mod demux;
mod dial;
mod endpoint;
mod frame;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod gate;
mod link;
mod links;
mod private_net;
mod refused;
mod replay;
mod seal;
mod socket;
mod sync_stream;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use dfnode_gossip::{Now, PeerId};
use dfnode_tracker::{BlockIndex, TaskId};
use quinn::{Endpoint, Runtime, TokioRuntime};
use tokio_util::sync::CancellationToken;

use self::admission::{Admitted, Me, StartId};
use self::arrival::Arrivals;
pub use self::arrival::{Arrival, Incoming, Room};
pub use self::block_header::BlockHeader;
pub use self::block_stream::SendBlockError;
pub use self::close::Close;
pub use self::control::SendMessageError;
use self::demux::{Demux, PacketSink};
pub use self::dial::ConnectError;
use self::gate::{Gate, Knock, Ticket};
pub use self::link::{Link, LinkBytes};
use self::links::{Entered, KEPT, Links};
use self::refused::Refused;
use self::seal::Seal;
pub use self::seal::{MAX_PACKET_BODY_BYTES, PacketKind, SEAL_BYTES};
pub use self::socket::is_lost;
pub use self::sync_stream::{SyncAnswer, SyncError, SyncReply};
use self::tls::TlsConfigs;
pub use self::tls::TlsError;
use crate::ambient::{self, Clock};
use crate::cluster_key::ClusterKeys;
use crate::identity::Identity;

/// The port that nodes use unless told otherwise.
pub const DEFAULT_PORT: u16 = 65_000;

/// Messages and push/pulls go before blocks, whose streams have priority 0 and below.
const CONTROL_PRIORITY: i32 = 1;
/// How often links are looked after.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long the other ends are given to hear that this node stops.
const FAREWELL: Duration = Duration::from_millis(500);

/// What a transport needs to start.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// Where to listen; port 0 takes any free one. `[::]` hears IPv4 as well.
    pub listen: SocketAddr,
    /// Who this node is.
    pub identity: Identity,
    /// Who belongs to the cluster.
    pub keys: ClusterKeys,
    /// If given, links exist only with these peers.
    pub allow: Option<BTreeSet<PeerId>>,
    /// If given, these are advertised in the place of the interfaces' addresses.
    pub advertise: Vec<SocketAddr>,
}

/// Why the transport does not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port is taken or the address is not this host's.
    #[error("cannot listen on UDP {addr}")]
    Listen {
        /// Where it should have listened.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An open cluster must not be reachable from the internet.
    #[error(
        "an open cluster does not listen on or advertise the public address {0}: use a cluster key"
    )]
    PublicAddress(SocketAddr),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The way to all peers. Cheap to clone; stops with [`Transport::shutdown`] or when its [`Incoming`] is dropped.
#[derive(Clone, Debug)]
pub struct Transport(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    me: PeerId,
    start: StartId,
    keys: ClusterKeys,
    local: SocketAddr,
    advertise: Vec<SocketAddr>,
    endpoint: Endpoint,
    demux: Arc<Demux>,
    door: Arc<PacketDoor>,
    links: Arc<Links>,
    gate: Arc<Gate>,
    refused: Refused,
    arrivals: Arrivals,
    stop: CancellationToken,
}

/// Where sealed packets come in.
#[derive(Debug)]
struct PacketDoor {
    seal: Seal,
    /// Its links keep the socket open, and that keeps this door.
    links: Weak<Links>,
    arrivals: Arrivals,
}

impl PacketSink for PacketDoor {
    fn receive(&self, packet: &mut [u8], addr: SocketAddr) {
        match self.seal.open(packet, addr) {
            Ok(opened) => {
                // What was recorded long ago and is played from elsewhere says nothing of where its sender is.
                if self.seal.addr_of(&opened.from) == Some(addr)
                    && let Some(links) = self.links.upgrade()
                {
                    links.heard(&opened.from, addr);
                }
                self.arrivals.offer_packet(Arrival::Packet {
                    kind: opened.kind,
                    from: opened.from,
                    addr,
                    bytes: Bytes::copy_from_slice(opened.body),
                });
            }
            Err(error) => tracing::trace!(%addr, %error, "a packet was dropped"),
        }
    }
}

impl Transport {
    /// Binds the socket and starts to listen.
    ///
    /// # Errors
    ///
    /// If the address cannot be used, or must not be in an open cluster.
    #[expect(
        clippy::unused_async,
        reason = "it needs a runtime, which asynchronous code is sure to have"
    )]
    pub async fn bind(config: TransportConfig) -> Result<(Self, Incoming), BindError> {
        let TransportConfig {
            listen,
            identity,
            keys,
            allow,
            advertise,
        } = config;
        let is_open = keys.is_open();
        if is_open {
            check_private(listen, &advertise)?;
        }
        let listen_error = |source| BindError::Listen {
            addr: listen,
            source,
        };
        let stop = CancellationToken::new();
        let (arrivals, incoming) = arrival::line(stop.clone().drop_guard());
        let links = Arc::<Links>::default();
        let door = Arc::new(PacketDoor {
            seal: Seal::new(identity.peer(), &keys),
            links: Arc::downgrade(&links),
            arrivals: arrivals.clone(),
        });
        let socket = socket::bind_udp(listen).map_err(listen_error)?;
        let packets = socket.try_clone().map_err(listen_error)?;
        let socket = TokioRuntime.wrap_udp_socket(socket).map_err(listen_error)?;
        let local = socket.local_addr().map_err(listen_error)?;
        let demux = Demux::new(socket, packets, Arc::clone(&door) as _, is_open);
        let demux = Arc::new(demux.map_err(listen_error)?);
        let tls = TlsConfigs::new(&identity, allow.map(Arc::new))?;
        let endpoint = endpoint::start(Arc::clone(&demux), tls, &identity).map_err(listen_error)?;
        let shared = Arc::new(Shared {
            me: identity.peer(),
            start: ambient::random_bytes(),
            keys,
            local,
            advertise,
            endpoint,
            demux,
            door,
            links,
            gate: Arc::default(),
            refused: Refused::default(),
            arrivals,
            stop,
        });
        if is_open {
            tracing::warn!(
                "open cluster: anyone on this network may join it; packets from public addresses are dropped"
            );
        }
        tokio::spawn(Arc::clone(&shared).serve());
        Ok((Self(shared), incoming))
    }

    /// Who this node is.
    pub fn me(&self) -> PeerId {
        self.0.me
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local
    }

    /// Where others can reach this node, best first; read anew at each call.
    pub fn advertised(&self) -> Vec<SocketAddr> {
        if self.0.advertise.is_empty() {
            addresses::advertised(self.0.local, self.0.keys.is_open())
        } else {
            self.0.advertise.clone()
        }
    }

    /// Seals a packet and sends it to all addresses of one peer, which hears it once; it may be lost. A body longer than
    /// [`MAX_PACKET_BODY_BYTES`] is.
    ///
    /// Whether there is a way to any of the addresses, as far as this host knows.
    pub fn send_packet(
        &self,
        kind: PacketKind,
        to: impl IntoIterator<Item = SocketAddr>,
        body: &[u8],
    ) -> bool {
        if body.len() > MAX_PACKET_BODY_BYTES {
            tracing::error!(bytes = body.len(), "a packet is too long to be sent");
            return true;
        }
        let packet = self.0.door.seal.seal(kind, body);
        let mut has_way = false;
        for addr in to {
            match self.0.demux.send_packet(&packet, addr) {
                Ok(()) => has_way = true,
                Err(error) => tracing::trace!(to = %addr, %error, "a packet was not sent"),
            }
        }
        has_way
    }

    /// The link to the peer at one of `addrs` (to `expect`, if given), which is dialled if there is none.
    ///
    /// A new link is also told as [`Arrival::LinkUp`].
    ///
    /// # Errors
    ///
    /// If no address led to an admitted peer; of several reasons, the most telling one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the dials that have not become a link.
    pub async fn connect(
        &self,
        addrs: &[SocketAddr],
        expect: Option<PeerId>,
    ) -> Result<Link, ConnectError> {
        dial::connect(&self.0, addrs, expect).await
    }

    /// The open link to `peer`.
    pub fn link(&self, peer: &PeerId) -> Option<Link> {
        self.0.links.get(peer)
    }

    /// All links, for show.
    pub fn links(&self) -> Vec<Link> {
        self.0.links.all()
    }

    /// Ends the link to `peer`, if there is one; `LinkDown` follows.
    pub fn close(&self, peer: &PeerId, why: Close) {
        if let Some(link) = self.0.links.get(peer) {
            link.close(why);
        }
    }

    /// Ends the link to `peer` and makes no other until `until`.
    pub fn refuse(&self, peer: PeerId, until: Now) {
        self.0.refused.insert(peer, until);
        self.close(&peer, Close::Refused);
    }

    /// Stops receiving a block; nothing more of it is told, unless it is told already.
    pub fn stop_receive(&self, peer: &PeerId, task: &TaskId, block: BlockIndex) {
        if let Some(link) = self.0.links.get(peer) {
            link.receiving().stop(task, block);
        }
    }

    /// Where `peer` may be: at the end of its link and where it was heard since that received anything; without a link,
    /// where its newest packet came from.
    pub fn places_of(&self, peer: &PeerId) -> [Option<SocketAddr>; 2] {
        match self.link(peer) {
            Some(link) => [Some(link.remote()), self.elsewhere(peer)],
            None => [self.0.door.seal.addr_of(peer), None],
        }
    }

    /// Where `peer` was heard since the link to it received anything: the link may lead nowhere any more. A packet that
    /// somebody recorded can make it seem so, thus the link's end counts too.
    pub fn elsewhere(&self, peer: &PeerId) -> Option<SocketAddr> {
        self.0.links.elsewhere(peer)
    }

    /// Whether this host knows a way to that address of another host.
    pub fn has_way(&self, to: SocketAddr) -> bool {
        let local = self.0.local;
        let speaks = to.is_ipv4() == local.is_ipv4() || local.ip() == Ipv6Addr::UNSPECIFIED;
        // Every host with containers has the same address for them.
        let is_other = |from: IpAddr| from != to.ip() || from.is_loopback();
        speaks && !self.0.demux.shuns(to) && socket::way(None, to).is_ok_and(is_other)
    }

    /// A peer says where it is: a new start of it that speaks from there is answered there at once.
    pub fn set_told_addrs(&self, peer: &PeerId, addrs: &[SocketAddr]) {
        self.0.door.seal.tell(peer, addrs);
    }

    /// Closes all links and the socket; resolves when the other ends know, or after half a second.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.endpoint.close(Close::Shutdown.code(), b"");
        // Whoever has not heard by now finds out.
        let _ = tokio::time::timeout(FAREWELL, self.0.endpoint.wait_idle()).await;
    }
}

fn check_private(listen: SocketAddr, advertise: &[SocketAddr]) -> Result<(), BindError> {
    let listen = (!listen.ip().is_unspecified()).then_some(&listen);
    match advertise
        .iter()
        .chain(listen)
        .find(|addr| !private_net::is_private(addr.ip()))
    {
        Some(public) => Err(BindError::PublicAddress(*public)),
        None => Ok(()),
    }
}

impl Shared {
    fn admission(&self) -> Me<'_> {
        Me {
            peer: self.me,
            start: self.start,
            keys: &self.keys,
        }
    }

    /// Takes connections and looks after links until the transport stops.
    async fn serve(self: Arc<Self>) {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                _ = sweep.tick() => self.links.sweep(Clock::now()),
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => self.knock(incoming),
                    None => break,
                },
            }
        }
        self.endpoint.close(Close::Shutdown.code(), b"");
    }

    fn knock(self: &Arc<Self>, incoming: quinn::Incoming) {
        let from = incoming.remote_address().ip();
        match self.gate.knock(from, incoming.remote_address_validated()) {
            Knock::Enter(ticket) => {
                tokio::spawn(Arc::clone(self).accept(incoming, ticket));
            }
            Knock::ProveAddress => {
                if let Err(error) = incoming.retry() {
                    error.into_incoming().ignore();
                }
            }
            Knock::Full => incoming.refuse(),
        }
    }

    async fn accept(self: Arc<Self>, incoming: quinn::Incoming, ticket: Ticket) {
        let addr = demux::canonical(incoming.remote_address());
        if let Err(error) = self.admit(incoming).await {
            tracing::debug!(%addr, error, "a connection was not admitted");
        }
        drop(ticket);
    }

    async fn admit(self: &Arc<Self>, incoming: quinn::Incoming) -> Result<(), String> {
        let handshake = async { incoming.accept()?.await };
        let connection = tokio::time::timeout(admission::ADMISSION_TIMEOUT, handshake)
            .await
            .map_err(|_| "the handshake took too long".to_owned())?
            .map_err(|error| error.to_string())?;
        let peer = admission::peer_at(&connection).map_err(|error| error.to_string())?;
        let refusal = match peer {
            _ if peer == self.me => Some(Close::Myself),
            _ if self.refused.has(&peer) => Some(Close::Refused),
            _ if self.links.len() >= links::MAX_LINKS => Some(Close::Busy),
            _ => None,
        };
        if let Some(why) = refusal {
            why.close(&connection);
            return Err(format!("{why:?}"));
        }
        let admitted = admission::accept(self.admission(), connection, peer)
            .await
            .map_err(|error| error.to_string())?;
        match self.establish(admitted).await {
            Ok(_) | Err(Close::Duplicate) => Ok(()),
            Err(close) => Err(format!("{close:?}")),
        }
    }

    /// Makes an admitted connection the link to its peer, if the peer that decides agrees.
    async fn establish(self: &Arc<Self>, mut admitted: Admitted) -> Result<Link, Close> {
        endpoint::open_window(&admitted.connection);
        let decides = self.me < admitted.peer;
        if !decides {
            hear_kept(&mut admitted).await?;
        }
        let (link, streams) = Link::new(admitted, Clock::now());
        let before = match self.links.enter(&link, decides) {
            Entered::Kept(before) => before,
            Entered::Duplicate => return Err(refuse(&link, Close::Duplicate)),
            Entered::Full => return Err(refuse(&link, Close::Busy)),
        };
        let first = decides.then(|| Bytes::from_static(&[KEPT]));
        tracing::debug!(peer = %link.peer().short(), addr = %link.remote(), "linked");
        let (links, arrivals) = (Arc::clone(&self.links), self.arrivals.clone());
        tokio::spawn(link.clone().run(streams, before, first, links, arrivals));
        Ok(link)
    }
}

fn refuse(link: &Link, why: Close) -> Close {
    link.close(why);
    why
}

/// Waits for the deciding peer's word.
async fn hear_kept(admitted: &mut Admitted) -> Result<(), Close> {
    let mut word = [0; 1];
    let heard = tokio::time::timeout(
        admission::ADMISSION_TIMEOUT,
        admitted.recv.read_exact(&mut word),
    )
    .await;
    let close = match heard {
        Ok(Ok(())) if word == [KEPT] => return Ok(()),
        Ok(Ok(())) => Close::Violation,
        Ok(Err(_)) => admitted
            .connection
            .close_reason()
            .and_then(|reason| Close::of(&reason))
            .unwrap_or(Close::NotAdmitted),
        Err(_) => Close::NotAdmitted,
    };
    close.close(&admitted.connection);
    Err(close)
}
