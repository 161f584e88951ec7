//! Packets and push/pulls: what the gossip machine says and hears.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use dfnode_gossip::{Member, Now, PeerId};
use dfnode_tracker::wire;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{debug, info, trace, warn};

use super::{Driver, Parts, Report};
use crate::discovery::remembered::{self, MAX_REMEMBERED};
use crate::discovery::{Candidate, Discovery, Tried};
use crate::transport::{Close, ConnectError, Link, PacketKind, SyncReply};

/// A push/pull that takes longer is given up; the next one comes anyway.
const SYNC_PATIENCE: Duration = Duration::from_secs(10);
/// Members asked for a glance that have not answered; beyond, the oldest questions are forgotten.
const MAX_GLANCED: usize = 64;
/// First byte of a glance: the other's is asked for …
const GLANCE_ASKS: u8 = 0;
/// … or given.
const GLANCE_ANSWERS: u8 = 1;
/// Without a word from those that are to be joined, the node serves alone after this.
pub(crate) const JOIN_PATIENCE: Duration = Duration::from_secs(2);
/// The same, when all that is known of others is where they were in an earlier life.
pub(crate) const REMEMBERED_PATIENCE: Duration = Duration::from_millis(500);

/// How this node finds its cluster.
#[derive(Default)]
pub(super) struct Joining {
    /// Push/pulls under way.
    pub(super) syncing: BTreeSet<PeerId>,
    /// Members that were asked for a glance.
    pub(super) glanced: BTreeSet<PeerId>,
    /// What was stored last of where members are.
    pub(super) remembered: Vec<SocketAddr>,
    /// When to serve without having heard of anybody.
    pub(super) give_up_at: Option<Now>,
    pub(super) ready: bool,
}

impl Driver {
    /// A sealed packet was opened.
    pub(super) fn handle_packet(
        &mut self,
        now: Now,
        kind: PacketKind,
        from: PeerId,
        bytes: &Bytes,
    ) {
        match kind {
            PacketKind::Gossip => {
                self.parts.stats.gossip_received.add(bytes.len() as u64);
                if let Err(violation) = self.gossip.handle_datagram(now, from, bytes) {
                    self.note_violation(from, &violation);
                }
            }
            PacketKind::Tracker => self.handle_packet_message(now, from, bytes),
            PacketKind::Glance => self.handle_glance(from, bytes),
        }
    }

    /// A message of a tracker, said to be `from`'s: any member can seal a packet in another's name.
    ///
    /// So what belongs to a link is not heard, and what is wrong is nobody's fault.
    fn handle_packet_message(&mut self, now: Now, from: PeerId, bytes: &[u8]) {
        self.parts.stats.messages_received.add(1);
        match wire::decode(bytes) {
            Ok(Some(message)) if message.needs_link() => {
                trace!(peer = %from.short(), ?message, "a message without its link");
            }
            Ok(Some(message)) => {
                trace!(peer = %from.short(), ?message, "message in a packet");
                if let Err(violation) = self.tracker.handle_message(now, from, message) {
                    debug!(peer = %from.short(), %violation, "a packet was dropped");
                }
            }
            Ok(None) => trace!(peer = %from.short(), "a message of an unknown kind"),
            Err(error) => debug!(peer = %from.short(), %error, "a packet was dropped"),
        }
    }

    /// A message of a peer's tracker, over the link to it.
    pub(super) fn handle_message(&mut self, now: Now, from: PeerId, bytes: &[u8]) {
        self.parts.stats.messages_received.add(1);
        self.links.touch(now, &from);
        match wire::decode(bytes) {
            Ok(Some(message)) => {
                trace!(peer = %from.short(), ?message, "message");
                if let Err(violation) = self.tracker.handle_message(now, from, message) {
                    self.note_violation(from, &violation);
                    self.parts.transport.close(&from, Close::Violation);
                }
            }
            Ok(None) => trace!(peer = %from.short(), "a message of an unknown kind"),
            Err(error) => {
                self.note_violation(from, &error);
                self.parts.transport.close(&from, Close::Violation);
            }
        }
    }

    fn note_violation(&self, from: PeerId, violation: &dyn std::fmt::Display) {
        self.parts.stats.violations.add(1);
        debug!(peer = %from.short(), %violation, "a peer broke the protocol");
    }

