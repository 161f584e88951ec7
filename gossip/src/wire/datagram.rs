//! What travels in one UDP packet, before the node seals it.

use super::{Frame, Header, SHORT_FRAME, short_frame, split_short};
use crate::{MAX_DATAGRAM_BYTES, PeerId, Violation};

const KIND_SWIM: u8 = 1;
const KIND_EVENTS: u8 = 2;

/// The sender's key stands before the events.
const SENDER_BYTES: usize = 32;

/// The most bytes of a SWIM packet.
pub(crate) const MAX_SWIM_BYTES: usize = MAX_DATAGRAM_BYTES - SHORT_FRAME;
/// The most bytes of items in a datagram.
pub(crate) const EVENTS_ROOM: usize = MAX_DATAGRAM_BYTES - SHORT_FRAME - SENDER_BYTES;

/// A datagram taken apart.
pub(crate) enum Datagram<'a> {
    /// A packet of the membership protocol: a [`Header`], member records.
    Swim(&'a [u8]),
    /// Event items one after the other.
    Events { sender: PeerId, items: &'a [u8] },
}

pub(crate) fn swim_datagram(packet: &[u8]) -> Vec<u8> {
    short_frame(KIND_SWIM, packet)
}

pub(crate) fn events_datagram(sender: &PeerId, items: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(SENDER_BYTES + items.len());
    body.extend(sender.as_bytes());
    body.extend(items);
    short_frame(KIND_EVENTS, &body)
}

impl<'a> Datagram<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Violation> {
        if bytes.len() > MAX_DATAGRAM_BYTES {
            return Err(Violation::TooLarge {
                length: bytes.len(),
                limit: MAX_DATAGRAM_BYTES,
            });
        }
        let Frame { kind, body, rest } = split_short(bytes, "datagram")?;
        if !rest.is_empty() {
            return Err(Violation::Malformed("datagram length"));
        }
        match kind {
            KIND_SWIM => Ok(Self::Swim(body)),
            KIND_EVENTS => {
                let (sender, items) = body
                    .split_first_chunk::<SENDER_BYTES>()
                    .ok_or(Violation::Malformed("events sender"))?;
                Ok(Self::Events {
                    sender: PeerId::from_bytes(*sender),
                    items,
                })
            }
            other => Err(Violation::UnexpectedKind(other)),
        }
    }
}

/// Who says it sent this datagram: for a node whose seal carries only a part of the sender's key.
///
/// # Errors
///
/// If the bytes are no datagram of ours.
pub fn datagram_sender(bytes: &[u8]) -> Result<PeerId, Violation> {
    match Datagram::read(bytes)? {
        Datagram::Swim(packet) => Ok(Header::from_front(packet)?.0.src.peer),
        Datagram::Events { sender, .. } => Ok(sender),
    }
}
