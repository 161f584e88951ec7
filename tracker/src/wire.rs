//! Bytes and messages: version ‖ kind ‖ length ‖ body, the body as bincode.
//!
//! The one place that names bincode, so that another codec can take its place. Unknown kinds are
//! skipped: a newer node may say more than an older one understands.

use dfnode_gossip::PeerId;
use serde::{Serialize, de::DeserializeOwned};

use crate::holds::Holds;
use crate::message::{
    Extent, Lease, LeaseEnd, MAX_BATCH_DIGESTS, MAX_BORDER_PEERS, MAX_PEERS_NAMED, Message,
    Outcome, SignedBatch,
};
use crate::meta::Meta;
use crate::scope::MAX_PARTS;

/// The version of the task protocol that this node speaks.
pub const PROTOCOL_VERSION: u8 = 1;
/// The largest message, header included: a bitmap of the largest file fits twice.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// version ‖ kind ‖ length (little endian).
const HEADER_BYTES: usize = 1 + 1 + 4;
/// Batches in one message.
pub(crate) const MAX_BATCHES: usize = 64;
/// Runs of blocks whose digests one message asks for.
pub(crate) const MAX_ASKED_RUNS: usize = 256;
/// Leases that one registrant or table may name.
const MAX_LEASES: usize = 64;
/// Suggestions in one offer.
const MAX_SUGGESTED: usize = 16;

/// Why bytes are no message. The sender's fault in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Fewer bytes than the header, or than it announces, or more.
    #[error("the message is cut or has bytes to spare")]
    Length,
    /// A protocol version that this node does not speak.
    #[error("the peer speaks protocol version {0}, this node speaks {PROTOCOL_VERSION}")]
    Version(u8),
    /// The body does not decode, or holds values that no node may send.
    #[error("the message body is malformed")]
    Body,
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_MESSAGE_BYTES>()
}

/// Encodes a value that travels or is stored as a body.
pub fn encode_body<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).unwrap_or_default()
}

/// Decodes a body; all bytes must be used.
///
/// # Errors
/// [`WireError::Body`] for anything that is not exactly one value.
pub fn decode_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let (value, used) =
        bincode::serde::decode_from_slice(bytes, config()).map_err(|_| WireError::Body)?;
    if used == bytes.len() {
        Ok(value)
    } else {
        Err(WireError::Length)
    }
}

macro_rules! kinds {
    ($($number:literal => $kind:ident),* $(,)?) => {
        /// Encodes a message with its header.
        pub fn encode(message: &Message) -> Vec<u8> {
            let (kind, body) = match message {
                $(Message::$kind(body) => ($number, encode_body(body)),)*
            };
            let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
            bytes.extend_from_slice(&[PROTOCOL_VERSION, kind]);
            bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(&body);
            bytes
        }

        /// Decodes one message that fills `bytes`. `Ok(None)` for a kind that this node does not know.
        ///
        /// # Errors
        /// [`WireError`]: the sender broke the protocol.
        pub fn decode(bytes: &[u8]) -> Result<Option<Message>, WireError> {
            let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
                return Err(WireError::Length);
            };
            let [version, kind, length @ ..] = *header;
            if version != PROTOCOL_VERSION {
                return Err(WireError::Version(version));
            }
            if u32::from_le_bytes(length) as usize != body.len() || bytes.len() > MAX_MESSAGE_BYTES {
                return Err(WireError::Length);
            }
            let message = match kind {
                $($number => Message::$kind(decode_body(body)?),)*
                _ => return Ok(None),
            };
            if is_sound(&message) { Ok(Some(message)) } else { Err(WireError::Body) }
        }
    };
}

kinds! {
    1 => Register,
    2 => Registered,
    3 => LeaseReport,
    5 => Leave,
    6 => HomeProbe,
    7 => HomeState,
    8 => Border,
    16 => Hello,
    17 => Batches,
    18 => Have,
    19 => Offer,
    20 => Want,
    21 => Decline,
    22 => Room,
    23 => Cancel,
    24 => Refuse,
    25 => Bye,
    26 => AskDigests,
}

