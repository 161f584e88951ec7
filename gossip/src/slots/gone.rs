//! Origins that are not among us: how long their slots are kept, and what is refused afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::{MAX_MEMBERS, Now, PeerId};

/// How long the slots of an origin that is gone are refused after they were dropped. Until then
/// every node has dropped them, and nobody can hand them out again.
const REFUSE: Duration = Duration::from_hours(1);

#[derive(Debug)]
enum Absence {
    /// Its slots are kept until then.
    Kept(Now),
    /// Its slots up to this clock are refused, until then.
    Refused { horizon: u64, until: Now },
}

#[derive(Debug)]
pub(super) struct Gone {
    absences: BTreeMap<PeerId, Absence>,
    due: BTreeSet<(Now, PeerId)>,
    keep: Duration,
}

impl Gone {
    pub(super) fn new(keep: Duration) -> Self {
        Self {
            absences: BTreeMap::new(),
            due: BTreeSet::new(),
            keep,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.absences.len()
    }

    /// Whether a slot of `origin` with this clock may still be taken in.
    pub(super) fn accepts(&self, origin: &PeerId, clock: u64) -> bool {
        match self.absences.get(origin) {
            Some(Absence::Refused { horizon, .. }) => clock > *horizon,
            Some(Absence::Kept(_)) | None => true,
        }
    }

    pub(super) fn is_back(&mut self, origin: &PeerId) {
        self.forget(origin);
    }

    /// Starts the time after which the origin's slots are dropped, unless it runs already.
    pub(super) fn went(&mut self, now: Now, origin: PeerId) {
        if !matches!(self.absences.get(&origin), Some(Absence::Kept(_))) {
            let until = now + self.keep;
            self.set(origin, Absence::Kept(until), until);
        }
    }

    pub(super) fn refuse(&mut self, now: Now, origin: PeerId, horizon: u64) {
        let until = now + REFUSE;
        if self.absences.len() < MAX_MEMBERS || self.absences.contains_key(&origin) {
            self.set(origin, Absence::Refused { horizon, until }, until);
        }
    }

    /// The origins whose slots are to be dropped now.
    pub(super) fn take_due(&mut self, now: Now) -> Vec<PeerId> {
        let mut to_drop = Vec::new();
        while let Some((due, origin)) = self.due.first().copied()
            && due <= now
        {
            if matches!(self.absences.get(&origin), Some(Absence::Kept(_))) {
                to_drop.push(origin);
            }
            self.forget(&origin);
        }
        to_drop
    }

    pub(super) fn next(&self) -> Option<Now> {
        self.due.first().map(|(due, _)| *due)
    }

    fn set(&mut self, origin: PeerId, absence: Absence, until: Now) {
        self.forget(&origin);
        self.absences.insert(origin, absence);
        self.due.insert((until, origin));
    }

    fn forget(&mut self, origin: &PeerId) {
        if let Some(Absence::Kept(until) | Absence::Refused { until, .. }) =
            self.absences.remove(origin)
        {
            self.due.remove(&(until, *origin));
        }
    }
}
