//! Neighbours and blocks that went missing while the rest goes on.

use std::time::Duration;

use dfnode_gossip::Now;

use super::Task;
use crate::blocks::BlockSet;
use crate::context::Context;

/// How often a node looks whether neighbours or blocks went missing.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// Of those who miss a block, one in so many says so at each look: they all miss it alike.
const ONE_IN: u64 = 4;

/// What was missing at the last look.
#[derive(Debug, Default)]
pub(super) struct Losses {
    looked: Option<Now>,
    holes: BlockSet,
    /// Whether the home is to be told that blocks are missing.
    pub(super) tell: bool,
}

impl Task {
    /// Asks the home for neighbours in place of those that went, and tells it of blocks that seem lost.
    pub(super) fn look_for_losses(&mut self, cx: &mut Context<'_>) {
        let recent = self
            .losses
            .looked
            .is_some_and(|at| cx.now.saturating_since(at) < LOOK_PERIOD);
        if recent || !self.session.wants {
            return;
        }
        self.losses.looked = Some(cx.now);
        let holes = self.session.holes(cx.now);
        let stay = holes.iter().any(|block| self.losses.holes.contains(block));
        self.losses.holes = holes;
        self.losses.tell = stay && cx.chance.below(ONE_IN) == 0;
        let asks = self.session.is_short() || self.losses.tell;
        if asks && !self.registration.is_asking() {
            self.registration.hurry(cx.now);
        }
    }
}
