//! Small packets beside QUIC: sealed with the cluster key, without a connection.
//!
//! A packet is kind 1 ‖ sender 32 ‖ salt 8 ‖ counter 8 ‖ AES-128-GCM(body), little endian. What stands
//! before the body is authenticated with it. The key is BLAKE3 of sender ‖ salt under the cluster key, the
//! salt is new at each start and the counter never repeats, so no nonce is ever used twice.
//!
//! Who holds the cluster key can name any sender. A packet is bound neither to its receiver nor to a time:
//! one that was recorded can be played to a node that never saw it. What travels here must bear that.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use dfnode_gossip::PeerId;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};

use super::replay::{Seen, Sender};
use crate::ambient;
use crate::cluster_key::ClusterKeys;

const KEY_CONTEXT: &str = "dfnode 1 sealed packets";
const SENDER_AT: usize = 1;
const SALT_AT: usize = SENDER_AT + 32;
const COUNTER_AT: usize = SALT_AT + 8;
const BODY_AT: usize = COUNTER_AT + 8;
const TAG_BYTES: usize = 16;

/// What a sealed packet is longer than its body.
pub const SEAL_BYTES: usize = BODY_AT + TAG_BYTES;
/// The longest body: with the seal, UDP and IPv6 it passes where 1280 bytes pass.
pub const MAX_PACKET_BODY_BYTES: usize = dfnode_gossip::MAX_DATAGRAM_BYTES;

/// Which machine a packet is for.
///
/// The number on the wire has QUIC's fixed bit (0x40) clear: that tells a packet from QUIC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// For `Gossip`.
    Gossip,
    /// For `LocalTracker`.
    Tracker,
    /// Whether two members know the same, before they connect for a push/pull.
    Glance,
}

impl PacketKind {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Gossip => 1,
            Self::Tracker => 2,
            Self::Glance => 3,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Gossip),
            2 => Some(Self::Tracker),
            3 => Some(Self::Glance),
            _ => None,
        }
    }
}

/// Why a datagram was dropped. Strangers send what they like: nobody is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("not a sealed packet of ours")]
    Malformed,
    #[error("sealed with another key, or altered")]
    NotAuthentic,
    #[error("came before, or far too late")]
    Replayed,
    #[error("our own packet")]
    OwnEcho,
}

/// A packet that a holder of the cluster key sealed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened<'a> {
    pub(crate) kind: PacketKind,
    pub(crate) from: PeerId,
    pub(crate) body: &'a [u8],
}

/// Seals what this node sends and opens what others sent.
pub(crate) struct Seal {
    me: PeerId,
    salt: [u8; 8],
    counter: AtomicU64,
    sealing: LessSafeKey,
    accepted: Vec<[u8; 32]>,
    seen: Mutex<Seen>,
}

impl Seal {
    pub(crate) fn new(me: PeerId, keys: &ClusterKeys) -> Self {
        Self::with_salt(me, keys, ambient::random_bytes())
    }

    pub(super) fn with_salt(me: PeerId, keys: &ClusterKeys, salt: [u8; 8]) -> Self {
        let accepted: Vec<_> = keys
            .accepted()
            .map(|token| token.derive(KEY_CONTEXT))
            .collect();
        let sealing = packet_key(&keys.current().derive(KEY_CONTEXT), &me, salt);
        Self {
            me,
            salt,
            counter: AtomicU64::new(0),
            sealing,
            accepted,
            seen: Mutex::default(),
        }
    }

    /// Seals `body`, which must not be longer than [`MAX_PACKET_BODY_BYTES`].
    pub(crate) fn seal(&self, kind: PacketKind, body: &[u8]) -> Vec<u8> {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut packet = Vec::with_capacity(body.len() + SEAL_BYTES);
        packet.push(kind.to_byte());
        packet.extend_from_slice(self.me.as_bytes());
        packet.extend_from_slice(&self.salt);
        packet.extend_from_slice(&counter.to_le_bytes());
        let header: [u8; BODY_AT] = packet[..BODY_AT]
            .try_into()
            .expect("the header was just written");
        packet.extend_from_slice(body);
        let tag = self
            .sealing
            .seal_in_place_separate_tag(nonce(counter), Aad::from(header), &mut packet[BODY_AT..])
            .expect("AES-GCM seals everything shorter than 64 GiB");
        packet.extend_from_slice(tag.as_ref());
        packet
    }

