//! What of a task lies in its file.

use std::ops::Range;

use dfnode_tracker::{BlockIndex, BlockSet, Layout, Meta, VersionId};

/// Which blocks of a version can be read through its file by now.
///
/// Readers by descriptor watch this; the page cache holds what it names, the disk may follow later.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The version.
    pub version: VersionId,
    /// Its cut; its length may become known while it is watched.
    pub layout: Layout,
    /// Blocks in the file.
    pub written: BlockSet,
    /// Grows when a written block was taken back or replaced: what was read before is not to be believed.
    pub epoch: u32,
    /// Set when the rest cannot be written.
    pub failure: Option<WriteFailure>,
    /// Set when the task was removed or restarted: nothing follows.
    pub gone: bool,
}

/// Why a task's blocks cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteFailure {
    /// The disk is full, though room was reserved: something else filled it.
    #[error("no space left on the disk of the cache")]
    NoSpace,
    /// The disk fails.
    #[error("cannot write to the cache: {0}")]
    Io(String),
}

impl Progress {
    /// Nothing of a version.
    pub fn new(meta: &Meta) -> Self {
        Self {
            version: meta.version,
            layout: meta.layout,
            written: BlockSet::new(),
            epoch: 0,
            failure: None,
            gone: false,
        }
    }

    /// The bytes from the start of the file that lie in it without a gap.
    pub fn watermark(&self) -> u64 {
        self.end_from(0)
    }

    /// Where the bytes end that lie in the file without a gap from `offset` on; `offset` if there are none.
    pub fn end_from(&self, offset: u64) -> u64 {
        let Some(block) = self.layout.block_at(offset) else {
            return offset;
        };
        let absent = self.written.first_absent(block.0);
        if absent == block {
            offset
        } else {
            let end = self.layout.range_of(BlockIndex(absent.0 - 1)).end;
            end.min(self.certain_to()).max(offset)
        }
    }

    /// Up to where a written block is known to fill its range: the last one of a stream that goes on may turn
    /// out to be the end, and shorter.
    fn certain_to(&self) -> u64 {
        match (self.layout.length(), self.written.runs().last()) {
            (None, Some(run)) => self.layout.range_of(BlockIndex(run.end - 1)).start,
            _ => u64::MAX,
        }
    }

    /// Whether every block of a version of known length is in the file.
    pub fn is_whole(&self) -> bool {
        self.layout.blocks() == Some(self.written.len())
    }

    /// What lies in the file, as ranges of bytes, lowest first.
    pub fn byte_runs(&self) -> Vec<Range<u64>> {
        let limit = self.certain_to();
        self.written
            .runs()
            .iter()
            .map(|run| self.layout.range_of_run(run))
            .map(|run| run.start..run.end.min(limit))
            .filter(|run| !run.is_empty())
            .collect()
    }
}
