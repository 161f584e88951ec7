//! How much a tracker has on its hands.

use super::LocalTracker;

/// What a tracker keeps and waits for. Once nothing is wanted or held anywhere, all of it returns to zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Tasks that this node wants or holds.
    pub tasks: usize,
    /// Tasks that it is home to, whatever its rank.
    pub tables: usize,
    /// Leases on sources that its tables know of.
    pub leases: usize,
    /// Nodes that its tables know to want or hold a task.
    pub registrants: usize,
    /// Tasks of which gossip's holders are remembered.
    pub announced: usize,
    /// Peers that somebody accuses.
    pub accused: usize,
    /// Outputs that wait to be performed, and signatures that are waited for.
    pub waiting: usize,
}

impl LocalTracker {
    /// How much this tracker has on its hands. Uploads and downloads have methods of their own.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            tasks: self.tasks.len(),
            tables: self.homes.len(),
            leases: self.homes.leases(),
            registrants: self.homes.registrants(),
            announced: self.holders.tasks(),
            accused: self.accusations.len(),
            waiting: self.outputs.len() + self.signing.len(),
        }
    }
}
