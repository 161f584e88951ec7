use proptest::prelude::*;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};

use super::*;

/// How many random inputs each decoder gets; `DFNODE_FUZZ_INPUTS` asks for more.
const FUZZ_INPUTS: usize = 1_000_000;

/// Random bytes, or a valid message with a few bytes changed, cut off or put in.
fn mutant(rng: &mut Xoshiro256PlusPlus, specimen: &[u8]) -> Vec<u8> {
    if rng.random_ratio(1, 8) {
        let mut bytes = vec![0; rng.random_range(0..200)];
        rng.fill_bytes(&mut bytes);
        if rng.random_bool(0.5) && bytes.len() > 1 {
            bytes[..2].copy_from_slice(&specimen[..2]);
        }
        return bytes;
    }
    let mut bytes = specimen.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..8) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes.insert(at, rng.random()),
            2 => bytes[at] = [0, 1, 250, 251, 252, 253, 254, 255][rng.random_range(0..8)],
            _ => bytes[at] ^= 1 << rng.random_range(0..8),
        }
    }
    bytes
}

fn fuzz(names: &[&str], read: impl Fn(&[u8]) -> bool) {
    let inputs = std::env::var("DFNODE_FUZZ_INPUTS").ok();
    let inputs = inputs
        .and_then(|text| text.parse().ok())
        .unwrap_or(FUZZ_INPUTS);
    let specimens: Vec<Vec<u8>> = names.iter().map(|name| golden(name)).collect();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(0xD0F5);
    let mut accepted = 0;
    for round in 0..inputs {
        let bytes = mutant(&mut rng, &specimens[round % specimens.len()]);
        accepted += usize::from(read(&bytes));
    }
    assert!(
        accepted > 0,
        "the mutants must reach the depths of the decoder"
    );
    assert!(accepted < inputs);
}

#[test]
fn no_datagram_makes_the_decoder_panic() {
    fuzz(
        &["swim_ping", "swim_ping_req", "swim_gossip", "events"],
        |bytes| read_datagram(bytes).is_ok(),
    );
}

#[test]
fn no_event_makes_the_decoder_panic() {
    fuzz(
        &["event_progress", "event_withdrawn", "event_length"],
        |bytes| Item::read(bytes).is_ok(),
    );
}

#[test]
fn no_sync_message_makes_the_decoder_panic() {
    fuzz(&["sync_open"], |bytes| Open::read(bytes).is_ok());
    fuzz(&["sync_answer"], |bytes| {
        Answer::read(bytes).is_ok_and(|answer| read_load(&answer.load).is_ok())
    });
    fuzz(&["sync_last"], |bytes| {
        Last::read(bytes).is_ok_and(|last| read_load(&last.load).is_ok())
    });
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..MAX_DATAGRAM_BYTES + 10)) {
        let _either_way = read_datagram(&bytes);
        let _either_way = Item::read(&bytes).map(|item| item.is_genuine());
        let _either_way = Open::read(&bytes);
        let _either_way = Answer::read(&bytes);
        let _either_way = Last::read(&bytes);
        let _either_way = Record::from_front(&bytes);
    }

    #[test]
    fn events_survive_the_journey(
        origin: [u8; 32],
        subject: [u8; 32],
        clock in 0..=MAX_CLOCK,
        content in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..=MAX_BODY_BYTES)),
    ) {
        let event = Unsigned {
            origin: PeerId::from_bytes(origin),
            subject: Subject::from_bytes(subject),
            kind: EventKind::Progress.into(),
            clock,
            content: content.map(Bytes::from),
        };
        let item = event.finish();
        prop_assert_eq!(Item::read(&item.raw), Ok(item));
    }

    #[test]
    fn records_survive_the_journey(peer: [u8; 32], generation: u64, incarnation: u16, weight: u8, leech: bool) {
        let labels = Labels { zone: Zone::default(), weight, leech };
        let member = Member { peer: PeerId::from_bytes(peer), generation, labels, ..member(1) };
        let record = Record { member, incarnation, standing: Standing::Alive };
        let bytes = record.to_bytes();
        prop_assert_eq!(Record::from_front(&bytes), Ok((record, bytes.len())));
    }
}
