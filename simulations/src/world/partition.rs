//! Two sides of a network between which nothing passes for a while.

use dfnode_tracker::MemberChange;

use super::faults::LINK_IDLE;
use super::{Cargo, Happening, World};
use crate::links::FlowId;

impl World {
    /// Whether anything passes from one node to the other.
    pub(super) fn reaches(&self, one: usize, other: usize) -> bool {
        !self.parted || self.beyond.contains(&one) == self.beyond.contains(&other)
    }

    pub(super) fn parts(&mut self) {
        self.note("part", 0, self.beyond.len() as u64);
        self.parted = true;
        let across: Vec<FlowId> = self
            .cargo
            .iter()
            .filter(|(_, cargo)| match cargo {
                Cargo::Block { from, to, .. } => !self.reaches(*from, *to),
                Cargo::Source { .. } => false,
            })
            .map(|(flow, _)| *flow)
            .collect();
        for flow in across {
            self.stop_flow(flow);
        }
        for node in 0..self.nodes.len() {
            let peers = self.nodes[node].links.iter();
            let linked: Vec<usize> = peers
                .filter_map(|peer| self.index.get(peer).copied())
                .filter(|peer| !self.reaches(node, *peer))
                .collect();
            for peer in linked {
                self.later(LINK_IDLE, Happening::LinkBroke { node, peer });
            }
        }
        if let Some(detection) = self.scenario.membership.detection() {
            self.later(detection, Happening::ToldOfParting);
        }
    }

    /// Each side takes the other for dead, unless they met again before that.
    pub(super) fn told_of_parting(&mut self) {
        if !self.parted {
            return;
        }
        let now = self.clock();
        for node in 0..self.nodes.len() {
            if !self.nodes[node].alive {
                continue;
            }
            for other in 0..self.nodes.len() {
                if !self.reaches(node, other) {
                    let peer = self.nodes[other].member.peer;
                    let tracker = &mut self.nodes[node].tracker;
                    tracker.handle_member(now, &MemberChange::Down(peer));
                }
            }
            self.drain(node);
        }
    }

    pub(super) fn mends(&mut self) {
        self.note("mend", 0, 0);
        self.parted = false;
        if self.scenario.membership.detection().is_some() {
            self.introduce_all(false);
        }
    }
}
