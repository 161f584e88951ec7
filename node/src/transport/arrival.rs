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
    /// The room that a block takes in memory, free again once the node's loop has it.
    _room: Option<OwnedSemaphorePermit>,
}

/// The way in.
#[derive(Clone)]
pub(crate) struct Arrivals {
    line: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

/// The way out. When it is dropped, the transport stops.
pub struct Incoming {
    line: mpsc::Receiver<Waiting>,
    _stop: tokio_util::sync::DropGuard,
}

/// Bytes of blocks that may be in flight to the node's loop, over all links.
const MAX_BLOCK_ROOM_BYTES: usize = 128 * 1024 * 1024;
const ROOM_UNIT_BYTES: u32 = 1024;

/// A new line; the transport stops when its way out is dropped.
pub(crate) fn line(stop: tokio_util::sync::DropGuard) -> (Arrivals, Incoming) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let arrivals = Arrivals {
        line: sender,
        room: Arc::new(Semaphore::new(
            MAX_BLOCK_ROOM_BYTES / ROOM_UNIT_BYTES as usize,
        )),
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
        self.send_holding(arrival, None).await
    }

    pub(crate) async fn send_holding(
        &self,
        arrival: Arrival,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Close> {
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

    /// Room for a block of `length` bytes.
    pub(crate) async fn room_for(&self, length: u32) -> Result<OwnedSemaphorePermit, Close> {
        Arc::clone(&self.room)
            .acquire_many_owned(length.div_ceil(ROOM_UNIT_BYTES))
            .await
            .map_err(|_| Close::Shutdown)
    }
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
