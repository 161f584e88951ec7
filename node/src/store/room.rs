//! The room that each task takes, and what is to go for another.

use std::collections::BTreeMap;
use std::sync::Arc;

use dfnode_tracker::TaskId;

use super::StoreConfig;
use super::entry::Entry;
use super::error::ReserveError;
use crate::ambient;

/// What nobody used for so long is not part of a crowd any more. Until then what is beyond the quota stays, since who has
/// all of a file serves those who came later.
const CROWD_MS: u64 = 60_000;

/// Every task, and the room it has.
#[derive(Default)]
pub(super) struct Rack {
    pub(super) slots: BTreeMap<TaskId, Slot>,
    pub(super) pins: BTreeMap<TaskId, u32>,
    pub(super) used_bytes: u64,
    pub(super) next_generation: u64,
    pub(super) last_use_ms: u64,
    pub(super) opened_ms: u64,
    pub(super) reads_since_sweep: usize,
}

pub(super) struct Slot {
    pub(super) entry: Arc<Entry>,
    /// Bytes that are counted for it.
    pub(super) charge: u64,
    /// Its room is not decided yet: it is not evicted.
    pub(super) admitted: bool,
}

impl Rack {
    pub(super) fn new() -> Self {
        Self {
            opened_ms: ambient::unix_millis(),
            ..Self::default()
        }
    }

    pub(super) fn next_use_ms(&mut self) -> u64 {
        self.last_use_ms = ambient::unix_millis().max(self.last_use_ms + 1);
        self.last_use_ms
    }

    pub(super) fn charge(&mut self, task: TaskId, bytes: u64) {
        if let Some(slot) = self.slots.get_mut(&task) {
            self.used_bytes = self.used_bytes - slot.charge + bytes;
            slot.charge = bytes;
        }
    }

    pub(super) fn charge_nothing(&mut self, task: TaskId) -> Option<(Arc<Entry>, u64)> {
        let slot = self.slots.remove(&task)?;
        self.used_bytes -= slot.charge;
        Some((slot.entry, slot.charge))
    }

    pub(super) fn is_evictable(&self, task: TaskId, slot: &Slot) -> bool {
        slot.admitted && !self.pins.contains_key(&task)
    }

    fn evictable(&self) -> impl Iterator<Item = (TaskId, &Slot)> {
        let slots = self.slots.iter().map(|(task, slot)| (*task, slot));
        slots.filter(|(task, slot)| self.is_evictable(*task, slot))
    }

    fn evictable_bytes(&self) -> u64 {
        self.evictable().map(|(_, slot)| slot.charge).sum()
    }

    pub(super) fn least_used(&self) -> Option<TaskId> {
        self.evictable()
            .min_by_key(|(_, slot)| slot.entry.used_at_ms())
            .map(|(task, _)| task)
    }

    /// What is to go so that of what is not beyond `quota` by itself no more than `room` stays.
    pub(super) fn beyond(&self, quota: u64, room: u64) -> Option<TaskId> {
        let oldest = ambient::unix_millis().saturating_sub(CROWD_MS);
        // Who was downloading when the node ended comes back.
        let is_stale = |slot: &Slot| slot.entry.used_at_ms().max(self.opened_ms) <= oldest;
        // What is beyond it by itself does not make others go first.
        let mut large = self.evictable().filter(|(_, slot)| slot.charge > quota);
        if let Some((task, _)) = large.find(|(_, slot)| is_stale(slot)) {
            return Some(task);
        }
        let small = self.evictable().filter(|(_, slot)| slot.charge <= quota);
        let kept: u64 = small.map(|(_, slot)| slot.charge).sum();
        let least = self.least_used().filter(|_| kept > room)?;
        self.slots
            .get(&least)
            .is_some_and(is_stale)
            .then_some(least)
    }

    /// What the tasks of other entries may still write.
    fn outstanding(&self) -> u64 {
        self.slots
            .values()
            .map(|slot| slot.charge.saturating_sub(slot.entry.written_bytes()))
            .sum()
    }

