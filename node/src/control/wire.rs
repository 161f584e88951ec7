//! What the two sides of the socket say to each other.
//!
//! A frame is one byte of version, four bytes of length (little endian) and that many bytes of JSON.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::get::{
    GetError, GetProgress, GetRequest, GetSummary, PeerView, RemoveError, RemoveOutcome,
    RemoveRequest, Status, TaskView,
};
use dfnode_tracker::{TaskId, VersionId};

/// The version that this program speaks.
pub(super) const VERSION: u8 = 1;

/// Version and length.
pub(super) const HEADER_BYTES: usize = 5;

/// The longest request: one with a bundle of certificates.
pub(super) const MAX_REQUEST_BYTES: usize = 2 * 1024 * 1024;

/// The longest answer: a list of every peer of a large cluster.
pub(super) const MAX_REPLY_BYTES: usize = 32 * 1024 * 1024;

/// What a caller asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Request {
    Get(Box<GetRequest>),
    Status,
    Peers,
    Tasks,
    Remove(RemoveRequest),
    Shutdown,
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reply {
    /// One of the answers to [`Request::Get`].
    Download(News),
    Status(Box<Status>),
    Peers(Vec<PeerView>),
    Tasks(Vec<TaskView>),
    Removed(Result<RemoveOutcome, RemoveError>),
    Stopping,
    /// The request is not one, or not for this caller.
    Refused(String),
}

/// What happens to a download.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum News {
    /// The frame carries the file.
    Started {
        id: String,
        task: TaskId,
        version: VersionId,
        length: Option<u64>,
    },
    Progress(GetProgress),
    Restarted,
    Done(GetSummary),
    Failed(GetError),
    /// Nothing new, but the node lives.
    Waiting,
}

/// What the first bytes of a frame tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u8,
    pub(super) length: u32,
}

impl Header {
    pub(super) const fn parse(bytes: [u8; HEADER_BYTES]) -> Self {
        let [version, a, b, c, d] = bytes;
        Self {
            version,
            length: u32::from_le_bytes([a, b, c, d]),
        }
    }
}

/// The whole frame of `message`; `None` if it is too long for one.
pub(super) fn encode<T: Serialize>(message: &T, max_bytes: usize) -> Option<Vec<u8>> {
    let mut frame = vec![VERSION, 0, 0, 0, 0];
    serde_json::to_writer(&mut frame, message).ok()?;
    let length = frame.len() - HEADER_BYTES;
    if length > max_bytes {
        return None;
    }
    frame[1..HEADER_BYTES].copy_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
    Some(frame)
}

/// What the body of a frame says.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body)
}
