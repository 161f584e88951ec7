//! One slot, its key and its rank.

use std::time::Duration;

use crate::slots::Change;
use crate::wire::{EVENT_BUCKETS, Item, KindCode, Unsigned, short_hash};
use crate::{Event, EventKind, Now, PeerId, Subject};

/// Names a slot. Ordered so that all about a subject stands together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) subject: Subject,
    pub(crate) origin: PeerId,
    pub(crate) kind: KindCode,
}

impl Key {
    pub(crate) fn of(event: &Unsigned) -> Self {
        Self {
            subject: event.subject,
            origin: event.origin,
            kind: event.kind,
        }
    }

    pub(super) fn first_about(subject: Subject) -> Self {
        Self {
            subject,
            origin: PeerId::from_bytes([0; 32]),
            kind: KindCode::FIRST,
        }
    }

    /// The part of the digest that the slot belongs to. Both keys are random to begin with.
    pub(super) fn bucket(&self) -> usize {
        let mixed = self.subject.as_bytes()[31] ^ self.origin.as_bytes()[31];
        usize::from(mixed) % EVENT_BUCKETS
    }
}

/// What is worth keeping when room is scarce, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// A tombstone: without it a node that missed the withdrawal may believe in the slot again.
    Withdrawn,
    Filled,
    /// A removal: without it removed tasks come back.
    Removal,
}

/// The order in which slots go when room is scarce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    worth: Worth,
    clock: u64,
    key: Key,
}

impl Rank {
    pub(super) fn new(key: &Key, slot: &Slot) -> Self {
        let worth = if slot.ends_claims() {
            Worth::Removal
        } else if slot.item.event.content.is_none() {
            Worth::Withdrawn
        } else {
            Worth::Filled
        };
        Self {
            worth,
            clock: slot.clock(),
            key: *key,
        }
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.worth == Worth::Withdrawn
    }
}

/// What a slot holds.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) item: Item,
    /// The item as an event, unless it was withdrawn or is of a kind that we do not know.
    pub(super) event: Option<Event>,
    pub(super) hash: u32,
    /// When a tombstone is forgotten.
    pub(super) forget: Option<Now>,
    learnt: Now,
    /// How old it was then.
    aged: Duration,
}

impl Slot {
    pub(super) fn new(item: Item, now: Now, aged: Duration, forget: Option<Now>) -> Self {
        Self {
            event: item.to_event(),
            hash: short_hash(&item.raw),
            forget,
            learnt: now,
            aged,
            item,
        }
    }

    pub(super) fn clock(&self) -> u64 {
        self.item.event.clock
    }

    pub(super) fn age(&self, now: Now) -> Duration {
        self.aged.saturating_add(now - self.learnt)
    }

    pub(super) fn is_beaten_by(&self, item: &Item) -> bool {
        (item.event.clock, &item.raw) > (self.clock(), &self.item.raw)
    }

    /// Whether the item is kept for a time rather than for as long as its origin lives.
    pub(super) fn is_tombstone(item: &Item) -> bool {
        item.event.content.is_none() || is_removal(item)
    }

    /// Whether the item means something without its origin.
    pub(super) fn outlives_origin(item: &Item) -> bool {
        is_removal(item)
    }

    /// Whether this slot removes its subject.
    pub(super) fn ends_claims(&self) -> bool {
        is_removal(&self.item)
    }

    /// What it means that this slot's content is no more.
    pub(super) fn emptied(&self) -> Option<Change> {
        self.event.as_ref().map(|event| Change::Emptied {
            key: Key::of(&self.item.event),
            kind: event.kind,
        })
    }
}

fn is_removal(item: &Item) -> bool {
    item.event.kind.known() == Some(EventKind::FileRemove) && item.event.content.is_some()
}

/// Whether a removal of the subject ends slots of this kind.
pub(crate) fn is_claim(kind: KindCode) -> bool {
    match kind.known() {
        Some(
            EventKind::DownloadStart | EventKind::Progress | EventKind::Length | EventKind::Recover,
        ) => true,
        Some(EventKind::FileRemove | EventKind::Isolate) | None => false,
    }
}
