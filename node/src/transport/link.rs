//! A link: one admitted connection to a peer, with everything that runs over it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfnode_gossip::{Now, PeerId};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::admission::{Admitted, StartId};
use super::arrival::{Arrival, Arrivals};
use super::block_header::BlockHeader;
use super::block_stream::{self, Outbox, Receiving, SendBlockError};
use super::close::Close;
use super::control::{self, Queue, SendMessageError};
use super::demux::canonical;
use super::links::Links;
use super::sync_stream::{self, SyncAnswer, SyncError};

/// An open way to a peer. Cheap to clone; the link ends when it is closed, not when it is dropped.
#[derive(Clone, Debug)]
pub struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    peer: PeerId,
    peer_start: StartId,
    since: Now,
    /// Where the other end is for good: endpoints of ours do not migrate.
    remote: SocketAddr,
    connection: Connection,
    queue: Queue,
    receiving: Receiving,
    outbox: Outbox,
    /// Cancelled once `LinkDown` was told.
    ended: CancellationToken,
}

/// What [`Link::run`] needs beside the link.
#[derive(Debug)]
pub(crate) struct Streams {
    messages: mpsc::Receiver<Bytes>,
    send: SendStream,
    recv: RecvStream,
}

impl Link {
    pub(crate) fn new(admitted: Admitted, since: Now) -> (Self, Streams) {
        let Admitted {
            connection,
            peer,
            peer_start,
            send,
            recv,
        } = admitted;
        let (queue, messages) = Queue::new();
        let link = Self(Arc::new(Inner {
            peer,
            peer_start,
            since,
            remote: canonical(connection.remote_address()),
            connection,
            queue,
            receiving: Receiving::default(),
            outbox: Outbox::default(),
            ended: CancellationToken::new(),
        }));
        let streams = Streams {
            messages,
            send,
            recv,
        };
        (link, streams)
    }

    /// Who is at the other end.
    pub fn peer(&self) -> PeerId {
        self.0.peer
    }

    /// Where the other end is.
    pub fn remote(&self) -> SocketAddr {
        self.0.remote
    }

    /// The address of this host that the link leads from, if the kernel said so.
    pub fn local_ip(&self) -> Option<IpAddr> {
        let ip = self.0.connection.local_ip();
        ip.map(|ip| ip.to_canonical())
    }

    /// QUIC's estimate of the round trip.
    pub fn rtt(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// Whether the connection ended. `LinkDown` follows or was told.
    pub fn is_closed(&self) -> bool {
        self.0.connection.close_reason().is_some()
    }

    /// Bytes sent and received on this link, headers of UDP and IP not counted.
    pub fn bytes(&self) -> LinkBytes {
        let stats = self.0.connection.stats();
        LinkBytes {
            sent: stats.udp_tx.bytes,
            received: stats.udp_rx.bytes,
            lost_packets: stats.path.lost_packets,
        }
    }

    /// How many datagrams came.
    pub(crate) fn datagrams_received(&self) -> u64 {
        self.0.connection.stats().udp_rx.datagrams
    }

    /// Queues a message on the control stream: in order, before all blocks.
    ///
    /// # Errors
    ///
    /// If the link is closed, the message is too long, or the peer has stopped reading; then the link is
    /// closed.
    pub fn try_send(&self, message: Bytes) -> Result<(), SendMessageError> {
        if self.is_closed() {
            return Err(SendMessageError::Closed);
        }
        let sent = self.0.queue.push(message);
        if sent == Err(SendMessageError::Overflow) {
            self.close(Close::Overflow);
        }
        sent
    }

    /// Sends a block; resolves when the receiver's transport has all of it.
    ///
    /// # Errors
    ///
    /// If the receiver stopped it or the link ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes the block back: the receiver sees `BlockLost`, unless all of it was there.
    pub async fn send_block(&self, header: BlockHeader, body: Bytes) -> Result<(), SendBlockError> {
        block_stream::send(&self.0.connection, &self.0.outbox, header, body).await
    }

    /// Opens a push/pull with its first frame and waits for the answer.
    ///
    /// # Errors
    ///
    /// If no answer came; the link lives on unless it ended itself.
    pub async fn sync(&self, open: Vec<u8>) -> Result<SyncAnswer, SyncError> {
        sync_stream::open(&self.0.connection, open).await
    }

    pub(crate) fn close(&self, why: Close) {
        why.close(&self.0.connection);
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.0.connection
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.0.queue
    }

    pub(crate) fn receiving(&self) -> &Receiving {
        &self.0.receiving
    }

    pub(crate) fn peer_start(&self) -> StartId {
        self.0.peer_start
    }

    pub(crate) fn since(&self) -> Now {
        self.0.since
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Resolves once `LinkDown` was told.
    pub(crate) async fn ended(&self) {
        self.0.ended.cancelled().await;
    }

    /// The link's life: told up, served, told down. `before` is the link that it replaces; `first` goes out
    /// before all messages.
    pub(crate) async fn run(
        self,
        streams: Streams,
        before: Option<Self>,
        first: Option<Bytes>,
        links: Arc<Links>,
        arrivals: Arrivals,
    ) {
        if let Some(before) = before {
            before.close(Close::Replaced);
            before.ended().await;
        }
        if arrivals.send(Arrival::LinkUp(self.clone())).await.is_ok() {
            self.serve(streams, first, &arrivals).await;
        }
        self.close(Close::Shutdown);
        // Told before it is forgotten: a link that takes its place waits for this one's end, and then is told up.
        // If nobody listens any more, nobody misses it.
        let _ = arrivals.send(Arrival::LinkDown { peer: self.0.peer }).await;
        links.leave(&self);
        self.0.ended.cancel();
    }

    /// Runs until one of the link's parts ends, then ends the others.
    async fn serve(&self, streams: Streams, first: Option<Bytes>, arrivals: &Arrivals) {
        let mut parts = JoinSet::new();
        let Streams {
            messages,
            send,
            recv,
        } = streams;
        parts.spawn(control::write(self.clone(), messages, send, first));
        parts.spawn(control::read(self.clone(), recv, arrivals.clone()));
        parts.spawn(block_stream::accept(self.clone(), arrivals.clone()));
        parts.spawn(sync_stream::accept(self.clone(), arrivals.clone()));
        while let Some(ended) = parts.join_next().await {
            // A part that panicked is a bug of ours; the link must not live on without it.
            let ended = ended.unwrap_or(Err(Close::Unwanted));
            if ended == Err(Close::Violation) {
                tracing::warn!(peer = %self.0.peer.short(), "the peer broke the protocol");
            }
            self.close(ended.err().unwrap_or(Close::Unwanted));
        }
    }
}

/// What went over a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkBytes {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Packets that were sent and lost.
    pub lost_packets: u64,
}
