//! How a version's bytes are cut into pieces and blocks.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ids::{BlockIndex, PieceIndex};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The smallest block: below it, messages cost more than the finer grain gains.
pub const MIN_BLOCK_BYTES: u32 = 32 * 1024;
/// Blocks of small files are not larger than this, so that a file has the more of them the longer it is.
const USUAL_BLOCK_BYTES: u64 = 256 * KIB;
/// The largest block, and so the largest buffer that a peer's stream can fill.
pub const MAX_BLOCK_BYTES: u32 = 4 * 1024 * 1024;
/// The largest piece, from the seeds' rule.
pub const MAX_PIECE_BYTES: u32 = 15 * 1024 * 1024;
/// Blocks that one version may have: bounds every bitmap. 64 TiB at the largest block.
pub const MAX_BLOCKS: u32 = 1 << 24;
/// What a file is cut into when its length is not known before its end.
const UNKNOWN_BLOCK_BYTES: u32 = 256 * 1024;
const UNKNOWN_PIECE_BYTES: u32 = 4 * 1024 * 1024;

/// The cut of one version. Equal on every node: it follows from the length alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Layout {
    length: Option<u64>,
    piece_bytes: u32,
    block_bytes: u32,
}

impl Layout {
    /// Cuts `length` bytes: pieces by the seeds' rule; blocks so that a small file has about 320 to 640, and one whose
    /// blocks would be larger than 256 KiB about 640 to 1,280.
    ///
    /// With fewer blocks a swarm waits for whole blocks at each hop; with more, what each costs (messages, hand-overs
    /// between threads, a signature) outweighs the gain. A host whose processors are the limit feels it first.
    /// Returns `None` if the file would have more than [`MAX_BLOCKS`].
    pub fn of_length(length: u64) -> Option<Self> {
        let piece_bytes = if length <= 200 * MIB {
            4 * MIB
        } else {
            (length / (100 * MIB) * MIB + 2 * MIB).min(u64::from(MAX_PIECE_BYTES))
        };
        let power = |target: u64| 1_u64 << target.max(1).ilog2();
        let block_bytes = power(length / 320)
            .min(USUAL_BLOCK_BYTES)
            .max(power(length / 640))
            .clamp(u64::from(MIN_BLOCK_BYTES), u64::from(MAX_BLOCK_BYTES))
            .min(piece_bytes);
        let layout = Self {
            length: Some(length),
            piece_bytes: u32::try_from(piece_bytes).ok()?,
            block_bytes: u32::try_from(block_bytes).ok()?,
        };
        (layout.count(length)? <= u64::from(MAX_BLOCKS)).then_some(layout)
    }

    /// The cut of a stream whose length its end will tell.
    pub const fn of_stream() -> Self {
        Self {
            length: None,
            piece_bytes: UNKNOWN_PIECE_BYTES,
            block_bytes: UNKNOWN_BLOCK_BYTES,
        }
    }

    /// The same cut, once a stream's end told its length.
    #[must_use]
    pub const fn ended_at(self, length: u64) -> Self {
        Self {
            length: Some(length),
            ..self
        }
    }

    /// Whether every number in a layout that a peer sent is one that this type can have made.
    pub fn is_sound(&self) -> bool {
        let stream = Self::of_stream();
        let cut_as_stream =
            self.piece_bytes == stream.piece_bytes && self.block_bytes == stream.block_bytes;
        match self.length {
            None => cut_as_stream,
            Some(length) if cut_as_stream => self
                .count(length)
                .is_some_and(|blocks| blocks <= u64::from(MAX_BLOCKS)),
            Some(length) => Self::of_length(length) == Some(*self),
        }
    }

    /// The length in bytes, if it is known yet.
    pub const fn length(&self) -> Option<u64> {
        self.length
    }

    /// The bytes of every piece but the last.
    pub const fn piece_bytes(&self) -> u32 {
        self.piece_bytes
    }

    /// The bytes of every block but the last of a piece.
    pub const fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// How many blocks a whole piece has.
    pub const fn blocks_per_piece(&self) -> u32 {
        self.piece_bytes.div_ceil(self.block_bytes)
    }

