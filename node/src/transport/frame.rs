//! Frames on a stream: length 4 (little endian) ‖ bytes.

use bytes::Bytes;
use quinn::{ReadError, ReadExactError, RecvStream};

/// What is set aside before any byte of a frame came: its announced length may be a lie.
const FIRST_BYTES: usize = 64 * 1024;

/// Why no frame could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// The stream or the connection ended, between frames or within one.
    #[error("the stream ended")]
    Ended,
    /// The sender's fault.
    #[error("a frame of {0} bytes is longer than it may be")]
    TooLong(usize),
}

impl From<ReadError> for FrameError {
    fn from(_: ReadError) -> Self {
        Self::Ended
    }
}

impl From<ReadExactError> for FrameError {
    fn from(_: ReadExactError) -> Self {
        Self::Ended
    }
}

/// What stands before a frame of `length` bytes.
pub(crate) fn prefix(length: usize) -> Bytes {
    let length = u32::try_from(length).expect("the bounds on frames are far below 4 GiB");
    Bytes::copy_from_slice(&length.to_le_bytes())
}

/// Reads one frame of at most `limit` bytes. Not cancel safe.
pub(crate) async fn read(recv: &mut RecvStream, limit: usize) -> Result<Bytes, FrameError> {
    let mut prefix = [0; 4];
    recv.read_exact(&mut prefix).await?;
    let length = u32::from_le_bytes(prefix) as usize;
    if length > limit {
        return Err(FrameError::TooLong(length));
    }
    let mut frame = Vec::with_capacity(length.min(FIRST_BYTES));
    while frame.len() < length {
        let chunk = recv
            .read_chunk(length - frame.len(), true)
            .await?
            .ok_or(FrameError::Ended)?;
        frame.extend_from_slice(&chunk.bytes);
    }
    Ok(frame.into())
}
