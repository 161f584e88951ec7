//! What the machine wants done.

use bytes::Bytes;

use crate::{Event, EventKind, Member, PeerId, Subject};

/// Names a request for a signature; the answer repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignRequestId(pub(crate) u64);

/// Something for the driver to do or to know, in the order in which it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Seal these bytes (at most [`MAX_DATAGRAM_BYTES`](crate::MAX_DATAGRAM_BYTES)) and send them.
    Datagram {
        /// For whom.
        to: Member,
        /// What.
        bytes: Bytes,
    },
    /// A member joined.
    Up(Member),
    /// A member has a new generation, new addresses or new labels.
    Changed(Member),
    /// A member left or died.
    Down(PeerId),
    /// Somebody else's slot has a content that is new to us.
    Event(Event),
    /// A slot is empty: withdrawn, ended by a [`EventKind::FileRemove`], crowded out, or its origin
    /// has been gone for long.
    Removed {
        /// Who said it.
        origin: PeerId,
        /// What it was about.
        subject: Subject,
        /// What was said.
        kind: EventKind,
    },
    /// It is time for a push/pull with this member: open a stream to it and drive `sync_*`.
    ///
    /// The member may be one that we think is down: that is how two halves find together again.
    SyncWith(Member),
    /// Sign these bytes with the node's key and hand the result to
    /// [`Gossip::handle_signature`](crate::Gossip::handle_signature).
    Sign {
        /// Which request the answer must name.
        request: SignRequestId,
        /// What to sign.
        bytes: Vec<u8>,
    },
    /// Our own record changed: store its generation.
    Renewed(Member),
}
