//! Fuzz target for what the index on disk says.

use dfnode_tracker::{Holds, MAX_BLOCKS, SignedBatch, TaskId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::index::indexed;
use super::record::{Kind, RECORD_VERSION, TaskRecord, check, frame, unframe};
use crate::fuzzing::input::Input;

/// Records: none is believed whose check fails, one that is read means the same once written again, and a task's blocks
/// lie within its version.
pub fn record(bytes: &[u8]) {
    for kind in [Kind::Task, Kind::Have, Kind::Batch] {
        // Eight bytes of a hash do not come about by chance.
        assert!(unframe::<TaskRecord>(kind, bytes).is_err());
    }
    let mut input = Input(bytes);
    let number = u64::from_le_bytes(input.array());
    let task = framed(Kind::Task, input.chunk());
    let holds = framed(Kind::Have, input.chunk());
    let batch = framed(Kind::Batch, input.0);
    reads_back::<TaskRecord>(Kind::Task, &task);
    reads_back::<Holds>(Kind::Have, &holds);
    reads_back::<SignedBatch>(Kind::Batch, &batch);
    let batches = vec![(number, unframe(Kind::Batch, &batch).ok())];
    let id = TaskId::from_bytes([1; 32]);
    if let Ok(indexed) = indexed(id, &task, &holds, batches) {
        assert!(indexed.record.meta.is_sound());
        let blocks = indexed.record.meta.layout.blocks().unwrap_or(MAX_BLOCKS);
        let end = indexed.have.runs().last().map_or(0, |run| run.end);
        assert!(end <= blocks);
        assert!(indexed.next_batch > number, "a batch would be written over");
    }
}

/// A body with a header that fits it.
fn framed(kind: Kind, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a small body");
    let mut record = vec![RECORD_VERSION, kind as u8];
    record.extend(length.to_le_bytes());
    record.extend(check(kind, body));
    record.extend(body);
    record
}

fn reads_back<T>(kind: Kind, record: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    if let Ok(value) = unframe::<T>(kind, record) {
        let again = frame(kind, &value).expect("it came in less");
        assert!(again.len() <= record.len());
        assert_eq!(unframe::<T>(kind, &again), Ok(value));
    }
}
