//! How far a world is, for those who wait for its end.

use std::fmt;
use std::time::Duration;

use super::World;
use crate::node::End;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Virtual seconds from the first start.
    pub virtual_s: f64,
    /// Hosts that have the whole file.
    pub finished: usize,
    /// All hosts.
    pub nodes: usize,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (finished, nodes) = (self.finished, self.nodes);
        write!(
            f,
            "{:.2} virtual s, {finished} of {nodes} hosts finished",
            self.virtual_s
        )
    }
}

impl World {
    pub(super) fn progress(&self) -> Progress {
        let has_all = |end: &Option<End>| matches!(end, Some(End::Complete { .. }));
        Progress {
            virtual_s: Duration::from_micros(self.now.saturating_sub(self.first_start))
                .as_secs_f64(),
            finished: self.nodes.iter().filter(|node| has_all(&node.end)).count(),
            nodes: self.nodes.len(),
        }
    }
}
