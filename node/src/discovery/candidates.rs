//! Which address to try next, and when.
//!
//! Pure: it is told the time and what became of each try.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use dfnode_gossip::Now;

/// Addresses kept; when full, one that failed makes room for a new one, and without such the new one is dropped.
const MAX_ADDRS: usize = 1024;
/// Between two tries, whatever the addresses.
const SPACING: Duration = Duration::from_millis(100);
/// Between two tries of a node that has found others: a name may stand for thousands of them, and two halves of
/// a cluster still find each other in the end.
const SPACING_IN_COMPANY: Duration = Duration::from_mins(1);
/// Before an address is tried again; doubles each time.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_mins(1);
/// The same for mDNS, which also shows those who have nothing to do with us.
const FIRST_MDNS_BACKOFF: Duration = Duration::from_secs(20);
const MAX_MDNS_BACKOFF: Duration = Duration::from_mins(10);

/// How an address was found. In this order they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FoundBy {
    /// A member of the last run.
    Remembered,
    /// `--join`.
    Join,
    /// `--join-file`.
    JoinFile,
    /// On the local network. Whether it is of this cluster shows only at admission.
    Mdns,
}

/// An address worth dialling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where.
    pub addr: SocketAddr,
    /// Who says so.
    pub found_by: FoundBy,
}

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// A member is there, linked now or known before.
    Member,
    /// This node itself is there: never again.
    Myself,
    /// Nobody of ours is there.
    Failed,
}

#[derive(Debug)]
pub(crate) struct Candidates {
    places: BTreeMap<SocketAddr, Place>,
    alone: bool,
    last_try: Option<Now>,
    /// Spreads the retries of nodes that lost each other at the same moment.
    chance: u64,
}

#[derive(Debug)]
struct Place {
    found_by: FoundBy,
    due: Now,
    failures: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Due,
    Trying,
    Member,
    Myself,
}

impl Candidates {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            places: BTreeMap::new(),
            alone: true,
            last_try: None,
            chance: seed | 1,
        }
    }

    /// An address was found, perhaps again.
    pub(crate) fn found(&mut self, now: Now, addr: SocketAddr, found_by: FoundBy) {
        if let Some(place) = self.places.get_mut(&addr) {
            place.found_by = place.found_by.min(found_by);
            return;
        }
        if self.places.len() >= MAX_ADDRS && !self.make_room() {
            return;
        }
        let place = Place {
            found_by,
            due: now,
            failures: 0,
            state: State::Due,
        };
        self.places.insert(addr, place);
    }

    /// Whether the node has no other member; when it becomes so, every address is worth another try.
    pub(crate) fn set_alone(&mut self, now: Now, alone: bool) {
        if alone && !self.alone {
            for place in self.places.values_mut() {
                if place.state == State::Member {
                    place.state = State::Due;
                    place.due = now;
                    place.failures = 0;
                }
            }
        }
        self.alone = alone;
    }

    /// What became of the try of `addr`.
    pub(crate) fn tried(&mut self, now: Now, addr: SocketAddr, tried: Tried) {
        let jitter = self.jitter();
        let Some(place) = self.places.get_mut(&addr) else {
            return;
        };
        match tried {
            Tried::Member => {
                place.state = State::Member;
                place.failures = 0;
            }
            Tried::Myself => place.state = State::Myself,
            Tried::Failed => {
                place.state = State::Due;
                place.due = now + place.backoff().mul_f64(jitter);
                place.failures = place.failures.saturating_add(1);
            }
        }
    }

    /// The next address to try now.
    pub(crate) fn next(&mut self, now: Now) -> Option<Candidate> {
        if self.spacing_ends().is_some_and(|end| end > now) {
            return None;
        }
        let (addr, place) = self
            .places
            .iter_mut()
            .filter(|(_, place)| place.state == State::Due && place.due <= now)
            .min_by_key(|(_, place)| (place.failures, place.found_by, place.due))?;
        place.state = State::Trying;
        self.last_try = Some(now);
        Some(Candidate {
            addr: *addr,
            found_by: place.found_by,
        })
    }

    /// When `next` is worth another call; `None` if only after news.
    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        let due = self
            .places
            .values()
            .filter(|place| place.state == State::Due)
            .map(|place| place.due)
            .min()?;
        Some(self.spacing_ends().map_or(due, |end| end.max(due)))
    }

    fn spacing_ends(&self) -> Option<Now> {
        let spacing = if self.alone {
            SPACING
        } else {
            SPACING_IN_COMPANY
        };
        self.last_try.map(|last| last + spacing)
    }

    fn make_room(&mut self) -> bool {
        let worst = self
            .places
            .iter()
            .filter(|(_, place)| place.state == State::Due && place.failures > 0)
            .max_by_key(|(_, place)| (place.found_by, place.failures))
            .map(|(addr, _)| *addr);
        worst.is_some_and(|addr| self.places.remove(&addr).is_some())
    }

    /// Between 0.75 and 1.25.
    fn jitter(&mut self) -> f64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a few random bits are all it takes"
        )]
        let unit = (self.chance >> 11) as f64 / (1_u64 << 53) as f64;
        0.75 + unit / 2.0
    }
}

