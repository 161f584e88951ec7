//! What came of a world.

use std::collections::BTreeMap;

use serde::Serialize;

/// One node's end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Seconds from its own start to its last block, if it got there.
    pub seconds: Option<f64>,
    /// Why its download failed, if it did.
    pub failed: Option<String>,
    /// Whether it was killed.
    pub died: bool,
    /// Whether it altered what it relayed.
    pub liar: bool,
    /// Whether its link is slow: its time is its own.
    pub slow: bool,
}

/// How far the blocks had spread at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moment {
    /// Virtual seconds from the first start.
    pub seconds: f64,
    /// Hosts that lived.
    pub live: u32,
    /// How many of them held each block.
    pub holders: Vec<u32>,
}

/// Messages of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// How many.
    pub messages: u64,
    /// Their bytes, with what the transport adds.
    pub bytes: u64,
}

/// The figures of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The shortest possible time, seconds.
    pub bound_s: f64,
    /// Median of the survivors' own times, in bounds.
    pub p50: f64,
    /// 99th percentile, in bounds.
    pub p99: f64,
    /// The last one, in bounds.
    pub max: f64,
    /// Body bytes that left the source for honest nodes, in files.
    pub copies: f64,
    /// Body bytes that crossed the border into each zone, in files; from the source or from other zones, of use or not.
    pub copies_into_zone: Vec<f64>,
    /// Task messages sent per node, bytes.
    pub control_bytes_per_node: u64,
    /// The same in percent of the file.
    pub control_percent: f64,
    /// Gossip sent per node, bytes.
    pub gossip_bytes_per_node: u64,
    /// Task messages by kind, over all nodes.
    pub traffic: BTreeMap<&'static str, Traffic>,
    /// Honest survivors that finished.
    pub finished: usize,
    /// Honest survivors that were told that their download failed.
    pub failed: usize,
    /// Honest survivors.
    pub survivors: usize,
    /// Blocks kept whose bytes were not the source's.
    pub wrong_blocks: u64,
    /// Isolations of peers, over all nodes.
    pub isolations: u64,
    /// Hosts that altered what they relayed.
    pub liars: usize,
    /// How many of them somebody has isolated.
    pub liars_isolated: usize,
    /// The most outputs that one input set off in a machine.
    pub longest_burst: usize,
    /// What no correct machine may do, in words: empty in every world.
    pub violations: Vec<String>,
    /// What happened, if the scenario asks for it: µs from the first start, and words.
    #[serde(skip)]
    pub log: Vec<String>,
    /// How the blocks spread, if the scenario asks for it.
    #[serde(skip)]
    pub moments: Vec<Moment>,
    /// Virtual seconds until the last finished.
    pub virtual_s: f64,
    /// Events handled.
    pub events: u64,
    /// Equal for equal runs.
    pub trace_hash: String,
    /// Node by node.
    #[serde(skip)]
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// Those whose times count: honest survivors with links of the usual rate.
    fn counted(&self) -> impl Iterator<Item = &Outcome> {
        let counts = |one: &&Outcome| !one.died && !one.liar && !one.slow;
        self.outcomes.iter().filter(counts)
    }

    /// The times of which the percentiles are made, in bounds, the shortest first; and how many hosts could have had one.
    pub fn times(&self) -> (Vec<f64>, usize) {
        let ends = self.counted().filter_map(|one| one.seconds);
        let mut times: Vec<f64> = ends.map(|seconds| seconds / self.bound_s).collect();
        times.sort_by(f64::total_cmp);
        (times, self.counted().count())
    }

    pub(crate) fn quantiles(&mut self) {
        let (times, _) = self.times();
        let at = |share: f64| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an index into a few thousand"
            )]
            let index = ((times.len() as f64 * share).ceil() as usize).max(1) - 1;
            times.get(index).copied().unwrap_or(f64::NAN)
        };
        (self.p50, self.p99, self.max) = (at(0.5), at(0.99), at(1.0));
    }
}
