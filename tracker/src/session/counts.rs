//! How many neighbours hold each block.

use crate::blocks::BlockSet;
use crate::ids::BlockIndex;

/// A block that at most this many neighbours hold is rare.
pub(super) const RARE: u16 = 2;

/// How many neighbours hold each block, and so which blocks are rare.
#[derive(Debug, Default)]
pub(super) struct Counts {
    of_block: Vec<u16>,
    /// Blocks that are not rare.
    common: BlockSet,
}

impl Counts {
    pub(super) fn of(&self, block: BlockIndex) -> u16 {
        self.of_block.get(block.0 as usize).copied().unwrap_or(0)
    }

    pub(super) const fn common(&self) -> &BlockSet {
        &self.common
    }

    /// One neighbour more holds a block.
    pub(super) fn up(&mut self, block: BlockIndex) {
        let index = block.0 as usize;
        if self.of_block.len() <= index {
            self.of_block.resize(index + 1, 0);
        }
        let count = &mut self.of_block[index];
        *count = count.saturating_add(1);
        if *count > RARE {
            self.common.insert(block);
        }
    }

    /// One neighbour fewer holds these blocks.
    pub(super) fn down(&mut self, have: &BlockSet) {
        for block in have.iter() {
            if let Some(count) = self.of_block.get_mut(block.0 as usize) {
                *count = count.saturating_sub(1);
                if *count <= RARE {
                    self.common.remove(block);
                }
            }
        }
    }
}
