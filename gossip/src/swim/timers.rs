//! foca's timers as deadlines.

use std::collections::BTreeMap;

use foca::Timer;

use super::identity::Identity;
use crate::{Now, PeerId};

/// When, what first among equals, and in which order they were set.
type Key = (Now, u8, u64);

#[derive(Default)]
pub(super) struct Timers {
    queue: BTreeMap<Key, Timer<Identity>>,
    /// The one pending removal of each dead peer; an older life's would remove nothing.
    removals: BTreeMap<PeerId, Key>,
    set: u64,
}

impl Timers {
    pub(super) fn add(&mut self, due: Now, timer: Timer<Identity>) {
        let key = (due, rank(&timer), self.set);
        self.set += 1;
        if let Timer::RemoveDown(id) = &timer
            && let Some(older) = self.removals.insert(id.peer, key)
        {
            self.queue.remove(&older);
        }
        self.queue.insert(key, timer);
    }

    pub(super) fn next(&self) -> Option<Now> {
        self.queue.keys().next().map(|(due, ..)| *due)
    }

    pub(super) fn pop_due(&mut self, now: Now) -> Option<(Now, Timer<Identity>)> {
        let first = self.queue.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let ((due, ..), timer) = first.remove_entry();
        if let Timer::RemoveDown(id) = &timer {
            self.removals.remove(&id.peer);
        }
        Some((due, timer))
    }
}

/// foca takes the end of a probe for a mistake unless its second half came first.
fn rank(timer: &Timer<Identity>) -> u8 {
    match timer {
        Timer::SendIndirectProbe { .. } => 0,
        Timer::ProbeRandomMember(_) => 1,
        Timer::ChangeSuspectToDown { .. } => 2,
        Timer::PeriodicAnnounce(_) => 3,
        Timer::PeriodicGossip(_) => 4,
        Timer::RemoveDown(_) => 5,
        Timer::PeriodicAnnounceDown(_) => 6,
    }
}
