//! What goes wrong in a world.

use std::time::Duration;

use dfnode_tracker::{MemberChange, SourceFailure};

use super::{Cargo, Happening, World};
use crate::links::FlowId;
use crate::scenario::Membership;

impl World {
    pub(super) fn dies(&mut self, node: usize) {
        self.note("die", node, 0);
        self.nodes[node].alive = false;
        let flows: Vec<FlowId> = self
            .cargo
            .iter()
            .filter(|(_, cargo)| match cargo {
                Cargo::Block { from, to, .. } => *from == node || *to == node,
                Cargo::Source { node: reader, .. } => *reader == node,
            })
            .map(|(flow, _)| *flow)
            .collect();
        for flow in flows {
            self.stop_flow(flow);
        }
        if let Membership::Told { detection } = self.scenario.membership {
            self.later(detection, Happening::Told { node });
        }
        // QUIC gives a silent peer up after its idle time-out.
        for other in 0..self.nodes.len() {
            let peer = self.nodes[node].member.peer;
            if self.nodes[other].links.contains(&peer) {
                self.later(
                    Duration::from_secs(10),
                    Happening::LinkBroke {
                        node: other,
                        peer: node,
                    },
                );
            }
        }
    }

    pub(super) fn told_of_death(&mut self, node: usize) {
        let (now, peer) = (self.clock(), self.nodes[node].member.peer);
        for other in 0..self.nodes.len() {
            if self.nodes[other].alive {
                self.nodes[other]
                    .tracker
                    .handle_member(now, &MemberChange::Down(peer));
                self.drain(other);
            }
        }
    }

    pub(super) fn source_gone(&mut self) {
        self.source_alive = false;
        let reads: Vec<(FlowId, usize, u64)> = self
            .cargo
            .iter()
            .filter_map(|(flow, cargo)| match cargo {
                Cargo::Source { node, lease } => Some((*flow, *node, *lease)),
                Cargo::Block { .. } => None,
            })
            .collect();
        for (flow, node, lease) in reads {
            self.stop_flow(flow);
            self.read_failed(node, lease);
        }
    }

    pub(super) fn read_failed(&mut self, node: usize, lease: u64) {
        let (now, task) = (self.clock(), self.task);
        self.nodes[node].reads.remove(&lease);
        if let Some(node) = self.alive(node) {
            let failure = SourceFailure::Transient {
                what: "the source is gone".to_owned(),
            };
            node.tracker
                .handle_source_end(now, &task, lease, Err(failure));
        }
        self.drain(node);
    }
}
