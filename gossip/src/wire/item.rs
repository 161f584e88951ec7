//! One event as it is passed on, byte for byte as its origin made it.

use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{Frame, SHORT_FRAME, VERSION, decode, encode, short_frame, split_short};
use crate::{Event, EventKind, MAX_BODY_BYTES, MAX_ITEM_BYTES, PeerId, Subject, Violation};

/// What a signature is for, so that it fits nothing else.
const SIGNED_FOR: &[u8] = b"dfnode gossip event";
const SIGNATURE_BYTES: usize = 64;
/// Kinds from here on carry a signature, whether we know them or not.
const FIRST_SIGNED: u8 = 0x80;
/// No honest clock comes near; it leaves room to count on.
pub(crate) const MAX_CLOCK: u64 = 1 << 62;

/// The kind of an event on the wire. Kinds that we do not know are stored and passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KindCode(u8);

impl KindCode {
    /// The lowest of all codes; no kind has it.
    pub(crate) const FIRST: Self = Self(0);

    pub(crate) const fn known(self) -> Option<EventKind> {
        match self.0 {
            0x01 => Some(EventKind::DownloadStart),
            0x02 => Some(EventKind::Progress),
            0x03 => Some(EventKind::Recover),
            0x81 => Some(EventKind::Length),
            0x82 => Some(EventKind::FileRemove),
            0x83 => Some(EventKind::Isolate),
            _ => None,
        }
    }

    pub(crate) const fn is_signed(self) -> bool {
        self.0 >= FIRST_SIGNED
    }
}

impl From<EventKind> for KindCode {
    fn from(kind: EventKind) -> Self {
        Self(match kind {
            EventKind::DownloadStart => 0x01,
            EventKind::Progress => 0x02,
            EventKind::Recover => 0x03,
            EventKind::Length => 0x81,
            EventKind::FileRemove => 0x82,
            EventKind::Isolate => 0x83,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Body {
    origin: [u8; 32],
    subject: [u8; 32],
    clock: u64,
    /// Nothing when the slot was withdrawn.
    content: Option<Bytes>,
}

/// An event whose signature, if its kind needs one, is still to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsigned {
    pub(crate) origin: PeerId,
    pub(crate) subject: Subject,
    pub(crate) kind: KindCode,
    pub(crate) clock: u64,
    pub(crate) content: Option<Bytes>,
}

impl Unsigned {
    /// The event, if it is of a kind that we know and was not withdrawn.
    pub(crate) fn into_event(self) -> Option<Event> {
        Some(Event {
            origin: self.origin,
            subject: self.subject,
            kind: self.kind.known()?,
            clock: self.clock,
            body: self.content?,
        })
    }

    fn body(&self) -> Vec<u8> {
        encode(&Body {
            origin: *self.origin.as_bytes(),
            subject: *self.subject.as_bytes(),
            clock: self.clock,
            content: self.content.clone(),
        })
    }

    /// What the origin signs.
    pub(crate) fn bytes_to_sign(&self) -> Vec<u8> {
        bytes_to_sign(self.kind, &self.body())
    }

    /// The item of a kind that needs no signature.
    pub(crate) fn finish(self) -> Item {
        let raw = Bytes::from(short_frame(self.kind.0, &self.body()));
        Item { event: self, raw }
    }

    /// The item of a kind that needs one.
    pub(crate) fn finish_signed(self, signature: &[u8; SIGNATURE_BYTES]) -> Item {
        let mut body = self.body();
        body.extend(signature);
        let raw = Bytes::from(short_frame(self.kind.0, &body));
        Item { event: self, raw }
    }
}

fn bytes_to_sign(kind: KindCode, body: &[u8]) -> Vec<u8> {
    [SIGNED_FOR, &[VERSION, kind.0], body].concat()
}

/// An event and the bytes it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) event: Unsigned,
    pub(crate) raw: Bytes,
}

impl Item {
    /// Reads the item that fills `bytes`. Its signature is not checked yet.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Violation> {
        if bytes.len() > MAX_ITEM_BYTES {
            return Err(Violation::TooLarge {
                length: bytes.len(),
                limit: MAX_ITEM_BYTES,
            });
        }
        let Frame { kind, body, rest } = split_short(bytes, "event")?;
        if !rest.is_empty() {
            return Err(Violation::Malformed("event length"));
        }
        let kind = KindCode(kind);
        let unsigned = unsigned_part(kind, body)?;
        let Body {
            origin,
            subject,
            clock,
            content,
        } = decode::<_, MAX_ITEM_BYTES>(unsigned, "event")?;
        let too_long = content
            .as_ref()
            .is_some_and(|content| content.len() > MAX_BODY_BYTES);
        if too_long || clock > MAX_CLOCK {
            return Err(Violation::Malformed("event field"));
        }
        let raw = Bytes::copy_from_slice(bytes);
        // The content ends the unsigned part; sharing it with the item halves what is kept.
        let end = SHORT_FRAME + unsigned.len();
        let event = Unsigned {
            origin: PeerId::from_bytes(origin),
            subject: Subject::from_bytes(subject),
            kind,
            clock,
            content: content.map(|content| raw.slice(end - content.len()..end)),
        };
        Ok(Self { event, raw })
    }

    /// Whether the origin signed it, or its kind needs no signature.
    pub(crate) fn is_genuine(&self) -> bool {
        if !self.event.kind.is_signed() {
            return true;
        }
        let Some(body) = self.raw.get(SHORT_FRAME..) else {
            return false;
        };
        let Some((unsigned, signature)) = body.split_last_chunk::<SIGNATURE_BYTES>() else {
            return false;
        };
        let Ok(key) = VerifyingKey::from_bytes(self.event.origin.as_bytes()) else {
            return false;
        };
        let signed = bytes_to_sign(self.event.kind, unsigned);
        key.verify_strict(&signed, &Signature::from_bytes(signature))
            .is_ok()
    }
}

fn unsigned_part(kind: KindCode, body: &[u8]) -> Result<&[u8], Violation> {
    if !kind.is_signed() {
        return Ok(body);
    }
    body.split_last_chunk::<SIGNATURE_BYTES>()
        .map(|(unsigned, _signature)| unsigned)
        .ok_or(Violation::Malformed("event signature"))
}

/// Cuts items that stand one after the other apart, without reading them; the first that cannot be
/// cut out ends the walk with an error.
pub(crate) fn split_items(mut bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], Violation>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        match split_short(bytes, "event") {
            Ok(Frame { rest, .. }) => {
                let item = &bytes[..bytes.len() - rest.len()];
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
