//! Who says by gossip that it holds all of a task: peers to name to registrants whom no other holder is known to.

use std::collections::BTreeMap;

use dfnode_gossip::{EventKind, PeerId};

use crate::ids::TaskId;

/// Tasks of which gossip's holders are remembered.
const MAX_HOLDER_TASKS: usize = 16_384;
/// Holders remembered for one task: as many as announce.
const MAX_HOLDERS: usize = 16;

/// By which of its events a peer says so; either may be withdrawn while the other stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Claims {
    progress: bool,
    recover: bool,
}

/// The holders of all tasks that anybody announces.
#[derive(Debug, Default)]
pub(super) struct Holders {
    by_task: BTreeMap<TaskId, BTreeMap<PeerId, Claims>>,
}

impl Holders {
    /// Tasks that some peer is known to hold.
    pub(super) fn tasks(&self) -> usize {
        self.by_task.len()
    }

    pub(super) fn of(&self, task: &TaskId) -> impl Iterator<Item = PeerId> + '_ {
        self.by_task
            .get(task)
            .into_iter()
            .flat_map(BTreeMap::keys)
            .copied()
    }

    /// A peer says in an event of this kind that it holds all of a task.
    pub(super) fn add(&mut self, task: TaskId, origin: PeerId, kind: EventKind) {
        if self.by_task.len() >= MAX_HOLDER_TASKS && !self.by_task.contains_key(&task) {
            return;
        }
        let holders = self.by_task.entry(task).or_default();
        if holders.len() < MAX_HOLDERS || holders.contains_key(&origin) {
            let claims = holders.entry(origin).or_default();
            claims.progress |= kind == EventKind::Progress;
            claims.recover |= kind == EventKind::Recover;
        }
    }

    /// A peer no longer says so in an event of this kind.
    pub(super) fn remove(&mut self, task: &TaskId, origin: &PeerId, kind: EventKind) {
        let Some(holders) = self.by_task.get_mut(task) else {
            return;
        };
        if let Some(claims) = holders.get_mut(origin) {
            claims.progress &= kind != EventKind::Progress;
            claims.recover &= kind != EventKind::Recover;
        }
        holders.retain(|_, claims| *claims != Claims::default());
        if holders.is_empty() {
            self.by_task.remove(task);
        }
    }

    /// A member is gone.
    pub(super) fn forget_peer(&mut self, peer: &PeerId) {
        self.by_task.retain(|_, holders| {
            holders.remove(peer);
            !holders.is_empty()
        });
    }

    /// A task is removed from the cluster.
    pub(super) fn forget_task(&mut self, task: &TaskId) {
        self.by_task.remove(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId::from_bytes([1; 32]);

    fn peer(number: u8) -> PeerId {
        PeerId::from_bytes([number; 32])
    }

    fn holders(all: &Holders) -> Vec<PeerId> {
        all.of(&TASK).collect()
    }

    #[test]
    fn a_holder_counts_until_its_last_claim_is_withdrawn() {
        let mut all = Holders::default();
        all.add(TASK, peer(1), EventKind::Progress);
        all.add(TASK, peer(1), EventKind::Recover);
        all.remove(&TASK, &peer(1), EventKind::Progress);
        all.remove(&TASK, &peer(1), EventKind::Length);
        assert_eq!(holders(&all), [peer(1)]);
        all.remove(&TASK, &peer(1), EventKind::Recover);
        assert_eq!(
            all.tasks(),
            0,
            "nothing is left of a task that nobody holds"
        );
    }

    #[test]
    fn nothing_is_left_of_a_task_whose_holders_are_gone() {
        let mut all = Holders::default();
        for number in 0..100 {
            all.add(TASK, peer(number), EventKind::Progress);
        }
        assert_eq!(holders(&all).len(), MAX_HOLDERS);
        for number in 0..100 {
            all.forget_peer(&peer(number));
        }
        assert_eq!(all.tasks(), 0);
    }
}
