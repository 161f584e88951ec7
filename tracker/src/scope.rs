//! Which bytes of a task its local callers want, together.

use crate::blocks::BlockSet;
use crate::layout::Layout;

/// Parts that are told apart; callers who want more of them at once get the whole.
pub(crate) const MAX_PARTS: usize = 64;

/// First and last byte, both counted in; without the last, to the end.
pub type Part = (u64, Option<u64>);

/// What a task's callers want of it.
#[derive(Debug, Default)]
pub(crate) enum Scope {
    /// Every byte.
    #[default]
    Whole,
    /// These parts, in no order; none as long as nobody wants any.
    Parts(Vec<Part>),
}

impl Scope {
    /// What a registrant says that it wants: of no part, the whole.
    pub(crate) fn of(parts: Vec<Part>) -> Self {
        if parts.is_empty() {
            Self::Whole
        } else {
            Self::Parts(parts)
        }
    }

    /// The parts; none for the whole.
    pub(crate) fn parts(&self) -> &[Part] {
        match self {
            Self::Whole => &[],
            Self::Parts(parts) => parts,
        }
    }

    /// A further caller wants a part, or with `None` the whole.
    pub(crate) fn add(&mut self, part: Option<Part>) {
        match (self, part) {
            (Self::Parts(parts), Some(part)) if parts.contains(&part) => {}
            (Self::Parts(parts), Some(part)) if parts.len() < MAX_PARTS => parts.push(part),
            (scope, _) => *scope = Self::Whole,
        }
    }

    /// The blocks that none of the parts touches. Empty while the length is not known: such a stream is read from its
    /// start.
    pub(crate) fn outside(&self, layout: &Layout) -> BlockSet {
        let (Self::Parts(parts), Some(blocks), Some(length)) =
            (self, layout.blocks(), layout.length())
        else {
            return BlockSet::new();
        };
        let mut outside = BlockSet::all(blocks);
        for (first, last) in parts {
            let end = last.map_or(length, |last| last.saturating_add(1).min(length));
            if *first < end {
                let block = |at| layout.block_at(at).map_or(blocks, |block| block.0);
                outside.remove_run(block(*first)..block(end - 1).saturating_add(1));
            }
        }
        outside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    /// The blocks of a version that are not outside.
    fn wanted(parts: &[Part], length: u64) -> Vec<u32> {
        let mut scope = Scope::Parts(Vec::new());
        for part in parts {
            scope.add(Some(*part));
        }
        let layout = Layout::of_length(length).unwrap();
        let outside = scope.outside(&layout);
        let all = BlockSet::all(layout.blocks().unwrap());
        all.minus(&outside).map(|block| block.0).collect()
    }

    #[test]
    fn blocks_that_a_part_touches_are_wanted() {
        let length = 320 * KIB;
        assert_eq!(wanted(&[], length), []);
        assert_eq!(wanted(&[(8 * 32 * KIB, None)], length), [8, 9]);
        assert_eq!(wanted(&[(32 * KIB, Some(64 * KIB - 1))], length), [1]);
        assert_eq!(wanted(&[(32 * KIB - 1, Some(64 * KIB))], length), [0, 1, 2]);
        assert_eq!(wanted(&[(length - 1, None), (0, Some(0))], length), [0, 9]);
        let beyond = [(length, None), (u64::MAX, Some(u64::MAX))];
        assert_eq!(wanted(&beyond, length), []);
    }

    #[test]
    fn one_who_wants_all_or_too_many_parts_make_it_the_whole() {
        let layout = Layout::of_length(1 << 20).unwrap();
        let mut scope = Scope::Parts(vec![(0, Some(0))]);
        scope.add(None);
        scope.add(Some((0, Some(0))));
        assert!(scope.outside(&layout).is_empty());
        let mut scope = Scope::Parts(Vec::new());
        for first in 0..=MAX_PARTS as u64 {
            assert!(!scope.outside(&layout).is_empty());
            scope.add(Some((first, Some(first))));
        }
        assert!(scope.outside(&layout).is_empty());
    }

    #[test]
    fn a_stream_has_nothing_outside() {
        let scope = Scope::Parts(vec![(5, Some(6))]);
        assert!(scope.outside(&Layout::of_stream()).is_empty());
    }
}
