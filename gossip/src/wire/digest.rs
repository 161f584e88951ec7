//! Hashes of parts of what a node knows, so that only the parts that differ must travel.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Violation;

/// Into how many parts the members are hashed. More than for events: of a thousand members a few
/// are usually new, and should not bring many others along.
pub(crate) const MEMBER_BUCKETS: usize = 256;
/// Into how many parts the event slots are hashed.
pub(crate) const EVENT_BUCKETS: usize = 64;
/// Bytes of one bucket's hash.
const HASH_BYTES: usize = 4;

/// One hash a bucket: the XOR over what lies in it, so that it follows each change at once.
pub(crate) type Digest<const BUCKETS: usize> = [u32; BUCKETS];

/// A hash of `bytes` for a [`Digest`]. It is no protection: who wants to lie just lies.
pub(crate) fn short_hash(bytes: &[u8]) -> u32 {
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(&blake3::hash(bytes).as_bytes()[..HASH_BYTES]);
    u32::from_be_bytes(hash)
}

/// A set of buckets, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Buckets([u64; 4]);

impl Buckets {
    /// All there are.
    #[cfg(test)]
    pub(crate) const ALL: Self = Self([u64::MAX; 4]);

    /// Those in which two digests differ.
    pub(crate) fn differing<const BUCKETS: usize>(
        ours: &Digest<BUCKETS>,
        theirs: &Digest<BUCKETS>,
    ) -> Self {
        const { assert!(BUCKETS <= 256) };
        let mut words = [0; 4];
        for (bucket, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            if ours != theirs {
                words[bucket / 64] |= 1 << (bucket % 64);
            }
        }
        Self(words)
    }

    pub(crate) fn contains(self, bucket: usize) -> bool {
        self.0
            .get(bucket / 64)
            .is_some_and(|word| word >> (bucket % 64) & 1 == 1)
    }
}

pub(super) fn pack<const BUCKETS: usize>(digest: &Digest<BUCKETS>) -> Bytes {
    digest.iter().flat_map(|hash| hash.to_be_bytes()).collect()
}

pub(super) fn unpack<const BUCKETS: usize>(bytes: &[u8]) -> Result<Digest<BUCKETS>, Violation> {
    let (chunks, []) = bytes.as_chunks::<HASH_BYTES>() else {
        return Err(Violation::Malformed("digest"));
    };
    let chunks: &[[u8; HASH_BYTES]; BUCKETS] = chunks
        .try_into()
        .map_err(|_| Violation::Malformed("digest"))?;
    Ok(chunks.map(u32::from_be_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_buckets_that_differ_are_named() {
        let mut ours = [7; MEMBER_BUCKETS];
        let theirs = ours;
        ours[0] = 1;
        ours[64] = 2;
        ours[255] = 3;
        let differing = Buckets::differing(&ours, &theirs);
        let named: Vec<_> = (0..1000)
            .filter(|bucket| differing.contains(*bucket))
            .collect();
        assert_eq!(named, [0, 64, 255]);
        assert_eq!(unpack(&pack(&ours)), Ok(ours));
        assert!(unpack::<EVENT_BUCKETS>(&pack(&ours)).is_err());
    }
}
