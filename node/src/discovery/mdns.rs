//! Members on the local network, by libp2p's mDNS.
//!
//! No Swarm is needed for it: the behaviour is told our addresses and polled by hand. Whether somebody found
//! belongs to this cluster (or is dfnode at all) shows only when it is dialled.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::mdns::{Config, Event, tokio::Behaviour};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::{ExpiredListenAddr, FromSwarm, NewListenAddr};
use libp2p::swarm::{NetworkBehaviour, ToSwarm};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

/// Found addresses that may wait to be looked at; more are dropped, and found again later.
const MAX_WAITING: usize = 64;
/// Nodes that libp2p remembers. Anybody on the network can name any number, so above this it starts anew.
const MAX_REMEMBERED: usize = 1024;
/// How often our own addresses are looked at.
const REFRESH: Duration = Duration::from_mins(1);
/// How long after a failure mDNS is tried again.
const RETRY: Duration = Duration::from_mins(5);

/// Gives our own addresses.
pub(crate) type Advertised = Box<dyn Fn() -> Vec<SocketAddr> + Send + Sync>;

/// Announces this node and finds others, until the receiver is dropped.
pub(crate) fn start(me: PeerId, advertised: Advertised) -> mpsc::Receiver<SocketAddr> {
    let (found, receiver) = mpsc::channel(MAX_WAITING);
    tokio::spawn(async move {
        while !found.is_closed() {
            match Behaviour::new(Config::default(), me) {
                Ok(behaviour) => Announcer::new(behaviour, me).run(&advertised, &found).await,
                Err(error) => {
                    tracing::debug!(%error, "mDNS is not available");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    });
    receiver
}

struct Announcer {
    behaviour: Behaviour,
    listener: ListenerId,
    me: PeerId,
    announced: BTreeSet<SocketAddr>,
}

impl Announcer {
    fn new(behaviour: Behaviour, me: PeerId) -> Self {
        Self {
            behaviour,
            listener: ListenerId::next(),
            me,
            announced: BTreeSet::new(),
        }
    }

    /// Ends when nobody listens or libp2p remembers too much.
    async fn run(mut self, advertised: &Advertised, found: &mpsc::Sender<SocketAddr>) {
        let mut refresh = tokio::time::interval(REFRESH);
        while self.behaviour.discovered_nodes().len() <= MAX_REMEMBERED {
            tokio::select! {
                _ = refresh.tick() => self.announce(advertised().into_iter().collect()),
                () = found.closed() => return,
                action = poll_fn(|cx| self.behaviour.poll(cx)) => {
                    if let ToSwarm::GenerateEvent(Event::Discovered(nodes)) = action {
                        self.tell(nodes, found);
                    }
                }
            }
        }
    }

    fn announce(&mut self, now: BTreeSet<SocketAddr>) {
        let listener_id = self.listener;
        for gone in self.announced.difference(&now) {
            let addr = &multiaddr(*gone);
            let event = FromSwarm::ExpiredListenAddr(ExpiredListenAddr { listener_id, addr });
            self.behaviour.on_swarm_event(event);
        }
        for new in now.difference(&self.announced) {
            let addr = &multiaddr(*new);
            let event = FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr });
            self.behaviour.on_swarm_event(event);
        }
        self.announced = now;
    }

    fn tell(&self, nodes: Vec<(PeerId, Multiaddr)>, found: &mpsc::Sender<SocketAddr>) {
        let others = nodes.into_iter().filter(|(peer, _)| *peer != self.me);
        for addr in others.filter_map(|(_, addr)| socket_addr(&addr)) {
            // If too many wait, this one is found again after its record expired.
            let _ = found.try_send(addr);
        }
    }
}

fn multiaddr(addr: SocketAddr) -> Multiaddr {
    Multiaddr::from(addr.ip())
        .with(Protocol::Udp(addr.port()))
        .with(Protocol::QuicV1)
}

/// The address of a QUIC node; others are none of ours.
fn socket_addr(addr: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = addr.iter();
    let host = parts.next()?;
    let ip = if let Protocol::Ip4(ip) = host {
        ip.into()
    } else if let Protocol::Ip6(ip) = host {
        ip.into()
    } else {
        return None;
    };
    let Some(Protocol::Udp(port)) = parts.next() else {
        return None;
    };
    let is_quic = parts.next() == Some(Protocol::QuicV1);
    (is_quic && port != 0).then_some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_quic_nodes_count() {
        let addr: SocketAddr = "10.0.0.1:65000".parse().unwrap();
        let with_peer = format!("{}/p2p/{}", multiaddr(addr), PeerId::random());
        assert_eq!(socket_addr(&with_peer.parse().unwrap()), Some(addr));
        for other in [
            "/ip4/10.0.0.1/tcp/4001",
            "/dns4/a/udp/1/quic-v1",
            "/ip4/10.0.0.1",
        ] {
            assert_eq!(socket_addr(&other.parse().unwrap()), None);
        }
    }
}
