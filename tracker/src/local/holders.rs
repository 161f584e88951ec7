//! Who says by gossip that it holds all of a task: peers to name to registrants whom no other holder is known to.

use std::collections::BTreeMap;

use dfnode_gossip::{EventKind, PeerId};

use crate::ids::TaskId;
use crate::view::View;

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

    /// The holders that are members. One that is taken for dead may be back in a moment, and gossip says nothing again
    /// that it has not forgotten: what it said counts as long as gossip keeps it.
    pub(super) fn of<'a>(
        &'a self,
        task: &TaskId,
        view: &'a View,
    ) -> impl Iterator<Item = PeerId> + 'a {
        let holders = self.by_task.get(task).into_iter();
        holders
            .flat_map(BTreeMap::keys)
            .filter(|peer| view.contains(peer))
            .copied()
    }

    /// A peer says in an event of this kind that it holds all of a task.
    pub(super) fn add(&mut self, task: TaskId, origin: PeerId, kind: EventKind, view: &View) {
        if self.by_task.len() >= MAX_HOLDER_TASKS && !self.by_task.contains_key(&task) {
            return;
        }
        let holders = self.by_task.entry(task).or_default();
        if holders.len() >= MAX_HOLDERS {
            holders.retain(|peer, _| view.contains(peer));
        }
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

    /// A task is removed from the cluster.
    pub(super) fn forget_task(&mut self, task: &TaskId) {
        self.by_task.remove(task);
    }
}

#[cfg(test)]
mod tests {
    use dfnode_gossip::{Labels, Member, Zone};

    use super::*;

    const TASK: TaskId = TaskId::from_bytes([1; 32]);

    fn peer(number: u8) -> PeerId {
        PeerId::from_bytes([number; 32])
    }

    /// Members of these numbers.
    fn view(numbers: impl IntoIterator<Item = u8>) -> View {
        let mut view = View::new(peer(0), false, Zone::default());
        for number in numbers {
            view.up(&Member {
                peer: peer(number),
                addrs: Vec::new(),
                generation: 1,
                labels: Labels::default(),
            });
        }
        view
    }

    #[test]
    fn a_holder_counts_until_its_last_claim_is_withdrawn() {
        let (mut all, view) = (Holders::default(), view(0..9));
        all.add(TASK, peer(1), EventKind::Progress, &view);
        all.add(TASK, peer(1), EventKind::Recover, &view);
        all.remove(&TASK, &peer(1), EventKind::Progress);
        all.remove(&TASK, &peer(1), EventKind::Length);
        assert!(all.of(&TASK, &view).eq([peer(1)]));
        all.remove(&TASK, &peer(1), EventKind::Recover);
        assert_eq!(
            all.tasks(),
            0,
            "nothing is left of a task that nobody holds"
        );
    }

    #[test]
    fn who_is_taken_for_dead_is_named_again_once_it_is_back() {
        let (mut all, before) = (Holders::default(), view(0..9));
        all.add(TASK, peer(1), EventKind::Progress, &before);
        let without = view(2..9);
        assert_eq!(all.of(&TASK, &without).count(), 0);
        assert!(all.of(&TASK, &before).eq([peer(1)]));
    }

    #[test]
    fn who_is_gone_makes_way_for_others() {
        let mut all = Holders::default();
        for number in 1..100 {
            all.add(TASK, peer(number), EventKind::Progress, &view(1..100));
        }
        let later = view(100..110);
        for number in 100..110 {
            all.add(TASK, peer(number), EventKind::Progress, &later);
        }
        assert_eq!(all.of(&TASK, &later).count(), 10);
        assert!(all.by_task[&TASK].len() <= MAX_HOLDERS);
    }
}
