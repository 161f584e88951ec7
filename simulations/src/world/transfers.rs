//! Blocks on their way between nodes.

use dfnode_gossip::PeerId;
use dfnode_tracker::{BlockDigest, BlockIndex, Origin, PieceReport, Tracker as _, VersionId};

use super::{Cargo, Happening, World};
use crate::links::FlowId;
use crate::node::{Bytes, SimNode};

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
        let carried = self.links.end(self.now, flow, &mut changed);
        let cargo = self.cargo.remove(&flow);
        if let Some(cargo) = cargo {
            self.note_crossing(cargo, carried);
        }
        if let Some(Cargo::Block { to, .. }) = cargo {
            self.nodes[to].receiving.remove(&flow);
        }
        self.reschedule(changed);
    }

    fn reschedule(&mut self, changed: Vec<(FlowId, u64)>) {
        for (flow, end) in changed {
            self.at(end, Happening::FlowEnds { flow });
        }
    }

    pub(super) fn block_bytes(&self, block: BlockIndex) -> u64 {
        let range = self.layout.range_of(block);
        range.end - range.start
    }

    /// What the bytes of a block hash to; a liar's hash to something else, and so do those of other content.
    pub(super) fn digest(block: BlockIndex, bytes: Bytes) -> BlockDigest {
        let mut content = block.0.to_le_bytes().to_vec();
        content.extend_from_slice(&bytes.revision.to_le_bytes());
        content.push(u8::from(bytes.genuine));
        BlockDigest::of(&content)
    }

    pub(super) fn send_block(
        &mut self,
        from: usize,
        to: PeerId,
        version: VersionId,
        block: BlockIndex,
    ) {
        let Some(taker) = self.index.get(&to).copied() else {
            return;
        };
        let Some(mut bytes) = self.nodes[from].kept.get(&block).copied() else {
            return self.violation(&format!(
                "node {from} sends block {block} without having it"
            ));
        };
        if self.revision_of(&version) != Some(bytes.revision) {
            self.violation(&format!(
                "node {from} sends block {block} as another version"
            ));
        }
        bytes.genuine &= !self.nodes[from].liar;
        if self.nodes[taker].alive && self.reaches(from, taker) {
            let cargo = Cargo::Block {
                from,
                to: taker,
                block,
                version,
                bytes,
            };
            let flow = self.start_flow(from, taker, self.block_bytes(block), cargo);
            self.nodes[from].sending.insert((to, block), flow);
            let giver = self.nodes[from].member.peer;
            self.nodes[taker].receiving.insert(flow, (giver, block));
        }
    }

    pub(super) fn flow_ends(&mut self, flow: FlowId) {
        let Some(cargo) = self.cargo.get(&flow).copied() else {
            return;
        };
        self.stop_flow(flow);
        match cargo {
            Cargo::Block {
                from,
                to,
                block,
                version,
                bytes,
            } => self.block_arrives(from, to, block, version, bytes),
            Cargo::Source { node, lease } => self.source_block(node, lease),
        }
    }

    fn block_arrives(
        &mut self,
        from: usize,
        to: usize,
        block: BlockIndex,
        version: VersionId,
        bytes: Bytes,
    ) {
        let (now, task) = (self.clock(), self.task);
        let (giver, taker) = (self.nodes[from].member.peer, self.nodes[to].member.peer);
        self.nodes[from].sending.remove(&(taker, block));
        self.note("block", to, u64::from(block.0));
        let node = &mut self.nodes[to];
        node.parked.insert((block, Origin::Peer(giver)), bytes);
        node.tracker.report_piece(
            now,
            PieceReport {
                from: giver,
                task,
                version,
                block,
                digest: Self::digest(block, bytes),
            },
        );
        self.drain(to);
        if let Some(node) = self.alive(from) {
            node.tracker
                .handle_block_sent(now, taker, &task, block, true);
            self.drain(from);
        }
    }

    /// Bytes trickle in all the time, and each shows that its sender lives.
    pub(super) fn show_flows(&mut self, node: usize) {
        let (now, task) = (self.clock(), self.task);
        let SimNode {
            receiving, tracker, ..
        } = &mut self.nodes[node];
        for (from, block) in receiving.values() {
            tracker.handle_flow(now, from, &task, *block);
        }
    }
}
