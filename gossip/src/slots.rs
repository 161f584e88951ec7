//! The event slots: what everybody last said, as far as we know.
//!
//! A slot (subject, origin, kind) holds the write with the highest clock; equal clocks are decided
//! by the bytes, so that all nodes agree. A withdrawn slot stays as a tombstone until nobody can
//! bring the old content back. Three bounds (per subject, per origin, in total) keep the store
//! small; where one is reached, the lowest [`Rank`] goes, on all nodes the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::wire::{Buckets, Digest, EVENT_BUCKETS, Item};
use crate::{Event, EventKind, Now, PeerId, Subject};

mod gone;
mod slot;

use gone::Gone;
pub(crate) use slot::{Key, ends_with_a_life};
use slot::{Rank, Slot, is_claim, is_removal, is_tombstone};

/// The most slots that are kept.
pub const MAX_SLOTS: usize = 65_536;
/// The most slots of one origin.
pub const MAX_SLOTS_PER_ORIGIN: usize = 2_048;
/// The most slots about one subject.
pub const MAX_SLOTS_PER_SUBJECT: usize = 256;

/// What a change of the store means to whoever watches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Written(Event),
    Emptied { key: Key, kind: EventKind },
}

/// All slots of all origins, our own included.
#[derive(Debug)]
pub(crate) struct Slots {
    by_key: BTreeMap<Key, Slot>,
    ranks: BTreeSet<Rank>,
    by_origin: BTreeMap<PeerId, BTreeSet<Rank>>,
    /// Tombstones by the moment they are forgotten.
    expiries: BTreeSet<(Now, Key)>,
    gone: Gone,
    digest: Digest<EVENT_BUCKETS>,
    keep_tombstones: Duration,
    changes: Vec<Change>,
}

impl Slots {
    pub(crate) fn new(keep_slots_of_down: Duration, keep_tombstones: Duration) -> Self {
        Self {
            by_key: BTreeMap::new(),
            ranks: BTreeSet::new(),
            by_origin: BTreeMap::new(),
            expiries: BTreeSet::new(),
            gone: Gone::new(keep_slots_of_down),
            digest: [0; EVENT_BUCKETS],
            keep_tombstones,
            changes: Vec::new(),
        }
    }

    /// What changed since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// All slots, tombstones included.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Origins that are gone.
    pub(crate) fn gone(&self) -> usize {
        self.gone.len()
    }

