//! Which sealed packets came before.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

/// Packets that may overtake an older one of the same sender. A sender counts its packets to everybody, so
/// two in a row for us can be far apart.
pub(super) const WINDOW: u64 = 512;
const WORDS: usize = 8;

/// Starts of one sender that are remembered: an old start's packets cannot be played again while it is.
const STARTS_PER_SENDER: usize = 4;

/// A start that was heard of so lately is alive: no other takes its place. Another one is its successor, or recorded.
pub(super) const ALIVE: Duration = Duration::from_secs(3);

/// Senders remembered, each 600 bytes at most: four starts, and the four addresses that it names. A sender that is forgotten is taken for a new one.
const MAX_SENDERS: usize = 32_768;

/// One start of one sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) from: PeerId,
    pub(crate) salt: [u8; 8],
}

/// The counters that came, by sender.
///
/// Two halves: when the younger is full, the older is forgotten and the younger grows old. Who is heard of
/// stays in the younger one.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    young: HashMap<PeerId, Record>,
    old: HashMap<PeerId, Record>,
}

#[derive(Clone, Debug)]
struct Record {
    addr: SocketAddr,
    /// Where the sender says that it is; empty while it did not since its first packet.
    told: Vec<SocketAddr>,
    /// The one that the address is of comes last.
    starts: Vec<Start>,
}

#[derive(Clone, Debug)]
struct Start {
    salt: [u8; 8],
    heard: Now,
    highest: u64,
    /// Bit `c % WINDOW` is set if counter `c` came; only those above `highest - WINDOW` count.
    came: [u64; WORDS],
}

impl Seen {
    /// Whether this counter came before or is too old to tell.
    pub(crate) fn has(&self, sender: &Sender, counter: u64) -> bool {
        self.record(&sender.from)
            .and_then(|record| record.start(sender))
            .is_some_and(|start| start.has(counter))
    }

    /// Remembers an authentic packet; false if it came before.
    pub(crate) fn note(
        &mut self,
        now: Now,
        sender: Sender,
        counter: u64,
        addr: SocketAddr,
    ) -> bool {
        self.make_young(&sender.from);
        let record = self.young.entry(sender.from).or_insert_with(|| Record {
            addr,
            told: Vec::new(),
            starts: Vec::with_capacity(1),
        });
        record.note(now, &sender, counter, addr)
    }

    pub(crate) fn addr_of(&self, peer: &PeerId) -> Option<SocketAddr> {
        self.record(peer).map(|record| record.addr)
    }

    /// The sender says where it is: who speaks from there need not wait until an earlier start of it, which did not,
    /// counts as dead.
    pub(crate) fn tell(&mut self, peer: &PeerId, addrs: &[SocketAddr]) {
        let record = match self.young.get_mut(peer) {
            Some(record) => Some(record),
            None => self.old.get_mut(peer),
        };
        if let Some(record) = record {
            addrs.clone_into(&mut record.told);
        }
    }

    fn record(&self, peer: &PeerId) -> Option<&Record> {
        self.young.get(peer).or_else(|| self.old.get(peer))
    }

    fn make_young(&mut self, peer: &PeerId) {
        if self.young.contains_key(peer) {
            return;
        }
        if self.young.len() >= MAX_SENDERS / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        if let Some(record) = self.old.remove(peer) {
            self.young.insert(*peer, record);
        }
    }
}

impl Record {
    fn start(&self, sender: &Sender) -> Option<&Start> {
        self.starts.iter().find(|start| start.salt == sender.salt)
    }

    fn note(&mut self, now: Now, sender: &Sender, counter: u64, addr: SocketAddr) -> bool {
        let known = self
            .starts
            .iter()
            .position(|start| start.salt == sender.salt);
        if known.is_some_and(|at| self.starts[at].has(counter)) {
            return false;
        }
        // A replay comes with an old counter: it cannot move the sender's address.
        let is_ahead = known.is_none_or(|at| counter > self.starts[at].highest);
        let mut start = match known {
            Some(at) => self.starts.remove(at),
            None => Start::new(sender.salt, now, counter),
        };
        start.note(now, counter);
        let was_newest = known == Some(self.starts.len());
        let is_live = |newest: &Start| now.saturating_since(newest.heard) < ALIVE;
        let has_moved = || self.told.contains(&addr) && !self.told.contains(&self.addr);
        let leads =
            was_newest || is_ahead && (!self.starts.last().is_some_and(is_live) || has_moved());
        if leads && is_ahead {
            self.addr = addr;
        }
        if self.starts.len() == STARTS_PER_SENDER {
            self.starts.remove(0);
        }
        let at = if leads {
            self.starts.len()
        } else {
            self.starts.len() - 1
        };
        self.starts.insert(at, start);
        true
    }
}

impl Start {
    fn new(salt: [u8; 8], now: Now, counter: u64) -> Self {
        let mut start = Self {
            salt,
            heard: now,
            highest: counter,
            came: [0; WORDS],
        };
        start.set(counter);
        start
    }

    fn has(&self, counter: u64) -> bool {
        if counter > self.highest {
            return false;
        }
        self.highest - counter >= WINDOW || self.came[word(counter)] & bit(counter) != 0
    }

    fn note(&mut self, now: Now, counter: u64) {
        self.heard = now;
        if counter > self.highest {
            let skipped = (counter - self.highest).min(WINDOW);
            for forgotten in counter - (skipped - 1)..=counter {
                self.came[word(forgotten)] &= !bit(forgotten);
            }
            self.highest = counter;
        }
        self.set(counter);
    }

