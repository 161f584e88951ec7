//! What came of a world.

use serde::Serialize;

/// One node's end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outcome {
    /// Seconds from its own start to its last block, if it got there.
    pub seconds: Option<f64>,
    /// Whether it was killed.
    pub died: bool,
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
    /// Body bytes that left the source, in files.
    pub copies: f64,
    /// Task messages sent per node, bytes.
    pub control_bytes_per_node: u64,
    /// Gossip sent per node, bytes.
    pub gossip_bytes_per_node: u64,
    /// Survivors that finished.
    pub finished: usize,
    /// Survivors.
    pub survivors: usize,
    /// Blocks accepted whose bytes were not the source's.
    pub wrong_blocks: u64,
    /// Isolations of peers, over all nodes.
    pub isolations: u64,
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
    pub(crate) fn quantiles(&mut self) {
        let mut times: Vec<f64> = self
            .outcomes
            .iter()
            .filter(|one| !one.died)
            .filter_map(|one| one.seconds)
            .collect();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an index into a few thousand"
            )]
            let index = ((times.len() as f64 * share).ceil() as usize).max(1) - 1;
            times.get(index).copied().unwrap_or(f64::NAN) / self.bound_s
        };
        (self.p50, self.p99, self.max) = (at(0.5), at(0.99), at(1.0));
    }
}
