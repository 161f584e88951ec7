//! The control stream of a link: messages in order, bounded both ways.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use dfnode_tracker::wire::MAX_MESSAGE_BYTES;
use quinn::{RecvStream, SendStream};
use tokio::sync::mpsc;

use super::arrival::{Arrival, Arrivals};
use super::close::Close;
use super::frame::{self, FrameError};
use super::link::Link;

/// Messages that may wait for the peer. One that reads nothing for so long is dropped.
const MAX_QUEUED_MESSAGES: usize = 4096;
/// Their bytes.
const MAX_QUEUED_BYTES: usize = 16 * 1024 * 1024;
/// Messages written in one go.
const BATCH: usize = 32;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendMessageError {
    /// The link is closed; `LinkDown` follows or was told.
    #[error("the link is closed")]
    Closed,
    /// The peer does not read what it is sent. The link was closed for it.
    #[error("the peer does not read its messages")]
    Overflow,
    /// The message is longer than any may be. The link is as before.
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
}

/// The way in to the control stream's writer.
#[derive(Debug)]
pub(crate) struct Queue {
    messages: mpsc::Sender<Bytes>,
    bytes: AtomicUsize,
}

impl Queue {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Bytes>) {
        let (messages, receiver) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let bytes = AtomicUsize::new(0);
        (Self { messages, bytes }, receiver)
    }

    pub(crate) fn push(&self, message: Bytes) -> Result<(), SendMessageError> {
        let length = message.len();
        if length > MAX_MESSAGE_BYTES {
            return Err(SendMessageError::TooLong(length));
        }
        let before = self.bytes.fetch_add(length, Ordering::Relaxed);
        let pushed = if before + length > MAX_QUEUED_BYTES {
            Err(SendMessageError::Overflow)
        } else {
            self.messages
                .try_send(message)
                .map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => SendMessageError::Overflow,
                    mpsc::error::TrySendError::Closed(_) => SendMessageError::Closed,
                })
        };
        if pushed.is_err() {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
        }
        pushed
    }
}

/// Writes `first` (if any) and then the queue's messages until the stream ends.
pub(crate) async fn write(
    link: Link,
    mut messages: mpsc::Receiver<Bytes>,
    mut send: SendStream,
    first: Option<Bytes>,
) -> Result<(), Close> {
    if let Some(first) = first {
        send.write_chunk(first).await.map_err(|_| Close::Unwanted)?;
    }
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            taken = messages.recv_many(&mut batch, BATCH) => debug_assert!(taken > 0),
            _ = link.connection().closed() => return Ok(()),
        }
        let bytes: usize = batch.iter().map(Bytes::len).sum();
        let mut chunks: Vec<Bytes> = batch
            .drain(..)
            .flat_map(|message| [frame::prefix(message.len()), message])
            .collect();
        let written = send.write_all_chunks(&mut chunks).await;
        link.queue().bytes.fetch_sub(bytes, Ordering::Relaxed);
        written.map_err(|_| Close::Unwanted)?;
    }
}

/// Hands the peer's messages on, in their order, until the stream ends.
pub(crate) async fn read(
    link: Link,
    mut recv: RecvStream,
    arrivals: Arrivals,
) -> Result<(), Close> {
    let from = link.peer();
    loop {
        let bytes =
            frame::read(&mut recv, MAX_MESSAGE_BYTES)
                .await
                .map_err(|error| match error {
                    FrameError::Ended => Close::Unwanted,
                    FrameError::TooLong(_) => Close::Violation,
                })?;
        arrivals.send(Arrival::Message { from, bytes }).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_in_messages_and_in_bytes() {
        let (queue, _receiver) = Queue::new();
        for _ in 0..MAX_QUEUED_MESSAGES {
            queue.push(Bytes::from_static(b"x")).unwrap();
        }
        assert_eq!(
            queue.push(Bytes::from_static(b"x")),
            Err(SendMessageError::Overflow)
        );

        let (queue, _receiver) = Queue::new();
        let large = Bytes::from(vec![0; MAX_MESSAGE_BYTES]);
        for _ in 0..MAX_QUEUED_BYTES / MAX_MESSAGE_BYTES {
            queue.push(large.clone()).unwrap();
        }
        assert_eq!(
            queue.push(Bytes::from_static(b"x")),
            Err(SendMessageError::Overflow)
        );
    }

    #[test]
    fn a_message_too_long_for_the_peer_is_not_queued() {
        let (queue, _receiver) = Queue::new();
        let long = Bytes::from(vec![0; MAX_MESSAGE_BYTES + 1]);
        assert!(matches!(
            queue.push(long),
            Err(SendMessageError::TooLong(_))
        ));
        assert_eq!(queue.bytes.load(Ordering::Relaxed), 0);
    }
}
