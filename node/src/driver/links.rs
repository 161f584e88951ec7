//! Connections to peers: who is dialled, what waits for a connection, and which ones have been idle.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use dfnode_gossip::{Member, Now, PeerId};
use dfnode_tracker::{LinkState, Message, PeerRef, wire};
use tracing::{debug, info};

use super::{Driver, Report};
use crate::transport::{Close, Link, PacketKind, is_lost};

/// The longest message that travels in a sealed packet instead of on a connection.
const MAX_PACKET_MESSAGE_BYTES: usize = 1100;
/// Messages that wait for a connection to one peer. Beyond, the oldest is lost and asked again.
const MAX_WAITING_MESSAGES: usize = 64;
/// Peers that messages wait for.
const MAX_WAITING_PEERS: usize = 256;
/// A connection without a word for this long is closed; the next message opens it again.
const LINK_IDLE: Duration = Duration::from_mins(2);

/// How often a connection's way is looked after, at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// A generation is the time of a start in milliseconds, and one more for each time that a living node had to speak up.
const RENEWALS: u64 = 1000;
/// Gossip tells of a member's new process within this time, mostly.
const NEWS_PATIENCE: Duration = Duration::from_secs(2);

/// What the driver knows of its connections.
#[derive(Default)]
pub(super) struct Links {
    up: BTreeMap<PeerId, Up>,
    dialing: BTreeSet<PeerId>,
    waiting: BTreeMap<PeerId, Vec<Bytes>>,
}

struct Up {
    link: Link,
    since: Now,
    last_word: Now,
    /// When its way was looked after last, and how many datagrams had come by then.
    last_look: (Now, u64),
    /// Which of its peer's processes gossip knew when it came up.
    generation: Option<u64>,
}

impl Links {
    /// The open connection to a peer.
    pub(super) fn get(&self, peer: &PeerId) -> Option<&Link> {
        self.up.get(peer).map(|up| &up.link)
    }

    /// The same, unless it is closed and its end not told yet.
    fn open(&self, peer: &PeerId) -> Option<&Link> {
        self.get(peer).filter(|link| !link.is_closed())
    }

    /// Whom a connection is open to.
    pub(super) fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.up.keys().copied()
    }

    /// How many connections are open.
    pub(super) fn len(&self) -> usize {
        self.up.len()
    }

    /// Notes that a connection was of use.
    pub(super) fn touch(&mut self, now: Now, peer: &PeerId) {
        if let Some(up) = self.up.get_mut(peer) {
            up.last_word = now;
        }
    }

    /// The open connection to a peer, if it is time to see whether there is still a way for it: nothing came of late.
    fn look_at(&mut self, now: Now, peer: &PeerId) -> Option<Link> {
        let up = self.up.get_mut(peer)?;
        let (last, received) = up.last_look;
        if now - last < LOOK_INTERVAL || up.link.is_closed() {
            return None;
        }
        up.last_look = (now, up.link.datagrams_received());
        (up.last_look.1 == received).then(|| up.link.clone())
    }

    /// The link to a former process of a member, if that is another one now, elsewhere. One that came back to the same
    /// address says itself that it knows nothing of the link.
    fn outlived(&mut self, now: Now, member: &Member) -> Option<&Link> {
        let up = self.up.get_mut(&member.peer)?;
        let known = up.generation.replace(member.generation)?;
        let is_another = member.generation > known.saturating_add(RENEWALS);
        // What is younger the new process may have opened itself, from an address that it does not tell.
        let is_old = now - up.since >= NEWS_PATIENCE;
        (is_another && is_old && !member.addrs.contains(&up.link.remote())).then_some(&up.link)
    }

    fn idle(&self, now: Now) -> Vec<PeerId> {
        self.up
            .iter()
            .filter(|(_, up)| now - up.last_word > LINK_IDLE)
            .map(|(peer, _)| *peer)
            .collect()
    }

    fn wait(&mut self, peer: PeerId, message: Bytes) {
        if self.waiting.len() >= MAX_WAITING_PEERS && !self.waiting.contains_key(&peer) {
            return;
        }
        let queue = self.waiting.entry(peer).or_default();
        if queue.len() >= MAX_WAITING_MESSAGES {
            queue.remove(0);
        }
        queue.push(message);
    }
}

impl Driver {
    /// Sends a message of the tracker by the best way there is.
    pub(super) fn send_message(&mut self, now: Now, to: PeerId, message: &Message) {
        let bytes = Bytes::from(wire::encode(message));
        self.parts.stats.messages_sent.add(1);
        let fits = bytes.len() <= MAX_PACKET_MESSAGE_BYTES && !message.needs_link();
        self.leave_lost_ways(now, &to);
        if let Some(link) = self.links.open(&to)
            // Whoever was heard elsewhere gets a packet, in both places.
            && !(fits && self.parts.transport.elsewhere(&to).is_some())
        {
            // A closed link reports itself; what was lost with it is asked again.
            let _ = link.try_send(bytes);
            self.links.touch(now, &to);
            return;
        }
        if message.needs_link() {
            return;
        }
        if fits {
            self.send_packet(PacketKind::Tracker, &to, None, &bytes);
            return;
        }
        self.links.wait(to, bytes);
        self.connect(
            now,
            &PeerRef {
                peer: to,
                addr: None,
            },
        );
    }

