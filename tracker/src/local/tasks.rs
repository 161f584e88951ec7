//! All tasks of a node, and which of them is due next.

use std::collections::{BTreeMap, BTreeSet};

use dfnode_gossip::Now;

use crate::ids::TaskId;
use crate::task::Task;

/// The tasks by name, and by deadline: a node that holds thousands looks only at those that are due.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    by_id: BTreeMap<TaskId, Task>,
    due_at: BTreeMap<TaskId, Now>,
    queue: BTreeSet<(Now, TaskId)>,
    /// Tasks whose deadline may have changed since [`Tasks::refresh`].
    touched: Vec<TaskId>,
}

impl Tasks {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn contains(&self, id: &TaskId) -> bool {
        self.by_id.contains_key(id)
    }

    pub(super) fn get(&self, id: &TaskId) -> Option<&Task> {
        self.by_id.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&TaskId, &Task)> {
        self.by_id.iter()
    }

    pub(super) fn get_mut(&mut self, id: &TaskId) -> Option<&mut Task> {
        let task = self.by_id.get_mut(id)?;
        if self.touched.last() != Some(id) {
            self.touched.push(*id);
        }
        Some(task)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.touched = self.by_id.keys().copied().collect();
        self.by_id.values_mut()
    }

    /// The task of that name, begun if there was none.
    pub(super) fn get_or_begin(&mut self, now: Now, id: TaskId) -> &mut Task {
        self.touched.push(id);
        self.by_id.entry(id).or_insert_with(|| Task::new(id, now))
    }

    pub(super) fn remove(&mut self, id: &TaskId) -> Option<Task> {
        self.touched.push(*id);
        self.by_id.remove(id)
    }

    /// Tasks whose deadline has passed.
    pub(super) fn due(&self, now: Now) -> Vec<TaskId> {
        self.queue
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect()
    }

    /// Takes up the deadlines of the tasks that were touched.
    pub(super) fn refresh(&mut self) {
        for id in std::mem::take(&mut self.touched) {
            let new = self.by_id.get(&id).and_then(Task::poll_timeout);
            let old = match new {
                Some(at) => self.due_at.insert(id, at),
                None => self.due_at.remove(&id),
            };
            if old != new {
                self.queue.extend(new.map(|at| (at, id)));
                if let Some(at) = old {
                    self.queue.remove(&(at, id));
                }
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Now> {
        self.queue.first().map(|(at, _)| *at)
    }
}
