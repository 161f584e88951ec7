//! What stands before a block on its stream.

use dfnode_tracker::{BlockIndex, MAX_BLOCK_BYTES, TaskId, VersionId};

/// Bytes of an encoded header: kind 1 ‖ task 32 ‖ version 32 ‖ block 4 ‖ length 4, little endian.
pub(crate) const HEADER_BYTES: usize = 1 + 32 + 32 + 4 + 4;

/// The kind of one-way stream that carries a block. Streams of other kinds are refused one by one, so that a
/// newer node can try them.
pub(crate) const BLOCK_STREAM: u8 = 1;

/// Which block a stream carries, as its sender says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Of which task.
    pub task: TaskId,
    /// Of which version of it.
    pub version: VersionId,
    /// Which one.
    pub block: BlockIndex,
    /// How many bytes it has; 1 to [`MAX_BLOCK_BYTES`].
    pub length: u32,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("unknown kind of stream {0}")]
    UnknownKind(u8),
    #[error("a block of {0} bytes")]
    Length(u32),
}

impl BlockHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = BLOCK_STREAM;
        bytes[1..33].copy_from_slice(self.task.as_bytes());
        bytes[33..65].copy_from_slice(self.version.as_bytes());
        bytes[65..69].copy_from_slice(&self.block.0.to_le_bytes());
        bytes[69..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderError> {
        if bytes[0] != BLOCK_STREAM {
            return Err(HeaderError::UnknownKind(bytes[0]));
        }
        let length = u32::from_le_bytes(field(bytes, 69));
        if !(1..=MAX_BLOCK_BYTES).contains(&length) {
            return Err(HeaderError::Length(length));
        }
        Ok(Self {
            task: TaskId::from_bytes(field(bytes, 1)),
            version: VersionId::from_bytes(field(bytes, 33)),
            block: BlockIndex(u32::from_le_bytes(field(bytes, 65))),
            length,
        })
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("the fields lie within the header")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> BlockHeader {
        BlockHeader {
            task: TaskId::from_bytes([0xaa; 32]),
            version: VersionId::from_bytes([0xbb; 32]),
            block: BlockIndex(0x0102_0304),
            length: 256 * 1024,
        }
    }

    #[test]
    fn the_layout_is_as_documented() {
        let expected = format!(
            "01{}{}{}{}",
            "aa".repeat(32),
            "bb".repeat(32),
            "04030201",
            "00000400"
        );
        assert_eq!(hex::encode(header().encode()), expected);
        assert_eq!(BlockHeader::decode(&header().encode()), Ok(header()));
    }

    #[test]
    fn a_block_is_neither_empty_nor_larger_than_allowed() {
        for length in [0, MAX_BLOCK_BYTES + 1, u32::MAX] {
            let bytes = BlockHeader { length, ..header() }.encode();
            assert_eq!(
                BlockHeader::decode(&bytes),
                Err(HeaderError::Length(length))
            );
        }
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same(bytes in proptest::collection::vec(any::<u8>(), HEADER_BYTES)) {
            let bytes: [u8; HEADER_BYTES] = bytes.try_into().unwrap();
            if let Ok(header) = BlockHeader::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }
    }
}
