//! What the machines of a node want done, and when they want to be asked again.

use std::time::Duration;

use dfnode_tracker::Output;
use ed25519_dalek::Signer as _;

use super::{Cluster, Happening};

/// How often a node looks for idle links and for what its cache should forget.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

impl Cluster {
    fn perform_next(&mut self, host: usize) -> bool {
        let Some(life) = self.alive(host) else {
            return false;
        };
        if let Some(output) = life.gossip.poll_output() {
            self.perform_gossip(host, output);
        } else if let Some(output) = life.tracker.poll_output() {
            self.perform(host, output);
        } else {
            return false;
        }
        true
    }

    /// Drains both machines: what one says may make the other speak.
    pub(super) fn drain(&mut self, host: usize) {
        let mut burst = 0;
        while self.perform_next(host) {
            burst += 1;
        }
        self.facts.longest_burst = self.facts.longest_burst.max(burst);
        let now = self.now;
        let Some(life) = self.alive(host) else { return };
        let Some(due) = life.deadline().map(|at| at.as_micros().max(now)) else {
            return;
        };
        if life.timer.is_none_or(|at| at > due) {
            life.timer = Some(due);
            self.at(due, Happening::Timer { host });
        }
    }

    fn perform(&mut self, host: usize, output: Output) {
        let clock = self.clock();
        match output {
            Output::Send { to, message } => self.send(host, to, &message),
            Output::Connect { peer } => self.connect(host, peer.peer),
            Output::ReadSource { task, lease } => self.read_source(host, task, lease),
            Output::StopSource { task, lease } => {
                if let Some(life) = self.alive(host) {
                    life.reads.remove(&(task, lease));
                }
            }
            Output::SendBlock {
                to,
                task,
                version,
                block,
            } => self.send_block(host, to, task, version, block),
            Output::StopSend { to, task, block } => {
                if let Some(to) = self.index.get(&to) {
                    self.transfers.remove(&(host, *to, task, block));
                }
            }
            Output::StopReceive { .. } => {}
            Output::Keep {
                task,
                block,
                origin,
                ..
            } => self.keep(host, task, block, origin),
            Output::Drop {
                task,
                block,
                origin,
            } => {
                if let Some(life) = self.alive(host) {
                    life.parked.remove(&(task, block, origin));
                }
            }
            Output::KeepBatch { task, batch } => self.hosts[host].store.keep_batch(&task, batch),
            Output::Sign { request, bytes } => {
                let signature = self.hosts[host].key.sign(&bytes).to_bytes();
                if let Some(life) = self.alive(host) {
                    life.tracker.handle_signature(clock, request, signature);
                }
            }
            Output::Publish {
                subject,
                kind,
                body,
            } => {
                let life = self.alive(host);
                if let Some(Err(error)) =
                    life.map(|life| life.gossip.publish(clock, subject, kind, body))
                {
                    self.violation(&format!("host {host} cannot publish: {error}"));
                }
            }
            Output::Withdraw { subject, kind } => {
                if let Some(life) = self.alive(host) {
                    life.gossip.withdraw(clock, subject, kind);
                }
            }
            Output::Task { task, event } => self.task_news(host, task, event),
            Output::Blame { reason, .. } => {
                let why = reason.as_str();
                self.violation(&format!("host {host} blames an honest one: {why}"));
            }
        }
    }

    pub(super) fn timer(&mut self, host: usize) {
        let clock = self.clock();
        let Some(life) = self.alive(host) else { return };
        if life.timer != Some(clock.as_micros()) {
            // An earlier deadline came up in the meantime and has been served, or the life is another.
            return;
        }
        life.timer = None;
        if life.gossip.poll_timeout().is_some_and(|at| at <= clock) {
            life.gossip.handle_timeout(clock);
        }
        if life.tracker.poll_timeout().is_some_and(|at| at <= clock) {
            life.tracker.handle_timeout(clock);
        }
        self.drain(host);
    }

    pub(super) fn housekeeping(&mut self, host: usize, life: u64) {
        let (now, clock) = (self.now, self.clock());
        if self.hosts[host].lives != life || self.hosts[host].life.is_none() {
            return;
        }
        self.later(HOUSEKEEPING, Happening::Housekeeping { host, life });
        self.close_idle_links(host);
        let kept = &mut self.hosts[host];
        let Some(life) = kept.life.as_deref_mut() else {
            return;
        };
        let pinned = |task: &_| life.wishes.contains_key(task);
        let (ttl, bytes) = (self.day.cache_ttl, self.day.cache_bytes);
        let evicted = kept.store.evict(now, ttl, bytes, pinned);
        self.facts.evictions += evicted.len() as u64;
        for task in evicted {
            life.tracker.forget(clock, &task);
        }
        self.check_queues(host);
        self.drain(host);
    }
}
