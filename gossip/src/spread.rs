//! News on their way: which items are passed on, how often, and in which order.
//!
//! As in memberlist, each node passes each item on a number of times that grows with the logarithm
//! of the cluster's size. foca has such a queue too, but no bound on it, and membership news take
//! its place in the packets.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::slots::Key;

/// The most items that wait; above it, claims of others are no longer passed on. The push/pulls
/// carry them instead.
pub const MAX_BACKLOG: usize = 512;
/// The most items that wait at all: room for removals, lengths, accusations and what is our own.
const MAX_BACKLOG_URGENT: usize = 2 * MAX_BACKLOG;

#[derive(Debug)]
struct Rumor {
    item: Bytes,
    left: u8,
    number: u64,
    urgent: bool,
}

/// The backlog.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    rumors: BTreeMap<Key, Rumor>,
    added: u64,
}

impl Spread {
    pub(crate) fn len(&self) -> usize {
        self.rumors.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rumors.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.rumors.clear();
    }

    /// Queues an item to be sent `times` times, in place of what waits for the same slot.
    pub(crate) fn add(&mut self, key: Key, item: Bytes, times: u8, urgent: bool) {
        let room = if urgent {
            MAX_BACKLOG_URGENT
        } else {
            MAX_BACKLOG
        };
        self.rumors.remove(&key);
        if self.rumors.len() < room {
            let number = self.added;
            self.added += 1;
            self.rumors.insert(
                key,
                Rumor {
                    item,
                    left: times,
                    number,
                    urgent,
                },
            );
        }
    }

    /// Drops what waits for this slot.
    pub(crate) fn cancel(&mut self, key: &Key) {
        self.rumors.remove(key);
    }

    /// The items for one packet of `room` bytes: urgent ones first, then those that were sent least
    /// often, then the newest.
    pub(crate) fn fill(&mut self, room: usize) -> Vec<u8> {
        let mut order: Vec<_> = self
            .rumors
            .iter_mut()
            .map(|(key, rumor)| {
                (
                    (
                        Reverse(rumor.urgent),
                        Reverse(rumor.left),
                        Reverse(rumor.number),
                    ),
                    key,
                    rumor,
                )
            })
            .collect();
        order.sort_unstable_by_key(|(rank, ..)| *rank);
        let mut packet = Vec::with_capacity(room);
        let mut done = Vec::new();
        for (_, key, rumor) in order {
            if packet.len() + rumor.item.len() > room {
                continue;
            }
            packet.extend(&rumor.item);
            rumor.left = rumor.left.saturating_sub(1);
            if rumor.left == 0 {
                done.push(*key);
            }
        }
        for key in done {
            self.rumors.remove(&key);
        }
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{KindCode, Unsigned};
    use crate::{EventKind, PeerId, Subject};

    fn key(number: u8) -> Key {
        Key::of(&Unsigned {
            origin: PeerId::from_bytes([number; 32]),
            subject: Subject::from_bytes([0; 32]),
            kind: KindCode::from(EventKind::Progress),
            clock: 0,
            content: None,
        })
    }

    fn item(byte: u8) -> Bytes {
        Bytes::from(vec![byte; 100])
    }

    #[test]
    fn an_item_is_sent_as_often_as_asked_and_then_no_more() {
        let mut spread = Spread::default();
        spread.add(key(1), item(1), 3, false);
        for _ in 0..3 {
            assert_eq!(spread.fill(1000), item(1));
        }
        assert!(spread.is_empty());
        assert!(spread.fill(1000).is_empty());
    }

    #[test]
    fn a_newer_write_replaces_the_one_that_waits() {
        let mut spread = Spread::default();
        spread.add(key(1), item(1), 3, false);
        spread.add(key(1), item(2), 3, false);
        assert_eq!(spread.fill(1000), item(2));
    }

    #[test]
    fn urgent_items_go_first_and_the_least_sent_before_others() {
        let mut spread = Spread::default();
        spread.add(key(1), item(1), 3, false);
        assert_eq!(spread.fill(100), item(1));
        spread.add(key(2), item(2), 3, false);
        spread.add(key(3), item(3), 1, true);
        assert_eq!(spread.fill(100), item(3));
        assert_eq!(spread.fill(100), item(2));
        assert_eq!(spread.fill(250).len(), 200);
    }

    #[test]
    fn a_full_backlog_takes_only_what_is_urgent() {
        let mut spread = Spread::default();
        for number in 0..MAX_BACKLOG {
            let mut wide = key(0);
            wide.subject =
                Subject::from_bytes(std::array::from_fn(|at| number.to_le_bytes()[at % 8]));
            spread.add(wide, item(0), 1, false);
        }
        spread.add(key(1), item(1), 1, false);
        assert_eq!(spread.rumors.len(), MAX_BACKLOG);
        spread.add(key(2), item(2), 1, true);
        assert_eq!(spread.fill(100), item(2));
    }

    #[test]
    fn an_item_that_does_not_fit_lets_smaller_ones_pass() {
        let mut spread = Spread::default();
        spread.add(key(1), Bytes::from(vec![1; 90]), 4, false);
        spread.add(key(2), item(2), 4, false);
        assert_eq!(spread.fill(99).len(), 90);
    }
}