    fn set(&mut self, counter: u64) {
        self.came[word(counter)] |= bit(counter);
    }
}

const fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}

const fn word(counter: u64) -> usize {
    ((counter / 64) % WORDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: Now = Now::from_micros(1_000_000);

    fn sender(number: u32, salt: u8) -> Sender {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        Sender {
            from: PeerId::from_bytes(bytes),
            salt: [salt; 8],
        }
    }

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    proptest! {
        #[test]
        fn each_counter_passes_once_as_in_a_set(
            counters in proptest::collection::vec((0_u64..3, 0_u64..700), 1..600),
        ) {
            let mut seen = Seen::default();
            let mut came = BTreeSet::new();
            let mut base = 0;
            for (advance, offset) in counters {
                base += advance * 97;
                let counter = base + offset;
                let highest = came.last().copied().unwrap_or_default();
                let fresh = counter + WINDOW > highest && came.insert(counter);
                prop_assert_eq!(!seen.has(&sender(1, 1), counter), fresh);
                prop_assert_eq!(seen.note(NOW, sender(1, 1), counter, addr(1)), fresh);
            }
        }
    }

    #[test]
    fn the_end_of_the_counter_is_no_trap() {
        let mut seen = Seen::default();
        assert!(seen.note(NOW, sender(1, 1), 0, addr(1)));
        assert!(seen.note(NOW, sender(1, 1), u64::MAX, addr(1)));
        assert!(!seen.note(NOW, sender(1, 1), u64::MAX, addr(1)));
        assert!(seen.note(NOW, sender(1, 1), u64::MAX - 1, addr(1)));
    }

    #[test]
    fn an_old_start_cannot_be_played_again_nor_move_the_address() {
        let mut seen = Seen::default();
        let later = NOW + ALIVE;
        assert!(seen.note(NOW, sender(1, 1), 5, addr(1)));
        assert!(seen.note(later, sender(1, 2), 5, addr(2)));
        assert!(!seen.note(later, sender(1, 1), 5, addr(3)));
        assert!(seen.note(later, sender(1, 1), 6, addr(3)));
        assert_eq!(seen.addr_of(&sender(1, 1).from), Some(addr(2)));
    }

    #[test]
    fn a_start_leads_at_once_from_where_its_sender_says_that_it_is() {
        let mut seen = Seen::default();
        let (old, new, peer) = (sender(1, 1), sender(1, 2), sender(1, 1).from);
        assert!(seen.note(NOW, old, 5, addr(1)));
        assert!(seen.note(NOW, new, 0, addr(2)));
        assert_eq!(
            seen.addr_of(&peer),
            Some(addr(1)),
            "it may be a recorded one"
        );
        seen.tell(&peer, &[addr(2), addr(4)]);
        for elsewhere in 3..10 {
            assert!(seen.note(NOW, sender(1, elsewhere), 900, addr(3)));
            assert_eq!(seen.addr_of(&peer), Some(addr(1)));
        }
        assert!(seen.note(NOW, sender(1, 11), 1, addr(2)));
        assert_eq!(seen.addr_of(&peer), Some(addr(2)));
        assert!(seen.note(NOW, sender(1, 12), 1, addr(4)));
        assert_eq!(seen.addr_of(&peer), Some(addr(2)), "it is no less there");
    }

    #[test]
    fn a_recorded_start_that_was_never_heard_moves_no_live_senders_address() {
        let mut seen = Seen::default();
        let (live, peer) = (sender(1, 1), sender(1, 1).from);
        assert!(seen.note(NOW, live, 5, addr(1)));
        for recorded in 2..100 {
            seen.note(NOW, sender(1, recorded), 900, addr(2));
            assert_eq!(seen.addr_of(&peer), Some(addr(1)));
        }
        assert!(seen.has(&live, 5), "and does not make it forgotten");
        assert!(seen.note(NOW, live, 6, addr(3)), "who may move");
        assert_eq!(seen.addr_of(&peer), Some(addr(3)));
    }

    #[test]
    fn a_new_start_moves_the_address_once_the_old_one_is_silent_and_so_does_the_true_one_after_a_recorded_one()
     {
        let mut seen = Seen::default();
        let (old, new) = (sender(1, 1), sender(1, 2));
        assert!(seen.note(NOW, old, 5, addr(1)));
        assert!(seen.note(NOW, new, 0, addr(2)));
        assert_eq!(seen.addr_of(&old.from), Some(addr(1)));
        let later = NOW + ALIVE;
        assert!(seen.note(later, new, 1, addr(2)));
        assert_eq!(seen.addr_of(&old.from), Some(addr(2)));
        let silent = later + ALIVE;
        assert!(seen.note(silent, old, 6, addr(3)), "a recorded one");
        assert!(seen.note(silent + ALIVE, new, 2, addr(2)));
        assert_eq!(seen.addr_of(&old.from), Some(addr(2)));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_whom_it_hears_of() {
        let mut seen = Seen::default();
        let faithful = sender(u32::MAX, 1);
        for number in 0..100_000 {
            seen.note(NOW, sender(number, 1), 1, addr(1));
            if number % 1000 == 0 {
                assert!(seen.note(NOW, faithful, u64::from(number) + 1, addr(1)));
            }
        }
        assert!(seen.young.len() + seen.old.len() <= MAX_SENDERS);
        assert!(seen.has(&faithful, 1));
    }
}
