//! Fuzz targets for what comes in by UDP and on a link.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};
use dfnode_tracker::{BlockDigest, MAX_BLOCK_BYTES};

use super::admission::{ANSWER_BYTES, HELLO_BYTES, Me, check_answer, check_hello, hello};
use super::block_header::{BlockHeader, HEADER_BYTES};
use super::block_stream::Body;
use super::demux::{QUIC_FIXED_BIT, sort_segments};
use super::replay::{ALIVE, Seen, Sender, WINDOW};
use super::seal::{MAX_PACKET_BODY_BYTES, PacketKind, SEAL_BYTES, Seal};
use crate::cluster_key::{ClusterKeys, Token};
use crate::fuzzing::input::Input;

fn token(byte: u8) -> Token {
    let text = format!("dfnode-cluster-key-1:{}", hex::encode([byte; 32]));
    text.parse().expect("a token")
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// Sealed packets: a stranger's bytes are never opened; a member's are opened once, as they were sealed, and not at all
/// with a single bit changed.
pub fn seal(bytes: &[u8]) {
    let keys = ClusterKeys::new(token(1));
    let both = ClusterKeys::new(token(2)).with_previous(token(1));
    let receiver = Seal::with_salt(PeerId::from_bytes([9; 32]), &both, [9; 8]);
    let mut strange = bytes.to_vec();
    let opened = receiver.open(&mut strange, addr(1));
    assert!(opened.is_err(), "opened without the key");

    let mut input = Input(bytes);
    let [kind, at, bit] = input.array();
    let kind = match kind % 3 {
        0 => PacketKind::Gossip,
        1 => PacketKind::Tracker,
        _ => PacketKind::Glance,
    };
    let body = input.0.get(..MAX_PACKET_BODY_BYTES).unwrap_or(input.0);
    let sender = PeerId::from_bytes([8; 32]);
    let packet = Seal::with_salt(sender, &keys, [8; 8]).seal(kind, body);
    assert_eq!(packet.len(), body.len() + SEAL_BYTES);
    assert_eq!(packet[0] & QUIC_FIXED_BIT, 0);

    let mut altered = packet.clone();
    let at = usize::from(at) * altered.len() / 256;
    altered[at] ^= 1 << (bit % 8);
    assert!(receiver.open(&mut altered, addr(1)).is_err());
    let mut cut = packet[..at].to_vec();
    assert!(receiver.open(&mut cut, addr(1)).is_err());
    assert_eq!(receiver.addr_of(&sender), None);

    let mut whole = packet.clone();
    let opened = receiver.open(&mut whole, addr(2)).expect("it is genuine");
    assert_eq!(
        (opened.kind, opened.from, opened.body),
        (kind, sender, body)
    );
    assert_eq!(receiver.addr_of(&sender), Some(addr(2)));
    let mut again = packet;
    assert!(receiver.open(&mut again, addr(3)).is_err());
    assert_eq!(receiver.addr_of(&sender), Some(addr(2)));
}

/// Counters of sealed packets: each passes once, as in a set; and a sender's address is moved by the start that has it,
/// or by another one once that is silent, never by an old packet.
pub fn replay(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut seen = Seen::default();
    let mut came = [BTreeSet::new(), BTreeSet::new()];
    let (mut now, mut heard) = (Now::from_micros(0), [Now::from_micros(0); 2]);
    let (mut leader, mut place) = (None, None);
    let peer = PeerId::from_bytes([1; 32]);
    let sender = |which: usize| Sender {
        from: peer,
        salt: [u8::try_from(which).unwrap_or_default(); 8],
    };
    while let Some(step) = input.byte() {
        now = now + Duration::from_millis(u64::from(step / 8) * 200);
        let which = usize::from(step % 2);
        let came = &mut came[which];
        let highest: u64 = came.last().copied().unwrap_or_default();
        let offset = u64::from(u16::from_le_bytes(input.array()));
        let counter = match step / 2 % 4 {
            0 => highest.saturating_add(offset % 1024),
            1 => highest.saturating_sub(offset % 1024),
            2 => offset,
            _ => u64::from_le_bytes(input.array()),
        };
        let is_ahead = came.is_empty() || counter > highest;
        let fresh = is_ahead || highest - counter < WINDOW && !came.contains(&counter);
        assert_eq!(!seen.has(&sender(which), counter), fresh);
        assert_eq!(
            seen.note(now, sender(which), counter, addr(step.into())),
            fresh
        );
        if fresh {
            came.insert(counter);
            let is_rival =
                |other: &usize| *other != which && now.saturating_since(heard[*other]) < ALIVE;
            if is_ahead && !leader.as_ref().is_some_and(is_rival) {
                (leader, place) = (Some(which), Some(addr(step.into())));
            }
            heard[which] = now;
        }
        assert_eq!(seen.addr_of(&peer), place);
    }
}

/// Datagrams glued together: nothing is lost, made up or given to the wrong side.
pub fn demux(bytes: &[u8]) {
    let mut input = Input(bytes);
    let stride = usize::from(u16::from_le_bytes(input.array())) % 2048;
    let glued = input.0;
    let mut buffer = glued.to_vec();
    let mut packets = Vec::new();
    let kept = sort_segments(&mut buffer, stride, |packet| packets.push(packet.to_vec()));
    let is_quic = |segment: &&[u8]| segment[0] & QUIC_FIXED_BIT != 0;
    let segments = || glued.chunks(stride.max(1));
    let quic: Vec<u8> = segments().filter(is_quic).flatten().copied().collect();
    assert_eq!(buffer[..kept], quic);
    let sealed = segments().filter(|segment| !is_quic(segment));
    assert!(sealed.eq(packets.iter().map(Vec::as_slice)));
}

/// A block's stream: its header reads back, and its body is as long as announced, whatever its pieces.
pub fn block(bytes: &[u8]) {
    let mut input = Input(bytes);
    let head: [u8; HEADER_BYTES] = input.array();
    let Ok(header) = BlockHeader::decode(&head) else {
        return;
    };
    assert!((1..=MAX_BLOCK_BYTES).contains(&header.length));
    assert_eq!(header.encode(), head);
    let length = header.length as usize;
    let mut body = Body::new(length);
    let mut sent = Vec::new();
    while !input.0.is_empty() && !body.is_complete() {
        let chunk = input.chunk();
        let fits = sent.len() + chunk.len() <= length;
        assert_eq!(body.push(chunk).is_ok(), fits);
        if !fits {
            return;
        }
        sent.extend_from_slice(chunk);
        assert_eq!(body.is_complete(), sent.len() == length);
    }
    if body.is_complete() {
        let (whole, digest) = body.finish();
        assert_eq!(whole, sent);
        assert_eq!(digest, BlockDigest::of(&sent));
    }
}

/// Admission: nobody comes in without the key, and a genuine hello or answer not with a bit of its proof changed.
pub fn admission(bytes: &[u8]) {
    const SESSION: [u8; 32] = [5; 32];
    let mut input = Input(bytes);
    let [at, bit, which] = input.array();
    let (one, other) = (
        ClusterKeys::new(token(1)),
        ClusterKeys::new(token(2)).with_previous(token(1)),
    );
    let (keys, theirs) = if which % 2 == 0 {
        (&one, &other)
    } else {
        (&other, &one)
    };
    let side = |name: u8, keys| Me {
        peer: PeerId::from_bytes([name; 32]),
        start: [name; 8],
        keys,
    };
    let (alice, bob) = (side(1, keys), side(2, theirs));
    let strange: [u8; HELLO_BYTES] = input.array();
    assert!(check_hello(bob, &SESSION, alice.peer, &strange).is_err());
    let strange: [u8; ANSWER_BYTES] = input.array();
    assert!(check_answer(alice, &SESSION, bob.peer, &strange).is_err());

    let first = hello(alice, &SESSION, bob.peer);
    let (start, answer) = check_hello(bob, &SESSION, alice.peer, &first).expect("a member");
    assert_eq!(start, alice.start);
    assert_eq!(
        check_answer(alice, &SESSION, bob.peer, &answer).ok(),
        Some(bob.start)
    );
    let mut altered = answer;
    altered[usize::from(at) % ANSWER_BYTES] ^= 1 << (bit % 8);
    assert!(check_answer(alice, &SESSION, bob.peer, &altered).is_err());
    let mut altered = first;
    // Of two proofs one may be of a key that the other side does not hold.
    altered[usize::from(at) % 9] ^= 1 << (bit % 8);
    assert!(check_hello(bob, &SESSION, alice.peer, &altered).is_err());
}
