//! Messages, packets and links between nodes.

use bytes::Bytes as Packet;
use dfnode_gossip::{Output as GossipOutput, PeerId};
use dfnode_tracker::{LinkState, MemberChange, Message, wire};
use ed25519_dalek::Signer as _;

use super::{Happening, Parcel, World, log};

/// Bytes that a sealed packet or a QUIC frame adds to a control message, about.
const CONTROL_OVERHEAD: u64 = 40;

impl World {
    pub(super) fn message(&mut self, from: usize, to: usize, parcel: Parcel) {
        let (now, peer) = (self.clock(), self.nodes[from].member.peer);
        let message = match parcel {
            Parcel::AsItIs(message) => *message,
            Parcel::Bytes(bytes) => {
                let Ok(Some(message)) = wire::decode(&bytes) else {
                    return self.violation(&format!("node {from} sends what is no message"));
                };
                message
            }
        };
        if self.scenario.log && !message.needs_link() {
            self.log(format_args!(
                "{from} to {to}: {}",
                log::message(&message, self.layout.blocks())
            ));
        }
        let linked = self.nodes[to].links.contains(&peer);
        if !self.reaches(from, to) || message.needs_link() && !linked {
            return;
        }
        let Some(node) = self.alive(to) else { return };
        let result = node.tracker.handle_message(now, peer, message);
        self.drain(to);
        if let Err(violation) = result {
            self.violation(&format!("node {to} is told by node {from}: {violation}"));
        }
    }

    /// A push/pull, in one step.
    pub(super) fn sync(&mut self, from: usize, to: usize) {
        let now = self.clock();
        let both_live = self.nodes[from].alive && self.nodes[to].alive;
        if !both_live || !self.reaches(from, to) || from == to {
            return;
        }
        let (one, other) = (self.nodes[from].member.peer, self.nodes[to].member.peer);
        let Some(open) = self.nodes[from]
            .gossip
            .as_mut()
            .map(|gossip| gossip.sync_open(now))
        else {
            return;
        };
        let Some(Ok(answer)) = self.nodes[to]
            .gossip
            .as_mut()
            .map(|gossip| gossip.sync_answer(now, one, &open))
        else {
            return;
        };
        let Some(Ok(last)) = self.nodes[from]
            .gossip
            .as_mut()
            .map(|gossip| gossip.sync_finish(now, other, &answer))
        else {
            return;
        };
        self.nodes[from].gossip_bytes += (open.len() + last.len()) as u64;
        self.nodes[to].gossip_bytes += answer.len() as u64;
        if let Some(gossip) = self.nodes[to].gossip.as_mut() {
            let _ = gossip.sync_close(now, one, &last);
        }
        self.drain(from);
        self.drain(to);
    }

    pub(super) fn linked(&mut self, one: usize, other: usize) {
        let now = self.clock();
        let (a, b) = (self.nodes[one].member.peer, self.nodes[other].member.peer);
        self.nodes[one].dialling.remove(&b);
        if !self.nodes[one].alive {
            return;
        }
        if !self.nodes[other].alive || !self.reaches(one, other) {
            self.nodes[one].tracker.handle_link(now, b, LinkState::Down);
            self.drain(one);
            return;
        }
        for (here, peer) in [(one, b), (other, a)] {
            if self.nodes[here].links.insert(peer) {
                self.nodes[here]
                    .tracker
                    .handle_link(now, peer, LinkState::Up);
            }
        }
        self.drain(one);
        self.drain(other);
    }

    pub(super) fn link_broke(&mut self, node: usize, peer: usize) {
        let (now, gone) = (self.clock(), self.nodes[peer].member.peer);
        if self.nodes[peer].alive && self.reaches(node, peer) {
            return;
        }
        if self.nodes[node].alive && self.nodes[node].links.remove(&gone) {
            self.nodes[node]
                .tracker
                .handle_link(now, gone, LinkState::Down);
            self.drain(node);
        }
    }

    pub(super) fn send(&mut self, index: usize, to: PeerId, message: Message) {
        let Some(to) = self.index.get(&to).copied() else {
            return;
        };
        let name = message.name();
        let (parcel, length) = if self.scenario.codec {
            let bytes = Packet::from(wire::encode(&message));
            let length = bytes.len();
            (Parcel::Bytes(bytes), length)
        } else {
            let length = wire::encoded_len(&message);
            (Parcel::AsItIs(Box::new(message)), length)
        };
        let size = length as u64 + CONTROL_OVERHEAD;
        self.nodes[index].control_bytes += size;
        let traffic = self.traffic.entry(name).or_default();
        traffic.messages += 1;
        traffic.bytes += size;
        self.later(
            self.latency(index, to),
            Happening::Message {
                from: index,
                to,
                parcel,
            },
        );
    }

    pub(super) fn connect(&mut self, index: usize, peer: PeerId) {
        let Some(other) = self.index.get(&peer).copied() else {
            return;
        };
        if self.nodes[index].dialling.insert(peer) {
            // One and a half round trips of QUIC, one of admission.
            self.later(
                self.latency(index, other) * 5,
                Happening::Linked { one: index, other },
            );
        }
    }

    /// Whether a packet of gossip is lost.
    fn is_lost(&mut self) -> bool {
        self.scenario.gossip_loss > 0.0 && self.chance.share() <= self.scenario.gossip_loss
    }

    pub(super) fn perform_gossip(&mut self, index: usize, output: GossipOutput) {
        let now = self.clock();
        match output {
            GossipOutput::Datagram { to, bytes } => {
                self.nodes[index].gossip_bytes += bytes.len() as u64 + 97;
                if self.is_lost() {
                    return;
                }
                if let Some(to) = self.index.get(&to.peer).copied() {
                    self.later(
                        self.latency(index, to),
                        Happening::Gossip {
                            from: index,
                            to,
                            bytes,
                        },
                    );
                }
            }
            GossipOutput::Up(member) | GossipOutput::Changed(member) => {
                self.nodes[index]
                    .tracker
                    .handle_member(now, &MemberChange::Up(member));
            }
            GossipOutput::Down(peer) => self.nodes[index]
                .tracker
                .handle_member(now, &MemberChange::Down(peer)),
            GossipOutput::Event(event) => self.nodes[index].tracker.handle_event(now, &event),
            GossipOutput::SyncWith(member) => {
                if let Some(to) = self.index.get(&member.peer).copied() {
                    let wait = self.latency(index, to);
                    self.later(wait, Happening::Sync { from: index, to });
                }
            }
            GossipOutput::Sign { request, bytes } => {
                let signature = self.nodes[index].key.sign(&bytes).to_bytes();
                if let Some(gossip) = self.nodes[index].gossip.as_mut() {
                    gossip.handle_signature(now, request, signature);
                }
            }
            GossipOutput::Removed {
                origin,
                subject,
                kind,
            } => self.nodes[index]
                .tracker
                .handle_removed(&origin, &subject, kind),
            GossipOutput::Renewed(_) => {}
        }
    }
}
