//! How a world begins: its nodes, their starts and the faults to come.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use dfnode_gossip::{Gossip, Labels, Member, Now, PeerId, Zone};
use dfnode_tracker::{Config, LocalTracker, MemberChange, best_homes};
use ed25519_dalek::SigningKey;

use super::{Happening, World, micros};
use crate::node::SimNode;
use crate::scenario::{Fault, Membership};
use crate::signatures;

/// With a sampled membership, every node knows so many of those who would be the task's homes one after the other.
const HOMES_KNOWN: usize = 16;
/// With gossip, the cluster lives for so long before the first start.
const SETTLING: Duration = Duration::from_secs(6);

impl World {
    pub(super) fn add_node(&mut self, number: usize, bytes_per_sec: f64) {
        let key = SigningKey::from_bytes(
            blake3::hash(format!("{}/{number}", self.scenario.seed).as_bytes()).as_bytes(),
        );
        let peer = PeerId::from_bytes(*key.verifying_key().as_bytes());
        let port = u16::try_from(number % 60_000).unwrap_or(0) + 1;
        let high = u8::try_from(number / 60_000).unwrap_or(0);
        let member = Member {
            peer,
            addrs: vec![SocketAddr::from((Ipv4Addr::new(10, 0, 0, high), port))],
            generation: 1,
            labels: self.labels(number),
        };
        let seed = self.draw();
        let gossip = (self.scenario.membership == Membership::Gossip).then(|| {
            Gossip::new(
                dfnode_gossip::Config::default(),
                member.clone(),
                seed,
                Now::from_micros(0),
            )
        });
        let mut config = Config {
            verify: signatures::verify,
            zone: member.labels.zone,
            ..Config::default()
        };
        if let Some(slots) = self.scenario.slots {
            (config.upload_slots, config.download_slots) = (slots, slots);
        }
        let mut tracker = LocalTracker::new(&config, peer, self.draw());
        tracker.set_ready(Now::from_micros(0));
        self.index.insert(peer, number);
        self.links.add_host(bytes_per_sec, bytes_per_sec);
        self.nodes.push(SimNode {
            member,
            key,
            tracker,
            gossip,
            alive: true,
            liar: false,
            isolated: false,
            slow: false,
            started: None,
            end: None,
            reads: BTreeMap::new(),
            sending: BTreeMap::new(),
            receiving: BTreeMap::new(),
            parked: BTreeMap::new(),
            kept: BTreeMap::new(),
            links: BTreeSet::new(),
            dialling: BTreeSet::new(),
            timer: None,
            source_bytes: 0,
            control_bytes: 0,
            gossip_bytes: 0,
        });
    }

    /// What a node says about itself.
    fn labels(&self, number: usize) -> Labels {
        let zones = self.scenario.zones.filter(|zones| zones.labelled);
        let zone =
            zones.and_then(|zones| Zone::try_new(&format!("z{}", number % zones.count)).ok());
        Labels {
            zone: zone.unwrap_or_default(),
            ..Labels::default()
        }
    }

    /// Puts starts and faults on the calendar, and makes nodes known to each other.
    pub(super) fn prepare(&mut self) {
        let settle = match self.scenario.membership {
            Membership::Gossip => {
                for node in 1..self.nodes.len() {
                    let delay = Duration::from_millis(node as u64 * 2000 / self.nodes.len() as u64);
                    self.later(
                        delay,
                        Happening::Sync {
                            from: node,
                            to: node / 2,
                        },
                    );
                    self.later(
                        delay + Duration::from_secs(2),
                        Happening::Sync { from: node, to: 0 },
                    );
                }
                SETTLING
            }
            Membership::Sampled { known, .. } => {
                self.introduce_some(known);
                Duration::ZERO
            }
            Membership::Told { .. } => {
                self.choose_sides();
                self.introduce_all(true);
                Duration::ZERO
            }
        };
        self.first_start = micros(settle);
        for node in 0..self.nodes.len() {
            let spread = self.draw() % micros(self.scenario.spread).max(1);
            self.at(self.first_start + spread, Happening::Starts { node });
        }
        self.prepare_faults();
        for node in 0..self.nodes.len() {
            self.drain(node);
        }
    }

    /// Makes nodes known to each other; those on the two sides of a split only to their own side, if `split`.
    pub(super) fn introduce_all(&mut self, split: bool) {
        let now = self.clock();
        let members: Vec<(bool, Member)> = (0..)
            .zip(&self.nodes)
            .filter(|(_, node)| node.alive)
            .map(|(number, node)| (self.beyond.contains(&number), node.member.clone()))
            .collect();
        for index in 0..self.nodes.len() {
            let side = self.beyond.contains(&index);
            let known = members.iter().filter(|(other, _)| !split || *other == side);
            let node = &mut self.nodes[index];
            for (_, member) in known.filter(|_| node.alive) {
                node.tracker
                    .handle_member(now, &MemberChange::Up(member.clone()));
            }
            self.drain(index);
        }
    }

    /// Makes the task's first homes known to all, and a few others to each.
    fn introduce_some(&mut self, known: usize) {
        let now = self.clock();
        let peers = self.nodes.iter().map(|node| node.member.peer);
        let homes = best_homes(&self.task, peers, HOMES_KNOWN);
        for index in 0..self.nodes.len() {
            let count = self.nodes.len() as u64;
            let mut members: Vec<Member> = homes
                .iter()
                .filter_map(|home| self.index.get(home))
                .map(|home| self.nodes[*home].member.clone())
                .collect();
            for _ in 0..known {
                let other = usize::try_from(self.draw() % count).unwrap_or(0);
                members.push(self.nodes[other].member.clone());
            }
            for member in members {
                self.nodes[index]
                    .tracker
                    .handle_member(now, &MemberChange::Up(member));
            }
            self.drain(index);
        }
    }

    /// Chooses the side of a split that the fewer nodes are on.
    fn choose_sides(&mut self) {
        for fault in self.scenario.faults.clone() {
            if let Fault::Split { share, .. } = fault {
                self.beyond = self.some(share).into_iter().collect();
            }
        }
    }

    pub(super) fn some(&mut self, share: f64) -> Vec<usize> {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a few thousand nodes"
        )]
        let count = (self.nodes.len() as f64 * share).round() as usize;
        let mut all: Vec<(u64, usize)> = (0..self.nodes.len())
            .map(|node| (self.draw(), node))
            .collect();
        all.sort_unstable();
        all.into_iter().take(count).map(|(_, node)| node).collect()
    }
}
