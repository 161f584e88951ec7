//! The members as this node sees them, and which of them are a task's homes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dfnode_gossip::{Member, PeerId, Zone};

use crate::ids::TaskId;
use crate::message::PeerRef;

/// Ranks of homes that a task has.
pub(crate) const HOME_RANKS: usize = 3;

/// The live members, this node included.
#[derive(Debug)]
pub(crate) struct View {
    me: PeerId,
    leech: bool,
    zone: Zone,
    members: BTreeMap<PeerId, Known>,
}

#[derive(Debug)]
struct Known {
    addr: Option<SocketAddr>,
    leech: bool,
    zone: Zone,
}

impl View {
    pub(crate) const fn new(me: PeerId, leech: bool, zone: Zone) -> Self {
        Self {
            me,
            leech,
            zone,
            members: BTreeMap::new(),
        }
    }

    pub(crate) const fn me(&self) -> PeerId {
        self.me
    }

    pub(crate) const fn leech(&self) -> bool {
        self.leech
    }

    pub(crate) fn up(&mut self, member: &Member) {
        if member.peer != self.me {
            let known = Known {
                addr: member.addrs.first().copied(),
                leech: member.labels.leech,
                zone: member.labels.zone,
            };
            self.members.insert(member.peer, known);
        }
    }

    pub(crate) fn down(&mut self, peer: &PeerId) {
        self.members.remove(peer);
    }

    /// How many members there are beside this node.
    pub(crate) fn others(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        *peer == self.me || self.members.contains_key(peer)
    }

    /// Whether a member never uploads.
    pub(crate) fn is_leech(&self, peer: &PeerId) -> bool {
        self.members.get(peer).is_some_and(|known| known.leech)
    }

    /// Where a member stands. One that gossip has not told of yet is taken for near.
    pub(crate) fn zone_of(&self, peer: &PeerId) -> Zone {
        self.members.get(peer).map_or(self.zone, |known| known.zone)
    }

    /// Whether a member is known to stand in another zone than this node.
    pub(crate) fn is_far(&self, peer: &PeerId) -> bool {
        self.zone_of(peer) != self.zone
    }

    /// Whom and where, as told to others.
    pub(crate) fn peer_ref(&self, peer: PeerId) -> PeerRef {
        PeerRef {
            peer,
            addr: self.members.get(&peer).and_then(|known| known.addr),
        }
    }

    /// The homes of a task, best first, by rendezvous hashing.
    ///
    /// Every node computes them alike from its own view, so nobody has to be asked; when a member leaves, only
    /// the tasks that it was home to move. Leeches are homes only where nobody else is. Whom this node has `shunned`
    /// is none: it neither hears it nor speaks to it.
    pub(crate) fn homes(&self, task: &TaskId, shunned: impl Fn(&PeerId) -> bool) -> Vec<PeerId> {
        let willing = self
            .members
            .iter()
            .map(|(peer, known)| (!known.leech, *peer))
            .chain([(!self.leech, self.me)]);
        best_of(task, willing, HOME_RANKS, shunned)
    }
}

/// The members that suit a task best, by rendezvous hashing: its homes, and who follows them.
///
/// For a world that tells each node of a few others only: these it must know to find the homes that all find.
pub fn best_homes(
    task: &TaskId,
    members: impl Iterator<Item = PeerId>,
    count: usize,
) -> Vec<PeerId> {
    best_of(task, members.map(|peer| (true, peer)), count, |_| false)
}

fn best_of(
    task: &TaskId,
    willing: impl Iterator<Item = (bool, PeerId)>,
    count: usize,
    shunned: impl Fn(&PeerId) -> bool,
) -> Vec<PeerId> {
    let mut best: Vec<(bool, u64, PeerId)> = Vec::with_capacity(count + 1);
    for (willing, peer) in willing {
        let candidate = (willing, score(task, &peer), peer);
        // Few get this far, so that `shunned` is asked of few.
        let too_bad = best.len() == count && best.last().is_some_and(|worst| *worst >= candidate);
        if too_bad || shunned(&peer) {
            continue;
        }
        best.push(candidate);
        best.sort_unstable_by(|a, b| b.cmp(a));
        best.truncate(count);
    }
    best.into_iter().map(|(_, _, peer)| peer).collect()
}

/// How well a member suits a task: uniform, and equal wherever it is computed.
///
/// Both ids are uniform already (hashes and public keys), so mixing 64 bits of each is enough; a cryptographic
/// hash over 10,000 members would cost milliseconds per task.
fn score(task: &TaskId, peer: &PeerId) -> u64 {
    let word = |bytes: &[u8; 32], at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let (t, p) = (task.as_bytes(), peer.as_bytes());
    let mut mixed =
        word(t, 0) ^ word(p, 0).rotate_left(17) ^ word(p, 8).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for half in [word(t, 8), word(p, 16)] {
        mixed = (mixed ^ half).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^= mixed >> 29;
        mixed = mixed.wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 32;
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(seed: u8) -> PeerId {
        PeerId::from_bytes(*blake3::hash(&[seed]).as_bytes())
    }

    fn view(me: u8, others: impl IntoIterator<Item = u8>) -> View {
        let mut view = View::new(peer(me), false, Zone::default());
        for other in others {
            view.members.insert(
                peer(other),
                Known {
                    addr: None,
                    leech: false,
                    zone: Zone::default(),
                },
            );
        }
        view
    }

    #[test]
    fn every_member_computes_the_same_homes() {
        let task = TaskId::from_bytes(*blake3::hash(b"task").as_bytes());
        let homes = view(0, 1..20).homes(&task, |_| false);
        assert_eq!(homes.len(), HOME_RANKS);
        for me in 1..20 {
            assert_eq!(
                view(me, (0..20).filter(|other| *other != me)).homes(&task, |_| false),
                homes
            );
        }
    }

    #[test]
    fn homes_spread_over_the_members() {
        let view = view(0, 1..10);
        let mut first = BTreeMap::<PeerId, u32>::new();
        for seed in 0_u32..1000 {
            let task = TaskId::from_bytes(*blake3::hash(&seed.to_le_bytes()).as_bytes());
            *first.entry(view.homes(&task, |_| false)[0]).or_default() += 1;
        }
        assert_eq!(first.len(), 10);
        assert!(
            first.values().all(|tasks| (50..200).contains(tasks)),
            "{first:?}"
        );
    }

    #[test]
    fn when_the_first_home_goes_the_second_takes_its_place() {
        let task = TaskId::from_bytes([7; 32]);
        let mut view = view(0, 1..20);
        let homes = view.homes(&task, |_| false);
        let without_first = view.homes(&task, |peer| *peer == homes[0]);
        assert_eq!(
            without_first[..2],
            homes[1..],
            "shunned, it is as good as gone"
        );
        view.down(&homes[0]);
        if homes[0] != peer(0) {
            assert_eq!(view.homes(&task, |_| false), without_first);
        }
    }
}
