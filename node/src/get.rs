//! What a caller asks a node for, and what it is told while it waits.
//!
//! These are plain values: the same ones serve a program that holds a node in itself and one that asks
//! a daemon over its socket.

mod afterlife;
mod content;
mod download;
mod error;
mod given;
mod stream;
mod view;

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileTypeExt as _;
use std::sync::Arc;
use std::time::Duration;

use dfnode_tracker::{Digest, TaskId, VersionId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;

pub use content::ContentName;
pub(crate) use content::authority;
pub use download::{Download, DownloadSender, Gone};
pub use error::{GetError, RemoveError};
pub use stream::{ByteStream, StreamError};
pub use view::{BytesView, PeerView, Role, Status, TaskView};

/// Who asks: each request is judged by the rights of this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Caller {
    /// The user id, as the kernel tells it.
    pub uid: u32,
}

impl Caller {
    /// Whether this is the superuser.
    pub const fn is_root(self) -> bool {
        self.uid == 0
    }
}

/// Where the bytes of a download may come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourcePolicy {
    /// Peers and, where none has it, the source.
    #[default]
    Auto,
    /// Peers and this host's cache alone: the source is not even asked.
    Never,
    /// The source alone: neither peers nor this host's cache.
    Only,
}

/// One download as the caller wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetRequest {
    /// What to download.
    pub url: Url,
    /// Headers for the source, names in any case, in the order given.
    ///
    /// `Authorization`, `Cookie` and their kin never leave this host but towards the source.
    pub headers: Vec<(String, String)>,
    /// What the whole must hash to, whatever the source or a peer says.
    pub digest: Option<Digest>,
    /// First byte and last byte wanted, both counted in; without the last, to the end.
    pub range: Option<(u64, Option<u64>)>,
    /// Names of query parameters that do not select content.
    pub filter: Vec<String>,
    /// Separates equal URLs with different content.
    pub tag: String,
    /// How old an answer of the source may be to be believed without asking again. `None`: the node's own choice.
    pub max_age: Option<Duration>,
    /// The most this download may receive, in bytes per second.
    pub local_limit: Option<u64>,
    /// When to give up, counted from the request.
    pub timeout: Option<Duration>,
    /// Whether peers or the source are out of the question.
    pub source: SourcePolicy,
    /// Whether the caller takes the bytes from a pipe where this host has no room to keep them: see
    /// [`CacheFile::is_pipe`].
    #[serde(default)]
    pub pipe: bool,
    /// Certificates to trust for this source beside the system's, as PEM.
    #[serde(with = "hex_bytes")]
    pub cacert: Option<Vec<u8>>,
    /// The content's name, where it is named by its digest and the URL only tells where to read it.
    ///
    /// Whoever sets this says that the authority gives this content to this very caller. It is no part of what
    /// can be asked over the socket.
    #[serde(skip)]
    pub content: Option<ContentName>,
    /// The version that the caller heard the source name in an answer to this very caller, and when: a node that has it
    /// need not ask again, if that was just now. As little part of what can be asked over the socket.
    #[serde(skip)]
    pub seen: Option<(VersionId, Instant)>,
}

impl GetRequest {
    /// A request for the whole of `url` with nothing special about it.
    pub const fn new(url: Url) -> Self {
        Self {
            url,
            headers: Vec::new(),
            digest: None,
            range: None,
            filter: Vec::new(),
            tag: String::new(),
            max_age: None,
            local_limit: None,
            timeout: None,
            source: SourcePolicy::Auto,
            pipe: false,
            cacert: None,
            content: None,
            seen: None,
        }
    }
}

/// The node's file that a download's bytes appear in, opened for reading.
///
/// It is the cache's file where there is one, else one without a name. Offsets in it are offsets in the
/// whole content, also when only a range was asked for. Bytes outside the ranges that were reported are
/// unverified or absent.
#[derive(Debug, Clone)]
pub struct CacheFile(pub Arc<File>);

