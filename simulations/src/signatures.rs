//! Ed25519 once for each signature, however many nodes check it: the answer is the same for all.

use std::cell::RefCell;
use std::collections::BTreeMap;

use dfnode_gossip::PeerId;
use dfnode_tracker::verify_signature;

/// Answers that are remembered; a file has far fewer batches.
const MAX_REMEMBERED: usize = 1 << 20;

thread_local! {
    static REMEMBERED: RefCell<BTreeMap<[u8; 32], bool>> = const { RefCell::new(BTreeMap::new()) };
}

/// What the production check says.
pub(crate) fn verify(signer: &PeerId, bytes: &[u8], signature: &[u8]) -> bool {
    let mut hasher = blake3::Hasher::new();
    hasher.update(signer.as_bytes());
    hasher.update(signature);
    hasher.update(bytes);
    let question = *hasher.finalize().as_bytes();
    REMEMBERED.with_borrow_mut(|remembered| {
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        *remembered
            .entry(question)
            .or_insert_with(|| verify_signature(signer, bytes, signature))
    })
}

/// Forgets all answers: where memory is counted they are no machine's.
pub(crate) fn forget() {
    REMEMBERED.with_borrow_mut(BTreeMap::clear);
}
