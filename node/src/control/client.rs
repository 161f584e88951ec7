//! A caller's end: asks a daemon on this host.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::channel::{Channel, FrameError};
use super::listener::with_short_path;
use super::wire::{MAX_REPLY_BYTES, MAX_REQUEST_BYTES, News, Reply, Request, decode, encode};
use crate::get::{
    CacheFile, GetError, GetEvent, GetRequest, PeerView, RemoveError, RemoveOutcome, RemoveRequest,
    Started, Status, TaskView,
};

/// A node that says nothing for so long, not even that it has nothing to say, is taken for dead.
const PATIENCE: Duration = Duration::from_secs(15);

/// Between two tries to get into a node's full queue of callers.
const RETRY_CONNECT: Duration = Duration::from_millis(10);

/// Why a node could not be asked. It tells nothing about the request itself.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no node listens there")]
    Absent,
    /// The socket cannot be opened.
    #[error("cannot reach the node")]
    Connect(#[source] io::Error),
    /// The node is of another version.
    #[error(transparent)]
    Frame(FrameError),
    /// The node died, or hung up.
    #[error("the node hung up")]
    Gone,
    /// The node says nothing.
    #[error("the node does not answer")]
    Silent,
    /// The node takes no such request from this caller.
    #[error("{0}")]
    Refused(String),
    /// The node's answer makes no sense.
    #[error("the node gave an answer that makes no sense")]
    Nonsense,
    /// The request does not fit a frame.
    #[error("the request is too long")]
    TooLong,
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(_) => Self::Gone,
            FrameError::Version { .. } | FrameError::TooLong(_) => Self::Frame(error),
        }
    }
}

/// Why a download over the socket ended.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The download itself failed: asking another node would not help.
    #[error(transparent)]
    Get(GetError),
    /// The node was lost; another one can resume the download.
    #[error("lost the node: {0}")]
    Lost(#[source] ClientError),
}

/// A connection to a node on this host.
#[derive(Debug)]
pub struct Client {
    channel: Channel,
}

/// A download that a daemon does. Dropping it leaves the download.
#[derive(Debug)]
pub struct RemoteDownload {
    channel: Channel,
    ended: bool,
}

impl Client {
    /// Connects to the node whose socket lies at `path`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Absent`] if there is none, or it died; [`ClientError::Connect`] otherwise.
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = connect(path).await.map_err(not_connected)?;
        Ok(Self {
            channel: Channel::taking_files(stream),
        })
    }

    /// The node at a glance.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if the node could not be asked.
    pub async fn status(&mut self) -> Result<Status, ClientError> {
        let reply = self.ask(&Request::Status).await?;
        let Reply::Status(status) = reply else {
            return Err(unexpected(reply));
        };
        Ok(*status)
    }

    /// Every peer that the node knows.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if the node could not be asked.
    pub async fn peers(&mut self) -> Result<Vec<PeerView>, ClientError> {
        let reply = self.ask(&Request::Peers).await?;
        let Reply::Peers(peers) = reply else {
            return Err(unexpected(reply));
        };
        Ok(peers)
    }

    /// The tasks that the node stores, as far as this user may see them.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if the node could not be asked.
    pub async fn tasks(&mut self) -> Result<Vec<TaskView>, ClientError> {
        let reply = self.ask(&Request::Tasks).await?;
        let Reply::Tasks(tasks) = reply else {
            return Err(unexpected(reply));
        };
        Ok(tasks)
    }

    /// Makes the node forget a task.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if the node could not be asked; inside, its own answer.
    pub async fn remove(
        &mut self,
        request: RemoveRequest,
    ) -> Result<Result<RemoveOutcome, RemoveError>, ClientError> {
        let reply = self.ask(&Request::Remove(request)).await?;
        let Reply::Removed(outcome) = reply else {
            return Err(unexpected(reply));
        };
        Ok(outcome)
    }

    /// Makes the node stop.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] for all but root and the node's own user.
    pub async fn shutdown(&mut self) -> Result<(), ClientError> {
        let reply = self.ask(&Request::Shutdown).await?;
        let Reply::Stopping = reply else {
            return Err(unexpected(reply));
        };
        Ok(())
    }

    /// Begins a download.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if the node could not be asked; its own errors come as events.
    pub async fn get(mut self, request: GetRequest) -> Result<RemoteDownload, ClientError> {
        self.send(&Request::Get(Box::new(request))).await?;
        Ok(RemoteDownload {
            channel: self.channel,
            ended: false,
        })
    }

    async fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        self.send(request).await?;
        read_reply(&mut self.channel).await
    }

    async fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let frame = encode(request, MAX_REQUEST_BYTES).ok_or(ClientError::TooLong)?;
        timeout(PATIENCE, self.channel.write(&frame, None))
            .await
            .map_err(|_| ClientError::Silent)??;
        Ok(())
    }
}

impl RemoteDownload {
    /// Waits for the next event; `None` after `Done` or an error.
    pub async fn next(&mut self) -> Option<Result<GetEvent, RemoteError>> {
        if self.ended {
            return None;
        }
        let event = self.read_event().await;
        self.ended = matches!(event, Ok(GetEvent::Done(_)) | Err(_));
        Some(event)
    }

    async fn read_event(&mut self) -> Result<GetEvent, RemoteError> {
        loop {
            let reply = read_reply(&mut self.channel)
                .await
                .map_err(RemoteError::Lost)?;
            let Reply::Download(news) = reply else {
                return Err(RemoteError::Lost(unexpected(reply)));
            };
            return match news {
                News::Started {
                    id,
                    task,
                    version,
                    length,
                } => {
                    let file = self.channel.take_file();
                    let file = file.ok_or(RemoteError::Lost(ClientError::Nonsense))?;
                    let file = CacheFile(Arc::new(File::from(file)));
                    Ok(GetEvent::Started(Started {
                        id,
                        task,
                        version,
                        length,
                        file,
                    }))
                }
                News::Progress(progress) => Ok(GetEvent::Progress(progress)),
                News::Restarted => Ok(GetEvent::Restarted),
                News::Done(summary) => Ok(GetEvent::Done(summary)),
                News::Failed(error) => Err(RemoteError::Get(error)),
                News::Waiting => continue,
            };
        }
    }
}

/// Connects without ever blocking: a node that is stopped leaves its queue of callers full.
async fn connect(path: &Path) -> io::Result<UnixStream> {
    let dial = async {
        loop {
            match with_short_path(path, connect_now) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    sleep(RETRY_CONNECT).await;
                }
                Err(error) => return Err(error),
                Ok(stream) => return UnixStream::from_std(stream),
            }
        }
    };
    timeout(PATIENCE, dial)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn connect_now(path: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

fn not_connected(error: io::Error) -> ClientError {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    if matches!(error.kind(), NotFound | ConnectionRefused | NotADirectory) {
        ClientError::Absent
    } else {
        ClientError::Connect(error)
    }
}

async fn read_reply(channel: &mut Channel) -> Result<Reply, ClientError> {
    let body = timeout(PATIENCE, channel.read(MAX_REPLY_BYTES))
        .await
        .map_err(|_| ClientError::Silent)??;
    decode(&body.ok_or(ClientError::Gone)?).map_err(|_| ClientError::Nonsense)
}

fn unexpected(reply: Reply) -> ClientError {
    if let Reply::Refused(why) = reply {
        ClientError::Refused(why)
    } else {
        ClientError::Nonsense
    }
}
