//! Place in the cache for a download that does without it, because there was none.

use std::sync::Weak;
use std::time::Duration;

use dfnode_tracker::TaskId;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::inner::Inner;

/// How often is looked whether there is place.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// It must be there at so many looks in a row: a disk that somebody fills has place for moments.
const LOOKS: u32 = 2;
/// For less it is not worth the while to come back to the cache and the peers.
pub const WORTH_BYTES: u64 = 16 * 1024 * 1024;
/// How often in a row one download may come back to the cache without getting so much there.
const MAX_RETURNS: u32 = 3;

/// Makes watches for place; it keeps no store open.
#[derive(Debug, Clone)]
pub(crate) struct Places(pub(super) Weak<Inner>);

impl Places {
    /// A watch for a download that came back before. `task`: what it is of, if that is known: the store may still have it.
    pub(crate) fn watch(&self, task: Option<TaskId>, returns: Returns) -> PlaceWatch {
        PlaceWatch {
            places: self.clone(),
            task,
            look_at: Instant::now() + LOOK_PERIOD,
            seen: 0,
            returns,
        }
    }
}

/// How often a download came back to the cache in vain.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Returns {
    in_vain: u32,
    /// How far it had come when it lost its place last.
    reached: u64,
}

impl Returns {
    /// Its place was lost again, with so many bytes of it here: a return that brought some was not in vain.
    pub(crate) const fn lost(&mut self, reached: u64) {
        if reached >= self.reached.saturating_add(WORTH_BYTES) {
            *self = Self {
                in_vain: 0,
                reached,
            };
        }
    }
}

/// Looks now and then whether a download that reads the source by itself can come back to the cache and its peers: alone
/// it costs the source a copy.
#[derive(Debug)]
pub struct PlaceWatch {
    places: Places,
    task: Option<TaskId>,
    look_at: Instant,
    seen: u32,
    returns: Returns,
}

impl PlaceWatch {
    /// How often the download came back, once it does so again.
    pub(crate) const fn returns(&self) -> Returns {
        self.returns
    }

    /// The place was lost again; see `Returns::lost`.
    pub fn lost(&mut self, reached: u64) {
        self.returns.lost(reached);
    }

    /// Whether the download should come back now: there is place for all `length` bytes of its file, of which `left` are
    /// still to come. To be asked as often as bytes come.
    pub async fn is_there(&mut self, length: u64, left: u64) -> bool {
        let now = Instant::now();
        if now < self.look_at || left < WORTH_BYTES || self.returns.in_vain >= MAX_RETURNS {
            return false;
        }
        self.look_at = now + LOOK_PERIOD;
        let (store, task) = (self.places.0.upgrade(), self.task);
        let look = move || store.is_some_and(|store| store.has_place(task, length));
        let there = spawn_blocking(look).await;
        self.seen = if there.unwrap_or(false) {
            self.seen + 1
        } else {
            0
        };
        if self.seen < LOOKS {
            return false;
        }
        self.seen = 0;
        self.returns.in_vain += 1;
        true
    }
}
