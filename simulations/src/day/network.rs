//! Packets, messages and links.

use std::time::Duration;

use bytes::Bytes;
use dfnode_gossip::{Output as GossipOutput, PeerId};
use dfnode_tracker::{LinkState, MemberChange, Message, wire};
use ed25519_dalek::Signer as _;

use super::{Cluster, GOSSIP_LOSS, Happening, LATENCY};
use crate::world::micros;

/// A link without a word for this long is closed.
const LINK_IDLE: Duration = Duration::from_mins(2);

impl Cluster {
    pub(super) fn send(&mut self, from: usize, to: PeerId, message: &Message) {
        let now = self.now;
        let Some(to_host) = self.index.get(&to).copied() else {
            return;
        };
        if let Some(word) = self.alive(from).and_then(|life| life.links.get_mut(&to)) {
            *word = now;
        }
        let bytes = Bytes::from(wire::encode(message));
        self.later(
            LATENCY,
            Happening::Message {
                from,
                to: to_host,
                bytes,
            },
        );
    }

    pub(super) fn message(&mut self, from: usize, to: usize, bytes: &Bytes) {
        let (now, clock, peer) = (self.now, self.clock(), self.hosts[from].peer);
        let Ok(Some(message)) = wire::decode(bytes) else {
            return self.violation(&format!("host {from} sends what is no message"));
        };
        let Some(life) = self.alive(to) else { return };
        let word = life.links.get_mut(&peer);
        if message.needs_link() && word.is_none() {
            return;
        }
        if let Some(word) = word {
            *word = now;
        }
        if let Err(violation) = life.tracker.handle_message(clock, peer, message) {
            self.violation(&format!("host {to} is told by host {from}: {violation}"));
        }
        self.drain(to);
    }

    pub(super) fn gossip(&mut self, from: usize, to: usize, bytes: &Bytes) {
        let (clock, peer) = (self.clock(), self.hosts[from].peer);
        let Some(life) = self.alive(to) else { return };
        if let Err(violation) = life.gossip.handle_datagram(clock, peer, bytes) {
            self.violation(&format!(
                "host {to} hears gossip of host {from}: {violation}"
            ));
        }
        self.drain(to);
    }

    /// A glance, and where two members differ a push/pull, in one step.
    pub(super) fn sync(&mut self, from: usize, to: usize) {
        let (one, other) = (self.hosts[from].peer, self.hosts[to].peer);
        if from == to || self.hosts[from].life.is_none() || self.hosts[to].life.is_none() {
            return;
        }
        if !self.sees_the_same([from, to], [one, other])
            && self.push_pull([from, to], [one, other]).is_none()
        {
            self.violation(&format!("a push/pull of hosts {from} and {to} breaks off"));
        }
        let clock = self.clock();
        if let Some(life) = self.alive(from)
            && life.gossip.synced()
            && !std::mem::replace(&mut life.ready, true)
        {
            life.tracker.set_ready(clock);
        }
        self.drain(from);
        self.drain(to);
    }

    fn sees_the_same(&mut self, [from, to]: [usize; 2], [one, other]: [PeerId; 2]) -> bool {
        let Some(partner) = self.alive(to) else {
            return false;
        };
        let glance = partner.gossip.glance();
        let Some(life) = self.alive(from) else {
            return false;
        };
        let is_member = life.gossip.member(&other).is_some();
        if !life.gossip.synced() || !is_member || life.gossip.glance() != glance {
            return false;
        }
        life.gossip.saw_the_same(other);
        if let Some(partner) = self.alive(to) {
            partner.gossip.saw_the_same(one);
        }
        true
    }

    fn push_pull(&mut self, [from, to]: [usize; 2], [one, other]: [PeerId; 2]) -> Option<()> {
        let clock = self.clock();
        let open = self.alive(from)?.gossip.sync_open(clock);
        let answer = self.alive(to)?.gossip.sync_answer(clock, one, &open).ok()?;
        let last = self
            .alive(from)?
            .gossip
            .sync_finish(clock, other, &answer)
            .ok()?;
        self.alive(to)?.gossip.sync_close(clock, one, &last).ok()
    }

