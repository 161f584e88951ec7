//! What nodes tell each other about tasks and peers.

use std::fmt;

use bytes::Bytes;

use crate::PeerId;

/// The most bytes an event's body has: with its keys and a signature it stays below
/// [`MAX_ITEM_BYTES`](crate::MAX_ITEM_BYTES).
pub const MAX_BODY_BYTES: usize = 360;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// The origin began to fetch the task.
    DownloadStart,
    /// How much of the task the origin holds.
    Progress,
    /// How long the task is and what its source said. Signed.
    Length,
    /// The task shall be forgotten; beats older claims of anybody about it. Signed.
    FileRemove,
    /// The origin came back and still holds the task.
    Recover,
    /// Evidence against a peer. Signed.
    Isolate,
}

impl EventKind {
    /// Whether events of this kind carry their origin's signature.
    pub const fn is_signed(self) -> bool {
        match self {
            Self::Length | Self::FileRemove | Self::Isolate => true,
            Self::DownloadStart | Self::Progress | Self::Recover => false,
        }
    }
}

/// The thing an event is about: a task's id, or for [`EventKind::Isolate`] the accused peer's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject([u8; 32]);

impl Subject {
    /// A subject from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The subject's 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<PeerId> for Subject {
    fn from(accused: PeerId) -> Self {
        Self(*accused.as_bytes())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..5]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The current content of one last-writer-wins slot (origin, subject, kind).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who says it.
    pub origin: PeerId,
    /// What it is about.
    pub subject: Subject,
    /// What is said.
    pub kind: EventKind,
    /// Orders the writes of a slot, and a [`EventKind::FileRemove`] against the claims it ends.
    ///
    /// Counts milliseconds from the origin's generation and never runs backwards; a write is above
    /// all that its origin had seen of the subject.
    pub clock: u64,
    /// The content, opaque here; at most [`MAX_BODY_BYTES`].
    pub body: Bytes,
}
