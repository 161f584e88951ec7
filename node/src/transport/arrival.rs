//! What comes in, in one line.
//!
//! One bounded queue for everything: whatever a peer sent in an order arrives in that order, a link's blocks
//! before its end. The blocks in it are bounded in bytes, so little ever stands before a message.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use dfnode_gossip::PeerId;
use dfnode_tracker::BlockDigest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::block_header::BlockHeader;
use super::close::Close;
use super::link::Link;
use super::seal::PacketKind;
use super::sync_stream::SyncReply;

/// Arrivals that may wait for the node's loop; then links wait, and packets are dropped.
const MAX_WAITING: usize = 4096;
/// The part of the line that packets, which anybody can send fast, must leave free.
const KEPT_FROM_PACKETS: usize = MAX_WAITING / 4;

/// Something came.
#[derive(Debug)]
pub enum Arrival {
    /// A sealed packet: whole, authentic, not seen before.
    Packet {
        /// Which machine it is for.
        kind: PacketKind,
        /// Who sealed it, as far as the cluster key can tell.
        from: PeerId,
        /// Where it came from.
        addr: SocketAddr,
        /// Its body.
        bytes: Bytes,
    },
    /// A peer is linked. For each peer, this and `LinkDown` alternate.
    LinkUp(Link),
    /// A peer's link ended; all that came over it was told before.
    LinkDown {
        /// Whose.
        peer: PeerId,
    },
    /// A message on a link.
    Message {
        /// From whom.
        from: PeerId,
        /// Its bytes.
        bytes: Bytes,
    },
    /// Bytes of a block come in: told at its first ones, then every 100 ms at most.
    Flow {
        /// From whom.
        from: PeerId,
        /// Of which block.
        header: BlockHeader,
    },
    /// A block came in completely. Whether it is the right one is for others to say.
    Block {
        /// From whom.
        from: PeerId,
        /// Which one it is said to be.
        header: BlockHeader,
        /// Its bytes.
        body: Bytes,
        /// Their digest.
        digest: BlockDigest,
        /// The memory that they take, free again when this is dropped.
        room: Room,
    },
    /// A block's stream broke after its first bytes.
    BlockLost {
        /// From whom.
        from: PeerId,
        /// Which block.
        header: BlockHeader,
    },
    /// A peer opens a push/pull.
    Sync {
        /// From whom.
        from: PeerId,
        /// Its first words.
        open: Bytes,
        /// Where the answer goes.
        reply: SyncReply,
    },
}

struct Waiting {
    arrival: Arrival,
    /// The room that a message takes in memory, free again once the node's loop has it.
    _room: Option<OwnedSemaphorePermit>,
}

/// A block's part of the memory for blocks that are on their way in.
#[derive(Debug)]
pub struct Room {
    _of_all: OwnedSemaphorePermit,
    _of_link: OwnedSemaphorePermit,
}

/// What the blocks of one link may take of that memory: nobody can take it all.
#[derive(Debug)]
pub(crate) struct Share(Arc<Semaphore>);

impl Default for Share {
    fn default() -> Self {
        Self(Arc::new(units(MAX_LINK_ROOM_BYTES)))
    }
}

/// The way in.
#[derive(Clone)]
pub(crate) struct Arrivals {
    line: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    message_room: Arc<Semaphore>,
}

/// The way out. When it is dropped, the transport stops.
pub struct Incoming {
    line: mpsc::Receiver<Waiting>,
    _stop: tokio_util::sync::DropGuard,
}

/// Bytes of blocks that may be in flight to the node's loop, over all links.
const MAX_BLOCK_ROOM_BYTES: usize = 128 * 1024 * 1024;
/// Those of one link: all the blocks of the largest size that are asked of one peer at a time. Without room here they would
/// lie in the link's window, and messages behind them.
const MAX_LINK_ROOM_BYTES: usize = MAX_BLOCK_ROOM_BYTES / 2;
/// Bytes of messages and push/pulls that may wait for the node's loop.
const MAX_MESSAGE_ROOM_BYTES: usize = 64 * 1024 * 1024;
const ROOM_UNIT_BYTES: u32 = 1024;

/// A new line; the transport stops when its way out is dropped.
pub(crate) fn line(stop: tokio_util::sync::DropGuard) -> (Arrivals, Incoming) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let arrivals = Arrivals {
        line: sender,
        room: Arc::new(units(MAX_BLOCK_ROOM_BYTES)),
        message_room: Arc::new(units(MAX_MESSAGE_ROOM_BYTES)),
    };
    let incoming = Incoming {
        line: receiver,
        _stop: stop,
    };
    (arrivals, incoming)
}

