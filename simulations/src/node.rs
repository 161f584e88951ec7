//! One host of the world: the machines of a node, and what stands for its store and its reads.

use std::collections::{BTreeMap, BTreeSet};

use dfnode_gossip::{Gossip, Member, Now, PeerId};
use dfnode_tracker::{BlockIndex, LocalTracker, Origin};
use ed25519_dalek::SigningKey;

use crate::links::FlowId;

/// Stands for the bytes of a block: which content of the source they are from, and whether a liar altered them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) revision: u64,
    pub(crate) genuine: bool,
}

/// A read of the source under way.
#[derive(Debug)]
pub(crate) struct SourceRead {
    /// The block that comes next.
    pub(crate) next: u32,
    /// The first block that is wanted: a source without ranges sends those before it too.
    pub(crate) from: u32,
    pub(crate) end: u32,
    /// The content that the answer is from.
    pub(crate) revision: u64,
    pub(crate) flow: Option<FlowId>,
}

/// How a node's wish for the file ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Complete { at: u64 },
    Failed { at: u64, why: String },
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct SimNode {
    pub(crate) member: Member,
    pub(crate) key: SigningKey,
    pub(crate) tracker: LocalTracker,
    pub(crate) gossip: Option<Gossip>,
    pub(crate) alive: bool,
    pub(crate) liar: bool,
    /// Whether anybody has isolated it.
    pub(crate) isolated: bool,
    pub(crate) slow: bool,
    pub(crate) started: Option<u64>,
    pub(crate) end: Option<End>,
    pub(crate) reads: BTreeMap<u64, SourceRead>,
    pub(crate) sending: BTreeMap<(PeerId, BlockIndex), FlowId>,
    /// Blocks that are arriving: their senders, by flow.
    pub(crate) receiving: BTreeMap<FlowId, (PeerId, BlockIndex)>,
    /// Blocks whose bytes wait for the machine's verdict.
    pub(crate) parked: BTreeMap<(BlockIndex, Origin), Bytes>,
    /// Blocks that the machine took for good.
    pub(crate) kept: BTreeMap<BlockIndex, Bytes>,
    pub(crate) links: BTreeSet<PeerId>,
    pub(crate) dialling: BTreeSet<PeerId>,
    pub(crate) timer: Option<u64>,
    pub(crate) source_bytes: u64,
    pub(crate) control_bytes: u64,
    pub(crate) gossip_bytes: u64,
}

impl SimNode {
    /// The earliest deadline of its machines.
    pub(crate) fn deadline(&self) -> Option<Now> {
        let gossip = self.gossip.as_ref().and_then(Gossip::poll_timeout);
        [self.tracker.poll_timeout(), gossip]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether somebody still waits for the end of this node's wish.
    pub(crate) const fn is_waited_for(&self) -> bool {
        self.alive && self.end.is_none()
    }
}
