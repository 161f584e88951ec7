//! Whether an authority holds the bytes that are here under a digest.
//!
//! Whoever knows a digest could set up a server that says yes to everything. So a yes of one authority opens
//! nothing that was read from another before it has shown a few random places of the content.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use dfnode_tracker::{BlockIndex, Meta, SourceFailure, TaskId};
use tokio::time::timeout;

use super::Parts;
use super::access::Answer;
use crate::ambient;
use crate::source::SourceRequest;

/// Places that are compared.
const SAMPLES: usize = 3;
/// Bytes compared at each.
const SAMPLE_BYTES: u64 = 4096;

/// How long a place that is compared may take to come: as long as a download lives on whose client has left.
const PATIENCE: Duration = Duration::from_mins(10);

/// Compares random places of what `request` gives with what is here, or will be.
pub(super) async fn ask(
    parts: &Parts,
    task: TaskId,
    meta: &Meta,
    request: SourceRequest,
) -> Answer {
    for _ in 0..SAMPLES {
        let Some((block, range)) = pick(meta, ambient::seed()) else {
            // Nothing can be learnt from an empty content.
            return Answer::Same;
        };
        let ours = match of_ours(parts, task, meta, block, &range).await {
            Ok(ours) => ours,
            Err(what) => return Answer::Failed(SourceFailure::Transient { what }),
        };
        match parts.source.sample(&request, range).await {
            Ok(theirs) if theirs == ours => {}
            Ok(_) => return Answer::Other,
            Err(failure) => return Answer::Failed(failure),
        }
    }
    Answer::Same
}

/// A random place within one block.
fn pick(meta: &Meta, seed: u64) -> Option<(BlockIndex, Range<u64>)> {
    let length = meta.layout.length().filter(|length| *length > 0)?;
    let last_start = length.saturating_sub(SAMPLE_BYTES);
    let start = seed % (last_start + 1);
    let block = meta.layout.block_at(start)?;
    let end = (start + SAMPLE_BYTES).min(meta.layout.range_of(block).end);
    Some((block, start..end))
}

/// Our own bytes of a place, once they are here.
async fn of_ours(
    parts: &Parts,
    task: TaskId,
    meta: &Meta,
    block: BlockIndex,
    range: &Range<u64>,
) -> Result<Bytes, String> {
    let removed = || "the task was removed meanwhile".to_owned();
    let mut progress = parts.store.progress(task).ok_or_else(removed)?;
    let here = progress.wait_for(|progress| progress.gone || progress.written.contains(block));
    let is_gone = timeout(PATIENCE, here)
        .await
        .map_err(|_elapsed| "the place to compare is not here yet".to_owned())?
        .map_or(true, |progress| progress.gone);
    if is_gone {
        return Err(removed());
    }
    let bytes = parts.store.read(task, meta.version, block).await;
    let bytes = bytes.map_err(|error| error.to_string())?;
    let base = meta.layout.range_of(block).start;
    let at = |offset: u64| usize::try_from(offset - base).unwrap_or(usize::MAX);
    if at(range.end) > bytes.len() {
        return Err("a block is shorter than it should be".to_owned());
    }
    Ok(bytes.slice(at(range.start)..at(range.end)))
}

#[cfg(test)]
mod tests {
    use dfnode_tracker::{Digest, SourceHead, Validators};
    use proptest::prelude::*;

    use super::*;

    fn meta(length: u64) -> Meta {
        let head = SourceHead {
            length: Some(length),
            validators: Validators::default(),
            ranges: true,
            digest: Some(Digest::Sha256([1; 32])),
            authority: Some("https://h:443".to_owned()),
            public: true,
        };
        Meta::of(&head, [0; 32]).unwrap()
    }

    #[test]
    fn an_empty_content_has_no_place_to_show() {
        assert_eq!(pick(&meta(0), 7), None);
    }

    proptest! {
        #[test]
        fn a_place_lies_within_its_block(length in 1_u64..3_000_000_000, seed: u64) {
            let meta = meta(length);
            let (block, range) = pick(&meta, seed).unwrap();
            let whole = meta.layout.range_of(block);
            prop_assert!(whole.start <= range.start && range.end <= whole.end);
            prop_assert!(!range.is_empty() && range.end - range.start <= SAMPLE_BYTES);
        }
    }
}
