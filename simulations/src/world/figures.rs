//! The figures of a world that came to its end.

use std::time::Duration;

use super::World;
use super::moments::Watch;
use crate::node::{End, SimNode};
use crate::report::{Outcome, Report};

fn outcome(node: &SimNode) -> Outcome {
    let (done, failed) = match &node.end {
        Some(End::Complete { at }) => (Some(*at), None),
        Some(End::Failed { why, .. }) => (None, Some(why.clone())),
        None => (None, None),
    };
    Outcome {
        seconds: done
            .zip(node.started)
            .map(|(end, start)| Duration::from_micros(end - start).as_secs_f64()),
        failed,
        died: !node.alive,
        liar: node.liar,
        slow: node.slow,
    }
}

impl World {
    pub(super) fn report(mut self) -> Report {
        let outcomes: Vec<Outcome> = self.nodes.iter().map(outcome).collect();
        let honest = || outcomes.iter().filter(|one| !one.died && !one.liar);
        let ended = self.nodes.iter().filter_map(|node| match node.end {
            Some(End::Complete { at } | End::Failed { at, .. }) => Some(at),
            None => None,
        });
        let last = ended.max().unwrap_or(self.now);
        let of_honest = self.nodes.iter().filter(|node| !node.liar);
        let source_bytes: u64 = of_honest.map(|node| node.source_bytes).sum();
        self.note("end", 0, source_bytes);
        let copies_into_zone = self.copies_into_zones();
        #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
        let copies = source_bytes as f64 / self.scenario.file_bytes.max(1) as f64;
        let nodes = self.nodes.len().max(1) as u64;
        let per_node = |of: fn(&SimNode) -> u64| self.nodes.iter().map(of).sum::<u64>() / nodes;
        let mut report = Report {
            bound_s: self.scenario.bound_secs(),
            p50: 0.0,
            p99: 0.0,
            max: 0.0,
            copies,
            copies_into_zone,
            control_bytes_per_node: per_node(|node| node.control_bytes),
            control_percent: 0.0,
            gossip_bytes_per_node: per_node(|node| node.gossip_bytes),
            traffic: self.traffic,
            finished: honest().filter(|one| one.seconds.is_some()).count(),
            failed: honest().filter(|one| one.failed.is_some()).count(),
            survivors: honest().count(),
            wrong_blocks: self.wrong_blocks,
            isolations: self.isolations,
            liars: self.nodes.iter().filter(|node| node.liar).count(),
            liars_isolated: {
                let caught = |node: &&SimNode| node.liar && node.isolated;
                self.nodes.iter().filter(caught).count()
            },
            longest_burst: self.longest_burst,
            violations: self.violations,
            log: self.log,
            moments: self.watch.map(Watch::into_moments).unwrap_or_default(),
            virtual_s: Duration::from_micros(last.saturating_sub(self.first_start)).as_secs_f64(),
            events: self.events,
            trace_hash: self.trace.finalize().to_hex()[..16].to_owned(),
            outcomes,
        };
        #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
        let share = report.control_bytes_per_node as f64 / self.scenario.file_bytes.max(1) as f64;
        report.control_percent = 100.0 * share;
        report.quantiles();
        report
    }
}
