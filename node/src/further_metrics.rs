//! Counters of what runs beside the node in the same process.

use std::fmt;
use std::sync::OnceLock;

/// A counter: its name, what it means, and its value.
pub type MetricRow = (&'static str, &'static str, u64);

type Rows = Box<dyn Fn() -> Vec<MetricRow> + Send + Sync>;

/// Who is asked for them.
#[derive(Default)]
pub(crate) struct FurtherMetrics(OnceLock<Rows>);

impl FurtherMetrics {
    pub(crate) fn set(&self, rows: Rows) {
        // The first one stays: nothing runs twice beside a node.
        let _ = self.0.set(rows);
    }

    pub(crate) fn rows(&self) -> Vec<MetricRow> {
        self.0.get().map(|rows| rows()).unwrap_or_default()
    }
}

impl fmt::Debug for FurtherMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FurtherMetrics(…)")
    }
}