impl CacheFile {
    /// Whether it is the end of a pipe instead, for a caller who asked for that ([`GetRequest::pipe`]) and a host
    /// that has no room for the content. Then the bytes of the request come through it once and in order, each
    /// after a report that names it; nothing else is kept of them.
    pub fn is_pipe(&self) -> bool {
        let found = self.0.metadata();
        found.is_ok_and(|found| found.file_type().is_fifo())
    }
}

/// What happens to a download, in this order: `Started`, any number of `Progress`, `Done`.
///
/// `Restarted` may come at any time before `Done`; then all begins again with `Started`.
#[derive(Debug, Clone)]
pub enum GetEvent {
    /// The version and, if it has one, the length are known.
    Started(Started),
    /// More bytes are in the file.
    Progress(GetProgress),
    /// Everything so far counts no more: the content changed at the source, or a block that was shown was found false.
    /// Also where the same version follows, bytes that were read already may be others now.
    Restarted,
    /// Every byte is in the file and verified, and the digest, if there is one, is right.
    Done(GetSummary),
}

/// The beginning of a download, or of another attempt at it.
#[derive(Debug, Clone)]
pub struct Started {
    /// A short id that every line of the log about this download carries.
    pub id: String,
    /// The task that this download is part of.
    pub task: TaskId,
    /// Which version of it: a stream that was begun may go on only with bytes of the same one, and only if what it
    /// has of it is still the same.
    pub version: VersionId,
    /// The length of the whole content, also when only a range was asked for.
    pub length: Option<u64>,
    /// Where the bytes appear.
    pub file: CacheFile,
}

/// How far a download is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetProgress {
    /// Bytes of the request that are in the file.
    pub done_bytes: u64,
    /// Bytes of the request in all, once known.
    pub length: Option<u64>,
    /// Of `done_bytes`, those that came from peers.
    pub from_peers: u64,
    /// Of `done_bytes`, those that this node read from the source.
    pub from_source: u64,
    /// Of `done_bytes`, those that were here before the request.
    pub from_cache: u64,
    /// Peers that the task exchanges blocks with.
    pub peers: u32,
    /// Ranges of the file that are readable since the last report, none of them reported before.
    pub runs: Vec<Range<u64>>,
    /// Every byte from the start of the request up to this offset of the file is readable.
    pub contiguous: u64,
}

/// How a download ended well.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GetSummary {
    /// Bytes of the request.
    pub bytes: u64,
    /// From request to verified end.
    pub seconds: f64,
    /// Bytes that came from peers.
    pub from_peers: u64,
    /// Bytes that this node read from the source.
    pub from_source: u64,
    /// Bytes that were here before the request.
    pub from_cache: u64,
    /// Peers that gave at least one block.
    pub peers: u32,
    /// Whether the whole was compared with a digest that the caller or the source gave.
    pub digest_checked: bool,
    /// That digest.
    pub digest: Option<Digest>,
}

/// A task as its callers can name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskName {
    /// By what was downloaded, without headers and certificates of its own.
    Url {
        /// The URL as it was downloaded.
        url: Url,
        /// As in the download.
        filter: Vec<String>,
        /// As in the download.
        tag: String,
    },
    /// By its id, which every task has.
    Id(TaskId),
}

/// A request to forget a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveRequest {
    /// Which.
    pub what: TaskName,
    /// Whether every node of the cluster shall forget it.
    pub cluster: bool,
}

/// What a removal achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveOutcome {
    /// The task that was named.
    pub task: TaskId,
    /// Whether anything of it was here.
    pub was_here: bool,
    /// Bytes of disk that became free here.
    pub freed_bytes: u64,
    /// Whether the removal was announced to the cluster.
    pub announced: bool,
}

/// Bytes as hexadecimal text: a JSON array of numbers would be four times as long.
mod hex_bytes {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the shape that serde calls")]
    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(hex::encode).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(|text| hex::decode(text).map_err(D::Error::custom))
            .transpose()
    }
}