    /// Finds out whether a member knows anything else than this node, before a connection is made for it.
    ///
    /// A handshake costs seven kilobytes: at rest, more than all of gossip. Who is thought to be down is dialled all
    /// the same, and so is everybody by a node that has not joined yet.
    pub(super) fn glance_at(&mut self, member: &Member) {
        let peer = member.peer;
        let connected = self.parts.transport.link(&peer).is_some();
        if connected || !self.gossip.synced() || self.gossip.member(&peer).is_none() {
            self.sync_with(member);
            return;
        }
        if self.joining.glanced.len() >= MAX_GLANCED {
            self.joining.glanced.clear();
        }
        self.joining.glanced.insert(peer);
        self.send_glance(&peer, Some(&member.addrs), GLANCE_ASKS);
    }

    /// Lets a peer know where this node speaks from.
    pub(super) fn show_itself(&self, peer: &PeerId) {
        self.send_glance(peer, None, GLANCE_ANSWERS);
    }

    fn send_glance(&self, peer: &PeerId, addrs: Option<&[SocketAddr]>, word: u8) {
        let mut packet = vec![word];
        packet.extend_from_slice(&self.gossip.glance());
        self.send_packet(PacketKind::Glance, peer, addrs, &packet);
    }

    /// A member tells what it knows, in short.
    fn handle_glance(&mut self, from: PeerId, bytes: &[u8]) {
        let Some((word, glance)) = bytes.split_first() else {
            return;
        };
        let same = glance == self.gossip.glance();
        if same {
            self.gossip.saw_the_same(from);
        }
        if *word == GLANCE_ASKS {
            self.send_glance(&from, None, GLANCE_ANSWERS);
        } else if self.joining.glanced.remove(&from)
            && !same
            && let Some(member) = self.gossip.member(&from).cloned()
        {
            self.sync_with(&member);
        }
    }

    /// Exchanges everything with a member.
    pub(super) fn sync_with(&mut self, member: &Member) {
        let peer = member.peer;
        let mut addrs = self.addrs_of(&peer, None);
        addrs.extend(
            member
                .addrs
                .iter()
                .filter(|addr| !addrs.contains(addr))
                .copied()
                .collect::<Vec<_>>(),
        );
        if !self.joining.syncing.insert(peer) {
            return;
        }
        let parts = self.parts.clone();
        self.parts.spawn(async move {
            let result = match parts.transport.connect(&addrs, Some(peer)).await {
                Ok(link) => exchange(&parts, &link).await,
                Err(error) => Err(error.to_string()),
            };
            parts.report(Report::SyncEnded { peer, result }).await;
        });
    }

    /// Exchanges everything over a connection that is there.
    fn sync_over(&mut self, link: Link) {
        let peer = link.peer();
        if !self.joining.syncing.insert(peer) {
            return;
        }
        let parts = self.parts.clone();
        self.parts.spawn(async move {
            let result = exchange(&parts, &link).await;
            parts.report(Report::SyncEnded { peer, result }).await;
        });
    }

    /// Our first message of a push/pull.
    pub(super) fn handle_sync_start(&mut self, now: Now, open: oneshot::Sender<Vec<u8>>) {
        // A push/pull that was given up meanwhile no longer listens.
        let _ = open.send(self.gossip.sync_open(now));
    }

    /// The answer to our first message; what we send last is due.
    pub(super) fn handle_sync_answer(
        &mut self,
        now: Now,
        from: PeerId,
        answer: &[u8],
        last: oneshot::Sender<Vec<u8>>,
    ) {
        match self.gossip.sync_finish(now, from, answer) {
            Ok(bytes) => {
                let _ = last.send(bytes);
            }
            Err(violation) => self.note_violation(from, &violation),
        }
        self.check_ready(now);
    }

    /// A push/pull that we began has ended.
    pub(super) fn handle_sync_ended(&mut self, now: Now, peer: PeerId, result: Result<(), String>) {
        self.joining.syncing.remove(&peer);
        if let Err(error) = result {
            debug!(peer = %peer.short(), error, "push/pull failed");
        }
        self.check_ready(now);
    }

    /// A peer began a push/pull.
    pub(super) fn handle_sync_open(
        &mut self,
        now: Now,
        from: PeerId,
        open: &[u8],
        reply: SyncReply,
    ) {
        let answer = match self.gossip.sync_answer(now, from, open) {
            Ok(answer) => answer,
            Err(violation) => return self.note_violation(from, &violation),
        };
        self.check_ready(now);
        let parts = self.parts.clone();
        self.parts.spawn(async move {
            match timeout(SYNC_PATIENCE, reply.answer(answer)).await {
                Ok(Ok(last)) => parts.report(Report::SyncLast { from, last }).await,
                Ok(Err(error)) => debug!(peer = %from.short(), %error, "push/pull broke off"),
                Err(_) => debug!(peer = %from.short(), "push/pull took too long"),
            }
        });
    }