/// How many bytes [`encode`] makes of a message, without making them where that is easily told.
pub fn encoded_len(message: &Message) -> usize {
    const ID: usize = 32;
    const TAG: usize = 8;
    let body = match message {
        Message::Have(m) => {
            let length = m.length.map_or(0, varint_len);
            2 * ID + runs_len(&m.runs) + 1 + length + 1
        }
        Message::Offer(m) => {
            let blocks: usize = m
                .suggest
                .iter()
                .map(|block| varint_len(block.0.into()))
                .sum();
            2 * ID + varint_len(m.grant.into()) + varint_len(m.suggest.len() as u64) + blocks
        }
        Message::Want(m) => {
            2 * ID + varint_len(m.grant.into()) + varint_len(m.block.0.into()) + TAG
        }
        Message::Decline(m) => ID + varint_len(m.grant.into()) + 1,
        Message::Cancel(m) | Message::Refuse(m) => 2 * ID + varint_len(m.block.0.into()),
        Message::Room(_) | Message::Bye(_) | Message::Leave(_) => ID,
        Message::AskDigests(m) => 2 * ID + runs_len(&m.runs),
        Message::Register(_)
        | Message::Registered(_)
        | Message::LeaseReport(_)
        | Message::HomeProbe(_)
        | Message::HomeState(_)
        | Message::Border(_)
        | Message::Hello(_)
        | Message::Batches(_) => return encode(message).len(),
    };
    HEADER_BYTES + body
}

fn runs_len(runs: &[std::ops::Range<u32>]) -> usize {
    let ends = runs.iter().flat_map(|run| [run.start, run.end]);
    varint_len(runs.len() as u64) + ends.map(|end| varint_len(end.into())).sum::<usize>()
}

/// Bytes of one of bincode's variable integers.
const fn varint_len(number: u64) -> usize {
    match number {
        0..=250 => 1,
        251..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Whether every number in a decoded message is one that a correct node can have sent.
fn is_sound(message: &Message) -> bool {
    match message {
        Message::Register(m) => {
            meta_is_sound(m.meta.as_ref())
                && m.leases.len() <= MAX_LEASES
                && m.leases.iter().all(lease_is_sound)
                && m.parts.len() <= MAX_PARTS
        }
        Message::Registered(m) => match &m.outcome {
            Outcome::Welcome {
                peers, meta, lease, ..
            } => {
                peers.len() <= MAX_PEERS_NAMED
                    && meta_is_sound(meta.as_ref())
                    && lease.as_ref().is_none_or(lease_is_sound)
            }
            Outcome::Redirect { .. }
            | Outcome::NotYet
            | Outcome::Report
            | Outcome::LeaseGone { .. }
            | Outcome::Busy => true,
            Outcome::Failed { failure } => failure.is_sound(),
        },
        Message::LeaseReport(m) => {
            meta_is_sound(m.meta.as_ref())
                && match &m.end {
                    Some(LeaseEnd::Failed(failure)) => failure.is_sound(),
                    Some(LeaseEnd::Done | LeaseEnd::Returned) | None => true,
                }
        }
        Message::HomeState(m) => m.table.as_ref().is_none_or(|table| {
            meta_is_sound(table.meta.as_ref())
                && table.leases.len() <= MAX_LEASES
                && table
                    .leases
                    .iter()
                    .all(|(_, lease, _): &(PeerId, Lease, u32)| lease_is_sound(lease))
        }),
        Message::Border(m) => {
            m.inlets.len() <= MAX_BORDER_PEERS && m.outside.len() <= MAX_BORDER_PEERS
        }
        Message::Hello(m) => meta_is_sound(m.meta.as_ref()) && holds_fit(&m.holds, m.meta.as_ref()),
        Message::Batches(m) => {
            m.batches.len() <= MAX_BATCHES && m.batches.iter().all(batch_is_sound)
        }
        Message::Offer(m) => m.suggest.len() <= MAX_SUGGESTED,
        Message::AskDigests(m) => m.runs.len() <= MAX_ASKED_RUNS,
        Message::Leave(_)
        | Message::HomeProbe(_)
        | Message::Have(_)
        | Message::Want(_)
        | Message::Decline(_)
        | Message::Room(_)
        | Message::Cancel(_)
        | Message::Refuse(_)
        | Message::Bye(_) => true,
    }
}

fn meta_is_sound(meta: Option<&Meta>) -> bool {
    meta.is_none_or(Meta::is_sound)
}

fn holds_fit(holds: &Holds, meta: Option<&Meta>) -> bool {
    *holds == Holds::Nothing || meta.is_some()
}

fn lease_is_sound(lease: &Lease) -> bool {
    match &lease.extent {
        Extent::Probe => true,
        Extent::Validate { meta } => meta.is_sound(),
        Extent::Blocks { meta, run } => {
            meta.is_sound()
                && run.start <= run.end
                && meta.layout.blocks().is_none_or(|blocks| run.end <= blocks)
        }
    }
}

fn batch_is_sound(batch: &SignedBatch) -> bool {
    (1..=MAX_BATCH_DIGESTS).contains(&batch.digests.len()) && batch.signature.len() == 64
}

#[cfg(test)]
mod tests;
