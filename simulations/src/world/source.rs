//! The source of a world, and reads of it.

use dfnode_tracker::{BlockIndex, Extent, Lease, Meta, Origin, SourceHead, Validators, VersionId};

use super::{Cargo, Happening, World};
use crate::node::SourceRead;

impl World {
    fn head(&self) -> SourceHead {
        SourceHead {
            length: Some(self.scenario.file_bytes),
            validators: Validators {
                etag: Some("\"1\"".to_owned()),
                last_modified: None,
            },
            ranges: true,
            digest: None,
            public: true,
        }
    }

    pub(super) fn version(&self) -> VersionId {
        Meta::of(&self.head(), [0; 32])
            .expect("a head that names a version")
            .version
    }

    pub(super) fn read_source(&mut self, index: usize, lease: Lease) {
        let (next, end) = match lease.extent {
            Extent::Blocks { run, .. } => (run.start, run.end),
            Extent::Probe | Extent::Validate { .. } => (0, 0),
        };
        self.nodes[index].reads.insert(
            lease.id,
            SourceRead {
                next,
                end,
                flow: None,
            },
        );
        let wait = self.scenario.first_byte + self.scenario.latency * 2;
        self.later(
            wait,
            Happening::FirstByte {
                node: index,
                lease: lease.id,
            },
        );
    }

    pub(super) fn first_byte(&mut self, index: usize, lease: u64) {
        let (now, task, head) = (self.clock(), self.task, self.head());
        if !self.nodes[index].reads.contains_key(&lease) {
            return;
        }
        if !self.source_alive {
            self.read_failed(index, lease);
            return;
        }
        let Some(node) = self.alive(index) else {
            return;
        };
        let plan = node.tracker.handle_source_head(now, &task, lease, &head);
        self.drain(index);
        match plan {
            None => {
                self.nodes[index].reads.remove(&lease);
            }
            Some(plan) => {
                if let Some(read) = self.nodes[index].reads.get_mut(&lease) {
                    (read.next, read.end) = (plan.run.start, plan.run.end);
                }
                self.read_on(index, lease);
            }
        }
    }

    fn read_on(&mut self, index: usize, lease: u64) {
        let Some(read) = self.nodes[index].reads.get(&lease) else {
            return;
        };
        let block = BlockIndex(read.next);
        if read.next >= read.end {
            let (now, task) = (self.clock(), self.task);
            self.nodes[index].reads.remove(&lease);
            self.nodes[index]
                .tracker
                .handle_source_end(now, &task, lease, Ok(None));
            self.drain(index);
            return;
        }
        let cargo = Cargo::Source { node: index, lease };
        let flow = self.start_flow(self.source_host, index, self.block_bytes(block), cargo);
        if let Some(read) = self.nodes[index].reads.get_mut(&lease) {
            read.flow = Some(flow);
        }
    }

    pub(super) fn source_block(&mut self, index: usize, lease: u64) {
        let (now, task) = (self.clock(), self.task);
        let Some(read) = self.nodes[index].reads.get_mut(&lease) else {
            return;
        };
        let block = BlockIndex(read.next);
        read.next += 1;
        read.flow = None;
        self.source_bytes += self.block_bytes(block);
        self.note("read", index, u64::from(block.0));
        let node = &mut self.nodes[index];
        node.parked.insert((block, Origin::Source(lease)), true);
        node.tracker
            .handle_source_block(now, &task, lease, block, Self::digest(block, true));
        self.drain(index);
        self.read_on(index, lease);
    }
}
