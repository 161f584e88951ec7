//! Blocks: each travels on a stream of its own, so that none waits for another's lost packet.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dfnode_gossip::Now;
use dfnode_tracker::BlockDigest;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::arrival::{Arrival, Arrivals, Share};
use super::block_header::{BlockHeader, HEADER_BYTES, HeaderError};
use super::close::Close;
use super::endpoint::{CONNECTION_WINDOW_BYTES, MAX_BLOCK_STREAMS};
use super::link::Link;
use crate::ambient::Clock;

/// How often the arrival of more bytes is told.
const FLOW_INTERVAL: Duration = Duration::from_millis(100);
/// A stream that brings nothing for so long is given up. The session gave up on it long before.
const STREAM_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes hashed at a time, while the next ones are on their way: enough for BLAKE3 to use the processor's
/// vector units, and at most some 30 µs on the executor.
const HASH_STRIDE: usize = 64 * 1024;
/// Packets' worth of data taken from QUIC at a time.
const READ_BATCH: usize = 32;

/// What the other side is told when a stream ends early.
const CODE_UNWANTED: VarInt = VarInt::from_u32(1);
const CODE_GIVEN_UP: VarInt = VarInt::from_u32(2);
const CODE_UNKNOWN_KIND: VarInt = VarInt::from_u32(3);

/// Why a block was not delivered. Nothing of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendBlockError {
    /// The receiver does not want it any more.
    #[error("the receiver does not want the block")]
    Stopped,
    /// The link ended.
    #[error("the link is closed")]
    Closed,
    /// The header names another length than the body has.
    #[error("the block's header does not fit its body")]
    WrongLength,
}

/// Resets the stream unless the block was delivered: whoever drops the future takes the block back.
struct ResetOnDrop(SendStream);

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        // Fails if the stream ended, which is as good.
        let _ = self.0.reset(CODE_GIVEN_UP);
    }
}

/// What of a link's window blocks may fill; the rest is kept for messages.
///
/// QUIC's windows count what was written, not what was sent: once blocks have filled one, a message would wait until
/// enough of them is acknowledged (seconds on a busy link), whatever its priority.
const BLOCK_WINDOW_BYTES: u32 = CONNECTION_WINDOW_BYTES / 4 * 3;
const WINDOW_UNIT_BYTES: u32 = 1024;

/// A link's blocks on their way out: they leave in their order.
///
/// Side by side, all would be complete only at the end; one after the other, the first can travel on long before
/// the last. QUIC's own way to this (no fairness among streams) would let messages wait as well.
#[derive(Debug)]
pub(crate) struct Outbox {
    turn: AtomicU32,
    room: Semaphore,
}

impl Default for Outbox {
    fn default() -> Self {
        let units = BLOCK_WINDOW_BYTES / WINDOW_UNIT_BYTES;
        Self {
            turn: AtomicU32::new(0),
            room: Semaphore::new(units as usize),
        }
    }
}

impl Outbox {
    /// A lower priority than all before; it starts over after a billion blocks.
    fn next_priority(&self) -> i32 {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % (1 << 30);
        -i32::try_from(turn).unwrap_or(i32::MAX)
    }

    /// Room for a block until it is acknowledged, in the order of asking.
    async fn room_for(&self, header: &BlockHeader) -> Result<SemaphorePermit<'_>, SendBlockError> {
        // One unit more for the header.
        let units = header.length.div_ceil(WINDOW_UNIT_BYTES).saturating_add(1);
        let room = self.room.acquire_many(units).await;
        room.map_err(|_| SendBlockError::Closed)
    }
}

/// Sends one block; resolves when the receiver's transport has all of it.
pub(crate) async fn send(
    connection: &Connection,
    outbox: &Outbox,
    header: BlockHeader,
    body: Bytes,
) -> Result<(), SendBlockError> {
    if body.len() != header.length as usize {
        return Err(SendBlockError::WrongLength);
    }
    let _room = tokio::select! {
        room = outbox.room_for(&header) => room?,
        _ = connection.closed() => return Err(SendBlockError::Closed),
    };
    let stream = connection
        .open_uni()
        .await
        .map_err(|_| SendBlockError::Closed)?;
    let mut stream = ResetOnDrop(stream);
    // Fails only for a closed stream, which the next write tells as well.
    let _ = stream.0.set_priority(outbox.next_priority());
    let mut chunks = [Bytes::copy_from_slice(&header.encode()), body];
    stream
        .0
        .write_all_chunks(&mut chunks)
        .await
        .map_err(|error| match error {
            quinn::WriteError::Stopped(_) => SendBlockError::Stopped,
            quinn::WriteError::ConnectionLost(_)
            | quinn::WriteError::ClosedStream
            | quinn::WriteError::ZeroRttRejected => SendBlockError::Closed,
        })?;
    stream.0.finish().map_err(|_| SendBlockError::Closed)?;
    match stream.0.stopped().await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(SendBlockError::Stopped),
        Err(_) => Err(SendBlockError::Closed),
    }
}

