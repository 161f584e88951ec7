//! Asking the source for all whether a version is current.

use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use super::leases::{Leases, Out};

/// A validation without an answer for so long is asked of another host too: it may be its reader whom no answer reaches.
const VALIDATION_PATIENCE: Duration = Duration::from_secs(2);
/// Hosts that ask the same at once.
const MAX_VALIDATIONS: usize = 3;

impl Leases {
    pub(super) fn is_validating(&self) -> bool {
        self.out.values().any(Out::is_validation)
    }

    /// Whether nothing under way will tell what the source has, nor has been asked often enough.
    pub(super) fn wants_validation(&self, now: Now) -> bool {
        let mut reads = self.out.values().filter(|out| out.ended.is_none());
        let hangs = |out: &Out| {
            out.is_validation() && now.saturating_since(out.granted) >= VALIDATION_PATIENCE
        };
        // While it is being read it is current: every read names its validator.
        reads.all(hangs) && self.readers() < MAX_VALIDATIONS
    }

    /// Takes back what is answered by now; from whom.
    pub(super) fn end_validations(&mut self) -> Vec<(u64, PeerId)> {
        let asked = self.out.iter().filter(|(_, out)| out.is_validation());
        let asked: Vec<_> = asked.map(|(id, out)| (*id, out.holder)).collect();
        self.out.retain(|_, out| !out.is_validation());
        asked
    }
}
