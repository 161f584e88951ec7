//! Nodes come and go.

use std::time::Duration;

use super::host::{Host, Life};
use super::store::Store;
use super::{Cluster, Happening, LATENCY};
use crate::world::micros;

/// The first nodes start within this time.
const FOUNDING: Duration = Duration::from_secs(30);
/// A node that has not found the cluster tries again after this time.
const JOIN_AGAIN: Duration = Duration::from_secs(2);
/// This share of those who go is killed; the others say farewell.
const KILLED: f64 = 0.5;
/// This share of those who go comes back …
const RETURNING: f64 = 0.7;
/// … of whom this share has lost its disk.
const DISK_LOST: f64 = 0.2;
/// How long a node is away at least, and at most.
const SHORTEST_ABSENCE: Duration = Duration::from_secs(5);
pub(super) const LONGEST_ABSENCE: Duration = Duration::from_mins(15);
/// QUIC gives a silent peer up after its idle time-out.
const LINK_TIMEOUT: Duration = Duration::from_secs(10);

impl Cluster {
    /// The first nodes: one serves alone, the others join.
    pub(super) fn found(&mut self) {
        let nodes = self.day.nodes as u64;
        for number in 0..nodes {
            let time = micros(FOUNDING) * number / nodes;
            self.at(time, Happening::Arrival);
        }
        let first = self.next_departure();
        self.at(micros(self.day.morning()) + first, Happening::Churn);
    }

    /// Numbers of the hosts that live.
    pub(super) fn living(&self) -> impl Iterator<Item = usize> + '_ {
        (0..)
            .zip(&self.hosts)
            .filter(|(_, host)| host.life.is_some())
            .map(|(number, _)| number)
    }

    /// One of those who live, by lot.
    pub(super) fn somebody(&mut self, suits: impl Fn(&Life) -> bool) -> Option<usize> {
        let suitable: Vec<usize> = (0..)
            .zip(&self.hosts)
            .filter(|(_, host)| host.life.as_deref().is_some_and(&suits))
            .map(|(number, _)| number)
            .collect();
        let at = usize::try_from(self.chance.below(suitable.len() as u64)).ok()?;
        suitable.get(at).copied()
    }

    /// So long, in µs, until the next node goes: each goes about once in its stay.
    fn next_departure(&mut self) -> u64 {
        let mean = micros(self.day.stay) / self.day.nodes.max(1) as u64;
        self.chance.below(2 * mean)
    }

    /// A node goes, and it or another one comes in a while.
    pub(super) fn churn(&mut self) {
        let next = self.now + self.next_departure();
        if next < micros(self.day.evening()) {
            self.at(next, Happening::Churn);
        }
        let Some(host) = self.somebody(|life| life.ready) else {
            return;
        };
        if self.chance.share() < KILLED {
            self.facts.crashes += 1;
            self.dies(host, LINK_TIMEOUT);
        } else {
            self.facts.farewells += 1;
            self.says_farewell(host);
        }
        let least = micros(SHORTEST_ABSENCE);
        let away = Duration::from_micros(self.chance.between(least, micros(LONGEST_ABSENCE)));
        if self.chance.share() < RETURNING {
            self.later(away, Happening::Returns { host });
        } else {
            self.hosts[host].store = Store::default();
            self.facts.newcomers += 1;
            self.later(away, Happening::Arrival);
        }
    }

    fn says_farewell(&mut self, host: usize) {
        let clock = self.clock();
        if let Some(life) = self.alive(host) {
            life.gossip.leave(clock);
        }
        self.drain(host);
        self.dies(host, LATENCY);
    }

    /// A life ends; those who hold links to it notice after a while.
    fn dies(&mut self, host: usize, noticed: Duration) {
        self.note("die", host, 0);
        let Some(life) = self.hosts[host].life.take() else {
            return;
        };
        self.facts.died += life.wishes.len() as u64;
        self.transfers
            .retain(|(from, to, ..), _| *from != host && *to != host);
        let peer = self.hosts[host].peer;
        let linked: Vec<usize> = (0..)
            .zip(&self.hosts)
            .filter(|(_, other)| {
                other
                    .life
                    .as_ref()
                    .is_some_and(|life| life.links.contains_key(&peer))
            })
            .map(|(number, _)| number)
            .collect();
        for other in linked {
            self.later(
                noticed,
                Happening::LinkBroke {
                    host: other,
                    peer: host,
                },
            );
        }
    }

    /// A node that nobody knows.
    pub(super) fn arrival(&mut self) {
        let number = self.hosts.len();
        let host = Host::new(self.day.seed, number);
        self.index.insert(host.peer, number);
        self.hosts.push(host);
        self.begins(number);
    }

    pub(super) fn returns(&mut self, host: usize) {
        self.facts.returns += 1;
        if self.chance.share() < DISK_LOST {
            self.hosts[host].store = Store::default();
        }
        self.begins(host);
    }

    fn begins(&mut self, number: usize) {
        let seeds = [self.chance.draw(), self.chance.draw()];
        let (now, clock) = (self.now, self.clock());
        let host = &mut self.hosts[number];
        host.begin(&self.day, number, now, seeds);
        let life = host.lives;
        self.note("begin", number, life);
        // A stateless reset ends the links of the life before.
        let everybody: Vec<usize> = self.living().collect();
        for other in everybody {
            self.link_broke(other, number);
        }
        if self.hosts.len() == 1
            && let Some(first) = self.alive(number)
        {
            first.ready = true;
            first.tracker.set_ready(clock);
        }
        self.at(now, Happening::Housekeeping { host: number, life });
        self.at(now, Happening::Joins { host: number, life });
        self.drain(number);
    }

    /// A node looks for its cluster until it has found it.
    pub(super) fn joins(&mut self, host: usize, life: u64) {
        let is_over = self.hosts[host].lives != life;
        let Some(joining) = self.alive(host) else {
            return;
        };
        if is_over || joining.ready {
            return;
        }
        if let Some(to) = self.somebody(|life| life.ready) {
            self.later(LATENCY, Happening::Sync { from: host, to });
        }
        self.later(JOIN_AGAIN, Happening::Joins { host, life });
    }
}
