//! Runs of bytes of a file: sorted, and apart from each other.

use std::ops::Range;

/// How many bytes lie in runs.
pub(super) fn bytes_in(runs: &[Range<u64>]) -> u64 {
    runs.iter().map(|run| run.end - run.start).sum()
}

/// The parts of sorted `runs` that lie within `window`.
pub(super) fn clip(runs: &[Range<u64>], window: &Range<u64>) -> Vec<Range<u64>> {
    runs.iter()
        .map(|run| run.start.max(window.start)..run.end.min(window.end))
        .filter(|run| run.start < run.end)
        .collect()
}

/// The parts of sorted `runs` that sorted `known` does not cover.
pub(super) fn beyond(runs: &[Range<u64>], known: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut fresh = Vec::new();
    let mut known = known.iter().peekable();
    for run in runs {
        let mut start = run.start;
        while let Some(next) = known.peek() {
            if next.end <= start {
                known.next();
                continue;
            }
            if next.start >= run.end {
                break;
            }
            if next.start > start {
                fresh.push(start..next.start);
            }
            start = next.end.min(run.end);
            if next.end > run.end {
                break;
            }
            known.next();
        }
        if start < run.end {
            fresh.push(start..run.end);
        }
    }
    fresh
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs_of(bits: &[bool]) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for (index, _) in bits.iter().enumerate().filter(|(_, bit)| **bit) {
            let index = index as u64;
            match runs.last_mut() {
                Some(run) if run.end == index => run.end += 1,
                _ => runs.push(index..index + 1),
            }
        }
        runs
    }

    proptest! {
        #[test]
        fn fresh_runs_are_what_was_not_known(
            pairs in proptest::collection::vec((any::<bool>(), any::<bool>()), 0..64),
        ) {
            let have: Vec<bool> = pairs.iter().map(|(have, _)| *have).collect();
            let knew: Vec<bool> = pairs.iter().map(|(have, knew)| *have && *knew).collect();
            let fresh: Vec<bool> = pairs.iter().map(|(have, knew)| *have && !*knew).collect();
            let found = beyond(&runs_of(&have), &runs_of(&knew));
            let bytes: Vec<u64> = found.into_iter().flatten().collect();
            let model: Vec<u64> = runs_of(&fresh).into_iter().flatten().collect();
            prop_assert_eq!(bytes, model);
        }
    }
}
