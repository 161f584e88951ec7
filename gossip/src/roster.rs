//! The members that are alive, in order, with a digest that follows each change.

use std::collections::BTreeMap;

use crate::wire::{Digest, MEMBER_BUCKETS, member_hash};
use crate::{Member, PeerId};

#[derive(Debug)]
pub(crate) struct Roster {
    members: BTreeMap<PeerId, Member>,
    digest: Digest<MEMBER_BUCKETS>,
}

impl Roster {
    pub(crate) fn new() -> Self {
        Self {
            members: BTreeMap::new(),
            digest: [0; MEMBER_BUCKETS],
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn get(&self, peer: &PeerId) -> Option<&Member> {
        self.members.get(peer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Puts a member in, in place of an older record. True if there was one.
    pub(crate) fn put(&mut self, member: Member) -> bool {
        let was_known = self.remove(&member.peer);
        self.toggle(&member);
        self.members.insert(member.peer, member);
        was_known
    }

    /// Takes a member out. True if it was in.
    pub(crate) fn remove(&mut self, peer: &PeerId) -> bool {
        let Some(member) = self.members.remove(peer) else {
            return false;
        };
        self.toggle(&member);
        true
    }

    /// The digest of the members and of `me`.
    pub(crate) fn digest_with(&self, me: &Member) -> Digest<MEMBER_BUCKETS> {
        let mut digest = self.digest;
        digest[bucket(&me.peer)] ^= member_hash(me);
        digest
    }

    fn toggle(&mut self, member: &Member) {
        self.digest[bucket(&member.peer)] ^= member_hash(member);
    }
}

/// The part of the digest that a member belongs to. Keys are random to begin with.
pub(crate) fn bucket(peer: &PeerId) -> usize {
    usize::from(peer.as_bytes()[0]) % MEMBER_BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;

    fn member(number: u8, generation: u64) -> Member {
        Member {
            peer: PeerId::from_bytes([number; 32]),
            addrs: vec!["10.0.0.1:1".parse().unwrap()],
            generation,
            labels: Labels::default(),
        }
    }

    #[test]
    fn the_digest_depends_on_who_is_in_not_on_how_it_came() {
        let mut one = Roster::new();
        assert!(!one.put(member(1, 1)));
        assert!(!one.put(member(2, 1)));
        assert!(one.put(member(1, 2)));
        assert!(one.remove(&member(2, 1).peer));
        assert!(!one.remove(&member(2, 1).peer));
        let mut other = Roster::new();
        other.put(member(3, 1));
        assert_eq!(
            one.digest_with(&member(3, 1)),
            other.digest_with(&member(1, 2))
        );
        assert_ne!(
            one.digest_with(&member(3, 1)),
            other.digest_with(&member(1, 1))
        );
    }
}