/// Takes the peer's blocks until the connection ends, then waits for those that are half told.
pub(crate) async fn accept(link: Link, arrivals: Arrivals) -> Result<(), Close> {
    let mut streams = JoinSet::new();
    let ended = loop {
        tokio::select! {
            // QUIC counts a stream as done when its last byte was read, we when its block was taken.
            stream = link.connection().accept_uni(), if streams.len() < MAX_BLOCK_STREAMS as usize => match stream {
                Ok(stream) => {
                    streams.spawn(receive(link.clone(), stream, arrivals.clone()));
                }
                Err(_) => break Ok(()),
            },
            Some(received) = streams.join_next() => {
                if let Err(close) = received.unwrap_or(Err(Close::Unwanted)) {
                    close.close(link.connection());
                    break Err(close);
                }
            }
        }
    };
    while streams.join_next().await.is_some() {}
    ended
}

/// One block; an error is the peer's fault and costs it the link.
async fn receive(link: Link, mut stream: RecvStream, arrivals: Arrivals) -> Result<(), Close> {
    let Some(header) = read_header(&mut stream).await? else {
        return Ok(());
    };
    let from = link.peer();
    let entry = link.receiving().enter(&header);
    let reading = read_body(&mut stream, &link, &header, &arrivals);
    let outcome = tokio::select! {
        outcome = reading => outcome,
        () = entry.stopped() => {
            // Fails if the stream ended, which is as good.
            let _ = stream.stop(CODE_UNWANTED);
            return Ok(());
        }
    };
    drop(entry);
    match outcome {
        Ok(()) => expect_end(&mut stream).await,
        Err(BodyError::Lost) => {
            let _ = stream.stop(CODE_GIVEN_UP);
            arrivals.send(Arrival::BlockLost { from, header }).await
        }
        Err(BodyError::Fatal(close)) => {
            arrivals.send(Arrival::BlockLost { from, header }).await?;
            Err(close)
        }
    }
}

/// `None` if the stream ended before its header, or is of a kind that this node does not know.
async fn read_header(stream: &mut RecvStream) -> Result<Option<BlockHeader>, Close> {
    let mut bytes = [0; HEADER_BYTES];
    let read = tokio::time::timeout(STREAM_PATIENCE, stream.read_exact(&mut bytes)).await;
    if !matches!(read, Ok(Ok(()))) {
        let _ = stream.stop(CODE_GIVEN_UP);
        return Ok(None);
    }
    match BlockHeader::decode(&bytes) {
        Ok(header) => Ok(Some(header)),
        Err(HeaderError::UnknownKind(_)) => {
            let _ = stream.stop(CODE_UNKNOWN_KIND);
            Ok(None)
        }
        Err(HeaderError::Length(_)) => Err(Close::Violation),
    }
}

enum BodyError {
    /// The stream broke or stalled.
    Lost,
    /// The link must end.
    Fatal(Close),
}

impl From<Close> for BodyError {
    fn from(close: Close) -> Self {
        Self::Fatal(close)
    }
}

/// Reads, hashes and tells the block as soon as its last byte is there.
async fn read_body(
    stream: &mut RecvStream,
    link: &Link,
    header: &BlockHeader,
    arrivals: &Arrivals,
) -> Result<(), BodyError> {
    let (from, header) = (link.peer(), *header);
    arrivals.send(Arrival::Flow { from, header }).await?;
    let mut told = Clock::now();
    let room = arrivals
        .room_for(&link.receiving().share, header.length)
        .await?;
    let mut body = Body::new(header.length as usize);
    while !body.is_complete() {
        let mut chunks = [const { Bytes::new() }; READ_BATCH];
        let read = tokio::time::timeout(STREAM_PATIENCE, stream.read_chunks(&mut chunks)).await;
        let Ok(Ok(Some(count))) = read else {
            return Err(BodyError::Lost);
        };
        for chunk in &chunks[..count] {
            body.push(chunk)?;
        }
        if !body.is_complete() && flow_is_due(&mut told) {
            arrivals.send(Arrival::Flow { from, header }).await?;
        }
    }
    let (body, digest) = body.finish();
    let block = Arrival::Block {
        from,
        header,
        body,
        digest,
        room,
    };
    Ok(arrivals.send(block).await?)
}