impl Arrivals {
    /// Waits for a place. An error means that nobody listens any more.
    pub(crate) async fn send(&self, arrival: Arrival) -> Result<(), Close> {
        let room = match arrival.message_bytes() {
            0 => None,
            bytes => Some(take(&self.message_room, bytes).await?),
        };
        let waiting = Waiting {
            arrival,
            _room: room,
        };
        self.line.send(waiting).await.map_err(|_| Close::Shutdown)
    }

    /// Drops the packet if too much waits already.
    pub(crate) fn offer_packet(&self, packet: Arrival) {
        if self.line.capacity() > KEPT_FROM_PACKETS {
            // Full or closed: then the packet is lost, as packets are.
            let _ = self.line.try_send(Waiting {
                arrival: packet,
                _room: None,
            });
        }
    }

    /// Room for a block of `length` bytes on the link that has this share.
    pub(crate) async fn room_for(&self, share: &Share, length: u32) -> Result<Room, Close> {
        // The share first: who waits for his own stands in nobody's way.
        let of_link = take(&share.0, length as usize).await?;
        let of_all = take(&self.room, length as usize).await?;
        Ok(Room {
            _of_all: of_all,
            _of_link: of_link,
        })
    }
}

impl Arrival {
    /// What it holds in memory that is neither a packet nor a block.
    fn message_bytes(&self) -> usize {
        match self {
            Self::Message { bytes, .. } => bytes.len(),
            Self::Sync { open, .. } => open.len(),
            Self::Packet { .. }
            | Self::LinkUp(_)
            | Self::LinkDown { .. }
            | Self::Flow { .. }
            | Self::Block { .. }
            | Self::BlockLost { .. } => 0,
        }
    }
}

const fn units(bytes: usize) -> Semaphore {
    Semaphore::const_new(bytes / ROOM_UNIT_BYTES as usize)
}

async fn take(room: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Close> {
    let units = u32::try_from(bytes)
        .unwrap_or(u32::MAX)
        .div_ceil(ROOM_UNIT_BYTES);
    Arc::clone(room)
        .acquire_many_owned(units)
        .await
        .map_err(|_| Close::Shutdown)
}

impl Incoming {
    /// What came next; `None` once the transport has shut down. Cancel safe.
    pub async fn recv(&mut self) -> Option<Arrival> {
        self.line.recv().await.map(|waiting| waiting.arrival)
    }

    /// What came next, if it is there already.
    pub fn try_recv(&mut self) -> Option<Arrival> {
        self.line.try_recv().ok().map(|waiting| waiting.arrival)
    }
}

impl std::fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Arrivals")
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Incoming")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dfnode_tracker::MAX_BLOCK_BYTES;
    use dfnode_tracker::wire::MAX_MESSAGE_BYTES;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    fn new_line() -> (Arrivals, Incoming) {
        line(tokio_util::sync::CancellationToken::new().drop_guard())
    }

    #[tokio::test]
    async fn one_link_cannot_hold_the_room_of_all() {
        let (arrivals, _incoming) = new_line();
        let (greedy, other) = (Share::default(), Share::default());
        let mut held = Vec::new();
        while let Ok(room) = timeout(SOON, arrivals.room_for(&greedy, MAX_BLOCK_BYTES)).await {
            held.push(room.unwrap());
        }
        let bytes = held.len() * MAX_BLOCK_BYTES as usize;
        assert_eq!(bytes, MAX_LINK_ROOM_BYTES);
        for _ in 0..held.len() {
            let room = timeout(SOON, arrivals.room_for(&other, MAX_BLOCK_BYTES)).await;
            held.push(room.expect("there is room for others").unwrap());
        }
        held.remove(0);
        let room = timeout(SOON, arrivals.room_for(&greedy, MAX_BLOCK_BYTES)).await;
        assert!(room.is_ok(), "what was let go is there again");
    }

    #[tokio::test]
    async fn messages_that_wait_are_bounded_in_bytes() {
        let (arrivals, mut incoming) = new_line();
        let from = PeerId::from_bytes([1; 32]);
        let bytes = Bytes::from(vec![0; MAX_MESSAGE_BYTES]);
        let send = async || {
            let bytes = bytes.clone();
            timeout(SOON, arrivals.send(Arrival::Message { from, bytes })).await
        };
        for _ in 0..MAX_MESSAGE_ROOM_BYTES / MAX_MESSAGE_BYTES {
            assert!(send().await.is_ok());
        }
        assert!(send().await.is_err());
        assert!(incoming.try_recv().is_some());
        assert!(send().await.is_ok());
    }
}
