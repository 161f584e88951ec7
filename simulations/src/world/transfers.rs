//! Blocks on their way between nodes.

use dfnode_tracker::{BlockDigest, BlockIndex, Origin, PieceReport, Tracker as _};

use super::{Cargo, Happening, World};
use crate::links::FlowId;

impl World {
    pub(super) fn start_flow(
        &mut self,
        from: usize,
        to: usize,
        bytes: u64,
        cargo: Cargo,
    ) -> FlowId {
        let mut changed = Vec::new();
        let flow = self.links.start(self.now, from, to, bytes, &mut changed);
        self.cargo.insert(flow, cargo);
        self.reschedule(changed);
        flow
    }

    pub(super) fn stop_flow(&mut self, flow: FlowId) {
        let mut changed = Vec::new();
        self.links.end(self.now, flow, &mut changed);
        self.cargo.remove(&flow);
        self.reschedule(changed);
    }

    fn reschedule(&mut self, changed: Vec<(FlowId, u32, u64)>) {
        for (flow, edition, end) in changed {
            self.at(end, Happening::FlowEnds { flow, edition });
        }
    }

    pub(super) fn block_bytes(&self, block: BlockIndex) -> u64 {
        let range = self.layout.range_of(block);
        range.end - range.start
    }

    /// Stands for the bytes of a block; a liar's differ.
    pub(super) fn digest(block: BlockIndex, genuine: bool) -> BlockDigest {
        BlockDigest::of(&[&block.0.to_le_bytes()[..], &[u8::from(genuine)]].concat())
    }

    pub(super) fn flow_ends(&mut self, flow: FlowId) {
        let Some(cargo) = self.cargo.get(&flow).copied() else {
            return;
        };
        self.stop_flow(flow);
        match cargo {
            Cargo::Block { from, to, block } => self.block_arrives(from, to, block),
            Cargo::Source { node, lease } => self.source_block(node, lease),
        }
    }

    fn block_arrives(&mut self, from: usize, to: usize, block: BlockIndex) {
        let (now, task) = (self.clock(), self.task);
        let (giver, taker) = (self.nodes[from].member.peer, self.nodes[to].member.peer);
        let genuine = !self.nodes[from].liar && !self.nodes[from].wrong.contains(&block);
        self.nodes[from].sending.remove(&(taker, block));
        self.note("block", to, u64::from(block.0));
        let version = self.version();
        self.nodes[to]
            .parked
            .insert((block, Origin::Peer(giver)), genuine);
        let report = PieceReport {
            from: giver,
            task,
            version,
            block,
            digest: Self::digest(block, genuine),
        };
        self.nodes[to].tracker.report_piece(now, report);
        self.drain(to);
        if let Some(node) = self.alive(from) {
            node.tracker
                .handle_block_sent(now, taker, &task, block, true);
            self.drain(from);
        }
    }
}
