//! Why a download or a removal failed, in terms of what the caller can do about it.

use serde::{Deserialize, Serialize};

/// Why a download ended without its content. Verified blocks are kept in every case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GetError {
    /// The source refused these credentials, or takes none. The same request fails again.
    #[error("the source refused the request with status {status}")]
    SourceRefused {
        /// 401, 402, 403, 407, 410 or 451.
        status: u16,
    },
    /// The source has nothing at this URL.
    #[error("the source has nothing at this URL (status 404)")]
    NotFound,
    /// The content is not what was asked for, even as the source sends it.
    #[error("the content's digest is {got}, expected {expected}")]
    DigestMismatch {
        /// What the caller or the source said.
        expected: String,
        /// What the bytes hash to.
        got: String,
    },
    /// The cache could not make room. Free some, or give the node more, and ask again: the download resumes.
    #[error("no space left for the download in the node's cache")]
    NoSpace,
    /// The time that the caller gave is over. Asking again resumes.
    #[error("the download took longer than it was given")]
    Timeout,
    /// The source cannot be reached, answers with an error or nonsense, and no peer has the content.
    #[error("the source failed: {what}")]
    SourceFailed {
        /// In words for the user.
        what: String,
    },
    /// The source was out of the question and nobody reachable has the content.
    #[error("no peer has it, and the source was not to be asked")]
    NoSource,
    /// The content at the source changes faster than it can be read.
    #[error("the content kept changing at the source")]
    Changed,
    /// The cluster has bytes under this digest, and the source that was asked has others, or does not show them.
    /// Asked directly, it may still give its own.
    #[error("the source does not prove to have the content of that digest")]
    Unproved,
    /// The node cannot take part in its cluster: the key, or the way in, is wrong.
    #[error("{what}")]
    Cluster {
        /// In words for the user.
        what: String,
    },
    /// The request makes no sense. The same request fails again.
    #[error("{what}")]
    Usage {
        /// In words for the user.
        what: String,
    },
    /// The node stops. Another node, or this one when it runs again, resumes the download.
    #[error("the node is stopping")]
    Cancelled,
    /// A fault of the node itself, a failing disk among them.
    #[error("{what}")]
    Internal {
        /// In words for the user.
        what: String,
    },
}

/// Why nothing was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RemoveError {
    /// This node does not have the task, and the cluster was not asked.
    #[error("nothing is stored here for this URL")]
    NotFound,
    /// Only root and the user that the node runs as may remove from the whole cluster.
    #[error("only root and the user that the node runs as may do this")]
    Forbidden,
    /// A download of the task is under way.
    #[error("the task is being downloaded")]
    InUse,
    /// A fault of the node itself, a failing disk among them.
    #[error("{what}")]
    Internal {
        /// In words for the user.
        what: String,
    },
}
