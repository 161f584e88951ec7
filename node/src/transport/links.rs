//! The one link to each peer.
//!
//! Two peers may dial each other at once, and one may dial again after it lost a connection that the other
//! still believes in. So that both ends keep the same one, the peer with the smaller name decides: its first
//! byte on the control stream after the proofs says "kept"; without it no end calls the connection a link.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};
use tokio::sync::Notify;

use super::close::Close;
use super::link::Link;

/// What the deciding peer says to a connection that becomes the link.
pub(crate) const KEPT: u8 = 1;

/// Links at a time; more peers are told to come back later.
pub(crate) const MAX_LINKS: usize = 4096;

/// A connection dialled before the link was there may still arrive for so long, and is then superfluous. Later
/// it is a sign that the peer lost the link: nobody dials a peer that is linked.
const OVERLAP: Duration = Duration::from_secs(8);

/// A peer that answers nothing for this long is gone, although its kernel or its network says nothing.
pub(crate) const SILENCE: Duration = Duration::from_secs(5);
/// Packets without an answer that are needed beside the time. Acknowledgements are not answered, so one or two
/// mean nothing; repeated probes soon make more.
const UNANSWERED: u64 = 6;

/// What became of a connection.
#[derive(Debug)]
pub(crate) enum Entered {
    /// It is the peer's link now, in the place of the other one if there is one.
    Kept(Option<Link>),
    /// The peer has a link.
    Duplicate,
    /// There are too many links.
    Full,
}

/// All links, by peer.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: Mutex<BTreeMap<PeerId, Watched>>,
    changed: Notify,
}

#[derive(Debug)]
struct Watched {
    link: Link,
    watch: Watch,
    elsewhere: Option<Elsewhere>,
}

/// The peer's newest packet came from another place than the link's end.
#[derive(Clone, Copy, Debug)]
struct Elsewhere {
    addr: SocketAddr,
    /// What the link had received by then.
    received: u64,
}

impl Watched {
    fn new(link: Link) -> Self {
        Self {
            link,
            watch: Watch::default(),
            elsewhere: None,
        }
    }

    /// Where the peer spoke from last, if its link received nothing since.
    fn elsewhere(&self) -> Option<SocketAddr> {
        self.elsewhere
            .filter(|elsewhere| elsewhere.received == self.link.datagrams_received())
            .map(|elsewhere| elsewhere.addr)
    }
}

/// Whether a peer still answers.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    received: u64,
    sent: u64,
    unanswered_since: Option<Now>,
}

impl Links {
    /// The open link to `peer`.
    pub(crate) fn get(&self, peer: &PeerId) -> Option<Link> {
        self.lock()
            .get(peer)
            .map(|watched| watched.link.clone())
            .filter(|link| !link.is_closed())
    }

    /// The open link to `peer`, now or within `patience`.
    pub(crate) async fn wait_for(&self, peer: &PeerId, patience: Duration) -> Option<Link> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if let Some(link) = self.get(peer) {
                    return link;
                }
                changed.await;
            }
        };
        tokio::time::timeout(patience, wait).await.ok()
    }

    /// Makes `link` its peer's link. If this node does not decide, the peer did and its word stands.
    pub(crate) fn enter(&self, link: &Link, decides: bool) -> Entered {
        let mut links = self.lock();
        let before = links.get(&link.peer());
        if let Some(before) = before
            && decides
            && is_superfluous(link, &before.link)
            && before.elsewhere().is_none()
        {
            return Entered::Duplicate;
        }
        if before.is_none() && links.len() >= MAX_LINKS {
            return Entered::Full;
        }
        let before = links
            .insert(link.peer(), Watched::new(link.clone()))
            .map(|before| before.link);
        drop(links);
        self.changed.notify_waiters();
        Entered::Kept(before)
    }

    /// The newest packet of `peer` came from `addr`.
    ///
    /// Hosts with several addresses of one kind speak from any of them. That one speaks by the other version of IP than
    /// its link's, where all packets go too, means that it has lost this one.
    pub(crate) fn heard(&self, peer: &PeerId, addr: SocketAddr) {
        if let Some(watched) = self.lock().get_mut(peer) {
            let is_other = watched.link.remote().is_ipv4() != addr.is_ipv4();
            watched.elsewhere = is_other.then(|| Elsewhere {
                addr,
                received: watched.link.datagrams_received(),
            });
        }
    }

    /// Where `peer` was heard since its link fell silent: a link whose end moved swallows what is said to it.
    pub(crate) fn elsewhere(&self, peer: &PeerId) -> Option<SocketAddr> {
        self.lock().get(peer)?.elsewhere()
    }

    /// Forgets `link`, unless another one took its place.
    pub(crate) fn leave(&self, link: &Link) {
        let mut links = self.lock();
        if links
            .get(&link.peer())
            .is_some_and(|watched| watched.link.is_same(link))
        {
            links.remove(&link.peer());
        }
    }

    /// Closes the links whose peers have stopped answering. To be called every second.
    pub(crate) fn sweep(&self, now: Now) {
        // Arriving packets wait for the lock, and the statistics for the connections, which may be sending.
        let all = self.all().into_iter().map(|link| {
            let stats = link.connection().stats();
            (link, stats.udp_rx.datagrams, stats.udp_tx.datagrams)
        });
        for (link, received, sent) in all.collect::<Vec<_>>() {
            let mut links = self.lock();
            let watched = links.get_mut(&link.peer());
            let is_silent = watched
                .filter(|watched| watched.link.is_same(&link))
                .is_some_and(|watched| watched.watch.is_silent(now, received, sent));
            drop(links);
            if is_silent {
                tracing::info!(peer = %link.peer().short(), "the peer does not answer");
                link.close(Close::Silent);
            }
        }
    }

    /// How many links there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// All links, for show.
    pub(crate) fn all(&self) -> Vec<Link> {
        let links = self.lock();
        links.values().map(|watched| watched.link.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Watched>> {
        // Every change of the map is a single step.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the two were dialled by the same two processes at about the same time.
fn is_superfluous(new: &Link, before: &Link) -> bool {
    !before.is_closed()
        && before.peer_start() == new.peer_start()
        && new.since() - before.since() < OVERLAP
}

impl Watch {
    fn is_silent(&mut self, now: Now, received: u64, sent: u64) -> bool {
        if received != self.received {
            *self = Self {
                received,
                sent,
                unanswered_since: None,
            };
            return false;
        }
        if sent == self.sent {
            return false;
        }
        let since = *self.unanswered_since.get_or_insert(now);
        now - since >= SILENCE && sent - self.sent >= UNANSWERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(number: u64) -> Now {
        Now::from_micros(number * 1_000_000)
    }

    #[test]
    fn a_peer_that_answers_nothing_is_silent_after_five_seconds() {
        let mut watch = Watch::default();
        assert!(!watch.is_silent(second(0), 10, 10));
        for at in 1..6 {
            assert!(!watch.is_silent(second(at), 10, 10 + at * 2));
        }
        assert!(watch.is_silent(second(6), 10, 22));
    }

    #[test]
    fn a_last_acknowledgement_needs_no_answer() {
        let mut watch = Watch::default();
        assert!(!watch.is_silent(second(0), 10, 10));
        for at in 1..60 {
            assert!(!watch.is_silent(second(at), 10, 12));
        }
        assert!(!watch.is_silent(second(60), 11, 14));
        assert!(!watch.is_silent(second(61), 11, 20));
    }
}
