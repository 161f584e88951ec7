//! Peers with whom this node wants no link for a while.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use dfnode_gossip::{Now, PeerId};

use crate::ambient::Clock;

/// Peers remembered; the one whose time ends first makes room.
const MAX_REFUSED: usize = 1024;

/// Who is refused, and until when.
#[derive(Debug, Default)]
pub(crate) struct Refused(Mutex<BTreeMap<PeerId, Now>>);

impl Refused {
    pub(crate) fn insert(&self, peer: PeerId, until: Now) {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.insert(peer, until);
        if refused.len() > MAX_REFUSED {
            let soonest = refused.iter().min_by_key(|(_, until)| **until);
            if let Some(peer) = soonest.map(|(peer, _)| *peer) {
                refused.remove(&peer);
            }
        }
    }

    pub(crate) fn has(&self, peer: &PeerId) -> bool {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(until) = refused.get(peer) else {
            return false;
        };
        let is_over = *until <= Clock::now();
        if is_over {
            refused.remove(peer);
        }
        !is_over
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_refusal_ends_and_their_number_is_bounded() {
        let refused = Refused::default();
        let peer = |number: u16| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&number.to_le_bytes());
            PeerId::from_bytes(bytes)
        };
        refused.insert(peer(0), Clock::now());
        assert!(!refused.has(&peer(0)));
        let later = Clock::now() + Duration::from_mins(1);
        for number in 0..2000 {
            refused.insert(peer(number), later + Duration::from_secs(number.into()));
        }
        assert!(refused.has(&peer(1999)));
        assert!(!refused.has(&peer(0)));
        assert_eq!(refused.0.lock().unwrap().len(), MAX_REFUSED);
    }
}
