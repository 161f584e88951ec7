//! Links that share fairly: max-min, found by passing changes on from port to port.
//!
//! A transfer crosses a port of its sender and one of its receiver, between zones the trunks of both, and where all hosts
//! share a machine, that of its processors. Each port has a
//! *level*: the rate that it would give a transfer which nothing else holds back. A transfer runs at the lowest level on its
//! way. When one begins or ends, the levels of its ports are found anew, and those of the ports that this changes something
//! for, and so on until the changes are slight: local, and near the true max-min rates.

use std::collections::VecDeque;

/// One host's place in the network; the source is one too.
pub(crate) type Host = usize;
/// Names a transfer; never used twice.
pub(crate) type FlowId = u64;
type Port = usize;
/// One zone's place.
pub(crate) type ZoneIndex = usize;

/// A change of a level by less than this share is not passed on.
const SLIGHT: f64 = 0.01;
/// Ports that one change may reach at most.
const MAX_REACH: usize = 48;

#[derive(Debug)]
struct PortState {
    bytes_per_sec: f64,
    level: f64,
    flows: Vec<u32>,
    queued: bool,
}

#[derive(Debug)]
struct Flow {
    id: FlowId,
    /// Its way: up from its sender, out of one zone and into the other if they differ, through the machine that all share,
    /// and down to its receiver.
    ports: [Port; 5],
    hops: usize,
    bytes: f64,
    left: f64,
    rate: f64,
    updated: u64,
    /// When the world was last told to look whether it is over.
    told: u64,
}

impl Flow {
    fn ports(&self) -> &[Port] {
        &self.ports[..self.hops]
    }

    fn settle(&mut self, now: u64) {
        #[expect(clippy::cast_precision_loss, reason = "micros of minutes")]
        let passed = (now - self.updated) as f64 / 1e6;
        self.left = (self.left - self.rate * passed).max(0.0);
        self.updated = now;
    }

    /// When it ends if nothing changes.
    fn end(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive time of minutes"
        )]
        let lasts = (self.left / self.rate.max(1.0) * 1e6).ceil() as u64;
        self.updated + lasts
    }
}

/// What an announced end of a transfer turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// The transfer is done.
    Done,
    /// It became slower: look again then.
    Later(u64),
    /// The transfer is gone, or another look is due earlier.
    Stale,
}

#[derive(Debug)]
struct HostPorts {
    /// Up and down.
    ports: [Port; 2],
    /// None for what stands outside of all zones.
    zone: Option<ZoneIndex>,
}

/// Every host's two directions, those of every zone, and what runs over them.
#[derive(Debug, Default)]
pub(crate) struct Links {
    ports: Vec<PortState>,
    hosts: Vec<HostPorts>,
    /// Out of each zone, and into it.
    trunks: Vec<[Port; 2]>,
    /// What everything runs through, if all hosts share a machine.
    machine: Option<Port>,
    flows: Vec<Option<Flow>>,
    free: Vec<u32>,
    next: u32,
    dirty: VecDeque<Port>,
}

impl Links {
    fn add_port(&mut self, bytes_per_sec: f64) -> Port {
        self.ports.push(PortState {
            bytes_per_sec,
            level: bytes_per_sec,
            flows: Vec::new(),
            queued: false,
        });
        self.ports.len() - 1
    }

    pub(crate) fn add_host(&mut self, up_bytes_per_sec: f64, down_bytes_per_sec: f64) -> Host {
        let ports = [
            self.add_port(up_bytes_per_sec),
            self.add_port(down_bytes_per_sec),
        ];
        self.hosts.push(HostPorts { ports, zone: None });
        self.hosts.len() - 1
    }

    /// A zone, whose border is crossed at this rate each way.
    pub(crate) fn add_zone(&mut self, bytes_per_sec: f64) -> ZoneIndex {
        let trunk = [self.add_port(bytes_per_sec), self.add_port(bytes_per_sec)];
        self.trunks.push(trunk);
        self.trunks.len() - 1
    }

    /// Lets everything run through one machine, which carries so much in all.
    pub(crate) fn share_machine(&mut self, bytes_per_sec: f64) {
        self.machine = Some(self.add_port(bytes_per_sec));
    }

    /// Puts a host into a zone, before anything runs.
    pub(crate) fn settle_in(&mut self, host: Host, zone: ZoneIndex) {
        self.hosts[host].zone = Some(zone);
    }

    pub(crate) fn zone_of(&self, host: Host) -> Option<ZoneIndex> {
        self.hosts[host].zone
    }

    /// The ports that a transfer crosses, and how many these are.
    fn way(&self, from: Host, to: Host) -> ([Port; 5], usize) {
        let (from, to) = (&self.hosts[from], &self.hosts[to]);
        let mut way = [from.ports[0]; 5];
        let mut hops = 1;
        if from.zone != to.zone {
            let out = from.zone.map(|zone| self.trunks[zone][0]);
            let into = to.zone.map(|zone| self.trunks[zone][1]);
            for port in [out, into].into_iter().flatten() {
                way[hops] = port;
                hops += 1;
            }
        }
        if let Some(machine) = self.machine {
            way[hops] = machine;
            hops += 1;
        }
        way[hops] = to.ports[1];
        (way, hops + 1)
    }

