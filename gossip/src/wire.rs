//! The only place where bytes of the network are made and read.
//!
//! Every message is version ‖ kind ‖ length ‖ body. The length is big-endian and counts the body
//! alone: two bytes in datagrams and event items, four in push/pull messages. Bodies are bincode
//! (little-endian, variable-length integers), read under a limit and to their last byte.
//! `docs/protocol-gossip.md` shows the layout byte by byte.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Violation;

mod datagram;
mod digest;
mod item;
mod record;
mod swim;
mod sync;

pub use datagram::datagram_sender;
pub(crate) use datagram::{Datagram, EVENTS_ROOM, MAX_SWIM_BYTES, events_datagram, swim_datagram};
pub(crate) use digest::{Buckets, Digest, EVENT_BUCKETS, MEMBER_BUCKETS, short_hash};
pub(crate) use item::{Item, KindCode, MAX_CLOCK, Unsigned, split_items};
pub(crate) use record::{Record, Standing, member_hash};
pub(crate) use swim::{Dst, Header, Message};
pub(crate) use sync::{Answer, Last, Load, Open, Packer, split_aged_items, split_records};

/// The version of all layouts here.
pub(crate) const VERSION: u8 = 1;

/// Bytes before the body of a message with a two-byte length.
pub(crate) const SHORT_FRAME: usize = 4;
/// Bytes before the body of a message with a four-byte length.
const LONG_FRAME: usize = 6;

/// A message taken apart.
struct Frame<'a> {
    kind: u8,
    body: &'a [u8],
    /// What follows it.
    rest: &'a [u8],
}

fn short_frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("the callers' bounds are below 64 KiB");
    let mut bytes = Vec::with_capacity(SHORT_FRAME + body.len());
    bytes.extend([VERSION, kind]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn long_frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("the callers' bounds are below 4 GiB");
    let mut bytes = Vec::with_capacity(LONG_FRAME + body.len());
    bytes.extend([VERSION, kind]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn split_short<'a>(bytes: &'a [u8], what: &'static str) -> Result<Frame<'a>, Violation> {
    let (head, tail) = bytes
        .split_first_chunk::<SHORT_FRAME>()
        .ok_or(Violation::Malformed(what))?;
    let [version, kind, high, low] = *head;
    split_body(
        version,
        kind,
        usize::from(u16::from_be_bytes([high, low])),
        tail,
        what,
    )
}

fn split_long<'a>(bytes: &'a [u8], what: &'static str) -> Result<Frame<'a>, Violation> {
    let (head, tail) = bytes
        .split_first_chunk::<LONG_FRAME>()
        .ok_or(Violation::Malformed(what))?;
    let [version, kind, a, b, c, d] = *head;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    split_body(version, kind, length, tail, what)
}

fn split_body<'a>(
    version: u8,
    kind: u8,
    length: usize,
    tail: &'a [u8],
    what: &'static str,
) -> Result<Frame<'a>, Violation> {
    if version != VERSION {
        return Err(Violation::UnknownVersion(version));
    }
    let (body, rest) = tail
        .split_at_checked(length)
        .ok_or(Violation::Malformed(what))?;
    Ok(Frame { kind, body, rest })
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard())
        .expect("our own types always encode into memory")
}

/// Reads one value from the front and says how many bytes it took.
///
/// Whatever lengths the bytes claim, no more than `LIMIT` bytes are read or set aside.
fn decode_front<T: DeserializeOwned, const LIMIT: usize>(
    bytes: &[u8],
    what: &'static str,
) -> Result<(T, usize), Violation> {
    let config = bincode::config::standard().with_limit::<LIMIT>();
    bincode::serde::decode_from_slice(bytes, config).map_err(|_| Violation::Malformed(what))
}

/// Reads one value that fills `bytes`: bincode itself would not mind trailing bytes.
fn decode<T: DeserializeOwned, const LIMIT: usize>(
    bytes: &[u8],
    what: &'static str,
) -> Result<T, Violation> {
    let (value, used) = decode_front::<T, LIMIT>(bytes, what)?;
    if used == bytes.len() {
        Ok(value)
    } else {
        Err(Violation::Malformed(what))
    }
}

#[cfg(test)]
mod tests;
