//! Frames over a local socket, with a file beside a frame where one belongs to it.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::wire::{HEADER_BYTES, Header, VERSION};

/// Bytes asked of the kernel at a time.
const READ_BYTES: usize = 16 * 1024;

/// Files taken at a time: a frame carries at most one.
const FILES_PER_READ: usize = 1;

/// Files that may wait for their frames; further ones are closed.
const MAX_WAITING_FILES: usize = 4;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side hung up in the middle of a frame, or the socket broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The other side is of another version. Nothing of what it said was read.
    #[error(
        "the other side speaks version {theirs} of the control protocol, this program version {VERSION}"
    )]
    Version {
        /// The version that it speaks.
        theirs: u8,
    },
    /// The frame is longer than any frame may be.
    #[error("a frame of {0} bytes")]
    TooLong(u32),
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    buffer: Vec<u8>,
    files: VecDeque<OwnedFd>,
    takes_files: bool,
}

impl Channel {
    /// An end that closes whatever file it is sent.
    pub(super) const fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            files: VecDeque::new(),
            takes_files: false,
        }
    }

    /// An end that keeps the files it is sent for [`Self::take_file`].
    pub(super) const fn taking_files(stream: UnixStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            files: VecDeque::new(),
            takes_files: true,
        }
    }

    /// The body of the next frame; `None` if the other side hung up between frames.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn read(&mut self, max_bytes: usize) -> Result<Option<Vec<u8>>, FrameError> {
        loop {
            if let Some(body) = split_frame(&mut self.buffer, max_bytes)? {
                return Ok(Some(body));
            }
            if self.fill().await? == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Resolves when the other side hung up, or said something when it was not its turn.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn hung_up(&mut self) {
        if self.buffer.is_empty() {
            // Bytes, an end and an error all mean the same here.
            let _ = self.fill().await;
        }
    }

    /// The file that came with the frame read last.
    pub(super) fn take_file(&mut self) -> Option<OwnedFd> {
        self.files.pop_front()
    }

    /// Sends a whole frame, and `file` with its first byte.
    pub(super) async fn write(
        &mut self,
        frame: &[u8],
        file: Option<BorrowedFd<'_>>,
    ) -> Result<(), FrameError> {
        let mut sent = 0;
        while sent < frame.len() {
            let file = file.filter(|_| sent == 0);
            sent += self
                .stream
                .async_io(Interest::WRITABLE, || {
                    send(self.stream.as_fd(), &frame[sent..], file)
                })
                .await?;
        }
        Ok(())
    }

    async fn fill(&mut self) -> Result<usize, FrameError> {
        let Self {
            stream,
            buffer,
            files,
            takes_files,
        } = self;
        let taken = stream
            .async_io(Interest::READABLE, || {
                if *takes_files {
                    receive_with_files(stream.as_fd(), buffer, files)
                } else {
                    receive(stream.as_fd(), buffer)
                }
            })
            .await?;
        Ok(taken)
    }
}

/// Takes the first frame's body out of what came; `None` while it is not whole.
pub(super) fn split_frame(
    buffer: &mut Vec<u8>,
    max_bytes: usize,
) -> Result<Option<Vec<u8>>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let header = Header::parse(*header);
    if header.version != VERSION {
        return Err(FrameError::Version {
            theirs: header.version,
        });
    }
    let length = usize::try_from(header.length).unwrap_or(usize::MAX);
    if length > max_bytes {
        return Err(FrameError::TooLong(header.length));
    }
    if buffer.len() - HEADER_BYTES < length {
        return Ok(None);
    }
    let rest = buffer.split_off(HEADER_BYTES + length);
    let mut body = std::mem::replace(buffer, rest);
    body.drain(..HEADER_BYTES);
    Ok(Some(body))
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_PER_READ))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = file.map(|file| [file]);
    if let Some(files) = &files {
        ancillary.push(SendAncillaryMessage::ScmRights(files));
    }
    Ok(sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?)
}

/// Without room for files the kernel closes those that come.
fn receive(socket: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut bytes = [0; READ_BYTES];
    let mut none = RecvAncillaryBuffer::default();
    let taken = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut none,
        RecvFlags::empty(),
    )?
    .bytes;
    buffer.extend_from_slice(&bytes[..taken]);
    Ok(taken)
}

fn receive_with_files(
    socket: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    files: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut bytes = [0; READ_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_PER_READ))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let taken = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?
    .bytes;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            let room = MAX_WAITING_FILES.saturating_sub(files.len());
            files.extend(sent.take(room));
        }
    }
    buffer.extend_from_slice(&bytes[..taken]);
    Ok(taken)
}
