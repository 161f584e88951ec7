//! What holds all day long, and what must have returned to its start at the end.

use dfnode_gossip::{MAX_BACKLOG, MAX_SLOTS};

use super::{Cluster, Rest};

/// Violations that a report keeps; the first ones tell the most.
const MAX_VIOLATIONS: usize = 20;
/// The heap at the end may be so much larger than at the start, in percent: what has grown keeps some of its room.
const HEAP_PERCENT: usize = 10;
/// Copies of a file that one round of wishes may cost its source: deaths and cancellations cost some of one.
const MOST_COPIES: f64 = 3.0;

impl Cluster {
    /// Notes what no correct machine may do.
    pub(super) fn violation(&mut self, what: &str) {
        if self.facts.violations.len() < MAX_VIOLATIONS {
            self.facts
                .violations
                .push(format!("{} µs: {what}", self.now));
        }
    }

    /// The queues of a node are bounded.
    pub(super) fn check_queues(&mut self, host: usize) {
        let Some(life) = self.alive(host) else { return };
        let (gossip, burst) = (life.gossip.footprint(), life.tracker.footprint().waiting);
        self.facts.most_waiting = self.facts.most_waiting.max(gossip.waiting);
        self.facts.most_slots = self.facts.most_slots.max(gossip.slots);
        if gossip.waiting > 3 * MAX_BACKLOG || gossip.slots > MAX_SLOTS {
            self.violation(&format!(
                "host {host} has more on its hands than it may: {gossip:?}"
            ));
        }
        if burst > MAX_BACKLOG {
            self.violation(&format!(
                "host {host} has {burst} outputs that nobody performs"
            ));
        }
    }

    /// After the quiet everything is as it was.
    pub(super) fn check_the_end(&mut self, start: &Rest, end: &Rest) {
        let counts = |rest: &Rest| Rest {
            living: 0,
            heap_bytes: 0,
            ..*rest
        };
        if counts(end) != counts(start) {
            self.violation(&format!(
                "not all returned to its start: {start:?}, {end:?}"
            ));
        }
        if end.living != start.living {
            self.violation(&format!(
                "{} nodes live instead of {}",
                end.living, start.living
            ));
        }
        if end.heap_bytes * 100 > start.heap_bytes * (100 + HEAP_PERCENT) {
            let (start, end) = (start.heap_bytes, end.heap_bytes);
            self.violation(&format!("the heap grew from {start} to {end} bytes"));
        }
        for (number, copies) in self.copies().collect::<Vec<_>>() {
            if copies > MOST_COPIES {
                self.violation(&format!(
                    "task {number} cost its source {copies} copies a round"
                ));
            }
        }
    }

    /// Copies that each task cost its source for each round of wishes.
    pub(super) fn copies(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        let asked = self
            .tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| task.rounds > 0);
        asked.map(|(number, task)| {
            #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
            let copies = task.read_bytes as f64 / task.bytes as f64;
            (number, copies / f64::from(task.rounds))
        })
    }
}