    /// Sees now and then whether there is still a way for the link to a peer; if not, leaves all links that are like it.
    ///
    /// What took one way took the others of its kind, and a peer that is not told goes on writing to where this host was.
    fn leave_lost_ways(&mut self, now: Now, peer: &PeerId) {
        let looked_at = self.links.look_at(now, peer);
        if !looked_at.is_some_and(|link| self.is_astray(&link)) {
            return;
        }
        let all: Vec<Link> = self.links.up.values().map(|up| up.link.clone()).collect();
        for link in all.iter().filter(|link| self.is_astray(link)) {
            info!(peer = %link.peer().short(), addr = %link.remote(), "no way there any more; closing its link");
            link.close(Close::Silent);
            self.show_itself(&link.peer());
        }
    }

    /// Whether there is no way for a link, but one to its peer by the other version of IP.
    ///
    /// Without that the cable is out, and the link goes on once it is in again.
    fn is_astray(&self, link: &Link) -> bool {
        let others = || self.addrs_of(&link.peer(), None).into_iter();
        !link.is_closed()
            && is_lost(link.local_ip(), link.remote())
            && others()
                .filter(|addr| addr.is_ipv4() != link.remote().is_ipv4())
                .any(|addr| self.parts.transport.has_way(addr))
    }

    /// Sends a sealed packet to wherever the peer was last heard, else to where it says it is.
    pub(super) fn send_packet(
        &self,
        kind: PacketKind,
        to: &PeerId,
        hint: Option<&[SocketAddr]>,
        bytes: &[u8],
    ) {
        let transport = &self.parts.transport;
        let heard = transport.places_of(to);
        // A host whose cable was pulled loses its IPv6 address, and with it the way to whom it heard by that.
        if transport.send_packet(kind, heard.into_iter().flatten(), bytes) {
            return;
        }
        let known = hint.or_else(|| self.gossip.member(to).map(|member| member.addrs.as_slice()));
        let others = known.unwrap_or_default().iter().copied();
        transport.send_packet(
            kind,
            others.filter(|addr| !heard.contains(&Some(*addr))),
            bytes,
        );
    }

    /// Makes a connection, and tells the tracker how that ended.
    pub(super) fn connect(&mut self, now: Now, peer: &PeerRef) {
        if self.links.open(&peer.peer).is_some() {
            self.tracker.handle_link(now, peer.peer, LinkState::Up);
            return;
        }
        if !self.links.dialing.insert(peer.peer) {
            return;
        }
        let addrs = self.addrs_of(&peer.peer, peer.addr);
        let (parts, expect) = (self.parts.clone(), peer.peer);
        self.parts.spawn(async move {
            let result = parts
                .transport
                .connect(&addrs, Some(expect))
                .await
                .map(drop);
            parts
                .report(Report::Dialed {
                    peer: expect,
                    result: result.map_err(|error| error.to_string()),
                })
                .await;
        });
    }

    /// Every address that a peer might be reached at, the likeliest first.
    pub(super) fn addrs_of(&self, peer: &PeerId, hint: Option<SocketAddr>) -> Vec<SocketAddr> {
        let heard = self.parts.transport.places_of(peer);
        let said = self
            .gossip
            .member(peer)
            .map(|member| member.addrs.clone())
            .unwrap_or_default();
        let mut addrs: Vec<SocketAddr> = Vec::new();
        for addr in heard.into_iter().flatten().chain(hint).chain(said) {
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        addrs
    }

    /// A dial ended. Success announces itself as an arrival of its own.
    pub(super) fn handle_dialed(&mut self, now: Now, peer: PeerId, result: Result<(), String>) {
        self.links.dialing.remove(&peer);
        if let Err(error) = result
            && self.links.open(&peer).is_none()
        {
            debug!(peer = %peer.short(), error, "no connection");
            self.links.waiting.remove(&peer);
            self.tracker.handle_link(now, peer, LinkState::Down);
        }
    }

    /// A connection is open and its peer has proved to be one of ours.
    pub(super) fn handle_link_up(&mut self, now: Now, link: Link) {
        let peer = link.peer();
        debug!(peer = %peer.short(), addr = %link.remote(), "link up");
        for message in self.links.waiting.remove(&peer).unwrap_or_default() {
            let _ = link.try_send(message);
        }
        let generation = self.gossip.member(&peer).map(|member| member.generation);
        self.links.up.insert(
            peer,
            Up {
                link,
                since: now,
                last_word: now,
                last_look: (now, 0),
                generation,
            },
        );
        self.tracker.handle_link(now, peer, LinkState::Up);
    }

    /// A connection is gone.
    pub(super) fn handle_link_down(&mut self, now: Now, peer: PeerId) {
        if self.links.up.remove(&peer).is_some() {
            debug!(peer = %peer.short(), "link down");
            self.tracker.handle_link(now, peer, LinkState::Down);
        }
    }

    /// A link to a process that died without a word swallows what its successor asks for, until the silence is noticed.
    /// Packets would go astray in the same way, to where it was heard last.
    pub(super) fn follow(&mut self, now: Now, member: &Member) {
        let transport = &self.parts.transport;
        transport.set_told_addrs(&member.peer, &member.addrs);
        if let Some(link) = self.links.outlived(now, member) {
            info!(peer = %member.peer.short(), addrs = ?member.addrs, "the peer began anew elsewhere; closing its link");
            link.close(Close::Silent);
        }
    }

    /// Closes what nobody used for long.
    pub(super) fn close_idle_links(&mut self, now: Now) {
        for peer in self.links.idle(now) {
            info!(peer = %peer.short(), "closing an idle link");
            self.parts.transport.close(&peer, Close::Unwanted);
        }
    }
}