    /// Whether a task of so many bytes would find place while so many are free. One that is here has its room: it only goes
    /// on if the disk takes the rest of it.
    pub(super) fn has_place(
        &self,
        config: &StoreConfig,
        task: Option<TaskId>,
        bytes: u64,
        free: u64,
    ) -> bool {
        let here = task.and_then(|task| Some((task, self.slots.get(&task)?)));
        let Some((task, slot)) = here else {
            return self.lack(config, bytes, free).is_none();
        };
        let own = if self.is_evictable(task, slot) {
            slot.charge
        } else {
            0
        };
        let others = self.evictable_bytes() - own;
        free.saturating_add(others) >= self.outstanding().saturating_add(config.free_floor_bytes)
    }

    /// What so many bytes more lack, even if all that may be evicted is.
    fn lack(&self, config: &StoreConfig, need: u64, free: u64) -> Option<ReserveError> {
        let evictable = self.evictable_bytes();
        // Without evicting in vain: what others fill the disk with is not ours to give.
        let is_there = free.saturating_add(evictable) >= self.wanted_free(config, need);
        if self.is_beyond(config, need) && !(is_there && config.spare_bytes.is_some()) {
            return Some(ReserveError::NoRoom {
                need_bytes: need,
                held_bytes: self.used_bytes - evictable,
                cache_bytes: config.cache_bytes,
            });
        }
        (!is_there).then_some(ReserveError::DiskFull {
            need_bytes: need,
            free_bytes: free,
            floor_bytes: config.free_floor_bytes,
        })
    }

    /// Whether so many bytes more are beyond the quota even if all that may be evicted is.
    fn is_beyond(&self, config: &StoreConfig, need: u64) -> bool {
        let held = self.used_bytes - self.evictable_bytes();
        need > config.cache_bytes.saturating_sub(held)
    }

    /// What must be free on the disk for so many bytes more.
    fn wanted_free(&self, config: &StoreConfig, need: u64) -> u64 {
        let floor = config.free_floor_bytes;
        match self.plenty(config, need) {
            Some(plenty) if self.is_beyond(config, need) => plenty,
            _ => self
                .outstanding()
                .saturating_add(need)
                .saturating_add(floor),
        }
    }

    /// What must be free for so many bytes more beyond the quota, if that may be: clients' own copies may come to lie on
    /// the same disk.
    fn plenty(&self, config: &StoreConfig, need: u64) -> Option<u64> {
        let spare = config.spare_bytes?.max(config.free_floor_bytes);
        let wanted = self.outstanding().saturating_add(need);
        Some(wanted.saturating_mul(2).saturating_add(spare))
    }

    pub(super) fn judge(
        &mut self,
        config: &StoreConfig,
        entry: &Entry,
        need: u64,
        free: u64,
    ) -> Room {
        if let Some(error) = self.lack(config, need, free) {
            return Room::None(error);
        }
        let (quota, floor) = (config.cache_bytes, config.free_floor_bytes);
        let wanted_free = self.wanted_free(config, need);
        // What is beyond the quota in any case is bounded by the disk alone: to evict others for it would be in vain.
        let fits = need <= quota.saturating_sub(self.used_bytes) || self.is_beyond(config, need);
        let mut victim = self.least_used();
        let mut stays = false;
        if self
            .plenty(config, need)
            .is_some_and(|plenty| free >= plenty)
        {
            // Nor does what a crowd still takes go then.
            let held = self.used_bytes - self.evictable_bytes();
            victim = self.beyond(quota, quota.saturating_sub(held.saturating_add(need)));
            stays = victim.is_none();
        }
        if free >= wanted_free && (fits || stays) {
            let Some(slot) = self.slots.get_mut(&entry.task) else {
                return Room::None(ReserveError::Gone);
            };
            if slot.entry.generation != entry.generation {
                return Room::None(ReserveError::Gone);
            }
            slot.admitted = true;
            self.charge(entry.task, need);
            return Room::Enough;
        }
        victim.map_or(
            Room::None(ReserveError::DiskFull {
                need_bytes: need,
                free_bytes: free,
                floor_bytes: floor,
            }),
            Room::Evict,
        )
    }
}

/// What is to be done about a want of room.
pub(super) enum Room {
    Enough,
    Evict(TaskId),
    None(ReserveError),
}
