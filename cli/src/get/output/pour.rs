//! Bytes that come through a pipe, where the node has no room to keep them.

use std::io::{self, Read as _};
use std::time::Duration;

use dfnode_node::get::CacheFile;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio_util::sync::CancellationToken;

use super::check;

/// Bytes taken at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// How long to wait for bytes before looking whether anybody still wants them.
const LOOK: Duration = Duration::from_millis(100);

/// The end of a pipe, and how far into the content it is.
#[derive(Debug)]
pub(super) struct Pour {
    pipe: CacheFile,
    at: u64,
}

impl Pour {
    /// A node's file, if it is a pipe; it begins with byte `first` of the content.
    pub(super) fn of(file: &CacheFile, first: u64) -> Option<Self> {
        file.is_pipe().then(|| Self {
            pipe: file.clone(),
            at: first,
        })
    }

    /// Takes bytes until the pipe is at byte `end` of the content; `take` is told where each piece lies. Returns
    /// early if the node gave up: why, it tells next.
    pub(super) fn pour<E: From<io::Error>>(
        &mut self,
        end: u64,
        stop: &CancellationToken,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = vec![0; BUFFER_BYTES];
        while self.at < end {
            check(stop)?;
            if !self.is_ready()? {
                continue;
            }
            let ask = usize::try_from(end - self.at)
                .unwrap_or(usize::MAX)
                .min(BUFFER_BYTES);
            let count = (&*self.pipe.0).read(&mut buffer[..ask])?;
            if count == 0 {
                break;
            }
            take(self.at, &buffer[..count])?;
            self.at += count as u64;
        }
        Ok(())
    }

    fn is_ready(&self) -> io::Result<bool> {
        let look = Timespec::try_from(LOOK).map_err(io::Error::other)?;
        let mut pipes = [PollFd::new(&self.pipe.0, PollFlags::IN)];
        match poll(&mut pipes, Some(&look)) {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The error of an output that did not get all it was promised.
pub(super) fn ended_early() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the node sent less than it told",
    )
}
