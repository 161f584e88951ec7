use proptest::prelude::*;

use super::*;
use crate::cluster_key::Token;
use crate::identity::Identity;

fn keys() -> ClusterKeys {
    token(1).into()
}

fn token(byte: u8) -> Token {
    format!("dfnode-cluster-key-1:{}", hex::encode([byte; 32]))
        .parse()
        .unwrap()
}

impl From<Token> for ClusterKeys {
    fn from(token: Token) -> Self {
        Self::new(token)
    }
}

fn seal(name: u8, keys: &ClusterKeys) -> Seal {
    let me = Identity::from_secret([name; 32]).peer();
    Seal::with_salt(me, keys, [name; 8])
}

fn addr() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

#[test]
fn a_packet_opens_once() {
    let (alice, bob) = (seal(1, &keys()), seal(2, &keys()));
    let packet = alice.seal(PacketKind::Tracker, b"hello");
    assert_eq!(packet.len(), 5 + SEAL_BYTES);
    let mut copy = packet.clone();
    let opened = bob.open(&mut copy, addr()).unwrap();
    assert_eq!(opened.kind, PacketKind::Tracker);
    assert_eq!(opened.from, alice.me);
    assert_eq!(opened.body, b"hello");
    assert_eq!(bob.addr_of(&alice.me), Some(addr()));
    let mut replay = packet;
    let again = bob.open(&mut replay, addr());
    assert_eq!(again, Err(OpenError::Replayed));
}

#[test]
fn the_layout_is_as_documented() {
    let packet = seal(1, &keys()).seal(PacketKind::Gossip, b"golden");
    assert_eq!(
        hex::encode(packet),
        "018a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c\
         01010101010101010000000000000000\
         01c9d17309ae0030cc2a97e4c5657fb0b7b5be9384f8"
    );
}

#[test]
fn a_stranger_is_refused_and_takes_no_memory() {
    let bob = seal(2, &keys());
    let stranger = seal(3, &token(9).into());
    for _ in 0..20 {
        let mut packet = stranger.seal(PacketKind::Gossip, b"let me in");
        let opened = bob.open(&mut packet, addr());
        assert_eq!(opened, Err(OpenError::NotAuthentic));
    }
    assert_eq!(bob.addr_of(&stranger.me), None);
}

#[test]
fn a_rotation_passes_through_both_keys() {
    let old = keys();
    let both = ClusterKeys::new(token(2)).with_previous(token(1));
    let new = ClusterKeys::new(token(2));
    let open = |from: &Seal, to: &Seal| {
        let mut packet = from.seal(PacketKind::Gossip, b"x");
        to.open(&mut packet, addr())
            .map(|opened| opened.body.to_vec())
    };
    assert_eq!(open(&seal(1, &old), &seal(2, &both)), Ok(b"x".to_vec()));
    assert_eq!(open(&seal(1, &new), &seal(2, &both)), Ok(b"x".to_vec()));
    assert_eq!(open(&seal(1, &both), &seal(2, &new)), Ok(b"x".to_vec()));
    assert!(open(&seal(1, &both), &seal(2, &old)).is_err());
}

#[test]
fn our_own_echo_is_dropped() {
    let alice = seal(1, &keys());
    let mut packet = alice.seal(PacketKind::Gossip, b"x");
    assert_eq!(alice.open(&mut packet, addr()), Err(OpenError::OwnEcho));
}

#[test]
fn every_altered_or_cut_packet_is_refused() {
    let (alice, bob) = (seal(1, &keys()), seal(2, &keys()));
    let packet = alice.seal(PacketKind::Gossip, b"twelve bytes");
    for bit in 0..packet.len() * 8 {
        let mut altered = packet.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(bob.open(&mut altered, addr()).is_err(), "bit {bit}");
    }
    for length in 0..packet.len() {
        assert!(bob.open(&mut packet[..length].to_vec(), addr()).is_err());
    }
    assert!(bob.open(&mut packet.clone(), addr()).is_ok());
}

#[test]
fn a_million_datagrams_of_rubbish_do_nothing() {
    let bob = seal(2, &keys());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut buffer = [0_u8; 160];
    for round in 0..1_000_000_usize {
        for chunk in buffer.chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        buffer[0] = u8::try_from(round % 4).unwrap();
        let length = round % buffer.len();
        assert!(bob.open(&mut buffer[..length], addr()).is_err());
    }
}

proptest! {
    #[test]
    fn every_body_comes_through(body in proptest::collection::vec(any::<u8>(), 0..MAX_PACKET_BODY_BYTES)) {
        let (alice, bob) = (seal(1, &keys()), seal(2, &keys()));
        let mut packet = alice.seal(PacketKind::Gossip, &body);
        let opened = bob.open(&mut packet, addr()).unwrap();
        prop_assert_eq!(opened.body, &body[..]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = seal(2, &keys()).open(&mut bytes, addr());
    }
}
