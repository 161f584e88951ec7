//! What every part of the tracker shares while one input is handled.

use std::collections::{BTreeMap, VecDeque};

use dfnode_gossip::{Now, PeerId};

use crate::ids::TaskId;
use crate::local::Verify;
use crate::message::Message;
use crate::output::{BlameReason, Output};
use crate::slots::Slots;
use crate::view::View;

/// Chance from a seed: equal seed, equal run.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, by `SplitMix64`: uniform, fast, and good enough to break ties with.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, or 0 when `end` is 0.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        let number = self.next();
        if end == 0 { 0 } else { number % end }
    }

    /// One of several, each alike.
    pub(crate) fn choose<T: Copy>(&mut self, among: &[T]) -> Option<T> {
        among.get(self.place(among)?).copied()
    }

    /// Where one of several stands, each alike.
    pub(crate) fn place<T>(&mut self, among: &[T]) -> Option<usize> {
        let at = usize::try_from(self.below(among.len() as u64)).ok()?;
        (at < among.len()).then_some(at)
    }
}

/// The surroundings of one input: the time, who is there, and where effects go.
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) view: &'a View,
    /// Open links, and when bytes of a block last came over each: those of all tasks stand in one line.
    pub(crate) links: &'a BTreeMap<PeerId, Now>,
    pub(crate) isolated: &'a BTreeMap<PeerId, BlameReason>,
    /// Whether this node knows the cluster well enough to act as a home or to read a source.
    pub(crate) ready: bool,
    pub(crate) verify: Verify,
    pub(crate) slots: &'a mut Slots,
    pub(crate) chance: &'a mut Chance,
    pub(crate) out: &'a mut VecDeque<Output>,
    /// What this node says to itself: it may be the home of its own task.
    pub(crate) to_self: &'a mut VecDeque<Message>,
    /// Peers to isolate once the input is handled.
    pub(crate) blamed: &'a mut Vec<(PeerId, BlameReason)>,
}

impl Context<'_> {
    pub(crate) fn send(&mut self, to: PeerId, message: Message) {
        if to == self.view.me() {
            self.to_self.push_back(message);
        } else if !self.isolated.contains_key(&to) {
            self.out.push_back(Output::Send { to, message });
        }
    }

    /// The homes of a task, best first, among those whom this node has not isolated: see [`View::homes`].
    pub(crate) fn homes(&self, task: &TaskId) -> Vec<PeerId> {
        self.view.homes(task, |peer| self.is_isolated(peer))
    }

    pub(crate) fn is_isolated(&self, peer: &PeerId) -> bool {
        self.isolated.contains_key(peer)
    }

    /// Whether a peer was found to sign digests that the source does not have.
    pub(crate) fn signs_falsely(&self, peer: &PeerId) -> bool {
        self.isolated.get(peer) == Some(&BlameReason::FalseDigest)
    }

    pub(crate) fn blame(&mut self, peer: PeerId, reason: BlameReason) {
        self.blamed.push((peer, reason));
    }
}
