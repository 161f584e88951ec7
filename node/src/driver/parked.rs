//! Bytes that wait for the machine's verdict.
//!
//! A block was hashed where it arrived; whether its digest is the right one only the tracker knows, and
//! sometimes only once a signed batch comes. Until then the bytes are here, seen by nobody.

use std::collections::BTreeMap;

use bytes::Bytes;
use dfnode_tracker::{BlockIndex, Origin, TaskId};
use tokio::sync::OwnedSemaphorePermit;

/// Bytes of peers' blocks that may wait at once. Beyond, a block is dropped and asked for again.
pub(super) const MAX_PARKED_BYTES: usize = 128 * 1024 * 1024;

/// Blocks by who brought them.
#[derive(Default)]
pub(super) struct Parked {
    blocks: BTreeMap<(TaskId, Origin, BlockIndex), Entry>,
    bytes: usize,
}

struct Entry {
    bytes: Bytes,
    /// Source reads wait for room before they read on; room comes back when the block leaves.
    _room: Option<OwnedSemaphorePermit>,
}

/// There is no room for the block now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Parked {
    /// Keeps a block until its verdict.
    pub(super) fn park(
        &mut self,
        task: TaskId,
        origin: Origin,
        block: BlockIndex,
        bytes: Bytes,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Full> {
        if room.is_none() && self.bytes + bytes.len() > MAX_PARKED_BYTES {
            return Err(Full);
        }
        self.bytes += bytes.len();
        let replaced = self
            .blocks
            .insert((task, origin, block), Entry { bytes, _room: room });
        self.bytes -= replaced.map_or(0, |old| old.bytes.len());
        Ok(())
    }

    /// Hands out a block whose verdict fell.
    pub(super) fn take(
        &mut self,
        task: TaskId,
        origin: Origin,
        block: BlockIndex,
    ) -> Option<Bytes> {
        let entry = self.blocks.remove(&(task, origin, block))?;
        self.bytes -= entry.bytes.len();
        Some(entry.bytes)
    }

    /// Forgets every block of a task.
    pub(super) fn drop_task(&mut self, task: TaskId) {
        self.blocks.retain(|key, entry| {
            let stays = key.0 != task;
            if !stays {
                self.bytes -= entry.bytes.len();
            }
            stays
        });
    }

    /// How many bytes wait.
    #[cfg(test)]
    const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use dfnode_gossip::PeerId;

    use super::*;

    const TASK: TaskId = TaskId::from_bytes([1; 32]);
    const PEER: Origin = Origin::Peer(PeerId::from_bytes([2; 32]));

    #[test]
    fn a_block_is_handed_out_once_and_its_room_comes_back() {
        let mut parked = Parked::default();
        parked
            .park(TASK, PEER, BlockIndex(3), Bytes::from_static(b"four"), None)
            .unwrap();
        assert_eq!(parked.bytes(), 4);
        assert_eq!(
            parked.take(TASK, PEER, BlockIndex(3)),
            Some(Bytes::from_static(b"four"))
        );
        assert_eq!(parked.take(TASK, PEER, BlockIndex(3)), None);
        assert_eq!(parked.bytes(), 0);
    }

    #[test]
    fn what_peers_send_cannot_fill_the_memory() {
        let mut parked = Parked::default();
        let big = Bytes::from(vec![0; MAX_PARKED_BYTES]);
        parked.park(TASK, PEER, BlockIndex(0), big, None).unwrap();
        assert_eq!(
            parked.park(TASK, PEER, BlockIndex(1), Bytes::from_static(b"x"), None),
            Err(Full)
        );
        parked.drop_task(TASK);
        assert_eq!(parked.bytes(), 0);
    }
}
