//! Sets of blocks: what somebody has, wants or has been given.

use std::ops::Range;

use crate::ids::BlockIndex;
use crate::layout::MAX_BLOCKS;

/// A set of blocks as a bitmap that grows to its highest member.
///
/// Never larger than [`MAX_BLOCKS`] / 8 bytes: members beyond are refused by [`BlockSet::insert`].
#[derive(Debug, Clone, Default)]
pub struct BlockSet {
    words: Vec<u64>,
    count: u32,
}

impl BlockSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self {
            words: Vec::new(),
            count: 0,
        }
    }

    /// The set of all blocks below `end`.
    pub fn all(end: u32) -> Self {
        let mut set = Self::new();
        set.insert_run(0..end);
        set
    }

    /// The memory it takes.
    pub(crate) const fn bytes(&self) -> usize {
        self.words.len() * 8
    }

    /// Adds a block; `false` if it was there already or lies beyond [`MAX_BLOCKS`].
    pub fn insert(&mut self, block: BlockIndex) -> bool {
        if block.0 >= MAX_BLOCKS {
            return false;
        }
        let (word, bit) = place(block);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let fresh = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u32::from(fresh);
        fresh
    }

    /// Adds every block of a run that lies within [`MAX_BLOCKS`].
    pub fn insert_run(&mut self, run: Range<u32>) {
        let run = run.start..run.end.min(MAX_BLOCKS);
        if run.is_empty() {
            return;
        }
        let last = (run.end - 1) as usize / 64;
        if self.words.len() <= last {
            self.words.resize(last + 1, 0);
        }
        for (word, mask) in masks(run) {
            let bits = &mut self.words[word];
            self.count += (mask & !*bits).count_ones();
            *bits |= mask;
        }
    }

    /// Takes every block of a run out; costs no more than the set is large, however long the run.
    pub fn remove_run(&mut self, run: Range<u32>) {
        let end = index_of(self.words.len());
        for (word, mask) in masks(run.start..run.end.min(end)) {
            let bits = &mut self.words[word];
            self.count -= (mask & *bits).count_ones();
            *bits &= !mask;
        }
    }

    /// Adds every block of another set.
    pub fn unite(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            self.count += (theirs & !*mine).count_ones();
            *mine |= theirs;
        }
    }

    /// Takes out every block of another set.
    pub fn subtract(&mut self, other: &Self) {
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            self.count -= (theirs & *mine).count_ones();
            *mine &= !theirs;
        }
    }

    /// Takes a block out; `false` if it was not in.
    pub fn remove(&mut self, block: BlockIndex) -> bool {
        let (word, bit) = place(block);
        let Some(bits) = self.words.get_mut(word) else {
            return false;
        };
        let there = *bits & bit != 0;
        *bits &= !bit;
        self.count -= u32::from(there);
        there
    }

    /// Whether the block is in the set.
    pub fn contains(&self, block: BlockIndex) -> bool {
        let (word, bit) = place(block);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// How many blocks are in the set.
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Whether the set has no block.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The blocks, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = BlockIndex> + '_ {
        self.words.iter().enumerate().flat_map(|(word, bits)| Bits {
            base: index_of(word),
            bits: *bits,
        })
    }

    /// The blocks of this set that `other` lacks, lowest first.
    pub fn minus<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = BlockIndex> + 'a {
        self.words.iter().enumerate().flat_map(|(word, bits)| {
            let theirs = other.words.get(word).copied().unwrap_or(0);
            Bits {
                base: index_of(word),
                bits: bits & !theirs,
            }
        })
    }

    /// The blocks that are in this set and in all of `within`, and in none of `without`: lowest first, 64 at a step.
    pub(crate) fn sieve<'a, const W: usize, const O: usize>(
        &'a self,
        within: [&'a Self; W],
        without: [&'a Self; O],
    ) -> impl Iterator<Item = BlockIndex> + 'a {
        self.words.iter().enumerate().flat_map(move |(word, bits)| {
            let of = |set: &Self| set.words.get(word).copied().unwrap_or(0);
            let bits = within.iter().fold(*bits, |bits, set| bits & of(set));
            let bits = without.iter().fold(bits, |bits, set| bits & !of(set));
            Bits {
                base: index_of(word),
                bits,
            }
        })
    }

    /// Whether this set has a block that `other` lacks.
    pub fn has_beyond(&self, other: &Self) -> bool {
        self.minus(other).next().is_some()
    }

    /// The lowest block at or above `from` that is not in the set.
    pub fn first_absent(&self, from: u32) -> BlockIndex {
        let mut index = from;
        while self.contains(BlockIndex(index)) {
            let (word, _) = place(BlockIndex(index));
            index = if self.words[word] == u64::MAX {
                index_of(word + 1)
            } else {
                index + 1
            };
        }
        BlockIndex(index)
    }

    /// The set as runs of consecutive blocks, lowest first.
    pub fn runs(&self) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        for BlockIndex(index) in self.iter() {
            match runs.last_mut() {
                Some(run) if run.end == index => run.end += 1,
                _ => runs.push(index..index + 1),
            }
        }
        runs
    }

    /// Rebuilds a set from runs of a peer or a disk.
    ///
    /// `None` if a run is empty, not within `limit` blocks, or not behind the one before it: so the work is bounded by
    /// the limit, however many runs a peer sends.
    pub fn from_runs(runs: &[Range<u32>], limit: u32) -> Option<Self> {
        let mut set = Self::new();
        let mut behind = 0;
        for run in runs {
            if run.start < behind || run.start >= run.end || run.end > limit.min(MAX_BLOCKS) {
                return None;
            }
            behind = run.end;
            set.insert_run(run.clone());
        }
        Some(set)
    }
}

