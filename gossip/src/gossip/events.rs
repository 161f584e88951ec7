//! Events: taking them in, writing our own, passing them on.

use std::time::Duration;

use bytes::Bytes;
use rand::seq::IteratorRandom;

use super::Gossip;
use crate::slots::{Change, Key, MAX_SLOTS_PER_ORIGIN, ends_with_a_life};
use crate::swim::transmissions;
use crate::wire::{EVENTS_ROOM, Item, Unsigned, events_datagram, split_items};
use crate::{EventKind, MAX_BODY_BYTES, Member, Now, Output, PublishError, Subject, Violation};

/// To how many members news are passed on at a time.
const FANOUT: usize = 3;
/// How long a first piece of news waits for others to join it in the packet.
const GATHER: Duration = Duration::from_millis(50);
/// An item older than this is no news: it was learnt by push/pull and travels by push/pull. (Gossip
/// does not say how old an item is, so passing old tombstones on would make them young again.)
const MAX_RELAY_AGE: Duration = Duration::from_mins(10);
/// An item this old that we have not heard of was missed by gossip.
const UNHEARD: Duration = Duration::from_secs(5);
/// How long a node that came back has to repeat the claims of its earlier life.
const INHERITED: Duration = Duration::from_mins(1);

impl Gossip {
    /// Takes the items of a datagram; returns the first fault among them.
    pub(super) fn take_items(&mut self, now: Now, items: &[u8]) -> Result<(), Violation> {
        let mut verdict = Ok(());
        for item in split_items(items) {
            let taken = item.and_then(|item| self.take_item(now, item, Duration::ZERO, true));
            verdict = verdict.and(taken);
        }
        verdict
    }

    /// Takes one item, written `age` ago; with `relay` it is passed on.
    pub(super) fn take_item(
        &mut self,
        now: Now,
        item: &[u8],
        age: Duration,
        relay: bool,
    ) -> Result<(), Violation> {
        let item = Item::read(item)?;
        if !self.slots.wants(&item, age) {
            return Ok(());
        }
        if !item.is_genuine() {
            return Err(Violation::BadSignature);
        }
        let key = Key::of(&item.event);
        let is_own = key.origin == self.me().peer;
        if is_own && !self.may_inherit(now, &key, &item) {
            return Ok(());
        }
        let (raw, claims) = (item.raw.clone(), item.event.content.is_some());
        if !self.slots.write(now, item, age) {
            return Ok(());
        }
        if is_own && claims && ends_with_a_life(key.kind) && !self.written.contains(&key) {
            self.inherited.insert(key, now + INHERITED);
        }
        self.learnt += u64::from(age >= UNHEARD);
        self.tell_changes();
        if key.origin != self.me().peer && self.roster.get(&key.origin).is_none() {
            self.slots.origin_down(now, &key.origin);
        }
        if relay && age < MAX_RELAY_AGE {
            let urgent = key.kind.known().is_some_and(EventKind::is_signed);
            self.pass_on(now, key, raw, urgent);
        }
        Ok(())
    }

    /// Decides about a write under our own name that we did not make in this life. False if it must
    /// not stand.
    fn may_inherit(&mut self, now: Now, key: &Key, item: &Item) -> bool {
        if !self.clock.could_have_shown(now, item.event.clock) {
            // No clock of ours can have been so wrong. Followed, it would leave no time for what we say later.
            return false;
        }
        if self.written.contains(key) && !key.kind.is_signed() {
            // Our clock was behind that of our earlier life. What we say now counts.
            self.clock.tick(now, item.event.clock);
            let content = self.slots.event(key).map(|own| own.body.clone());
            // Nothing to sign, so nothing can be full.
            let _infallible = self.rewrite(now, key, content);
            return false;
        }
        true
    }