fn flow_is_due(told: &mut Now) -> bool {
    let now = Clock::now();
    let due = now - *told >= FLOW_INTERVAL;
    if due {
        *told = now;
    }
    due
}

/// The end is often in the last packet; a stream dropped before it would look refused to its sender.
async fn expect_end(stream: &mut RecvStream) -> Result<(), Close> {
    match tokio::time::timeout(STREAM_PATIENCE, stream.read_chunk(1, true)).await {
        Ok(Ok(Some(_))) => Err(Close::Violation),
        Ok(Ok(None) | Err(_)) | Err(_) => Ok(()),
    }
}

/// A block on its way in, hashed as it grows.
pub(super) struct Body {
    bytes: BytesMut,
    length: usize,
    hasher: blake3::Hasher,
    hashed: usize,
}

impl Body {
    pub(super) fn new(length: usize) -> Self {
        Self {
            bytes: BytesMut::with_capacity(length),
            length,
            hasher: blake3::Hasher::new(),
            hashed: 0,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.bytes.len() == self.length
    }

    /// More bytes than announced are the sender's fault.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), Close> {
        if self.bytes.len() + chunk.len() > self.length {
            return Err(Close::Violation);
        }
        self.bytes.extend_from_slice(chunk);
        if self.bytes.len() - self.hashed >= HASH_STRIDE {
            self.hash();
        }
        Ok(())
    }

    fn hash(&mut self) {
        self.hasher.update(&self.bytes[self.hashed..]);
        self.hashed = self.bytes.len();
    }

    pub(super) fn finish(mut self) -> (Bytes, BlockDigest) {
        self.hash();
        let digest = BlockDigest(*self.hasher.finalize().as_bytes());
        (self.bytes.freeze(), digest)
    }
}

/// The blocks that a peer is sending, so that one can be stopped.
#[derive(Debug, Default)]
pub(crate) struct Receiving {
    share: Share,
    entries: std::sync::Mutex<Vec<(BlockHeader, CancellationToken)>>,
}

/// A block's place in [`Receiving`], until dropped.
pub(crate) struct Entry<'a> {
    receiving: &'a Receiving,
    token: CancellationToken,
}

impl Receiving {
    fn enter(&self, header: &BlockHeader) -> Entry<'_> {
        let token = CancellationToken::new();
        self.lock().push((*header, token.clone()));
        Entry {
            receiving: self,
            token,
        }
    }

    pub(crate) fn stop(&self, task: &dfnode_tracker::TaskId, block: dfnode_tracker::BlockIndex) {
        for (header, token) in self.lock().iter() {
            if header.task == *task && header.block == block {
                token.cancel();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(BlockHeader, CancellationToken)>> {
        // A list of tokens is sound after every single step.
        self.entries
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Entry<'_> {
    async fn stopped(&self) {
        self.token.cancelled().await;
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // A token cannot be compared; cancelled, it is told from the others. Those that `stop` cancelled go too.
        self.token.cancel();
        self.receiving
            .lock()
            .retain(|(_, token)| !token.is_cancelled());
    }
}

#[cfg(test)]
mod tests {
    use dfnode_tracker::{BlockIndex, MAX_BLOCK_BYTES, TaskId, VersionId};
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn blocks_leave_a_part_of_the_window_to_messages() {
        let outbox = Outbox::default();
        let header = BlockHeader {
            task: TaskId::from_bytes([1; 32]),
            version: VersionId::from_bytes([2; 32]),
            block: BlockIndex(0),
            length: MAX_BLOCK_BYTES,
        };
        let mut held = Vec::new();
        while let Some(room) = outbox.room_for(&header).now_or_never() {
            held.push(room.unwrap());
        }
        let held_bytes = held.len() * MAX_BLOCK_BYTES as usize;
        assert!(
            (1..=BLOCK_WINDOW_BYTES as usize).contains(&held_bytes),
            "{held_bytes}"
        );
        held.pop();
        assert!(outbox.room_for(&header).now_or_never().is_some());
    }

    #[test]
    fn a_body_is_hashed_as_a_whole_whatever_its_pieces() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
        for piece in [1, 1350, 65_536, 300_000] {
            let mut body = Body::new(bytes.len());
            for chunk in bytes.chunks(piece) {
                assert!(!body.is_complete());
                body.push(chunk).unwrap();
            }
            assert!(body.is_complete());
            assert_eq!(body.push(b"x"), Err(Close::Violation));
            let (whole, digest) = body.finish();
            assert_eq!(whole, bytes);
            assert_eq!(digest, BlockDigest::of(&bytes));
        }
    }
}
