//! Which zone each host is in, and what crosses the borders.

use std::time::Duration;

use super::{Cargo, World};
use crate::links::ZoneIndex;

impl World {
    /// Deals the hosts out to the scenario's zones; the source stays outside.
    pub(super) fn deal_out(&mut self) {
        let Some(zones) = self.scenario.zones else {
            return;
        };
        #[expect(clippy::cast_precision_loss, reason = "rates far below 2^53")]
        let trunk = zones.trunk_bits_per_sec as f64 / 8.0;
        for _ in 0..zones.count {
            self.links.add_zone(trunk);
        }
        self.into_zone = vec![0.0; zones.count];
        for node in 0..self.nodes.len() {
            self.links.settle_in(node, node % zones.count);
        }
    }

    /// One way between two hosts.
    pub(super) fn latency(&self, one: usize, other: usize) -> Duration {
        match self.scenario.zones {
            Some(zones) if self.links.zone_of(one) != self.links.zone_of(other) => zones.latency,
            Some(_) | None => self.scenario.latency,
        }
    }

    /// What a transfer carried counts as crossing if it went from one zone into another, whatever became of it.
    pub(super) fn note_crossing(&mut self, cargo: Cargo, carried: f64) {
        let (from, to) = match cargo {
            Cargo::Block { from, to, .. } => (from, to),
            Cargo::Source { node, .. } => (self.source_host, node),
        };
        let into = self.links.zone_of(to);
        if let Some(into) = into.filter(|_| self.links.zone_of(from) != into) {
            self.into_zone[into] += carried;
        }
    }

    /// Copies of the file that crossed the border into each zone. None can have it without one.
    pub(super) fn copies_into_zones(&mut self) -> Vec<f64> {
        #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^53")]
        let file = self.scenario.file_bytes.max(1) as f64;
        let copies: Vec<f64> = self.into_zone.iter().map(|bytes| bytes / file).collect();
        for (zone, copies) in copies.iter().enumerate() {
            let complete = self.in_zone(zone).any(|node| self.has_all(node));
            // A byte is lost to rounding here and there.
            if complete && *copies < 1.0 - 1e-6 {
                self.violation(&format!("zone {zone} has the file from {copies} copies"));
            }
        }
        copies
    }

    fn in_zone(&self, zone: ZoneIndex) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(move |node| self.links.zone_of(*node) == Some(zone))
    }

    fn has_all(&self, node: usize) -> bool {
        self.layout.blocks() == u32::try_from(self.nodes[node].kept.len()).ok()
    }
}