    pub(super) fn connect(&mut self, host: usize, peer: PeerId) {
        let Some(other) = self.index.get(&peer).copied() else {
            return;
        };
        if self
            .alive(host)
            .is_some_and(|life| life.dialling.insert(peer))
        {
            // One and a half round trips of QUIC, one of admission.
            self.later(LATENCY * 5, Happening::Linked { one: host, other });
        }
    }

    pub(super) fn linked(&mut self, one: usize, other: usize) {
        let (now, clock) = (self.now, self.clock());
        let (a, b) = (self.hosts[one].peer, self.hosts[other].peer);
        let answers = self.hosts[other].life.is_some();
        let Some(life) = self.alive(one) else { return };
        life.dialling.remove(&b);
        if !answers {
            life.tracker.handle_link(clock, b, LinkState::Down);
            return self.drain(one);
        }
        for (here, peer) in [(one, b), (other, a)] {
            if let Some(life) = self.alive(here) {
                life.links.insert(peer, now);
                life.tracker.handle_link(clock, peer, LinkState::Up);
            }
        }
        self.drain(one);
        self.drain(other);
    }

    pub(super) fn link_broke(&mut self, host: usize, peer: usize) {
        let (clock, gone) = (self.clock(), self.hosts[peer].peer);
        let Some(life) = self.alive(host) else { return };
        if life.links.remove(&gone).is_some() {
            life.tracker.handle_link(clock, gone, LinkState::Down);
            self.drain(host);
        }
    }

    /// Closes, at both ends, what carried no word for long.
    pub(super) fn close_idle_links(&mut self, host: usize) {
        let (now, me) = (self.now, self.hosts[host].peer);
        let Some(life) = self.alive(host) else { return };
        let idle: Vec<PeerId> = life
            .links
            .iter()
            .filter(|(_, word)| now - **word > micros(LINK_IDLE))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in idle {
            let other = self.index[&peer];
            let is_idle = |word: &u64| now - *word > micros(LINK_IDLE);
            let agrees = self
                .alive(other)
                .and_then(|life| life.links.get(&me))
                .is_none_or(is_idle);
            if agrees {
                self.link_broke(host, other);
                self.later(
                    LATENCY,
                    Happening::LinkBroke {
                        host: other,
                        peer: host,
                    },
                );
            }
        }
    }

    pub(super) fn perform_gossip(&mut self, host: usize, output: GossipOutput) {
        let clock = self.clock();
        match output {
            GossipOutput::Datagram { to, bytes } => {
                let lost = self.chance.share() < GOSSIP_LOSS;
                if let Some(to) = self.index.get(&to.peer).copied().filter(|_| !lost) {
                    self.later(
                        LATENCY,
                        Happening::Gossip {
                            from: host,
                            to,
                            bytes,
                        },
                    );
                }
            }
            GossipOutput::SyncWith(member) => {
                if let Some(to) = self.index.get(&member.peer).copied() {
                    self.later(LATENCY, Happening::Sync { from: host, to });
                }
            }
            GossipOutput::Sign { request, bytes } => {
                let signature = self.hosts[host].key.sign(&bytes).to_bytes();
                if let Some(life) = self.alive(host) {
                    life.gossip.handle_signature(clock, request, signature);
                }
            }
            GossipOutput::Up(member) | GossipOutput::Changed(member) => {
                self.member(host, &MemberChange::Up(member));
            }
            GossipOutput::Down(peer) => self.member(host, &MemberChange::Down(peer)),
            GossipOutput::Event(event) => {
                if let Some(life) = self.alive(host) {
                    life.tracker.handle_event(clock, &event);
                }
            }
            GossipOutput::Removed {
                origin,
                subject,
                kind,
            } => {
                if let Some(life) = self.alive(host) {
                    life.tracker.handle_removed(&origin, &subject, kind);
                }
            }
            GossipOutput::Renewed(_) => {}
        }
    }

    fn member(&mut self, host: usize, change: &MemberChange) {
        let clock = self.clock();
        if let Some(life) = self.alive(host) {
            life.tracker.handle_member(clock, change);
        }
    }
}