    /// Gives a host this share of its rates, before anything runs.
    pub(crate) fn slow(&mut self, host: Host, share: f64) {
        for port in self.hosts[host].ports {
            let state = &mut self.ports[port];
            state.bytes_per_sec *= share;
            state.level = state.bytes_per_sec;
        }
    }

    /// Starts a transfer. `changed` receives the flows to look at, and when.
    pub(crate) fn start(
        &mut self,
        now: u64,
        from: Host,
        to: Host,
        bytes: u64,
        changed: &mut Vec<(FlowId, u64)>,
    ) -> FlowId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.flows.push(None);
            u32::try_from(self.flows.len() - 1).unwrap_or(u32::MAX)
        });
        self.next = self.next.wrapping_add(1);
        let id = u64::from(self.next) << 32 | u64::from(slot);
        let (ports, hops) = self.way(from, to);
        #[expect(clippy::cast_precision_loss, reason = "a block is a few MiB")]
        let left = bytes as f64;
        let flow = Flow {
            id,
            ports,
            hops,
            bytes: left,
            left,
            rate: 0.0,
            updated: now,
            told: u64::MAX,
        };
        for port in flow.ports() {
            self.ports[*port].flows.push(slot);
            self.queue(*port);
        }
        self.flows[slot as usize] = Some(flow);
        self.share(now, changed);
        id
    }

    /// Ends a transfer, done or not. Returns the bytes that it carried.
    pub(crate) fn end(&mut self, now: u64, id: FlowId, changed: &mut Vec<(FlowId, u64)>) -> f64 {
        let Some(slot) = self.slot(id) else {
            return 0.0;
        };
        let Some(mut flow) = self.flows[slot as usize].take() else {
            return 0.0;
        };
        flow.settle(now);
        self.free.push(slot);
        for port in flow.ports() {
            let flows = &mut self.ports[*port].flows;
            if let Some(at) = flows.iter().position(|one| *one == slot) {
                flows.swap_remove(at);
            }
            self.queue(*port);
        }
        self.share(now, changed);
        flow.bytes - flow.left
    }

    /// The moment for which a look at a transfer was announced has come.
    pub(crate) fn look(&mut self, now: u64, id: FlowId) -> Due {
        let Some(slot) = self.slot(id) else {
            return Due::Stale;
        };
        let Some(flow) = &mut self.flows[slot as usize] else {
            return Due::Stale;
        };
        if flow.told != now {
            return Due::Stale;
        }
        let end = flow.end();
        if end <= now {
            return Due::Done;
        }
        flow.told = end;
        Due::Later(end)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the slot is the lower half"
    )]
    fn slot(&self, id: FlowId) -> Option<u32> {
        let slot = id as u32;
        self.flows
            .get(slot as usize)?
            .as_ref()
            .filter(|flow| flow.id == id)
            .map(|_| slot)
    }

    fn queue(&mut self, port: Port) {
        if !std::mem::replace(&mut self.ports[port].queued, true) {
            self.dirty.push_back(port);
        }
    }

    /// The rate that everything else on its way leaves a transfer.
    fn limit(&self, flow: &Flow, but: Port) -> f64 {
        flow.ports()
            .iter()
            .filter(|port| **port != but)
            .map(|port| self.ports[*port].level)
            .fold(f64::INFINITY, f64::min)
    }

    /// Finds the level at which a port's transfers fill it: each takes the level, or less where something else limits it.
    fn level_of(&self, port: Port) -> f64 {
        let state = &self.ports[port];
        let mut left = state.bytes_per_sec;
        let mut limits: Vec<f64> = state
            .flows
            .iter()
            .filter_map(|slot| self.flows[*slot as usize].as_ref())
            .map(|flow| self.limit(flow, port))
            .collect();
        limits.sort_unstable_by(f64::total_cmp);
        let mut open = limits.len();
        for limit in &limits {
            #[expect(clippy::cast_precision_loss, reason = "a few thousand flows")]
            let fair = left / open as f64;
            if *limit >= fair {
                return fair;
            }
            left -= limit;
            open -= 1;
        }
        // Nothing fills it: a further transfer, or the fastest of these, could have what is left.
        left + limits.last().copied().unwrap_or(0.0)
    }

    fn share(&mut self, now: u64, changed: &mut Vec<(FlowId, u64)>) {
        let mut reach = 0;
        while let Some(port) = self.dirty.pop_front() {
            self.ports[port].queued = false;
            let (before, level) = (self.ports[port].level, self.level_of(port));
            self.ports[port].level = level;
            reach += 1;
            let slight = (level - before).abs() <= SLIGHT * before;
            for at in 0..self.ports[port].flows.len() {
                let slot = self.ports[port].flows[at] as usize;
                let Some(flow) = &self.flows[slot] else {
                    continue;
                };
                let (ports, hops) = (flow.ports, flow.hops);
                let rate = self.limit(flow, port).min(level);
                if (rate - flow.rate).abs() > 1e-3 * rate
                    && let Some(flow) = &mut self.flows[slot]
                {
                    flow.settle(now);
                    flow.rate = rate;
                    let end = flow.end();
                    if end < flow.told {
                        flow.told = end;
                        changed.push((flow.id, end));
                    }
                }
                if slight || reach >= MAX_REACH {
                    continue;
                }
                for other in &ports[..hops] {
                    // A port that gave less than this one's level before and after sees no change.
                    if *other != port && level.min(before) < self.ports[*other].level {
                        self.queue(*other);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts flows between hosts of the given capacities, and tells their rates.
    fn rates(capacities: &[(f64, f64)], flows: &[(Host, Host)]) -> Vec<f64> {
        let mut links = Links::default();
        for (up, down) in capacities {
            links.add_host(*up, *down);
        }
        let mut changed = Vec::new();
        let ids: Vec<FlowId> = flows
            .iter()
            .map(|(from, to)| links.start(0, *from, *to, 1_000_000, &mut changed))
            .collect();
        ids.into_iter()
            .filter_map(|id| {
                links
                    .flows
                    .get(usize::try_from(id & u64::from(u32::MAX)).ok()?)?
                    .as_ref()
            })
            .map(|flow| flow.rate)
            .collect()
    }

    fn near(rates: &[f64], expected: &[f64]) -> bool {
        rates.len() == expected.len()
            && rates
                .iter()
                .zip(expected)
                .all(|(rate, expected)| (rate - expected).abs() <= 0.02 * expected)
    }

    #[test]
    fn what_one_transfer_cannot_use_another_gets() {
        let hosts = [(90.0, 90.0), (30.0, 30.0), (90.0, 90.0)];
        let found = rates(&hosts, &[(0, 1), (0, 2)]);
        assert!(near(&found, &[30.0, 60.0]), "{found:?}");
    }

    #[test]
    fn a_port_is_shared_alike() {
        let hosts = [(90.0, 90.0); 4];
        let found = rates(&hosts, &[(0, 3), (1, 3), (2, 3)]);
        assert!(near(&found, &[30.0, 30.0, 30.0]), "{found:?}");
    }

    #[test]
    fn what_a_shared_machine_carries_is_shared_alike() {
        let mut links = Links::default();
        for _ in 0..4 {
            links.add_host(100.0, 100.0);
        }
        links.share_machine(120.0);
        let mut changed = Vec::new();
        for (from, to) in [(0, 1), (1, 2), (2, 3)] {
            links.start(0, from, to, 1_000_000, &mut changed);
        }
        let found: Vec<f64> = links.flows.iter().flatten().map(|flow| flow.rate).collect();
        assert!(near(&found, &[40.0, 40.0, 40.0]), "{found:?}");
    }

    #[test]
    fn a_change_is_passed_on_along_a_chain() {
        // 0 → 1 is held to 10 by host 1; so 0 → 2 has 50, which leaves 3 → 2 with 40.
        let hosts = [(60.0, 0.0), (0.0, 10.0), (0.0, 90.0), (90.0, 0.0)];
        let found = rates(&hosts, &[(3, 2), (0, 2), (0, 1)]);
        assert!(near(&found, &[45.0, 45.0, 10.0]), "{found:?}");
        let hosts = [(60.0, 0.0), (0.0, 10.0), (0.0, 120.0), (90.0, 0.0)];
        let found = rates(&hosts, &[(3, 2), (0, 2), (0, 1)]);
        assert!(near(&found, &[70.0, 50.0, 10.0]), "{found:?}");
    }

    #[test]
    fn no_port_carries_more_than_it_can() {
        let hosts = [(100.0, 100.0); 12];
        let flows: Vec<(Host, Host)> = (0..12)
            .flat_map(|from| [1, 4, 5, 7].map(|step| (from, (from * 3 + step) % 12)))
            .filter(|(from, to)| from != to)
            .collect();
        let found = rates(&hosts, &flows);
        for host in 0..12 {
            let sum = |of: fn(&(Host, Host)) -> Host| -> f64 {
                flows
                    .iter()
                    .zip(&found)
                    .filter(|(flow, _)| of(flow) == host)
                    .map(|(_, rate)| rate)
                    .sum()
            };
            assert!(
                sum(|flow| flow.0) <= 103.0,
                "{host} sends {}",
                sum(|flow| flow.0)
            );
            assert!(
                sum(|flow| flow.1) <= 103.0,
                "{host} takes {}",
                sum(|flow| flow.1)
            );
        }
    }
}
