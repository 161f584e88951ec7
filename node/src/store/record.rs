//! How the index frames what it keeps: version ‖ kind ‖ length ‖ check ‖ body.
//!
//! The check is there because a disk can change bytes that nobody wrote; a record that fails it is not
//! believed, and neither is the task that it belongs to.

use dfnode_tracker::{Meta, wire};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::about::About;

/// The version of every record that this program writes.
pub(super) const RECORD_VERSION: u8 = 1;
/// Bytes of BLAKE3 that guard a record against accidents.
const CHECK_BYTES: usize = 8;
const HEADER_BYTES: usize = 1 + 1 + 4 + CHECK_BYTES;
/// The largest body: a bitmap of the largest file fits.
const MAX_RECORD_BYTES: usize = 4 * 1024 * 1024;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A [`TaskRecord`].
    Task = 1,
    /// The blocks of a task that are durable.
    Have = 2,
    /// A signed batch of digests.
    Batch = 3,
}

/// A task as the index keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TaskRecord {
    /// Names the task's file; never used twice.
    pub(super) generation: u64,
    /// When somebody last used it, in milliseconds since 1970.
    pub(super) used_at_ms: u64,
    /// Whether the whole was checked.
    pub(super) complete: bool,
    pub(super) meta: Meta,
    pub(super) about: About,
}

/// A record that is not one of ours, or not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record of the index is damaged or of another version")]
pub(super) struct BadRecord;

/// Frames a value; `None` if it is larger than any record may be.
pub(super) fn frame<T: Serialize>(kind: Kind, value: &T) -> Option<Vec<u8>> {
    let body = wire::encode_body(value);
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= MAX_RECORD_BYTES)?;
    let mut record = Vec::with_capacity(HEADER_BYTES + body.len());
    record.extend_from_slice(&[RECORD_VERSION, kind as u8]);
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(&check(kind, &body));
    record.extend_from_slice(&body);
    Some(record)
}

/// Reads a value back.
pub(super) fn unframe<T: DeserializeOwned>(kind: Kind, record: &[u8]) -> Result<T, BadRecord> {
    let (header, body) = record
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(BadRecord)?;
    let [version, found, length @ .., _, _, _, _, _, _, _, _] = *header;
    let is_ours = version == RECORD_VERSION
        && found == kind as u8
        && u32::from_le_bytes(length) as usize == body.len()
        && body.len() <= MAX_RECORD_BYTES
        && header[HEADER_BYTES - CHECK_BYTES..] == check(kind, body);
    if is_ours {
        wire::decode_body(body).map_err(|_| BadRecord)
    } else {
        Err(BadRecord)
    }
}

pub(super) fn check(kind: Kind, body: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[kind as u8]);
    hasher.update(body);
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_reads_back(runs in proptest::collection::vec(any::<(u32, u64, String)>(), 0..20)) {
            let record = frame(Kind::Have, &runs).expect("small");
            prop_assert_eq!(unframe::<Vec<(u32, u64, String)>>(Kind::Have, &record), Ok(runs));
            prop_assert_eq!(unframe::<Vec<(u32, u64, String)>>(Kind::Batch, &record), Err(BadRecord));
        }

        #[test]
        fn one_changed_bit_is_noticed(runs in proptest::collection::vec(any::<u32>(), 0..20), at: prop::sample::Index, bit in 0_u8..8) {
            let mut record = frame(Kind::Have, &runs).expect("small");
            let at = at.index(record.len());
            record[at] ^= 1 << bit;
            prop_assert_eq!(unframe::<Vec<u32>>(Kind::Have, &record), Err(BadRecord));
        }

        #[test]
        fn arbitrary_bytes_are_no_record(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(unframe::<TaskRecord>(Kind::Task, &bytes), Err(BadRecord));
        }
    }
}