impl FromIterator<BlockIndex> for BlockSet {
    fn from_iter<I: IntoIterator<Item = BlockIndex>>(blocks: I) -> Self {
        let mut set = Self::new();
        for block in blocks {
            set.insert(block);
        }
        set
    }
}

/// The words that a run touches, and which of their bits it means.
fn masks(run: Range<u32>) -> impl Iterator<Item = (usize, u64)> {
    let words = if run.is_empty() {
        0..0
    } else {
        run.start / 64..(run.end - 1) / 64 + 1
    };
    words.map(move |word| {
        let low = run.start.saturating_sub(word * 64).min(63);
        let high = (run.end - word * 64).min(64);
        let below = if high == 64 {
            u64::MAX
        } else {
            (1 << high) - 1
        };
        (word as usize, below & (u64::MAX << low))
    })
}

const fn place(block: BlockIndex) -> (usize, u64) {
    ((block.0 / 64) as usize, 1 << (block.0 % 64))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a set has at most MAX_BLOCKS / 64 words"
)]
const fn index_of(word: usize) -> u32 {
    word as u32 * 64
}

struct Bits {
    base: u32,
    bits: u64,
}

impl Iterator for Bits {
    type Item = BlockIndex;

    fn next(&mut self) -> Option<BlockIndex> {
        if self.bits == 0 {
            return None;
        }
        let low = self.bits.trailing_zeros();
        self.bits &= self.bits - 1;
        Some(BlockIndex(self.base + low))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_go_in_and_out_as_their_blocks_would(steps in proptest::collection::vec((0_u32..200, 0_u32..200, any::<bool>()), 0..60)) {
            let (mut set, mut model) = (BlockSet::new(), BTreeSet::new());
            for (start, length, add) in steps {
                let run = start..start + length;
                if add {
                    model.extend(run.clone());
                    set.insert_run(run);
                } else {
                    model.retain(|index| !run.contains(index));
                    set.remove_run(run);
                }
                prop_assert_eq!(set.len() as usize, model.len());
            }
            prop_assert_eq!(set.iter().map(|b| b.0).collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn a_block_set_behaves_as_a_set_of_numbers(steps in proptest::collection::vec((0_u32..300, any::<bool>()), 0..400)) {
            let (mut set, mut model) = (BlockSet::new(), BTreeSet::new());
            for (index, add) in steps {
                if add {
                    prop_assert_eq!(set.insert(BlockIndex(index)), model.insert(index));
                } else {
                    prop_assert_eq!(set.remove(BlockIndex(index)), model.remove(&index));
                }
            }
            prop_assert_eq!(set.len() as usize, model.len());
            prop_assert_eq!(set.iter().map(|b| b.0).collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            let absent = (0..=300).find(|index| !model.contains(index)).expect("a gap");
            prop_assert_eq!(set.first_absent(0), BlockIndex(absent));
            prop_assert_eq!(BlockSet::from_runs(&set.runs(), 300).map(|s| s.iter().collect::<Vec<_>>()), Some(set.iter().collect::<Vec<_>>()));
        }
    }
}
