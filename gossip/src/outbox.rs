//! Our own writes on their way out: waiting for a signature, for a newer write that replaces them,
//! and for their share of the node's rate.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::slots::Key;
use crate::wire::Unsigned;
use crate::{Config, Now, SignRequestId};

/// The most writes that wait for their signature.
const MAX_UNSIGNED: usize = 256;

#[derive(Debug)]
pub(crate) struct Outbox {
    unsigned: BTreeMap<SignRequestId, Unsigned>,
    requests: u64,
    /// Slots to be spread, and from when on.
    pending: BTreeMap<Key, Now>,
    by_due: BTreeSet<(Now, Key)>,
    coalesce: Duration,
    rate: Rate,
}

impl Outbox {
    pub(crate) fn new(config: &Config, now: Now) -> Self {
        Self {
            unsigned: BTreeMap::new(),
            requests: 0,
            pending: BTreeMap::new(),
            by_due: BTreeSet::new(),
            coalesce: config.coalesce,
            rate: Rate::new(config.publish_per_second, config.publish_burst, now),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.unsigned.len() + self.pending.len()
    }

    pub(crate) fn takes_unsigned(&self) -> bool {
        self.unsigned.len() < MAX_UNSIGNED
    }

    pub(crate) fn await_signature(&mut self, write: Unsigned) -> SignRequestId {
        let request = SignRequestId(self.requests);
        self.requests += 1;
        self.unsigned.insert(request, write);
        request
    }

    pub(crate) fn take_unsigned(&mut self, request: SignRequestId) -> Option<Unsigned> {
        self.unsigned.remove(&request)
    }

    /// Drops the writes of a slot that still wait for their signature.
    pub(crate) fn forget_unsigned(&mut self, key: &Key) {
        self.unsigned.retain(|_, write| Key::of(write) != *key);
    }

    /// Queues a slot. If it waits already it keeps its place: its newest content goes out then.
    pub(crate) fn add(&mut self, now: Now, key: Key) {
        if !self.pending.contains_key(&key) {
            let due = now + self.coalesce;
            self.by_due.insert((due, key));
            self.pending.insert(key, due);
        }
    }

    /// The next slot that may be spread now.
    pub(crate) fn pop_due(&mut self, now: Now) -> Option<Key> {
        let (due, _) = self.by_due.first()?;
        if *due > now || !self.rate.take(now) {
            return None;
        }
        let (_, key) = self.by_due.pop_first()?;
        self.pending.remove(&key);
        Some(key)
    }

    /// Forgets what waits to be spread: there is nobody to hear it.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
        self.by_due.clear();
    }

    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        let (due, _) = self.by_due.first()?;
        Some((*due).max(self.rate.ready()))
    }
}

/// A token bucket, kept as the moment at which it will be full again.
#[derive(Debug)]
struct Rate {
    per_token: Duration,
    /// How far ahead of now that moment may lie before another token is taken.
    slack: Duration,
    full: Now,
}

impl Rate {
    fn new(per_second: u32, burst: u32, now: Now) -> Self {
        let per_token = Duration::from_secs(1) / per_second.max(1);
        let slack = per_token * burst.saturating_sub(1);
        Self {
            per_token,
            slack,
            full: now,
        }
    }

    fn take(&mut self, now: Now) -> bool {
        if self.full > now + self.slack {
            return false;
        }
        self.full = self.full.max(now) + self.per_token;
        true
    }

    /// When the next token can be taken.
    fn ready(&self) -> Now {
        let slack = u64::try_from(self.slack.as_micros()).unwrap_or(u64::MAX);
        Now::from_micros(self.full.as_micros().saturating_sub(slack))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate_holds() {
        let mut now = Now::from_micros(0);
        let mut rate = Rate::new(5, 20, now);
        let burst = (0..100).filter(|_| rate.take(now)).count();
        assert_eq!(burst, 20);
        let mut taken = 0;
        for _ in 0..10_000 {
            now = now + Duration::from_millis(1);
            taken += u32::from(rate.take(now));
        }
        assert_eq!(taken, 50);
        assert!(!rate.take(now) || rate.ready() > now);
        assert!(rate.take(rate.ready()));
    }
}