    /// Opens `packet` in place, and remembers that it came and from where.
    pub(crate) fn open<'a>(
        &self,
        packet: &'a mut [u8],
        addr: SocketAddr,
    ) -> Result<Opened<'a>, OpenError> {
        let (header, body) = packet
            .split_first_chunk_mut::<BODY_AT>()
            .ok_or(OpenError::Malformed)?;
        if body.len() < TAG_BYTES || body.len() > MAX_PACKET_BODY_BYTES + TAG_BYTES {
            return Err(OpenError::Malformed);
        }
        let kind = PacketKind::from_byte(header[0]).ok_or(OpenError::Malformed)?;
        let from = PeerId::from_bytes(field(header, SENDER_AT));
        let salt: [u8; 8] = field(header, SALT_AT);
        let counter = u64::from_le_bytes(field(header, COUNTER_AT));
        if from == self.me {
            return Err(OpenError::OwnEcho);
        }
        let sender = Sender { from, salt };
        if self.seen().has(&sender, counter) {
            return Err(OpenError::Replayed);
        }
        let length = body.len() - TAG_BYTES;
        let (text, tag) = body.split_at_mut(length);
        self.decrypt(&sender, counter, header, text, tag)?;
        // Only now may the sender take up memory: strangers cannot fill the table.
        if !self
            .seen()
            .note(ambient::Clock::now(), sender, counter, addr)
        {
            return Err(OpenError::Replayed);
        }
        Ok(Opened {
            kind,
            from,
            body: text,
        })
    }

    fn decrypt(
        &self,
        sender: &Sender,
        counter: u64,
        header: &[u8; BODY_AT],
        text: &mut [u8],
        tag: &[u8],
    ) -> Result<(), OpenError> {
        let (last, others) = self.accepted.split_last().ok_or(OpenError::NotAuthentic)?;
        let mut scratch;
        for cluster in others {
            // A failed attempt leaves rubbish behind, so all but the last work on a copy.
            scratch = text.to_vec();
            let key = packet_key(cluster, &sender.from, sender.salt);
            if open_with(&key, counter, header, &mut scratch, tag) {
                text.copy_from_slice(&scratch);
                return Ok(());
            }
        }
        let key = packet_key(last, &sender.from, sender.salt);
        open_with(&key, counter, header, text, tag)
            .then_some(())
            .ok_or(OpenError::NotAuthentic)
    }

    /// Where the last packet of `peer` came from that was newer than all before it.
    pub(crate) fn addr_of(&self, peer: &PeerId) -> Option<SocketAddr> {
        self.seen().addr_of(peer)
    }

    /// The peer says where it is.
    pub(crate) fn tell(&self, peer: &PeerId, addrs: &[SocketAddr]) {
        self.seen().tell(peer, addrs);
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // A table of counters is sound after every single step.
        self.seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Seal {
    /// Shows no keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

fn field<const N: usize>(header: &[u8; BODY_AT], at: usize) -> [u8; N] {
    header[at..at + N]
        .try_into()
        .expect("the fields lie within the header")
}

/// Derived anew for each packet: 0.1 µs, and no table of keys to bound.
fn packet_key(cluster: &[u8; 32], sender: &PeerId, salt: [u8; 8]) -> LessSafeKey {
    let mut hasher = blake3::Hasher::new_keyed(cluster);
    hasher.update(sender.as_bytes());
    hasher.update(&salt);
    let hash = hasher.finalize();
    let key = UnboundKey::new(&AES_128_GCM, &hash.as_bytes()[..16])
        .expect("a key of AES-128 has 16 bytes");
    LessSafeKey::new(key)
}

fn open_with(
    key: &LessSafeKey,
    counter: u64,
    header: &[u8; BODY_AT],
    text: &mut [u8],
    tag: &[u8],
) -> bool {
    let Ok(tag) = Tag::try_from(tag) else {
        return false;
    };
    key.open_in_place_separate_tag(nonce(counter), Aad::from(header), tag, text, 0..)
        .is_ok()
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests;
