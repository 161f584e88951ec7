//! One host of the world: the machines of a node, and what stands for its store and its reads.

use std::collections::{BTreeMap, BTreeSet};

use dfnode_gossip::{Gossip, Member, Now, PeerId};
use dfnode_tracker::{BlockIndex, LocalTracker, Origin};
use ed25519_dalek::SigningKey;

use crate::links::FlowId;

/// A read of the source under way.
#[derive(Debug)]
pub(crate) struct SourceRead {
    pub(crate) next: u32,
    pub(crate) end: u32,
    pub(crate) flow: Option<FlowId>,
}

pub(crate) struct SimNode {
    pub(crate) member: Member,
    pub(crate) key: SigningKey,
    pub(crate) tracker: LocalTracker,
    pub(crate) gossip: Option<Gossip>,
    pub(crate) alive: bool,
    pub(crate) liar: bool,
    pub(crate) started: Option<u64>,
    pub(crate) finished: Option<u64>,
    pub(crate) reads: BTreeMap<u64, SourceRead>,
    pub(crate) sending: BTreeMap<(PeerId, BlockIndex), FlowId>,
    /// Blocks whose bytes wait for the machine's verdict, and whether they are the source's.
    pub(crate) parked: BTreeMap<(BlockIndex, Origin), bool>,
    pub(crate) wrong: BTreeSet<BlockIndex>,
    pub(crate) links: BTreeSet<PeerId>,
    pub(crate) dialling: BTreeSet<PeerId>,
    pub(crate) timer: Option<u64>,
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
}
