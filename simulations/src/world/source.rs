//! The source of a world, and reads of it.

use dfnode_tracker::{
    BlockIndex, Extent, Lease, Meta, Origin, SourceFailure, SourceHead, Validators, VersionId,
};

use super::{Cargo, Happening, World, log};
use crate::node::{Bytes, SourceRead};

impl World {
    fn head(&self) -> SourceHead {
        let kind = self.scenario.source;
        SourceHead {
            length: kind.tells_length.then_some(self.scenario.file_bytes),
            validators: Validators {
                etag: kind.validator.then(|| format!("\"{}\"", self.revision)),
                last_modified: None,
            },
            ranges: kind.ranges,
            digest: None,
            authority: None,
            public: true,
        }
    }

    /// Whether the source still has the version that a read names.
    fn has(&self, meta: &Meta) -> bool {
        meta.validators == self.head().validators
    }

    pub(super) fn read_source(&mut self, index: usize, lease: Lease) {
        let Lease { id, extent } = lease;
        self.log(format_args!("node {index} reads {}", log::extent(&extent)));
        let wait = self.scenario.first_byte + self.scenario.latency * 2;
        self.nodes[index].reads.insert(
            id,
            SourceRead {
                next: 0,
                from: 0,
                end: 0,
                revision: 0,
                flow: None,
            },
        );
        let named = match extent {
            Extent::Probe => None,
            Extent::Blocks { meta, .. } => Some((meta, true)),
            Extent::Validate { meta } => Some((meta, false)),
        };
        self.asked.insert((index, id), named);
        let node = index;
        self.later(wait, Happening::FirstByte { node, lease: id });
    }

    pub(super) fn first_byte(&mut self, index: usize, lease: u64) {
        let (now, task, head) = (self.clock(), self.task, self.head());
        let named = self.asked.remove(&(index, lease)).flatten();
        if !self.nodes[index].alive || !self.nodes[index].reads.contains_key(&lease) {
            return;
        }
        if !self.source_alive {
            let what = "the source is gone".to_owned();
            return self.end_read(index, lease, Err(SourceFailure::Transient { what }));
        }
        match named {
            Some((meta, _)) if !self.has(&meta) => {
                return self.end_read(index, lease, Err(SourceFailure::Changed));
            }
            Some((_, false)) => return self.end_read(index, lease, Ok(None)),
            Some((_, true)) | None => {}
        }
        let plan = self.nodes[index]
            .tracker
            .handle_source_head(now, &task, lease, &head);
        if let (Some(plan), Some(read)) = (&plan, self.nodes[index].reads.get_mut(&lease)) {
            (read.from, read.end) = (plan.run.start, plan.run.end);
            read.next = if self.scenario.source.ranges {
                read.from
            } else {
                0
            };
            read.revision = self.revision;
            self.revisions.insert(plan.meta.version, self.revision);
        }
        self.drain(index);
        if plan.is_some() {
            self.read_on(index, lease);
        } else {
            self.nodes[index].reads.remove(&lease);
        }
    }

    /// The content that a version is of, as far as anybody read it.
    pub(super) fn revision_of(&self, version: &VersionId) -> Option<u64> {
        self.revisions.get(version).copied()
    }

    fn read_on(&mut self, index: usize, lease: u64) {
        let blocks = self.layout.blocks().unwrap_or(0);
        let Some(read) = self.nodes[index].reads.get(&lease) else {
            return;
        };
        let block = BlockIndex(read.next);
        if read.next >= read.end.min(blocks) {
            let length = (read.end > blocks).then_some(self.scenario.file_bytes);
            return self.end_read(index, lease, Ok(length));
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
        let wanted = read.next >= read.from;
        read.next += 1;
        read.flow = None;
        let bytes = Bytes {
            revision: read.revision,
            genuine: true,
        };
        self.nodes[index].source_bytes += self.block_bytes(block);
        self.note("read", index, u64::from(block.0));
        if wanted {
            let digest = Self::digest(block, bytes);
            let node = &mut self.nodes[index];
            node.parked.insert((block, Origin::Source(lease)), bytes);
            node.tracker
                .handle_source_block(now, &task, lease, block, digest);
            self.drain(index);
        }
        self.read_on(index, lease);
    }

    pub(super) fn end_read(
        &mut self,
        node: usize,
        lease: u64,
        end: Result<Option<u64>, SourceFailure>,
    ) {
        let (now, task) = (self.clock(), self.task);
        self.nodes[node].reads.remove(&lease);
        if let Some(node) = self.alive(node) {
            node.tracker.handle_source_end(now, &task, lease, end);
        }
        self.drain(node);
    }
}
