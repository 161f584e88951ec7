//! What goes wrong in a world.

use std::time::Duration;

use dfnode_tracker::{BlockIndex, MemberChange, SourceFailure};

use super::{Cargo, Happening, World, micros};
use crate::links::FlowId;
use crate::scenario::{Fault, When};

/// QUIC gives a silent peer up after its idle time-out.
pub(super) const LINK_IDLE: Duration = Duration::from_secs(10);

impl World {
    /// Puts the faults on the calendar.
    pub(super) fn prepare_faults(&mut self) {
        for fault in self.scenario.faults.clone() {
            match fault {
                Fault::Crash { at, share } => {
                    for node in self.some(share) {
                        self.after_start(at, Happening::Dies { node });
                    }
                }
                Fault::HomeDies { at } => self.after_start(at, Happening::HomeDies),
                Fault::ReaderDies { at } => self.after_start(at, Happening::ReaderDies),
                Fault::SourceGone { when: When::At(at) } => {
                    self.after_start(at, Happening::SourceGone);
                }
                Fault::SourceGone { when } => self.source_gone_when = Some(when),
                Fault::SourceChanges { at } => self.after_start(at, Happening::SourceChanges),
                Fault::Liars { share } => {
                    for node in self.some(share) {
                        self.nodes[node].liar = true;
                    }
                }
                Fault::Slow { share, rate } => {
                    for node in self.some(share) {
                        self.nodes[node].slow = true;
                        self.links.slow(node, rate);
                    }
                }
                Fault::Split { until, .. } => self.after_start(until, Happening::Healed),
                Fault::Partition { share, at, until } => {
                    self.beyond = self.some(share).into_iter().collect();
                    self.after_start(at, Happening::Parts);
                    self.after_start(until, Happening::Mends);
                }
            }
        }
    }

    fn after_start(&mut self, after: Duration, what: Happening) {
        self.at(self.first_start + micros(after), what);
    }

    /// A block has reached a further node: faults may have waited for that.
    pub(super) fn spread_to(&mut self, block: BlockIndex) {
        let count = self.spread.entry(block).or_default();
        *count += 1;
        match *count {
            1 => self.on_one += 1,
            2 => self.on_two += 1,
            _ => {}
        }
        let blocks = self.layout.blocks().unwrap_or(0);
        let due = match self.source_gone_when {
            Some(When::Read) => self.on_one == blocks,
            Some(When::OnTwo) => self.on_two == blocks,
            Some(When::At(_)) | None => false,
        };
        if due {
            self.source_gone_when = None;
            self.later(Duration::ZERO, Happening::SourceGone);
        }
    }

    pub(super) fn home_dies(&mut self) {
        let home = |node: &crate::node::SimNode| node.alive && node.tracker.acting_homes() > 0;
        if let Some(node) = self.nodes.iter().position(home) {
            self.dies(node);
        }
    }

    pub(super) fn reader_dies(&mut self) {
        let reader = |node: &crate::node::SimNode| node.alive && !node.reads.is_empty();
        if let Some(node) = self.nodes.iter().position(reader) {
            self.dies(node);
        }
    }

    pub(super) fn dies(&mut self, node: usize) {
        self.note("die", node, 0);
        self.nodes[node].alive = false;
        self.may_be_over = true;
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
        if let Some(detection) = self.scenario.membership.detection() {
            self.later(detection, Happening::Told { node });
        }
        for other in 0..self.nodes.len() {
            let peer = self.nodes[node].member.peer;
            if self.nodes[other].links.contains(&peer) {
                self.later(
                    LINK_IDLE,
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
        self.note("gone", 0, 0);
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
            let what = "the source is gone".to_owned();
            self.end_read(node, lease, Err(SourceFailure::Transient { what }));
        }
    }

    pub(super) fn source_changes(&mut self) {
        self.revision += 1;
        self.note("change", 0, self.revision);
    }
}
