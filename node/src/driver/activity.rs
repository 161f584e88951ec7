//! Since when nothing goes on: an embedded node leaves when that is long enough.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use dfnode_gossip::Now;

/// Whether the node serves anybody.
#[derive(Debug)]
pub(crate) struct Activity(Mutex<Option<Now>>);

impl Activity {
    /// Idle since the node began.
    pub(crate) const fn new(now: Now) -> Self {
        Self(Mutex::new(Some(now)))
    }

    /// Something goes on.
    pub(crate) fn busy(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether something goes on now.
    pub(crate) fn set(&self, now: Now, is_busy: bool) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_busy {
            *since = None;
        } else {
            since.get_or_insert(now);
        }
    }

    /// How long nothing has been going on; `None` while something is.
    pub(crate) fn idle_for(&self, now: Now) -> Option<Duration> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .map(|since| now - since)
    }
}