    /// How many blocks the version has, or `None` while its length is unknown. An empty file has none.
    pub fn blocks(&self) -> Option<u32> {
        self.length
            .and_then(|length| self.count(length))
            .and_then(|count| u32::try_from(count).ok())
    }

    fn count(&self, length: u64) -> Option<u64> {
        let piece = u64::from(self.piece_bytes);
        let whole = (length / piece).checked_mul(u64::from(self.blocks_per_piece()))?;
        whole.checked_add((length % piece).div_ceil(u64::from(self.block_bytes)))
    }

    /// How many pieces the version has, or `None` while its length is unknown.
    pub fn pieces(&self) -> Option<u32> {
        self.length
            .and_then(|length| u32::try_from(length.div_ceil(u64::from(self.piece_bytes))).ok())
    }

    /// The piece that a block lies in.
    pub const fn piece_of(&self, block: BlockIndex) -> PieceIndex {
        PieceIndex(block.0 / self.blocks_per_piece())
    }

    /// The blocks of a piece (of a stream: as if the piece were whole).
    pub fn blocks_of(&self, piece: PieceIndex) -> Range<u32> {
        let first = piece.0.saturating_mul(self.blocks_per_piece());
        let end = first.saturating_add(self.blocks_per_piece());
        first..self.blocks().map_or(end, |blocks| end.min(blocks))
    }

    /// The bytes that a block covers; empty for a block behind the end.
    pub fn range_of(&self, block: BlockIndex) -> Range<u64> {
        let piece = u64::from(self.piece_of(block).0) * u64::from(self.piece_bytes);
        let within = u64::from(block.0 % self.blocks_per_piece()) * u64::from(self.block_bytes);
        let start = piece + within;
        let end = (start + u64::from(self.block_bytes)).min(piece + u64::from(self.piece_bytes));
        let limit = self.length.unwrap_or(u64::MAX);
        start.min(limit)..end.min(limit)
    }

    /// The bytes that a run of blocks covers.
    pub fn range_of_run(&self, run: &Range<u32>) -> Range<u64> {
        if run.is_empty() {
            return 0..0;
        }
        self.range_of(BlockIndex(run.start)).start..self.range_of(BlockIndex(run.end - 1)).end
    }

    /// The block that holds the byte at `offset`.
    pub fn block_at(&self, offset: u64) -> Option<BlockIndex> {
        let piece = u64::from(self.piece_bytes);
        let index = (offset / piece) * u64::from(self.blocks_per_piece())
            + (offset % piece) / u64::from(self.block_bytes);
        u32::try_from(index)
            .ok()
            .filter(|index| *index < MAX_BLOCKS)
            .map(BlockIndex)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_seeds_rule_gives_the_piece_and_the_file_its_blocks() {
        let cut = |length| {
            let layout = Layout::of_length(length).expect("a sane length");
            (layout.piece_bytes(), layout.block_bytes())
        };
        assert_eq!(cut(0), (4 << 20, 32 << 10));
        assert_eq!(cut(20_000_000), (4 << 20, 32 << 10));
        assert_eq!(cut(42_200_000), (4 << 20, 128 << 10));
        assert_eq!(cut(100_000_000), (4 << 20, 256 << 10));
        assert_eq!(cut(200_000_000), (4 << 20, 256 << 10));
        assert_eq!(cut(1 << 30), (12 << 20, 1 << 20));
        assert_eq!(cut(20_000_000_000), (15 << 20, 4 << 20));
    }

    proptest! {
        #[test]
        fn blocks_tile_the_file_and_never_cross_a_piece(length in 0_u64..3_000_000_000) {
            let layout = Layout::of_length(length).expect("a sane length");
            prop_assert!(layout.is_sound());
            let mut offset = 0;
            for index in 0..layout.blocks().expect("a known length") {
                let range = layout.range_of(BlockIndex(index));
                prop_assert_eq!(range.start, offset);
                prop_assert!(range.end > range.start);
                prop_assert_eq!(layout.block_at(range.start), Some(BlockIndex(index)));
                prop_assert_eq!(layout.block_at(range.end - 1), Some(BlockIndex(index)));
                let piece = u64::from(layout.piece_bytes());
                prop_assert_eq!(range.start / piece, (range.end - 1) / piece);
                offset = range.end;
            }
            prop_assert_eq!(offset, length);
        }
    }
}
