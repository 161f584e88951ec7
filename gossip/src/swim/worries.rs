//! Suspicions that we heard of, and of which we should have heard the end by now.
//!
//! foca leaves it to the one who raised a suspicion to end it. A node that misses the end, which
//! happens where packets are lost, would hold the suspect for alive until it probes it itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use foca::Incarnation;

use super::identity::Identity;
use crate::{Now, PeerId};

/// How long the end of a suspicion takes to get around, at most as a rule.
const SPREADING: Duration = Duration::from_millis(1500);
/// How long to wait before somebody else is asked.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// A suspicion.
#[derive(Clone, Debug)]
pub(super) struct Worry {
    pub(super) id: Identity,
    pub(super) incarnation: Incarnation,
    due: Now,
    overdue: bool,
}

#[derive(Debug, Default)]
pub(super) struct Worries {
    by_peer: BTreeMap<PeerId, Worry>,
    by_due: BTreeSet<(Now, PeerId)>,
}

impl Worries {
    /// Somebody suspects `id`, and will have come to a verdict after `patience`.
    pub(super) fn heard(
        &mut self,
        now: Now,
        id: Identity,
        incarnation: Incarnation,
        patience: Duration,
    ) {
        let same = |worry: &Worry| worry.id == id && worry.incarnation == incarnation;
        if !self.by_peer.get(&id.peer).is_some_and(same) {
            let due = now + patience + SPREADING;
            self.put(Worry {
                id,
                incarnation,
                due,
                overdue: false,
            });
        }
    }

    /// A suspicion whose end is overdue; the caller drops it or [asks](Self::asked).
    pub(super) fn pop_due(&mut self, now: Now) -> Option<Worry> {
        let (due, peer) = *self.by_due.first()?;
        if due > now {
            return None;
        }
        self.by_due.pop_first();
        self.by_peer.remove(&peer)
    }

    /// Somebody will be asked about this one.
    pub(super) fn asked(&mut self, now: Now, worry: Worry) {
        self.put(Worry {
            due: now + ASK_AGAIN,
            overdue: true,
            ..worry
        });
    }

    /// Whether the end of this suspicion is overdue, so that the next verdict may be believed.
    pub(super) fn is_overdue(&self, id: &Identity, incarnation: Incarnation) -> bool {
        self.by_peer.get(&id.peer).is_some_and(|worry| {
            worry.overdue && worry.id == *id && worry.incarnation == incarnation
        })
    }

    pub(super) fn next(&self) -> Option<Now> {
        self.by_due.first().map(|(due, _)| *due)
    }

    fn put(&mut self, worry: Worry) {
        let due = worry.due;
        let peer = worry.id.peer;
        if let Some(before) = self.by_peer.insert(peer, worry) {
            self.by_due.remove(&(before.due, peer));
        }
        self.by_due.insert((due, peer));
    }
}
