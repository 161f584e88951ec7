//! Neighbours and blocks that went missing while the rest goes on, and blocks that lie with nobody in reach.

use std::time::Duration;

use dfnode_gossip::Now;

use super::Task;
use super::versions::MAX_RESTARTS;
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::ids::{BlockIndex, PieceIndex};
use crate::message::{Extent, Lease, PeerRef};
use crate::meta::SourceFailure;
use crate::output::TaskFailure;
use crate::reads::Purpose;

/// How often a node looks whether neighbours or blocks went missing.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// Of those who miss a block, one in so many says so at each look: they all miss it alike.
const ONE_IN: u64 = 4;
/// A node without a fresh block for this long, whose only known holders it has isolated, reads by itself.
const CORNERED_AFTER: Duration = Duration::from_secs(1);
/// So does one that cannot reach whom its home names, for this long. A home finds out who is dead before.
const CUT_OFF_AFTER: Duration = Duration::from_secs(5);
/// And where these stand in other zones: a home finds other inlets before.
const CUT_OFF_FAR_AFTER: Duration = Duration::from_secs(15);
/// A source that asks for more patience is asked again all the same.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// And up to so much longer: of several that are cut off together the first reads for all.
const CUT_OFF_SPREAD_MS: u64 = 3000;
/// Without being helped meanwhile, each read of a cornered node takes twice as many pieces as the one before, so that it
/// is soon as fast as without peers; at most so many.
const MAX_PIECES_ALONE: u32 = 64;

/// What was missing at the last look.
#[derive(Debug, Default)]
pub(super) struct Losses {
    looked: Option<Now>,
    holes: BlockSet,
    /// Whether the home is to be told that blocks are missing.
    pub(super) tell: bool,
    /// Until when it is waited for others although nobody in reach holds anything that is missing here.
    cut_off: Option<Now>,
    /// When the source may be asked again without a lease.
    not_before: Option<Now>,
    /// How many pieces were read without a lease at the last time.
    alone: u32,
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

    /// A peer gives blocks, or the home a lease: whether nobody else helps is to be seen anew.
    pub(super) const fn wait_for_help(&mut self) {
        self.losses.cut_off = None;
        self.losses.alone = 0;
    }

    /// A cornered node read what it wanted to.
    pub(super) const fn was_left_alone(&mut self) {
        self.losses.not_before = None;
    }

    /// The source did not give what a cornered node asked it for.
    pub(super) fn leave_alone(&mut self, cx: &mut Context<'_>, failure: &SourceFailure) {
        let pause = if let SourceFailure::Busy { retry_after_ms, .. } = failure {
            Duration::from_millis(*retry_after_ms)
        } else {
            Duration::ZERO
        };
        self.losses.not_before = Some(cx.now + pause.clamp(CUT_OFF_AFTER, MAX_PAUSE));
        self.restarts += u32::from(*failure == SourceFailure::Changed);
        if self.restarts > MAX_RESTARTS {
            self.fail(cx, TaskFailure::KeepsChanging);
        }
    }

    /// Reads without a lease when nobody whom the home names deals with this node.
    ///
    /// The home goes by what they say and leases nothing. Without this, a liar that holds everything could hold up
    /// whoever caught it, and whoever is shut out by all holders, or cannot get through to them, would wait for ever.
    pub(super) fn read_if_cornered(&mut self, cx: &mut Context<'_>, peers: &[PeerRef]) {
        let is_idle = cx.now.saturating_since(self.session.last_gain) >= CORNERED_AFTER
            && self.losses.not_before.is_none_or(|at| cx.now >= at)
            && self.reads.is_empty()
            && cx.ready
            && self.may_read();
        let Some(meta) = self
            .session
            .meta
            .clone()
            .filter(|meta| is_idle && !peers.is_empty() && !meta.single)
        else {
            return;
        };
        let mut needless = self.session.have.clone();
        needless.unite(&self.session.outside);
        let first = needless.first_absent(0);
        let Some(blocks) = meta.layout.blocks().filter(|blocks| first.0 < *blocks) else {
            return;
        };
        self.watch_reach(cx, peers, &needless);
        let is_isolated = |named: &PeerRef| cx.is_isolated(&named.peer);
        let is_cornered = peers.iter().all(is_isolated);
        if !is_cornered && self.losses.cut_off.is_none_or(|until| cx.now < until) {
            return;
        }
        self.losses.alone = (self.losses.alone * 2).clamp(1, MAX_PIECES_ALONE);
        let piece = meta.layout.piece_of(first);
        let last = PieceIndex(piece.0.saturating_add(self.losses.alone - 1));
        let due = if meta.ranges {
            meta.layout.blocks_of(last).end.min(blocks)
        } else {
            blocks
        };
        let held = (first.0..due).find(|index| needless.contains(BlockIndex(*index)));
        let run = first.0..held.filter(|_| meta.ranges).unwrap_or(due);
        let lease = Lease {
            id: cx.chance.next() | 1,
            extent: Extent::Blocks { meta, run },
        };
        self.begin_read(cx, &lease, Purpose::Cornered);
    }

    /// Notes whether nobody in reach holds anything that is missing here, although the home knows holders.
    fn watch_reach(&mut self, cx: &mut Context<'_>, peers: &[PeerRef], needless: &BlockSet) {
        let session = &self.session;
        let out_of_reach =
            |named: &PeerRef| cx.is_isolated(&named.peer) || session.misses(&named.peer);
        // While somebody reads or will, what is missing may yet come from there.
        let is_cut_off = session.readers == 0
            && peers.iter().any(&out_of_reach)
            && peers
                .iter()
                .all(|named| out_of_reach(named) || session.knows(&named.peer))
            && !session.nearby(cx.now).has_beyond(needless);
        if !is_cut_off {
            self.losses.cut_off = None;
        } else if self.losses.cut_off.is_none() {
            let are_far = peers.iter().any(|named| cx.view.is_far(&named.peer));
            let patience = if are_far {
                CUT_OFF_FAR_AFTER
            } else {
                CUT_OFF_AFTER
            };
            let longer = Duration::from_millis(cx.chance.below(CUT_OFF_SPREAD_MS));
            self.losses.cut_off = Some(cx.now + patience + longer);
        }
    }
}
