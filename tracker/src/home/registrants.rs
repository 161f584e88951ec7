//! Who wants or holds a task, as its home knows them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use crate::blocks::BlockSet;
use crate::context::Chance;
use crate::meta::Meta;
use crate::scope::Scope;

/// Who does not say for so long that no block comes, got some.
pub(super) const AGAIN: Duration = Duration::from_secs(2);
/// Peers that announce one task by gossip.
const MAX_ANNOUNCERS: usize = 16;

/// One node that wants or holds the task.
#[derive(Debug)]
pub(super) struct Registrant {
    pub(super) heard: Now,
    /// When it last said what it holds.
    pub(super) told: Now,
    pub(super) addr: Option<SocketAddr>,
    pub(super) wants: bool,
    pub(super) can_read: bool,
    /// What it held when it last registered, of the table's version.
    holds: BlockSet,
    /// What its neighbours held then.
    nearby: BlockSet,
    /// What it wants.
    scope: Scope,
    /// How often it was named to others.
    pub(super) named: u32,
    pub(super) announces: bool,
    /// Its fresh blocks have not left it yet: no further lease.
    pub(super) unspread: u32,
    /// Since when it has said again and again that no block comes, and when it did so last.
    pub(super) stalled: Option<(Now, Now)>,
    /// When it was asked whether it lives.
    pub(super) asked: Option<Now>,
    /// The oldest validation that it accepts.
    pub(super) max_age: Duration,
}

impl Registrant {
    const fn new(now: Now, announces: bool) -> Self {
        Self {
            heard: now,
            told: now,
            addr: None,
            wants: false,
            can_read: false,
            holds: BlockSet::new(),
            nearby: BlockSet::new(),
            scope: Scope::Whole,
            named: 0,
            announces,
            unspread: 0,
            stalled: None,
            asked: None,
            max_age: Duration::ZERO,
        }
    }
}

impl Registrant {
    pub(super) const fn holds(&self) -> &BlockSet {
        &self.holds
    }

    /// Whether it wants the whole file.
    pub(super) const fn wants_all(&self) -> bool {
        matches!(self.scope, Scope::Whole)
    }

    /// Whether it said a moment ago that no block comes.
    pub(super) fn stalls(&self, now: Now) -> bool {
        self.stalled
            .is_some_and(|(_, last)| now.saturating_since(last) < AGAIN)
    }

    /// The blocks that it does not want of a version.
    pub(super) fn outside(&self, meta: &Meta) -> BlockSet {
        self.scope.outside(&meta.layout)
    }

    fn bytes(&self) -> usize {
        let parts = size_of_val(self.scope.parts());
        self.holds.bytes() + self.nearby.bytes() + parts
    }

    /// Whether it may be given a lease: it wants blocks, can read, and owes no sign of life.
    pub(super) const fn may_read(&self) -> bool {
        self.wants && self.can_read && self.asked.is_none()
    }
}

/// All registrants of a table: by name, and in a row to draw lots from.
#[derive(Debug, Default)]
pub(super) struct Registrants {
    by_peer: BTreeMap<PeerId, Registrant>,
    row: Vec<PeerId>,
    announcers: usize,
    /// What all their sets of blocks take.
    bytes: usize,
}

impl Registrants {
    /// What all their sets of blocks take.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes what a registrant says that it and its neighbours hold, and what it wants.
    pub(super) fn note(&mut self, peer: &PeerId, [holds, nearby]: [BlockSet; 2], scope: Scope) {
        let Some(known) = self.by_peer.get_mut(peer) else {
            return;
        };
        let before = known.bytes();
        (known.holds, known.nearby, known.scope) = (holds, nearby, scope);
        self.bytes = self.bytes + known.bytes() - before;
    }

    /// Nobody holds anything of the table's next version.
    pub(super) fn hold_nothing(&mut self) {
        for known in self.by_peer.values_mut() {
            (known.holds, known.nearby) = (BlockSet::new(), BlockSet::new());
            known.unspread = 0;
        }
        self.bytes = self.values().map(Registrant::bytes).sum();
    }

    pub(super) fn len(&self) -> usize {
        self.row.len()
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.by_peer.contains_key(peer)
    }

    pub(super) fn get(&self, peer: &PeerId) -> Option<&Registrant> {
        self.by_peer.get(peer)
    }

    pub(super) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Registrant> {
        self.by_peer.get_mut(peer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Registrant)> {
        self.by_peer.iter()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Registrant> {
        self.by_peer.values()
    }

    /// The registrant of that name, entered if it was not.
    pub(super) fn enter(&mut self, now: Now, peer: PeerId) -> &mut Registrant {
        self.by_peer.entry(peer).or_insert_with(|| {
            let announces = self.announcers < MAX_ANNOUNCERS;
            self.announcers += usize::from(announces);
            self.row.push(peer);
            Registrant::new(now, announces)
        })
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, peer: &PeerId) -> bool {
        let Some(gone) = self.by_peer.remove(peer) else {
            return false;
        };
        self.announcers -= usize::from(gone.announces);
        self.bytes -= gone.bytes();
        if let Some(at) = self.row.iter().position(|one| one == peer) {
            self.row.swap_remove(at);
        }
        true
    }

    /// Empties the table, and tells who was in it.
    pub(super) fn take(&mut self) -> Vec<PeerId> {
        std::mem::take(self).by_peer.into_keys().collect()
    }

    /// Those who want blocks.
    pub(super) fn wanting(&self) -> Vec<PeerId> {
        self.iter()
            .filter(|(_, known)| known.wants)
            .map(|(peer, _)| *peer)
            .collect()
    }

    /// Up to `count` different registrants, each alike; all of them if there are no more.
    pub(super) fn some(&self, chance: &mut Chance, count: usize) -> Vec<PeerId> {
        if self.row.len() <= count {
            return self.by_peer.keys().copied().collect();
        }
        some_of(&self.row, chance, count)
    }

    /// Every block that a registrant said it holds which owes no sign of life.
    pub(super) fn held_for_sure(&self) -> BlockSet {
        let mut held = BlockSet::new();
        for known in self.values().filter(|known| known.asked.is_none()) {
            held.unite(&known.holds);
        }
        held
    }

    /// Every block that some registrant said it or a neighbour of it holds.
    pub(super) fn held(&self) -> BlockSet {
        let mut held = BlockSet::new();
        for known in self.values() {
            held.unite(&known.holds);
            held.unite(&known.nearby);
        }
        held
    }
}

/// Up to `count` different ones of a row, each alike; all of them if there are no more.
pub(super) fn some_of(row: &[PeerId], chance: &mut Chance, count: usize) -> Vec<PeerId> {
    let mut drawn: Vec<PeerId> = if row.len() <= count {
        row.to_vec()
    } else {
        (0..count).filter_map(|_| chance.choose(row)).collect()
    };
    drawn.sort_unstable();
    drawn.dedup();
    drawn
}
