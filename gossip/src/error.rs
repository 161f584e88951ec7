//! What can be wrong with a peer's bytes, and with a caller's wish.

use crate::event::MAX_BODY_BYTES;

/// A peer broke the protocol. The peer is to blame and our state is sound; what could be used of
/// the message was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The bytes do not follow the layout.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The message is longer than its kind may be.
    #[error("message of {length} bytes, at most {limit} allowed")]
    TooLarge {
        /// The bytes that came.
        length: usize,
        /// The bytes that may come.
        limit: usize,
    },
    /// The peer speaks a version of the protocol that we do not.
    #[error("unknown protocol version {0}")]
    UnknownVersion(u8),
    /// A message of another kind was due.
    #[error("unexpected message kind {0}")]
    UnexpectedKind(u8),
    /// The message names another sender than the one that was authenticated, or ourselves.
    #[error("the sender is not who the message says")]
    SenderMismatch,
    /// The peer passed on an event whose signature does not verify; honest peers check first.
    #[error("an event's signature does not verify")]
    BadSignature,
    /// The cluster is full: the sender is unknown and there is no room for one more member.
    #[error("no room for another member")]
    TooManyMembers,
}

/// An event was not published; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The body is longer than [`MAX_BODY_BYTES`].
    #[error("an event's body of {length} bytes, at most {MAX_BODY_BYTES} allowed")]
    BodyTooLarge {
        /// The bytes that were given.
        length: usize,
    },
    /// This node fills as many slots as one node may. Withdraw some.
    #[error("too many slots of our own")]
    TooManySlots,
    /// Too many events wait for their signature. Try again once some are signed.
    #[error("too many events wait for a signature")]
    TooManyUnsigned,
    /// The node has left the cluster.
    #[error("the node has left the cluster")]
    Left,
}
