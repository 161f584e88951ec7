//! How many strangers may knock at a time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections that have not yet proven to belong here.
pub(crate) const MAX_PENDING: usize = 256;
/// Those of one address (of one /64 in IPv6, which a single host can fill).
const MAX_PENDING_PER_SOURCE: usize = 64;
/// Above this many, a stranger must first show that it receives at the address it claims.
const PROOF_OF_ADDRESS_ABOVE: usize = 32;

/// Counts the connections between their first packet and their admission.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pending: Mutex<BTreeMap<IpAddr, usize>>,
}

/// What to do with a new connection.
#[derive(Debug)]
pub(crate) enum Knock {
    /// Go on, and hold the ticket until it is admitted or gone.
    Enter(Ticket),
    /// Ask it to prove its address.
    ProveAddress,
    /// Too many: drop it.
    Full,
}

/// A place among the pending connections; given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    source: IpAddr,
}

impl Gate {
    pub(crate) fn knock(self: &Arc<Self>, from: IpAddr, address_proven: bool) -> Knock {
        let source = source_of(from);
        let mut pending = self.lock();
        let total: usize = pending.values().sum();
        let same = pending.get(&source).copied().unwrap_or_default();
        if total >= MAX_PENDING || same >= MAX_PENDING_PER_SOURCE {
            return Knock::Full;
        }
        if total >= PROOF_OF_ADDRESS_ABOVE && !address_proven {
            return Knock::ProveAddress;
        }
        *pending.entry(source).or_default() += 1;
        Knock::Enter(Ticket {
            gate: Arc::clone(self),
            source,
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        // Counters are sound after every single step.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut pending = self.gate.lock();
        if let Some(count) = pending.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                pending.remove(&self.source);
            }
        }
    }
}

fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => {
            let mut segments = ip.segments();
            segments[4..].fill(0);
            segments.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_source_cannot_take_all_places() {
        let gate = Arc::new(Gate::default());
        let mut tickets: Vec<_> = (0..MAX_PENDING_PER_SOURCE)
            .map(|_| gate.knock(ip("2001:db8::1"), true))
            .collect();
        let neighbour = gate.knock(ip("2001:db8::ffff:1"), true);
        assert!(matches!(neighbour, Knock::Full));
        assert!(matches!(gate.knock(ip("10.0.0.1"), true), Knock::Enter(_)));
        tickets.pop();
        let again = gate.knock(ip("2001:db8::2"), true);
        assert!(matches!(again, Knock::Enter(_)));
    }

    #[test]
    fn under_load_an_address_must_be_proven_and_the_total_is_bounded() {
        let gate = Arc::new(Gate::default());
        let mut tickets = Vec::new();
        for number in 0..1000_u32 {
            let from = IpAddr::from(number.to_be_bytes());
            match gate.knock(from, false) {
                Knock::ProveAddress => tickets.push(gate.knock(from, true)),
                entered @ (Knock::Enter(_) | Knock::Full) => tickets.push(entered),
            }
        }
        let entered = tickets
            .iter()
            .filter(|knock| matches!(knock, Knock::Enter(_)));
        assert_eq!(entered.count(), MAX_PENDING);
        drop(tickets);
        assert!(gate.lock().is_empty());
    }
}
