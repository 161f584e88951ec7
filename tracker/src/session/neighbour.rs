//! What a session knows of one neighbour.

use std::collections::BTreeMap;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId, Zone};

use crate::blocks::BlockSet;
use crate::context::Context;
use crate::ids::{BlockIndex, VersionId};
use crate::ledger::BatchIndex;
use crate::message::DeclineReason;

/// How far the acquaintance has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acquaintance {
    /// A link is being made.
    Dialling,
    /// The link is up and our hello is out.
    Greeted,
    /// Theirs came too.
    Known,
}

/// What became of an offer of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upload {
    /// Not answered yet.
    Offered {
        /// When.
        since: Now,
        /// The block that we suggested first, and count as sent until we know better.
        suggested: Option<BlockIndex>,
    },
    /// The block is on its way.
    Sending {
        /// Which.
        block: BlockIndex,
        /// Since when.
        since: Now,
    },
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the neighbour, no state of one machine"
)]
pub(super) struct Neighbour {
    pub(super) zone: Zone,
    /// Whether it stands in another zone than this node.
    pub(super) far: bool,
    pub(super) state: Acquaintance,
    /// Blocks of our version that it holds.
    pub(super) have: BlockSet,
    /// The version that it last named.
    pub(super) version: Option<VersionId>,
    /// Whether its version is ours: only then are blocks exchanged.
    pub(super) same_version: bool,
    pub(super) wants: bool,
    /// When it began, on our clock.
    pub(super) began: Now,
    pub(super) uploads: BTreeMap<u32, Upload>,
    /// Why it had no use for an offer, and until when it is left alone without a word. It says when it has use for one.
    pub(super) declined: Option<(DeclineReason, Now)>,
    /// We declined an offer of it and owe it a word as soon as we have use for one.
    pub(super) owed_room: bool,
    /// When it was told that there is use for an offer, until it makes one.
    pub(super) called: Option<Now>,
    /// Blocks that we wait for from it.
    pub(super) inbound: u32,
    /// Batches it has, because we sent them or it sent them to us.
    pub(super) batches: std::collections::BTreeSet<BatchIndex>,
    /// How much of the session's news it has been told.
    pub(super) told: usize,
    /// Since when news is kept back from it.
    pub(super) untold_since: Option<Now>,
    pub(super) last_heard: Now,
    /// When it last told of a further block.
    pub(super) grew: Now,
    /// When it was asked for a word to show that it lives.
    pub(super) asked: Option<Now>,
    /// Silent for too long: not counted on until it speaks again.
    pub(super) silent: bool,
}

impl Neighbour {
    pub(super) fn new(cx: &Context<'_>, peer: &PeerId) -> Self {
        let now = cx.now;
        Self {
            zone: cx.view.zone_of(peer),
            far: cx.view.is_far(peer),
            state: Acquaintance::Dialling,
            have: BlockSet::new(),
            version: None,
            same_version: false,
            wants: false,
            began: now,
            uploads: BTreeMap::new(),
            declined: None,
            owed_room: false,
            called: None,
            inbound: 0,
            batches: std::collections::BTreeSet::new(),
            told: 0,
            untold_since: None,
            last_heard: now,
            grew: now,
            asked: None,
            silent: false,
        }
    }

    pub(super) fn spoke_within(&self, now: Now, time: Duration) -> bool {
        now.saturating_since(self.last_heard) < time
    }

    pub(super) fn is_partner(&self) -> bool {
        self.state == Acquaintance::Known && self.same_version && !self.silent
    }

    /// Whether an offer may be of use to it now, as far as its last answers tell.
    pub(super) fn accepts_offers(&self, now: Now) -> bool {
        self.declined.is_none_or(|(_, until)| now >= until)
    }

    /// Blocks that are on their way to it.
    pub(super) fn is_being_sent(&self, block: BlockIndex) -> bool {
        self.uploads
            .values()
            .any(|upload| matches!(upload, Upload::Sending { block: sent, .. } if *sent == block))
    }

    /// How far it is: lower is more behind. Its own start counts, so that late joiners are not preferred for ever.
    pub(super) fn lateness(&self, blocks_per_second: f64) -> f64 {
        let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
        seconds(self.began.as_micros()) + f64::from(self.have.len()) / blocks_per_second.max(0.001)
    }
}
