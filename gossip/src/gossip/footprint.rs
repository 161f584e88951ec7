//! How much a machine remembers.

use super::Gossip;

/// What a gossip machine remembers and waits for, beside its living members. All of it returns to zero in a cluster
/// in which nothing is published and nobody comes or goes, within the longest of the times in
/// [`Config`](crate::Config).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Event slots, those withdrawn included; at most [`MAX_SLOTS`](crate::MAX_SLOTS).
    pub slots: usize,
    /// Origins that are gone and whose slots are kept for a while, or refused.
    pub gone: usize,
    /// Members that are remembered to be down; at most [`MAX_MEMBERS`](crate::MAX_MEMBERS).
    pub down: usize,
    /// News on their way: items passed on, own writes that wait, outputs. The first of them at most twice
    /// [`MAX_BACKLOG`](crate::MAX_BACKLOG).
    pub waiting: usize,
}

impl Gossip {
    /// How much this machine remembers.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            slots: self.slots.len(),
            gone: self.slots.gone(),
            down: self.swim.down().count(),
            waiting: self.spread.len() + self.outbox.len() + self.outputs.len(),
        }
    }
}
