//! Sets of blocks as they travel.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::blocks::BlockSet;
use crate::ids::BlockIndex;
use crate::layout::MAX_BLOCKS;

/// Blocks as they travel: whichever form is shortest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holds {
    /// No block.
    Nothing,
    /// Every block of a version whose length is known.
    All,
    /// Runs of blocks.
    Runs(Vec<Range<u32>>),
    /// A bitmap, lowest block in the lowest bit of the first byte.
    Bits(Vec<u8>),
}

impl Holds {
    /// Packs a set; `blocks` is the version's number of blocks, if known.
    pub fn pack(set: &BlockSet, blocks: Option<u32>) -> Self {
        if set.is_empty() {
            return if blocks == Some(0) {
                Self::All
            } else {
                Self::Nothing
            };
        }
        if blocks == Some(set.len()) {
            return Self::All;
        }
        let runs = set.runs();
        let end = runs.last().map_or(0, |run| run.end);
        if runs.len() * 6 <= end as usize / 8 {
            return Self::Runs(runs);
        }
        let mut bits = vec![0_u8; (end as usize).div_ceil(8)];
        for BlockIndex(index) in set.iter() {
            bits[(index / 8) as usize] |= 1 << (index % 8);
        }
        Self::Bits(bits)
    }

    /// Unpacks what a peer sent. `None` if it names blocks that the version cannot have.
    pub fn unpack(&self, blocks: Option<u32>) -> Option<BlockSet> {
        let limit = blocks.unwrap_or(MAX_BLOCKS);
        match self {
            Self::Nothing => Some(BlockSet::new()),
            Self::All => blocks.map(BlockSet::all),
            Self::Runs(runs) => BlockSet::from_runs(runs, limit),
            Self::Bits(bits) => {
                let mut set = BlockSet::new();
                for (byte, value) in bits.iter().enumerate() {
                    let base = u32::try_from(byte * 8).ok()?;
                    for bit in (0..8).filter(|bit| value >> bit & 1 == 1) {
                        if base + bit >= limit {
                            return None;
                        }
                        set.insert(BlockIndex(base + bit));
                    }
                }
                Some(set)
            }
        }
    }
}
