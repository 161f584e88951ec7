//! The head of a SWIM packet.

use serde::{Deserialize, Serialize};

use super::record::{check_member, member_hash};
use super::{decode_front, encode};
use crate::{MAX_DATAGRAM_BYTES, Member, PeerId, Violation};

/// For whom a packet is, short: the receiver knows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dst {
    /// The first bytes of the receiver's [`PeerId`].
    peer: [u8; 8],
    /// The first bytes of a hash of its whole record: tells one life of it from another.
    life: [u8; 4],
}

impl Dst {
    pub(crate) fn of(member: &Member) -> Self {
        Self {
            peer: first_bytes(&member.peer),
            life: member_hash(member).to_be_bytes(),
        }
    }

    /// Whether the packet is for this peer, in whatever life.
    pub(crate) fn names(&self, peer: &PeerId) -> bool {
        self.peer == first_bytes(peer)
    }

    /// A peer that shares the named bytes; enough to see that a packet is not for us.
    pub(crate) fn stand_in(&self) -> PeerId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.peer);
        PeerId::from_bytes(bytes)
    }
}

fn first_bytes(peer: &PeerId) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&peer.as_bytes()[..8]);
    first
}

/// What a SWIM packet asks or answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    Ping(u8),
    Ack(u8),
    PingReq(Member, u8),
    IndirectPing(Member, u8),
    IndirectAck(Member, u8),
    ForwardedAck(Member, u8),
    Announce,
    Feed,
    Gossip,
    Broadcast,
    TurnUndead,
}

impl Message {
    fn third_party(&self) -> Option<&Member> {
        match self {
            Self::PingReq(member, _)
            | Self::IndirectPing(member, _)
            | Self::IndirectAck(member, _)
            | Self::ForwardedAck(member, _) => Some(member),
            Self::Ping(_)
            | Self::Ack(_)
            | Self::Announce
            | Self::Feed
            | Self::Gossip
            | Self::Broadcast
            | Self::TurnUndead => None,
        }
    }
}

/// From whom, for whom, what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) src: Member,
    pub(crate) src_incarnation: u16,
    pub(crate) dst: Dst,
    pub(crate) message: Message,
}

impl Header {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a head from the front of `bytes` and says how many bytes it took.
    pub(crate) fn from_front(bytes: &[u8]) -> Result<(Self, usize), Violation> {
        let (header, used) = decode_front::<Self, MAX_DATAGRAM_BYTES>(bytes, "packet header")?;
        check_member(&header.src)?;
        header.message.third_party().map_or(Ok(()), check_member)?;
        Ok((header, used))
    }
}