    /// Ends the claims of an earlier life that were not made again.
    pub(super) fn withdraw_inherited(&mut self, now: Now) {
        let due: Vec<Key> = self
            .inherited
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            self.inherited.remove(&key);
            self.empty_own(now, &key);
        }
    }

    /// Checks a wish to publish, and names its slot.
    pub(super) fn admit_own(
        &self,
        subject: Subject,
        kind: EventKind,
        body: &Bytes,
    ) -> Result<Key, PublishError> {
        if self.left {
            return Err(PublishError::Left);
        }
        if body.len() > MAX_BODY_BYTES {
            return Err(PublishError::BodyTooLarge { length: body.len() });
        }
        let origin = self.me().peer;
        let key = Key {
            subject,
            origin,
            kind: kind.into(),
        };
        if !self.slots.is_filled(&key) && self.slots.filled_by(&origin) >= MAX_SLOTS_PER_ORIGIN {
            return Err(PublishError::TooManySlots);
        }
        Ok(key)
    }

    /// Writes a slot of ours, or asks for the signature to do so. No content empties it.
    pub(super) fn rewrite(
        &mut self,
        now: Now,
        key: &Key,
        content: Option<Bytes>,
    ) -> Result<(), PublishError> {
        if key.kind.is_signed() && !self.outbox.takes_unsigned() {
            return Err(PublishError::TooManyUnsigned);
        }
        let write = Unsigned {
            origin: key.origin,
            subject: key.subject,
            kind: key.kind,
            clock: self.clock.tick(now, self.slots.clock_of(&key.subject)),
            content,
        };
        if key.kind.is_signed() {
            let bytes = write.bytes_to_sign();
            let request = self.outbox.await_signature(write);
            self.outputs.push_back(Output::Sign { request, bytes });
        } else {
            self.commit(now, write.finish());
        }
        Ok(())
    }

    pub(super) fn empty_own(&mut self, now: Now, key: &Key) {
        if self.slots.is_filled(key) && self.rewrite(now, key, None).is_err() {
            // Too many writes wait for a signature: again later.
            self.inherited.insert(*key, now + INHERITED);
        }
    }

    /// Puts a write of ours in force.
    pub(super) fn commit(&mut self, now: Now, item: Item) {
        let key = Key::of(&item.event);
        if !self.slots.wants(&item, Duration::ZERO) || !self.slots.write(now, item, Duration::ZERO)
        {
            return;
        }
        if !self.roster.is_empty() {
            self.outbox.add(now, key);
        }
    }

    pub(super) fn flush_outbox(&mut self, now: Now) {
        while let Some(key) = self.outbox.pop_due(now) {
            if let Some(raw) = self.slots.raw(&key).cloned() {
                self.pass_on(now, key, raw, true);
            }
        }
    }

    /// Tells the driver what changed in the slots; it knows of our own writes already.
    pub(super) fn tell_changes(&mut self) {
        let me = self.me().peer;
        for change in self.slots.take_changes() {
            match change {
                Change::Written(event) if event.origin != me => {
                    self.outputs.push_back(Output::Event(event));
                }
                Change::Written(_) => {}
                Change::Emptied { key, kind } => self.tell_emptied(key, kind),
            }
        }
    }

    fn tell_emptied(&mut self, key: Key, kind: EventKind) {
        self.spread.cancel(&key);
        if key.origin == self.me().peer {
            if self.slots.raw(&key).is_some() {
                // We emptied it ourselves, and its tombstone stands there.
                return;
            }
            self.written.remove(&key);
            self.inherited.remove(&key);
        }
        let Key {
            origin, subject, ..
        } = key;
        self.outputs.push_back(Output::Removed {
            origin,
            subject,
            kind,
        });
    }

    fn pass_on(&mut self, now: Now, key: Key, raw: Bytes, urgent: bool) {
        if self.roster.is_empty() {
            return;
        }
        let times = transmissions(self.roster.len() + 1);
        self.spread.add(key, raw, times, urgent);
        self.next_spread.get_or_insert(now + GATHER);
    }

    /// Passes news on, apart from SWIM's packets: there they would wait behind membership news.
    pub(super) fn spread_if_due(&mut self, now: Now) {
        if self.next_spread.is_none_or(|due| now < due) {
            return;
        }
        let sender = self.me().peer;
        let targets: Vec<Member> = self
            .roster
            .iter()
            .sample(&mut self.rng, FANOUT)
            .into_iter()
            .cloned()
            .collect();
        for to in targets {
            if self.spread.is_empty() {
                break;
            }
            let items = self.spread.fill(EVENTS_ROOM);
            let bytes = events_datagram(&sender, &items).into();
            self.outputs.push_back(Output::Datagram { to, bytes });
        }
        self.next_spread = (!self.spread.is_empty()).then(|| now + self.config.gossip_period);
    }
}
