//! One slot, its key and its rank.

use std::time::Duration;

use bytes::Bytes;

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
        Self {
            worth: slot.worth,
            clock: slot.clock,
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

/// What a slot holds. There may be many, so it keeps nothing twice.
#[derive(Debug)]
pub(super) struct Slot {
    /// The item as it came.
    pub(super) raw: Bytes,
    pub(super) clock: u64,
    worth: Worth,
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
        let worth = if is_removal(&item.event) {
            Worth::Removal
        } else if item.event.content.is_some() {
            Worth::Filled
        } else {
            Worth::Withdrawn
        };
        Self {
            hash: short_hash(&item.raw),
            clock: item.event.clock,
            worth,
            raw: item.raw,
            event: item.event.into_event(),
            forget,
            learnt: now,
            aged,
        }
    }

    pub(super) fn age(&self, now: Now) -> Duration {
        self.aged.saturating_add(now - self.learnt)
    }

    pub(super) fn is_beaten_by(&self, item: &Item) -> bool {
        (item.event.clock, &item.raw) > (self.clock, &self.raw)
    }

    pub(super) fn is_filled(&self) -> bool {
        self.worth != Worth::Withdrawn
    }

    /// Whether this slot removes its subject. Such a slot means something without its origin.
    pub(super) fn is_removal(&self) -> bool {
        self.worth == Worth::Removal
    }

    /// What it means that this slot's content is no more.
    pub(super) fn emptied(&self, key: Key) -> Option<Change> {
        let kind = self.event.as_ref()?.kind;
        Some(Change::Emptied { key, kind })
    }
}

/// Whether the write is kept for a time rather than for as long as its origin lives.
pub(super) fn is_tombstone(write: &Unsigned) -> bool {
    write.content.is_none() || is_removal(write)
}

/// Whether the write removes its subject. Such a write means something without its origin.
pub(super) fn is_removal(write: &Unsigned) -> bool {
    write.kind.known() == Some(EventKind::FileRemove) && write.content.is_some()
}

/// Whether it told of what a life of its origin had or judged. One that began anew has forgotten both, and would accuse
/// for as long as it lives: it says it again, or withdraws it. A removal is an order, and holds without who gave it.
pub(crate) fn ends_with_a_life(kind: KindCode) -> bool {
    is_claim(kind) || kind.known() == Some(EventKind::Isolate)
}

/// Whether a removal of the subject ends slots of this kind.
pub(super) fn is_claim(kind: KindCode) -> bool {
    match kind.known() {
        Some(
            EventKind::DownloadStart | EventKind::Progress | EventKind::Length | EventKind::Recover,
        ) => true,
        Some(EventKind::FileRemove | EventKind::Isolate) | None => false,
    }
}