    /// The last message of a push/pull that a peer began.
    pub(super) fn handle_sync_last(&mut self, now: Now, from: PeerId, last: &[u8]) {
        if let Err(violation) = self.gossip.sync_close(now, from, last) {
            self.note_violation(from, &violation);
        }
    }

    /// Somebody may be found at an address.
    pub(super) fn handle_candidate(&mut self, discovery: &mut Discovery, candidate: Candidate) {
        let is_known = self
            .gossip
            .members()
            .any(|member| member.addrs.contains(&candidate.addr));
        if is_known {
            discovery.tried(candidate, Tried::Member);
            return;
        }
        let parts = self.parts.clone();
        self.parts.spawn(async move {
            let link = parts.transport.connect(&[candidate.addr], None).await;
            parts.report(Report::Joined { candidate, link }).await;
        });
    }

    /// A candidate answered, or did not.
    pub(super) fn handle_joined(
        &mut self,
        discovery: &mut Discovery,
        candidate: Candidate,
        link: Result<Link, ConnectError>,
    ) {
        let tried = match link {
            Ok(link) => {
                info!(peer = %link.peer().short(), addr = %link.remote(), "found the cluster");
                self.sync_over(link);
                Tried::Member
            }
            Err(ConnectError::Myself(_)) => Tried::Myself,
            Err(error @ ConnectError::WrongClusterKey(_)) => {
                warn!(addr = %candidate.addr, %error, "nobody to join there");
                Tried::Failed
            }
            Err(error) => {
                debug!(addr = %candidate.addr, %error, "nobody to join there");
                Tried::Failed
            }
        };
        discovery.tried(candidate, tried);
    }

    /// Whether no other member is known.
    pub(super) fn is_alone(&self) -> bool {
        self.gossip
            .members()
            .all(|member| member.peer == self.parts.me)
    }

    /// Stores where members are, so that a restart finds them without being told.
    pub(super) fn remember_members(&mut self) {
        let others = self
            .gossip
            .members()
            .filter(|member| member.peer != self.parts.me);
        let addrs: Vec<SocketAddr> = others
            .filter_map(|member| member.addrs.first().copied())
            .take(MAX_REMEMBERED)
            .collect();
        // Who is alone still wants to find those whom it knew.
        if addrs.is_empty() || addrs == self.joining.remembered {
            return;
        }
        self.joining.remembered.clone_from(&addrs);
        let data = self.parts.data.clone();
        self.parts.tasks.spawn_blocking(move || {
            if let Err(error) = remembered::save(&data, &addrs) {
                warn!(%error, "the cluster's members could not be stored");
            }
        });
    }

    /// Lets the tracker act once the cluster was heard, or nobody is there to be heard.
    pub(super) fn check_ready(&mut self, now: Now) {
        let is_late = self.joining.give_up_at.is_none_or(|at| now >= at);
        if self.joining.ready || !is_late && !self.gossip.synced() {
            return;
        }
        self.joining.ready = true;
        self.joining.give_up_at = None;
        info!(members = self.gossip.members().count(), "ready");
        self.tracker.set_ready(now);
    }

    /// Our own record changed: a restart must begin above it.
    pub(super) fn store_generation(&self, generation: u64) {
        let path = self.parts.data.join(super::GENERATION_FILE);
        self.parts.tasks.spawn_blocking(move || {
            if let Err(error) = super::generation::store(&path, generation) {
                warn!(%error, "the node's generation could not be stored");
            }
        });
    }
}

/// The three messages of a push/pull, from the side that begins.
async fn exchange(parts: &Parts, link: &Link) -> Result<(), String> {
    let from = link.peer();
    let (open, opening) = oneshot::channel();
    parts.report(Report::SyncStart { open }).await;
    let opening = opening.await.map_err(|_| "the node stops".to_owned())?;
    let talk = async {
        let mut talk = link
            .sync(opening)
            .await
            .map_err(|error| error.to_string())?;
        let (last, closing) = oneshot::channel();
        let answer = std::mem::take(&mut talk.answer);
        parts
            .report(Report::SyncAnswer { from, answer, last })
            .await;
        let closing = closing
            .await
            .map_err(|_| "the answer made no sense".to_owned())?;
        talk.finish(closing)
            .await
            .map_err(|error| error.to_string())
    };
    timeout(SYNC_PATIENCE, talk)
        .await
        .map_err(|_| "it took too long".to_owned())?
}
