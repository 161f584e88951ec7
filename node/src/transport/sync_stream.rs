//! Push/pull: three frames on a two-way stream. Their bytes are gossip's business.

use std::time::Duration;

use bytes::Bytes;
use dfnode_gossip::MAX_SYNC_BYTES;
use quinn::{Connection, RecvStream, SendStream};
use tokio::task::JoinSet;

use super::arrival::{Arrival, Arrivals};
use super::close::Close;
use super::frame::{self, FrameError};
use super::link::Link;

/// How long each of the three steps may take: 4 MiB at 3 Mbit/s.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Push/pulls that one peer may have open with us.
const MAX_SYNCS: usize = 4;

/// Why a push/pull came to nothing. The link lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// The other side let go of it, or the link ended.
    #[error("the push/pull was broken off")]
    Ended,
    /// The other side took too long.
    #[error("the push/pull took too long")]
    TimedOut,
    /// The other side's frame is longer than any may be.
    #[error("the push/pull brought too many bytes")]
    TooLong,
}

impl From<FrameError> for SyncError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Ended => Self::Ended,
            FrameError::TooLong(_) => Self::TooLong,
        }
    }
}

/// The initiator's side, after the answer came.
#[derive(Debug)]
pub struct SyncAnswer {
    /// What the acceptor answered.
    pub answer: Bytes,
    send: SendStream,
}

impl SyncAnswer {
    /// Sends the last frame; resolves when the acceptor's transport has it.
    ///
    /// # Errors
    ///
    /// If it did not get through; what the answer brought counts all the same.
    pub async fn finish(mut self, last: Vec<u8>) -> Result<(), SyncError> {
        step(async {
            write(&mut self.send, last).await?;
            self.send.finish().map_err(|_| SyncError::Ended)?;
            match self.send.stopped().await {
                Ok(None) => Ok(()),
                Ok(Some(_)) | Err(_) => Err(SyncError::Ended),
            }
        })
        .await
    }
}

/// The acceptor's side, after the first frame came. Dropping it breaks the push/pull off.
#[derive(Debug)]
pub struct SyncReply {
    send: SendStream,
    recv: RecvStream,
}

impl SyncReply {
    /// Answers, and waits for the initiator's last frame.
    ///
    /// # Errors
    ///
    /// If the last frame did not come.
    pub async fn answer(mut self, answer: Vec<u8>) -> Result<Bytes, SyncError> {
        step(async {
            write(&mut self.send, answer).await?;
            self.send.finish().map_err(|_| SyncError::Ended)?;
            Ok(frame::read(&mut self.recv, MAX_SYNC_BYTES).await?)
        })
        .await
    }
}

/// Opens a push/pull and waits for the answer.
pub(crate) async fn open(connection: &Connection, first: Vec<u8>) -> Result<SyncAnswer, SyncError> {
    step(async {
        let (mut send, mut recv) = connection.open_bi().await.map_err(|_| SyncError::Ended)?;
        // Fails only for a closed stream, which the next write tells as well.
        let _ = send.set_priority(super::CONTROL_PRIORITY);
        write(&mut send, first).await?;
        let answer = frame::read(&mut recv, MAX_SYNC_BYTES).await?;
        Ok(SyncAnswer { answer, send })
    })
    .await
}

/// Takes the peer's push/pulls until the connection ends.
pub(crate) async fn accept(link: Link, arrivals: Arrivals) -> Result<(), Close> {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            stream = link.connection().accept_bi(), if streams.len() < MAX_SYNCS => match stream {
                Ok((send, recv)) => {
                    streams.spawn(receive(link.clone(), send, recv, arrivals.clone()));
                }
                Err(_) => break,
            },
            Some(_) = streams.join_next() => {}
        }
    }
    while streams.join_next().await.is_some() {}
    Ok(())
}

async fn receive(link: Link, send: SendStream, mut recv: RecvStream, arrivals: Arrivals) {
    // Fails only for a closed stream, which the next write tells as well.
    let _ = send.set_priority(super::CONTROL_PRIORITY);
    let first = step(async { Ok(frame::read(&mut recv, MAX_SYNC_BYTES).await?) }).await;
    match first {
        Ok(open) => {
            let arrival = Arrival::Sync {
                from: link.peer(),
                open,
                reply: SyncReply { send, recv },
            };
            // If nobody listens any more, the link is about to end.
            let _ = arrivals.send(arrival).await;
        }
        Err(error) => {
            tracing::debug!(peer = %link.peer().short(), %error, "a push/pull did not begin");
        }
    }
}

async fn write(send: &mut SendStream, bytes: Vec<u8>) -> Result<(), SyncError> {
    let mut chunks = [frame::prefix(bytes.len()), bytes.into()];
    send.write_all_chunks(&mut chunks)
        .await
        .map_err(|_| SyncError::Ended)
}

async fn step<T>(work: impl Future<Output = Result<T, SyncError>>) -> Result<T, SyncError> {
    tokio::time::timeout(STEP_TIMEOUT, work)
        .await
        .unwrap_or(Err(SyncError::TimedOut))
}
