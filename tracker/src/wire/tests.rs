//! The bytes on the wire: pinned kind by kind, round trips, and what bytes of strangers cannot do.

mod golden;
mod samples;

use proptest::prelude::*;

use self::samples::Draw;
use super::*;
use crate::blocks::BlockSet;
use crate::ids::BlockIndex;

/// Inputs that a run of the decoder's test makes up, unless `DFNODE_WIRE_INPUTS` says how many.
const INPUTS: u64 = 1_000_000;

/// Decodes what `draw` made of a message: some bytes changed, some cut off, some added.
fn decode_damaged(draw: &mut Draw, bytes: &mut Vec<u8>) {
    for _ in 0..draw.below(4) {
        let at = draw.below(bytes.len());
        bytes[at] = draw.byte();
    }
    match draw.below(4) {
        0 => bytes.truncate(draw.below(bytes.len() + 1)),
        1 => bytes.extend((0..draw.below(16)).map(|_| draw.byte())),
        _ => {}
    }
    // A header that fits lets the body be reached.
    if bytes.len() >= HEADER_BYTES && draw.below(8) > 0 {
        let length = u32::try_from(bytes.len() - HEADER_BYTES).expect("a short message");
        bytes[0] = PROTOCOL_VERSION;
        bytes[2..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    }
    if let Ok(Some(message)) = decode(bytes) {
        assert!(is_sound(&message), "{message:?}");
    }
}

#[test]
fn no_bytes_make_the_decoder_panic() {
    let inputs = std::env::var("DFNODE_WIRE_INPUTS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(INPUTS);
    let mut draw = Draw::new(7);
    let templates: Vec<Vec<u8>> = (0..2_000).map(|_| encode(&draw.message())).collect();
    let mut bytes = Vec::new();
    for _ in 0..inputs {
        bytes.clear();
        bytes.extend_from_slice(&templates[draw.below(templates.len())]);
        decode_damaged(&mut draw, &mut bytes);
    }
}

#[test]
fn a_length_that_the_message_cannot_have_is_refused_before_anything_is_allocated_for_it() {
    // In bincode's variable integers 253 announces eight bytes.
    let mut endless = vec![253];
    endless.extend_from_slice(&u64::MAX.to_le_bytes());
    let of_kind = |kind: u8, before: usize| {
        let mut body = vec![0; before];
        body.extend_from_slice(&endless);
        let mut bytes = vec![PROTOCOL_VERSION, kind];
        bytes.extend_from_slice(&u32::try_from(body.len()).expect("short").to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    };
    // The batches of a batch message, and the runs of a have message.
    assert_eq!(decode(&of_kind(17, 32)), Err(WireError::Body));
    assert_eq!(decode(&of_kind(18, 64)), Err(WireError::Body));
}

#[test]
fn another_version_is_told_apart_from_nonsense() {
    let mut bytes = encode(&Draw::new(1).message());
    bytes[0] = PROTOCOL_VERSION + 1;
    assert_eq!(
        decode(&bytes),
        Err(WireError::Version(PROTOCOL_VERSION + 1))
    );
}

#[test]
fn a_kind_that_only_newer_nodes_know_is_skipped() {
    let bytes = [PROTOCOL_VERSION, 200, 3, 0, 0, 0, 1, 2, 3];
    assert_eq!(decode(&bytes), Ok(None));
}

proptest! {
    #[test]
    fn every_message_comes_back_as_it_was(seed in any::<u64>()) {
        let message = Draw::new(seed).message();
        prop_assert_eq!(encoded_len(&message), encode(&message).len());
        prop_assert_eq!(decode(&encode(&message)), Ok(Some(message)));
    }

    #[test]
    fn arbitrary_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn packed_blocks_come_back_as_they_were(
        blocks in proptest::collection::btree_set(0_u32..500, 0..300),
        end in 0_u32..600,
        known in any::<bool>(),
    ) {
        let members: Vec<u32> = blocks.into_iter().filter(|block| *block < end).collect();
        let set: BlockSet = members.iter().copied().map(BlockIndex).collect();
        let count = known.then_some(end);
        let packed = Holds::pack(&set, count);
        let back = packed.unpack(count).map(|set| set.iter().map(|block| block.0).collect::<Vec<_>>());
        prop_assert_eq!(back, Some(members));
    }

    #[test]
    fn blocks_behind_the_end_are_refused(end in 1_u32..500, beyond in 0_u32..500) {
        let mut set = BlockSet::new();
        set.insert(BlockIndex(end + beyond));
        prop_assert!(Holds::pack(&set, None).unpack(Some(end)).is_none());
    }
}
