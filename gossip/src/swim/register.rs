//! What the codec must know to judge the records that pass through it.

use std::collections::{BTreeMap, BTreeSet};

use foca::{Incarnation, State};

use super::identity::{Identity, from_record};
use crate::wire::{Record, Standing};
use crate::{MAX_MEMBERS, PeerId};

/// Ourselves, and everybody we have met.
pub(super) struct Register {
    me: Identity,
    leaving: bool,
    known: BTreeSet<PeerId>,
    /// Those that were alive and went down, and the incarnation in which they did.
    down: BTreeMap<PeerId, (Identity, Incarnation)>,
    /// Records that prove that one of them lives.
    proofs: Vec<foca::Member<Identity>>,
    /// Whom others suspect.
    suspicions: Vec<(Identity, Incarnation)>,
    /// Somebody suspects us.
    suspected: bool,
    /// The highest generation of another life of ours that was seen.
    other_life: Option<u64>,
}

impl Register {
    pub(super) fn new(me: Identity) -> Self {
        Self {
            me,
            leaving: false,
            known: BTreeSet::new(),
            down: BTreeMap::new(),
            proofs: Vec::new(),
            suspicions: Vec::new(),
            suspected: false,
            other_life: None,
        }
    }

    pub(super) fn me(&self) -> &Identity {
        &self.me
    }

    pub(super) fn set_me(&mut self, me: Identity) {
        self.me = me;
    }

    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Whether `peer` was met before, or is ourselves.
    pub(super) fn knows(&self, peer: &PeerId) -> bool {
        *peer == self.me.peer || self.known.contains(peer)
    }

    /// Whether there is room for `peer`; remembers it if so.
    pub(super) fn admit(&mut self, peer: &PeerId) -> bool {
        if self.known.contains(peer) {
            return true;
        }
        if self.is_full() {
            return false;
        }
        self.known.insert(*peer)
    }

    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.known.remove(peer);
        self.down.remove(peer);
    }

    /// Forgets everybody.
    pub(super) fn forget_all(&mut self) {
        self.known.clear();
        self.down.clear();
        self.proofs.clear();
        self.suspicions.clear();
    }

    pub(super) fn went_down(&mut self, id: Identity, incarnation: Incarnation) {
        self.down.insert(id.peer, (id, incarnation));
    }

    pub(super) fn came_up(&mut self, peer: &PeerId) {
        self.down.remove(peer);
    }

    /// Members that we think are down and that live: they answered a suspicion after the one that
    /// brought them down.
    pub(super) fn take_proofs(&mut self) -> Vec<foca::Member<Identity>> {
        std::mem::take(&mut self.proofs)
    }

    pub(super) fn is_full(&self) -> bool {
        self.known.len() >= MAX_MEMBERS
    }

    pub(super) fn recount(&mut self, known: BTreeSet<PeerId>) {
        self.known = known;
    }

    pub(super) fn take_suspected(&mut self) -> bool {
        std::mem::take(&mut self.suspected)
    }

    /// Whom others were said to suspect, and in which incarnation.
    pub(super) fn take_suspicions(&mut self) -> Vec<(Identity, Incarnation)> {
        std::mem::take(&mut self.suspicions)
    }

    /// The generation of another life of ours, if the cluster would prefer it to this one.
    pub(super) fn newer_life(&mut self) -> Option<u64> {
        self.other_life
            .take_if(|other| *other < self.me.generation)
            .map_or(self.other_life, |_older| None)
    }

    /// What foca may be told of a record that came in: nothing of our other lives, which it would
    /// declare down and so confuse the others, and nobody new when the cluster is full.
    pub(super) fn vet(&mut self, record: Record) -> Option<foca::Member<Identity>> {
        if record.member.peer != self.me.peer {
            let known = self
                .admit(&record.member.peer)
                .then(|| from_record(record))?;
            if known.state() == State::Suspect {
                self.suspicions
                    .push((known.id().clone(), known.incarnation()));
            }
            self.proofs
                .extend(self.proves_life(&known).then(|| known.clone()));
            return Some(known);
        }
        if record.member == *self.me.member() {
            self.suspected |= record.standing == Standing::Suspect;
            return Some(from_record(record));
        }
        let other = record.member.generation;
        self.other_life = self.other_life.max(Some(other));
        None
    }

    fn proves_life(&self, record: &foca::Member<Identity>) -> bool {
        record.state() != State::Down
            && self
                .down
                .get(&record.id().peer)
                .is_some_and(|(id, incarnation)| {
                    id == record.id() && record.incarnation() > *incarnation
                })
    }

    /// What others shall read when foca speaks of `record`.
    ///
    /// When our record changes, foca announces that the old one is down, and others would drop us
    /// until they hear of the new one. They hear of the new one instead.
    pub(super) fn word(&self, record: Record) -> Record {
        if record.member.peer != self.me.peer {
            return record;
        }
        if self.leaving {
            // Nothing proves life after this.
            return Record {
                incarnation: Incarnation::MAX,
                ..record
            };
        }
        // foca renews by itself before it says so: then the record that goes down is still ours.
        let renewing = record.standing == Standing::Down && record.member == *self.me.member();
        let me = self.me.member();
        Record {
            member: if renewing { me.renewed() } else { me.clone() },
            incarnation: 0,
            standing: Standing::Alive,
        }
    }
}
