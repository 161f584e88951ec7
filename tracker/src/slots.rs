//! Transfers that this host has under way, shared out among its tasks.

use std::collections::BTreeMap;

use crate::ids::TaskId;

/// A task that comes to a host without free places does not wait: beyond its places the host has one transfer for each
/// such task, up to so many times its places in all.
const CROWD: usize = 4;

/// The places of one direction. A task whose transfer ends would otherwise take its place again at once, and small
/// tasks beside a big one would stand still.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    taken: usize,
    by_task: BTreeMap<TaskId, usize>,
}

impl Places {
    pub(crate) const fn new(max: usize) -> Self {
        Self {
            max,
            taken: 0,
            by_task: BTreeMap::new(),
        }
    }

    pub(crate) const fn taken(&self) -> usize {
        self.taken
    }

    /// What a task may take at most, even if it is alone.
    pub(crate) const fn max(&self) -> usize {
        self.max
    }

    /// What a task has taken.
    pub(crate) fn of(&self, task: &TaskId) -> usize {
        self.by_task.get(task).copied().unwrap_or_default()
    }

    /// How many more transfers `task` may start: its equal share of the places, as far as others left them.
    pub(crate) fn free(&self, task: &TaskId) -> usize {
        let own = self.of(task);
        if own == 0 && self.taken >= self.max {
            return usize::from(self.taken < self.max * CROWD);
        }
        let tasks = self.by_task.len() + usize::from(own == 0);
        let share = self.max.div_ceil(tasks);
        share
            .saturating_sub(own)
            .min(self.max.saturating_sub(self.taken))
    }

    pub(crate) fn take(&mut self, task: TaskId) {
        self.taken += 1;
        *self.by_task.entry(task).or_default() += 1;
    }

    /// The task is gone, with all that it had.
    pub(crate) fn forget(&mut self, task: &TaskId) {
        self.taken -= self.by_task.remove(task).unwrap_or_default();
    }

    pub(crate) fn give_back(&mut self, task: &TaskId, count: usize) {
        let Some(own) = self.by_task.get_mut(task) else {
            return;
        };
        let count = count.min(*own);
        *own -= count;
        self.taken -= count;
        if *own == 0 {
            self.by_task.remove(task);
        }
    }
}

/// Both directions.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) uploads: Places,
    pub(crate) downloads: Places,
}

impl Slots {
    /// The task is gone.
    pub(crate) fn forget(&mut self, task: &TaskId) {
        self.uploads.forget(task);
        self.downloads.forget(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u8) -> TaskId {
        TaskId::from_bytes([number; 32])
    }

    #[test]
    fn a_task_alone_has_all_places_and_each_of_several_its_share() {
        let mut places = Places::new(12);
        assert_eq!(places.free(&task(1)), 12);
        for _ in 0..12 {
            places.take(task(1));
        }
        assert_eq!(places.free(&task(1)), 0);
        // One that comes later does not wait for a place, …
        assert_eq!(places.free(&task(2)), 1);
        places.take(task(2));
        assert_eq!(places.taken(), 13);
        // … and what the first gives back goes to it, until both have the same.
        places.give_back(&task(1), 2);
        assert_eq!((places.free(&task(1)), places.free(&task(2))), (0, 1));
        places.take(task(2));
        places.give_back(&task(1), 4);
        assert_eq!((places.free(&task(1)), places.free(&task(2))), (0, 4));
        places.give_back(&task(2), 2);
        assert_eq!(places.free(&task(1)), 6);
    }

    #[test]
    fn a_crowd_of_tasks_is_bounded() {
        let mut places = Places::new(12);
        let mut started = 0;
        for number in 0..100 {
            while places.free(&task(number)) > 0 {
                places.take(task(number));
                started += 1;
            }
        }
        assert_eq!(started, 48);
        assert_eq!(places.taken(), 48);
    }

    #[test]
    fn what_was_not_taken_cannot_be_given_back() {
        let mut places = Places::new(2);
        places.take(task(1));
        places.give_back(&task(1), 5);
        places.give_back(&task(2), 1);
        assert_eq!(places.taken(), 0);
        assert_eq!(places.free(&task(1)), 2);
    }
}