impl Place {
    fn backoff(&self) -> Duration {
        let (first, most) = match self.found_by {
            FoundBy::Mdns => (FIRST_MDNS_BACKOFF, MAX_MDNS_BACKOFF),
            FoundBy::Remembered | FoundBy::Join | FoundBy::JoinFile => (FIRST_BACKOFF, MAX_BACKOFF),
        };
        first.saturating_mul(1 << self.failures.min(16)).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(number: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, (number >> 8) as u8, (number & 255) as u8], 65_000))
    }

    fn at(seconds: f64) -> Now {
        Now::from_micros(0) + Duration::from_secs_f64(seconds)
    }

    /// Every try fails; returns when each was made.
    fn tries(candidates: &mut Candidates, until: Now) -> Vec<(Now, SocketAddr)> {
        let mut tries = Vec::new();
        let mut now = at(0.0);
        while now < until {
            while let Some(candidate) = candidates.next(now) {
                tries.push((now, candidate.addr));
                candidates.tried(now, candidate.addr, Tried::Failed);
            }
            let Some(next) = candidates.poll_timeout() else {
                break;
            };
            assert!(next > now, "{next:?} does not follow {now:?}");
            now = next;
        }
        tries
    }

    #[test]
    fn a_silent_address_is_tried_ever_more_rarely() {
        let mut candidates = Candidates::new(7);
        candidates.found(at(0.0), addr(1), FoundBy::Join);
        let tries = tries(&mut candidates, at(600.0));
        assert!((12..20).contains(&tries.len()), "{tries:?}");
        let last = tries[tries.len() - 1].0 - tries[tries.len() - 2].0;
        assert!(last >= MAX_BACKOFF.mul_f64(0.75) && last <= MAX_BACKOFF.mul_f64(1.25));
    }

    #[test]
    fn the_better_sources_come_first_and_new_addresses_before_failed_ones() {
        let mut candidates = Candidates::new(7);
        for (number, found_by) in [
            (1, FoundBy::Mdns),
            (2, FoundBy::Join),
            (3, FoundBy::Remembered),
            (4, FoundBy::JoinFile),
        ] {
            candidates.found(at(0.0), addr(number), found_by);
        }
        let order: Vec<_> = tries(&mut candidates, at(0.5))
            .into_iter()
            .map(|(_, addr)| addr)
            .collect();
        assert_eq!(order, [addr(3), addr(2), addr(4), addr(1)]);
    }

    #[test]
    fn in_company_a_name_with_many_addresses_is_not_dialled_through() {
        let mut candidates = Candidates::new(7);
        for number in 0..1000 {
            candidates.found(at(0.0), addr(number), FoundBy::Join);
        }
        let first = candidates.next(at(0.0)).unwrap();
        candidates.tried(at(0.0), first.addr, Tried::Member);
        candidates.set_alone(at(0.1), false);
        assert!(tries(&mut candidates, at(600.0)).len() <= 10);
    }

    #[test]
    fn a_node_that_is_left_alone_asks_its_former_members() {
        let mut candidates = Candidates::new(7);
        candidates.found(at(0.0), addr(1), FoundBy::Join);
        candidates.next(at(0.0)).unwrap();
        candidates.tried(at(0.0), addr(1), Tried::Member);
        candidates.set_alone(at(0.0), false);
        assert_eq!(candidates.poll_timeout(), None);
        candidates.set_alone(at(100.0), true);
        assert_eq!(candidates.next(at(100.0)).unwrap().addr, addr(1));
    }

    #[test]
    fn our_own_address_is_tried_once() {
        let mut candidates = Candidates::new(7);
        candidates.found(at(0.0), addr(1), FoundBy::Join);
        candidates.next(at(0.0)).unwrap();
        candidates.tried(at(0.0), addr(1), Tried::Myself);
        candidates.found(at(1.0), addr(1), FoundBy::Mdns);
        candidates.set_alone(at(1.0), false);
        candidates.set_alone(at(2.0), true);
        assert_eq!(candidates.next(at(1e6)), None);
    }

    #[test]
    fn what_the_network_shows_cannot_crowd_out_what_was_configured() {
        let mut candidates = Candidates::new(7);
        candidates.found(at(0.0), addr(0), FoundBy::Join);
        for number in 1..5000 {
            candidates.found(at(0.0), addr(number), FoundBy::Mdns);
            if let Some(tried) = candidates.next(at(f64::from(number))) {
                candidates.tried(at(f64::from(number)), tried.addr, Tried::Failed);
            }
        }
        assert!(candidates.places.len() <= MAX_ADDRS);
        assert!(candidates.places.contains_key(&addr(0)));
    }
}
