//! Why a connection was closed, as both ends understand it.

use quinn::{ConnectionError, VarInt};

/// The reason that travels with the close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The node stops.
    Shutdown,
    /// The other side does not hold our cluster's key.
    WrongClusterKey,
    /// The other side is isolated or not on the allow-list.
    Refused,
    /// The two already have a link.
    Duplicate,
    /// A newer connection of the same peer took over.
    Replaced,
    /// The other side does not read what it is sent.
    Overflow,
    /// The other side broke the protocol.
    Violation,
    /// The other side does not answer.
    Silent,
    /// Too many connections; try later.
    Busy,
    /// The other side did not prove in time that it belongs here.
    NotAdmitted,
    /// The node dialled itself.
    Myself,
    /// The link is not needed.
    Unwanted,
}

const ALL: [Close; 12] = [
    Close::Shutdown,
    Close::WrongClusterKey,
    Close::Refused,
    Close::Duplicate,
    Close::Replaced,
    Close::Overflow,
    Close::Violation,
    Close::Silent,
    Close::Busy,
    Close::NotAdmitted,
    Close::Myself,
    Close::Unwanted,
];

impl Close {
    /// The number on the wire. Zero is what quinn sends when everything was merely dropped.
    pub(crate) fn code(self) -> VarInt {
        let at = ALL.iter().position(|close| *close == self);
        VarInt::from_u32(at.and_then(|at| u32::try_from(at + 1).ok()).unwrap_or(0))
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Shutdown => "shutting down",
            Self::WrongClusterKey => "wrong cluster key",
            Self::Refused => "refused",
            Self::Duplicate => "there is a link already",
            Self::Replaced => "replaced by a newer connection",
            Self::Overflow => "does not read its messages",
            Self::Violation => "broke the protocol",
            Self::Silent => "does not answer",
            Self::Busy => "too many connections",
            Self::NotAdmitted => "not admitted in time",
            Self::Myself => "this is the node itself",
            Self::Unwanted => "not needed",
        }
    }

    pub(crate) fn close(self, connection: &quinn::Connection) {
        connection.close(self.code(), self.reason().as_bytes());
    }

    /// What the other side said when it closed; `None` if the connection broke otherwise.
    pub(crate) fn of(error: &ConnectionError) -> Option<Self> {
        let ConnectionError::ApplicationClosed(frame) = error else {
            return None;
        };
        ALL.into_iter()
            .find(|close| close.code() == frame.error_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_as_documented() {
        assert_eq!(Close::Shutdown.code(), VarInt::from_u32(1));
        assert_eq!(Close::WrongClusterKey.code(), VarInt::from_u32(2));
        assert_eq!(Close::Unwanted.code(), VarInt::from_u32(12));
    }
}
