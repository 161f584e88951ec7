//! What is said about a member.

use serde::{Deserialize, Serialize};

use super::{decode_front, encode, short_hash};
use crate::{MAX_DATAGRAM_BYTES, Member, Violation};

/// How a member is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    Alive,
    Suspect,
    Down,
}

/// A member as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) member: Member,
    pub(crate) incarnation: u16,
    pub(crate) standing: Standing,
}

impl Record {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a record from the front of `bytes` and says how many bytes it took.
    pub(crate) fn from_front(bytes: &[u8]) -> Result<(Self, usize), Violation> {
        let (record, used) = decode_front::<Self, MAX_DATAGRAM_BYTES>(bytes, "member record")?;
        check_member(&record.member)?;
        Ok((record, used))
    }
}

/// What serde cannot check: that somebody could talk to the member.
pub(super) fn check_member(member: &Member) -> Result<(), Violation> {
    if member.is_reachable() {
        Ok(())
    } else {
        Err(Violation::Malformed("member address"))
    }
}

/// A hash of the whole record: equal on all nodes that know the same of a member.
pub(crate) fn member_hash(member: &Member) -> u32 {
    short_hash(&encode(member))
}
