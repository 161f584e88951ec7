//! Cuts the bytes of one source answer into blocks.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use dfnode_tracker::{BlockIndex, Layout};

/// Collects the bytes of an answer until a block is whole.
pub(super) struct Cutter {
    layout: Layout,
    run: Range<u32>,
    next: u32,
    /// Bytes of the answer that lie before the run.
    skip: u64,
    buffer: BytesMut,
}

impl Cutter {
    /// Cuts the blocks of `run` from an answer whose first byte lies at `offset` of the resource.
    pub(super) fn new(layout: Layout, run: Range<u32>, offset: u64) -> Self {
        let start = layout.range_of(BlockIndex(run.start)).start;
        Self {
            layout,
            next: run.start,
            run,
            skip: start.saturating_sub(offset),
            buffer: BytesMut::new(),
        }
    }

    /// Takes as much of `bytes` as the current block lacks; returns the block once it is whole.
    ///
    /// Call it until `bytes` is empty or the run [is done](Self::is_done).
    pub(super) fn push(&mut self, bytes: &mut Bytes) -> Option<(BlockIndex, Bytes)> {
        let skipped = usize::try_from(self.skip)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let _before_the_run = bytes.split_to(skipped);
        self.skip -= skipped as u64;
        if self.is_done() || bytes.is_empty() {
            return None;
        }
        let wanted = self.block_bytes();
        if self.buffer.is_empty() {
            self.buffer.reserve(wanted);
        }
        let taken = bytes.len().min(wanted.saturating_sub(self.buffer.len()));
        self.buffer.extend_from_slice(&bytes.split_to(taken));
        (self.buffer.len() >= wanted).then(|| self.cut())
    }

    /// The last, shorter block of a stream that has ended here.
    pub(super) fn finish(&mut self) -> Option<(BlockIndex, Bytes)> {
        let is_last_of_stream = self.layout.length().is_none() && !self.buffer.is_empty();
        is_last_of_stream.then(|| self.cut())
    }

    /// Whether every block of the run was cut.
    pub(super) const fn is_done(&self) -> bool {
        self.next >= self.run.end
    }

    fn block_bytes(&self) -> usize {
        let range = self.layout.range_of(BlockIndex(self.next));
        usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
    }

    fn cut(&mut self) -> (BlockIndex, Bytes) {
        let block = BlockIndex(self.next);
        self.next += 1;
        (block, self.buffer.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_all(cutter: &mut Cutter, answer: &[u8], chunk: usize) -> Vec<(u32, Vec<u8>)> {
        let mut cut = Vec::new();
        for part in answer.chunks(chunk) {
            let mut bytes = Bytes::copy_from_slice(part);
            while !bytes.is_empty() && !cutter.is_done() {
                cut.extend(
                    cutter
                        .push(&mut bytes)
                        .map(|(block, bytes)| (block.0, bytes.to_vec())),
                );
            }
        }
        cut.extend(
            cutter
                .finish()
                .map(|(block, bytes)| (block.0, bytes.to_vec())),
        );
        cut
    }

    fn file(length: usize) -> Vec<u8> {
        (0..length)
            .map(|index| u8::try_from(index % 251).unwrap())
            .collect()
    }

    #[test]
    fn blocks_are_the_same_however_the_answer_is_chunked() {
        let file = file(5_000_000);
        let layout = Layout::of_length(5_000_000).unwrap();
        let blocks = layout.blocks().unwrap();
        for chunk in [1_000, 65_536, 300_000, 5_000_000] {
            let cut = cut_all(&mut Cutter::new(layout, 0..blocks, 0), &file, chunk);
            assert_eq!(cut.len(), blocks as usize);
            assert!(cut.iter().flat_map(|(_, bytes)| bytes).eq(&file));
        }
    }

    #[test]
    fn a_run_in_the_middle_skips_what_lies_before_and_stops_at_its_end() {
        let file = file(5_000_000);
        let layout = Layout::of_length(5_000_000).unwrap();
        let cut = cut_all(&mut Cutter::new(layout, 3..5, 0), &file, 70_001);
        assert_eq!(
            cut.iter().map(|(block, _)| *block).collect::<Vec<_>>(),
            [3, 4]
        );
        let range = layout.range_of_run(&(3..5));
        let (start, end) = (
            usize::try_from(range.start).unwrap(),
            usize::try_from(range.end).unwrap(),
        );
        assert!(
            cut.iter()
                .flat_map(|(_, bytes)| bytes)
                .eq(&file[start..end])
        );
    }

    #[test]
    fn the_end_of_a_stream_cuts_its_last_block() {
        let file = file(600_000);
        let layout = Layout::of_stream();
        let mut cutter = Cutter::new(layout, 0..u32::MAX, 0);
        let cut = cut_all(&mut cutter, &file, 10_000);
        assert_eq!(cut.len(), 3);
        assert!(cut.iter().flat_map(|(_, bytes)| bytes).eq(&file));
    }
}
