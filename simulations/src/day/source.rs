//! The sources: one for each task, always up, at one rate for each read.

use std::time::Duration;

use dfnode_tracker::{
    BlockDigest, BlockIndex, Extent, Lease, Origin, SourceHead, TaskId, Validators,
};

use super::host::Read;
use super::{Cluster, Happening};

/// From a request to the first byte.
const FIRST_BYTE: Duration = Duration::from_millis(20);
/// Bytes per second of each read, and of each transfer between nodes.
const RATE: u64 = 12_500_000;

/// How long so many bytes take.
pub(super) const fn lasts(bytes: u64) -> Duration {
    Duration::from_micros(bytes * 1_000_000 / RATE)
}

/// What the bytes of a block hash to.
pub(super) fn digest(task: &TaskId, block: BlockIndex) -> BlockDigest {
    let mut content = task.as_bytes().to_vec();
    content.extend_from_slice(&block.0.to_le_bytes());
    BlockDigest::of(&content)
}

impl Cluster {
    fn head(&self, task: &TaskId) -> SourceHead {
        SourceHead {
            length: Some(self.tasks[self.by_id[task]].bytes),
            validators: Validators {
                etag: Some(format!("\"{}\"", task.short())),
                last_modified: None,
            },
            ranges: true,
            digest: None,
            authority: None,
            public: true,
        }
    }

    pub(super) fn read_source(&mut self, host: usize, task: TaskId, lease: Lease) {
        let named = match lease.extent {
            Extent::Probe => None,
            Extent::Blocks { meta, .. } => Some((meta, true)),
            Extent::Validate { meta } => Some((meta, false)),
        };
        let read = Read {
            named,
            next: 0,
            end: 0,
        };
        let lease = lease.id;
        if let Some(life) = self.alive(host) {
            life.reads.insert((task, lease), read);
            self.later(FIRST_BYTE, Happening::FirstByte { host, task, lease });
        }
    }

    pub(super) fn first_byte(&mut self, host: usize, task: TaskId, lease: u64) {
        let (clock, head) = (self.clock(), self.head(&task));
        let Some(life) = self.alive(host) else { return };
        let Some(read) = life.reads.get_mut(&(task, lease)) else {
            return;
        };
        if matches!(read.named, Some((_, false))) {
            return self.end_read(host, task, lease);
        }
        match life.tracker.handle_source_head(clock, &task, lease, &head) {
            Some(plan) => {
                (read.next, read.end) = (plan.run.start, plan.run.end);
                self.read_on(host, task, lease);
            }
            None => drop(life.reads.remove(&(task, lease))),
        }
        self.drain(host);
    }

    fn read_on(&mut self, host: usize, task: TaskId, lease: u64) {
        let planned = self.by_id[&task];
        let Some(life) = self.alive(host) else { return };
        let Some(read) = life.reads.get(&(task, lease)) else {
            return;
        };
        let (next, end) = (read.next, read.end);
        if next >= end {
            return self.end_read(host, task, lease);
        }
        let bytes = self.tasks[planned].block_bytes(BlockIndex(next));
        self.later(lasts(bytes), Happening::SourceBlock { host, task, lease });
    }

    pub(super) fn source_block(&mut self, host: usize, task: TaskId, lease: u64) {
        let (clock, planned) = (self.clock(), self.by_id[&task]);
        let Some(life) = self.alive(host) else { return };
        let Some(read) = life.reads.get_mut(&(task, lease)) else {
            return;
        };
        let block = BlockIndex(read.next);
        read.next += 1;
        let digest = digest(&task, block);
        life.parked
            .insert((task, block, Origin::Source(lease)), digest);
        life.tracker
            .handle_source_block(clock, &task, lease, block, digest);
        self.tasks[planned].read_bytes += self.tasks[planned].block_bytes(block);
        self.note("read", host, u64::from(block.0));
        self.drain(host);
        self.read_on(host, task, lease);
    }

    fn end_read(&mut self, host: usize, task: TaskId, lease: u64) {
        let clock = self.clock();
        if let Some(life) = self.alive(host) {
            life.reads.remove(&(task, lease));
            life.tracker
                .handle_source_end(clock, &task, lease, Ok(None));
        }
        self.drain(host);
    }
}
