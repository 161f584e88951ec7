//! The three messages of a push/pull.

use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::digest::{Buckets, Digest, EVENT_BUCKETS, MEMBER_BUCKETS, pack, unpack};
use super::record::check_member;
use super::{
    Frame, LONG_FRAME, Record, SHORT_FRAME, decode, encode, long_frame, split_long, split_short,
};
use crate::{MAX_ITEM_BYTES, MAX_SYNC_BYTES, Member, Violation};

const KIND_OPEN: u8 = 0x10;
const KIND_ANSWER: u8 = 0x11;
const KIND_LAST: u8 = 0x12;

/// What a message holds besides members and events, generously.
const OVERHEAD: usize = 1024;
/// The most bytes of member records in a message.
const MEMBERS_ROOM: usize = MAX_SYNC_BYTES * 3 / 4;

/// The initiator's first message: what it has, hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) me: Member,
    pub(crate) members: Digest<MEMBER_BUCKETS>,
    pub(crate) events: Digest<EVENT_BUCKETS>,
}

/// The acceptor's answer: which buckets differ, and its side of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) me: Member,
    pub(crate) members_differ: Buckets,
    pub(crate) events_differ: Buckets,
    pub(crate) load: Load,
}

/// The initiator's last message: its side of the buckets that differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Last {
    pub(crate) me: Member,
    pub(crate) load: Load,
}

/// Members and events on their way. Both stay packed, so that reading them takes no memory that
/// the sender could multiply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Load {
    /// [`Record`]s one after the other.
    pub(crate) members: Bytes,
    /// Age in seconds (4 bytes, big-endian) and item, one after the other.
    pub(crate) items: Bytes,
    /// There was more than fits: come again.
    pub(crate) more: bool,
}

#[derive(Serialize, Deserialize)]
struct OpenBody {
    me: Member,
    members: Bytes,
    events: Bytes,
}

impl Open {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let body = OpenBody {
            me: self.me.clone(),
            members: pack(&self.members),
            events: pack(&self.events),
        };
        long_frame(KIND_OPEN, &encode(&body))
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Violation> {
        let OpenBody {
            me,
            members,
            events,
        } = read_message(bytes, KIND_OPEN, "sync open")?;
        check_member(&me)?;
        Ok(Self {
            me,
            members: unpack(&members)?,
            events: unpack(&events)?,
        })
    }
}

impl Answer {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        long_frame(KIND_ANSWER, &encode(self))
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Violation> {
        let answer: Self = read_message(bytes, KIND_ANSWER, "sync answer")?;
        check_member(&answer.me)?;
        Ok(answer)
    }
}

impl Last {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        long_frame(KIND_LAST, &encode(self))
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Violation> {
        let last: Self = read_message(bytes, KIND_LAST, "sync last")?;
        check_member(&last.me)?;
        Ok(last)
    }
}

fn read_message<T: DeserializeOwned>(
    bytes: &[u8],
    due: u8,
    what: &'static str,
) -> Result<T, Violation> {
    if bytes.len() > MAX_SYNC_BYTES {
        return Err(Violation::TooLarge {
            length: bytes.len(),
            limit: MAX_SYNC_BYTES,
        });
    }
    let Frame { kind, body, rest } = split_long(bytes, what)?;
    if kind != due {
        return Err(Violation::UnexpectedKind(kind));
    }
    if !rest.is_empty() {
        return Err(Violation::Malformed(what));
    }
    decode::<_, MAX_SYNC_BYTES>(body, what)
}

/// An event item and how long ago it was written, as far as the sender knows.
pub(crate) struct AgedItem<'a> {
    pub(crate) age: Duration,
    pub(crate) item: &'a [u8],
}

/// Fills a [`Load`] up to the size of a message.
#[derive(Default)]
pub(crate) struct Packer {
    members: Vec<u8>,
    items: Vec<u8>,
    more: bool,
}

impl Packer {
    pub(crate) fn add_member(&mut self, record: &Record) {
        let bytes = record.to_bytes();
        if self.members.len() + bytes.len() > MEMBERS_ROOM {
            self.more = true;
        } else {
            self.members.extend(bytes);
        }
    }

    pub(crate) fn add_item(&mut self, age: Duration, item: &[u8]) {
        let age = u32::try_from(age.as_secs())
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        let room = MAX_SYNC_BYTES - LONG_FRAME - OVERHEAD - self.members.len();
        if self.items.len() + age.len() + item.len() > room {
            self.more = true;
        } else {
            self.items.extend(age);
            self.items.extend(item);
        }
    }

    pub(crate) fn finish(self) -> Load {
        Load {
            members: self.members.into(),
            items: self.items.into(),
            more: self.more,
        }
    }
}

/// Walks over packed member records; the first one that cannot be read ends the walk with an error.
pub(crate) fn split_records(mut bytes: &[u8]) -> impl Iterator<Item = Result<Record, Violation>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        match Record::from_front(bytes) {
            Ok((record, used)) => {
                bytes = &bytes[used..];
                Some(Ok(record))
            }
            Err(violation) => {
                bytes = &[];
                Some(Err(violation))
            }
        }
    })
}

/// Walks over packed items; the first one that cannot be cut out ends the walk with an error.
pub(crate) fn split_aged_items(
    mut bytes: &[u8],
) -> impl Iterator<Item = Result<AgedItem<'_>, Violation>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        match split_aged_item(bytes) {
            Ok((item, rest)) => {
                bytes = rest;
                Some(Ok(item))
            }
            Err(violation) => {
                bytes = &[];
                Some(Err(violation))
            }
        }
    })
}

fn split_aged_item(bytes: &[u8]) -> Result<(AgedItem<'_>, &[u8]), Violation> {
    let (age, tail) = bytes
        .split_first_chunk::<4>()
        .ok_or(Violation::Malformed("age"))?;
    let rest = split_short(tail, "event")?.rest;
    let item = &tail[..tail.len() - rest.len()];
    let age = Duration::from_secs(u64::from(u32::from_be_bytes(*age)));
    Ok((AgedItem { age, item }, rest))
}

const _: () = assert!(MEMBERS_ROOM + OVERHEAD + SHORT_FRAME + MAX_ITEM_BYTES < MAX_SYNC_BYTES);