    /// The events about `subject`.
    pub(crate) fn events<'a>(
        &'a self,
        subject: &Subject,
    ) -> impl Iterator<Item = &'a Event> + use<'a> {
        self.about(subject)
            .filter_map(|(_, slot)| slot.event.as_ref())
    }

    /// The item in a slot as it came, tombstones included.
    pub(crate) fn raw(&self, key: &Key) -> Option<&Bytes> {
        self.by_key.get(key).map(|slot| &slot.raw)
    }

    /// The event in a slot.
    pub(crate) fn event(&self, key: &Key) -> Option<&Event> {
        self.by_key.get(key)?.event.as_ref()
    }

    /// Whether the slot has content, of whatever kind.
    pub(crate) fn is_filled(&self, key: &Key) -> bool {
        self.by_key.get(key).is_some_and(Slot::is_filled)
    }

    /// How many slots `origin` fills.
    pub(crate) fn filled_by(&self, origin: &PeerId) -> usize {
        self.by_origin.get(origin).map_or(0, |ranks| {
            ranks.iter().filter(|rank| !rank.is_withdrawn()).count()
        })
    }

    /// The highest clock among what is known about `subject`.
    pub(crate) fn clock_of(&self, subject: &Subject) -> u64 {
        self.about(subject)
            .map(|(_, slot)| slot.clock)
            .max()
            .unwrap_or(0)
    }

    /// Whether `item`, written `age` ago, is news to us. Asked before its signature is checked,
    /// because most items that arrive are not.
    pub(crate) fn wants(&self, item: &Item, age: Duration) -> bool {
        let key = Key::of(&item.event);
        let beats_present = self
            .by_key
            .get(&key)
            .is_none_or(|slot| slot.is_beaten_by(item));
        let is_remembered = !is_tombstone(&item.event) || age < self.keep_tombstones;
        let is_alive = is_removal(&item.event) || self.gone.accepts(&key.origin, item.event.clock);
        beats_present && is_remembered && is_alive && !self.is_removed(item)
    }

    /// Puts a genuine item that the store [wants](Self::wants) into its slot. False if the store is
    /// full of better ones.
    pub(crate) fn write(&mut self, now: Now, item: Item, age: Duration) -> bool {
        let key = Key::of(&item.event);
        let forget =
            is_tombstone(&item.event).then(|| now + self.keep_tombstones.saturating_sub(age));
        let slot = Slot::new(item, now, age, forget);
        let rank = Rank::new(&key, &slot);
        if !self.by_key.contains_key(&key) && !self.make_room(&rank) {
            return false;
        }
        let before = self.take(&key);
        let event = slot.event.clone();
        let ends_claims = slot.is_removal();
        let clock = slot.clock;
        self.put(key, rank, slot);
        match event {
            Some(event) => self.changes.push(Change::Written(event)),
            None => self
                .changes
                .extend(before.and_then(|slot| slot.emptied(key))),
        }
        if ends_claims {
            self.end_claims(&key.subject, clock);
        }
        true
    }

    /// An origin came (back) up: its slots stay.
    pub(crate) fn origin_up(&mut self, origin: &PeerId) {
        self.gone.is_back(origin);
    }

    /// An origin is down, or unknown: unless it comes up, its slots are dropped in a while.
    pub(crate) fn origin_down(&mut self, now: Now, origin: &PeerId) {
        if self.by_origin.contains_key(origin) {
            self.gone.went(now, *origin);
        }
    }

    /// Forgets what is due.
    pub(crate) fn expire(&mut self, now: Now) {
        while let Some((due, key)) = self.expiries.first().copied()
            && due <= now
        {
            self.drop_slot(&key);
        }
        for origin in self.gone.take_due(now) {
            self.drop_origin(now, &origin);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        let tombstone = self.expiries.first().map(|(due, _)| *due);
        tombstone.into_iter().chain(self.gone.next()).min()
    }

    /// For each bucket the XOR of its slots' hashes.
    pub(crate) fn digest(&self) -> &Digest<EVENT_BUCKETS> {
        &self.digest
    }

    /// The items of some buckets with their age, bucket by bucket: what is cut off then leaves some of them equal, and
    /// the next time it is about the others.
    pub(crate) fn in_buckets(
        &self,
        now: Now,
        buckets: Buckets,
    ) -> impl Iterator<Item = (Duration, &Bytes)> {
        let slots = self.by_key.iter();
        let mut due: Vec<(usize, &Slot)> = slots
            .map(|(key, slot)| (key.bucket(), slot))
            .filter(|(bucket, _)| buckets.contains(*bucket))
            .collect();
        due.sort_by_key(|(bucket, _)| *bucket);
        due.into_iter()
            .map(move |(_, slot)| (slot.age(now), &slot.raw))
    }

    fn about<'a>(
        &'a self,
        subject: &Subject,
    ) -> impl Iterator<Item = (&'a Key, &'a Slot)> + use<'a> {
        let subject = *subject;
        self.by_key
            .range(Key::first_about(subject)..)
            .take_while(move |(key, _)| key.subject == subject)
    }

    /// Whether somebody removed the task after what `item` claims of it.
    fn is_removed(&self, item: &Item) -> bool {
        is_claim(item.event.kind)
            && self
                .about(&item.event.subject)
                .any(|(_, slot)| slot.is_removal() && slot.clock >= item.event.clock)
    }

    fn end_claims(&mut self, subject: &Subject, clock: u64) {
        let ended: Vec<Key> = self
            .about(subject)
            .filter(|(key, slot)| is_claim(key.kind) && slot.clock <= clock)
            .map(|(key, _)| *key)
            .collect();
        for key in ended {
            self.drop_slot(&key);
        }
    }

    /// Drops the origin's slots, and remembers not to take them back from those who still hold
    /// them.
    fn drop_origin(&mut self, now: Now, origin: &PeerId) {
        let lost: Vec<Key> = self
            .by_origin
            .get(origin)
            .into_iter()
            .flatten()
            .filter(|rank| !self.by_key.get(rank.key()).is_none_or(Slot::is_removal))
            .map(|rank| *rank.key())
            .collect();
        let horizon = lost
            .iter()
            .filter_map(|key| self.by_key.get(key))
            .map(|slot| slot.clock)
            .max();
        if let Some(horizon) = horizon {
            self.gone.refuse(now, *origin, horizon);
        }
        for key in lost {
            self.drop_slot(&key);
        }
    }

    /// Makes room for a new slot of this rank; false if it ranks lowest itself.
    fn make_room(&mut self, rank: &Rank) -> bool {
        let about: Vec<Rank> = self
            .about(&rank.key().subject)
            .map(|(key, slot)| Rank::new(key, slot))
            .collect();
        let of_origin = self.by_origin.get(&rank.key().origin);
        let crowded = [
            (about.len() >= MAX_SLOTS_PER_SUBJECT).then(|| about.iter().min().copied()),
            (of_origin.is_some_and(|ranks| ranks.len() >= MAX_SLOTS_PER_ORIGIN))
                .then(|| of_origin.and_then(|ranks| ranks.first().copied())),
            (self.ranks.len() >= MAX_SLOTS).then(|| self.ranks.first().copied()),
        ];
        let lowest: BTreeSet<Rank> = crowded.into_iter().flatten().flatten().collect();
        if lowest.iter().any(|lowest| lowest > rank) {
            return false;
        }
        for rank in lowest {
            self.drop_slot(rank.key());
        }
        true
    }

    fn drop_slot(&mut self, key: &Key) {
        if let Some(slot) = self.take(key) {
            self.changes.extend(slot.emptied(*key));
        }
    }

    fn put(&mut self, key: Key, rank: Rank, slot: Slot) {
        self.digest[key.bucket()] ^= slot.hash;
        self.by_origin.entry(key.origin).or_default().insert(rank);
        self.ranks.insert(rank);
        self.expiries
            .extend(slot.forget.map(|forget| (forget, key)));
        self.by_key.insert(key, slot);
    }

    fn take(&mut self, key: &Key) -> Option<Slot> {
        let slot = self.by_key.remove(key)?;
        let rank = Rank::new(key, &slot);
        self.digest[key.bucket()] ^= slot.hash;
        self.ranks.remove(&rank);
        if let Some(forget) = slot.forget {
            self.expiries.remove(&(forget, *key));
        }
        if let Some(ranks) = self.by_origin.get_mut(&key.origin) {
            ranks.remove(&rank);
            if ranks.is_empty() {
                self.by_origin.remove(&key.origin);
            }
        }
        Some(slot)
    }
}

#[cfg(test)]
mod tests;
