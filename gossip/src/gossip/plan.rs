//! When to ask for a push/pull, and with whom.

use std::time::Duration;

use rand::RngExt;

use crate::{Now, PeerId};

/// The pace while nobody else is alive, and until the first push/pull succeeded.
const ALONE: Duration = Duration::from_secs(10);
const UNSYNCED: Duration = Duration::from_secs(2);
/// The first pause between push/pulls; each is twice as long as the one before, up to the full
/// period. While many join at once, the first partners know little more than we do.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The pause after a push/pull that brought something that gossip should have brought.
const PAUSE_AFTER_NEWS: Duration = Duration::from_secs(5);
/// When a message did not hold all there was.
const CONTINUE: Duration = Duration::from_secs(1);
/// Up to this size of the cluster the pace is the configured one.
const FULL_PACE_SIZE: usize = 32;

#[derive(Debug)]
pub(super) struct Plan {
    next: Now,
    pause: Duration,
    synced: bool,
    partner: Option<PeerId>,
    contact: Option<PeerId>,
}

/// What a plan depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// Members alive, ourselves included.
    pub(super) size: usize,
    pub(super) period: Duration,
}

impl Plan {
    pub(super) fn new(now: Now) -> Self {
        Self {
            next: now + ALONE,
            pause: FIRST_PAUSE,
            synced: false,
            partner: None,
            contact: None,
        }
    }

    pub(super) fn synced(&self) -> bool {
        self.synced
    }

    pub(super) fn next(&self) -> Now {
        self.next
    }

    /// Somebody is there: do not wait for long.
    pub(super) fn met_somebody(&mut self, now: Now) {
        if !self.synced {
            self.next = self.next.min(now + UNSYNCED);
        }
    }

    /// Remembers who told us what we are about to learn.
    pub(super) fn in_contact_with(&mut self, peer: PeerId) {
        self.contact = Some(peer);
    }

    /// There is something to ask.
    pub(super) fn ask(&mut self, now: Now) {
        self.next = self.next.min(now);
    }

    /// We were taken for dead: tell at once that we are not, and first the one who thought so.
    pub(super) fn rejoined(&mut self, now: Now) {
        self.next = now;
        self.partner = self.contact;
    }

    /// A push/pull with `peer` was done; `more` if it could not hold all, `news` if it brought
    /// something that gossip should have brought. One that brings nothing more is not repeated at once.
    pub(super) fn done(&mut self, now: Now, peer: PeerId, more: bool, news: bool) {
        if more && news {
            self.next = self.next.min(now + CONTINUE);
            self.partner = Some(peer);
        } else if !self.synced {
            self.next = now + FIRST_PAUSE;
        } else if news {
            self.pause = self.pause.min(PAUSE_AFTER_NEWS);
            self.next = self.next.min(now + self.pause);
        }
        self.synced = true;
    }

    /// Whether it is time. Plans the next time if so.
    pub(super) fn take_due(
        &mut self,
        now: Now,
        situation: Situation,
        rng: &mut impl RngExt,
    ) -> bool {
        if now < self.next {
            return false;
        }
        let period = if situation.size <= 1 {
            ALONE
        } else if self.synced {
            let full = situation.period * stretch(situation.size);
            self.pause = (self.pause * 2).min(full);
            self.pause
        } else {
            UNSYNCED
        };
        // Nodes that started together shall not go on together.
        self.next = now + period.mul_f64(rng.random_range(0.75..1.25));
        true
    }

    /// With whom to begin, if it matters.
    pub(super) fn take_partner(&mut self) -> Option<PeerId> {
        self.partner.take()
    }
}

/// How much slower a cluster of `size` goes: the work of keeping up grows with the size, the need
/// for it does not.
fn stretch(size: usize) -> u32 {
    if size <= FULL_PACE_SIZE {
        return 1;
    }
    let doublings = (size - 1).ilog2() + 1;
    doublings - FULL_PACE_SIZE.ilog2() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_clusters_go_slower() {
        let expected = [
            (1, 1),
            (32, 1),
            (33, 2),
            (64, 2),
            (65, 3),
            (1000, 6),
            (10_000, 10),
        ];
        for (size, factor) in expected {
            assert_eq!(stretch(size), factor, "at size {size}");
        }
    }
}
