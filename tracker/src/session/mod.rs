//! The swarm session of one task: neighbours, what they have, and who sends which block to whom.
//!
//! One grant per block: whoever holds blocks offers the next upload to the neighbour that is most behind; the
//! receiver answers with the block it wants, or declines. So the sender chooses whom and the receiver what, neither
//! holds more transfers than it can feed or drain, and no block is sent twice.

mod acquaintance;
mod border;
mod calls;
mod counts;
mod digests;
mod download;
mod neighbour;
mod news;
mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::ops::Range;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use self::border::Inlet;
use self::counts::Counts;
use self::download::front_due;
use self::neighbour::{Acquaintance, Neighbour};
use crate::blocks::BlockSet;
use crate::context::Context;
use crate::ids::{BlockIndex, TaskId};
use crate::ledger::Ledger;
use crate::message::{AskDigests, Message, SignedBatch};
use crate::meta::Meta;
use crate::scope::{Part, Scope};

pub use self::download::Arrival;

/// Neighbours at most, whoever began the acquaintance.
pub(crate) const MAX_NEIGHBOURS: usize = 32;
/// With fewer neighbours left than this, others are asked for.
const ENOUGH_NEIGHBOURS: usize = 12;
/// How often deadlines of transfers are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Without a byte on a wanted block for this long, it is asked of somebody else.
pub(crate) const FLOW_PATIENCE: Duration = Duration::from_millis(500);

/// Uploads, and downloads, of one task at once with few neighbours whose answers come at once: each block then takes
/// less time on its way, which is what a small swarm waits for.
const FEW_TRANSFERS: usize = 4;
/// One more for each such time that an offer waits for its answer: the link must not wait with it.
const ANSWER_STEP: Duration = Duration::from_millis(1);
/// Whoever is slower than this share of the fastest is behind, …
const BEHIND: f64 = 0.9;
/// … and with so many partners, which have many others, makes as many transfers as its host has slots.
const MANY_PARTNERS: usize = 8;
/// How long an offer is taken to wait before the first was answered.
const FIRST_ANSWER: Duration = Duration::from_millis(4);

/// A neighbour that wants blocks and is not heard of for this long may be dead.
const QUIET: Duration = Duration::from_secs(1);
/// How long a neighbour may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// The swarm of one task as one node sees it.
#[derive(Debug)]
pub(crate) struct Session {
    task: TaskId,
    pub(crate) meta: Option<Meta>,
    pub(crate) have: BlockSet,
    pub(crate) wants: bool,
    pub(crate) scope: Scope,
    /// The blocks that local callers do not want.
    pub(crate) outside: BlockSet,
    pub(crate) ledger: Ledger,
    /// Blocks that own reads of the source will bring.
    pub(crate) reading: BlockSet,
    /// Leases on the source that are out, as the home last said.
    pub(crate) readers: u32,
    began: Now,
    pub(crate) last_gain: Now,
    peers: BTreeMap<PeerId, Neighbour>,
    /// How many partners there were at most since somebody of them or this node began to want blocks.
    partners: usize,
    /// The best rate of a neighbour or this node when partners were last counted, in blocks a second.
    fastest: f64,
    /// And this node's own.
    rate: f64,
    /// Whom the last dial did not reach.
    unreached: BTreeSet<PeerId>,
    wanted: BTreeMap<BlockIndex, Vec<download::Wanted>>,
    /// The keys of `wanted`.
    out: BlockSet,
    /// The first wanted block that is missing, and when it is late.
    front: (BlockIndex, Now),
    counts: Counts,
    /// Digests that neighbours were asked for.
    asked: digests::Asked,
    /// Held blocks in the order in which they came, from the first that some neighbour has not been told of.
    news: Vec<BlockIndex>,
    flush_at: Option<Now>,
    tick_at: Option<Now>,
    next_grant: u32,
    /// How often this node sent each block: rare blocks are suggested in turn.
    sent: BTreeMap<BlockIndex, u32>,
    service: Duration,
    /// How long offers wait for their answers.
    answer: Duration,
    /// Whether this node has signed digests of this version.
    signs: bool,
    /// Whether neighbours were lost or fell silent since there were last enough of them.
    short: bool,
    inlet: Inlet,
}

impl Session {
    pub(crate) fn new(task: TaskId, now: Now) -> Self {
        Self {
            task,
            meta: None,
            have: BlockSet::new(),
            wants: false,
            scope: Scope::Whole,
            outside: BlockSet::new(),
            ledger: Ledger::default(),
            reading: BlockSet::new(),
            readers: 0,
            began: now,
            last_gain: now,
            peers: BTreeMap::new(),
            partners: 0,
            fastest: 1.0,
            rate: 1.0,
            unreached: BTreeSet::new(),
            wanted: BTreeMap::new(),
            out: BlockSet::new(),
            front: (BlockIndex(0), now),
            counts: Counts::default(),
            asked: digests::Asked::default(),
            news: Vec::new(),
            flush_at: None,
            tick_at: None,
            next_grant: 0,
            sent: BTreeMap::new(),
            service: Duration::from_millis(100),
            answer: FIRST_ANSWER,
            signs: false,
            short: false,
            inlet: Inlet::new(now),
        }
    }

    pub(crate) fn blocks(&self) -> Option<u32> {
        self.meta.as_ref().and_then(|meta| meta.layout.blocks())
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.blocks() == Some(self.have.len())
    }

    /// Whether callers want a part alone, and every block that it touches is here.
    pub(crate) fn has_its_part(&self) -> bool {
        !self.outside.is_empty()
            && self.blocks().is_some_and(|blocks| {
                let all = BlockSet::all(blocks);
                all.sieve([], [&self.have, &self.outside]).next().is_none()
            })
    }

    pub(crate) fn neighbours(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.peers
            .iter()
            .filter(|(_, peer)| peer.is_partner())
            .map(|(id, _)| *id)
    }

    pub(crate) fn neighbour_count(&self) -> usize {
        self.peers.len()
    }

    /// What the neighbours hold. One that wants blocks speaks all the time: if it does not, it may be dead. One that
    /// wants none is asked.
    pub(crate) fn nearby(&self, now: Now) -> BlockSet {
        self.held_by(|peer| !peer.wants || peer.spoke_within(now, QUIET))
    }

    /// What neighbours hold that spoke a moment ago.
    pub(crate) fn nearby_for_sure(&self, now: Now) -> BlockSet {
        self.held_by(|peer| peer.spoke_within(now, PATIENCE))
    }

    fn held_by(&self, counts: impl Fn(&Neighbour) -> bool) -> BlockSet {
        let mut held = BlockSet::new();
        let peers = self.peers.values();
        for peer in peers.filter(|peer| peer.is_partner() && counts(peer)) {
            held.unite(&peer.have);
        }
        held
    }

    /// Asks neighbours that want nothing and say nothing, and alone hold what is missing here, for a word. Without one
    /// they are not counted on.
    fn ask_silent(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        let is_quiet =
            |peer: &Neighbour| peer.is_partner() && !peer.wants && !peer.spoke_within(now, QUIET);
        let Some(version) = self.meta.as_ref().map(|meta| meta.version) else {
            return;
        };
        if !self.wants || !self.peers.values().any(is_quiet) {
            return;
        }
        let near = self.held_by(|peer| peer.spoke_within(now, QUIET));
        let needless = [&near, &self.have, &self.reading, &self.outside];
        for (id, peer) in self.peers.iter_mut().filter(|(_, peer)| is_quiet(peer)) {
            match peer.asked {
                Some(at) if now.saturating_since(at) >= PATIENCE => {
                    peer.silent = true;
                    self.short = true;
                }
                Some(_) => {}
                None => {
                    let Some(BlockIndex(first)) = peer.have.sieve([], needless).next() else {
                        continue;
                    };
                    peer.asked = Some(now);
                    let ask = AskDigests {
                        task: self.task,
                        version,
                        runs: iter::once(first..first + 1).collect(),
                    };
                    cx.send(*id, Message::AskDigests(ask));
                }
            }
        }
    }

    /// Whether neighbours went and few are left, so that the home should name others. Not all whom it names may live,
    /// so this holds until there are enough.
    pub(crate) fn is_short(&mut self) -> bool {
        self.short &= self.neighbours().count() < ENOUGH_NEIGHBOURS;
        self.short && self.wants
    }

    /// Blocks that neither this node nor any neighbour has, although the source's last block has been read.
    ///
    /// Fresh blocks spread in a second or two: what is missing for longer died with its only holders.
    pub(crate) fn holes(&self, now: Now) -> BlockSet {
        let Some(blocks) = self.blocks().filter(|blocks| *blocks > 0 && self.wants) else {
            return BlockSet::new();
        };
        let mut near = self.nearby(now);
        near.unite(&self.have);
        if !near.contains(BlockIndex(blocks - 1)) {
            return BlockSet::new();
        }
        BlockSet::all(blocks)
            .sieve([], [&near, &self.reading, &self.outside])
            .collect()
    }

    /// Blocks that this node holds and no neighbour does.
    pub(crate) fn unspread(&self) -> u32 {
        let lonely = self
            .have
            .iter()
            .filter(|block| self.counts.of(*block) == 0)
            .count();
        u32::try_from(lonely).unwrap_or(u32::MAX)
    }

    /// Up to where the blocks of a run have left this node, as far as they are here; all have if there is nobody to
    /// take them.
    pub(crate) fn spread_to(&self, run: Range<u32>) -> u32 {
        if self.neighbours().next().is_none() {
            return run.end;
        }
        let is_lonely = |index: &u32| {
            let block = BlockIndex(*index);
            self.counts.of(block) == 0 && self.have.contains(block)
        };
        let mut blocks = run.clone();
        blocks.find(is_lonely).unwrap_or(run.end)
    }

    /// A local caller wants a part of the task, or with `None` the whole; the first forgets what others once wanted.
    pub(crate) fn want_part(&mut self, part: Option<Part>, is_first: bool) {
        if is_first {
            self.scope = Scope::Parts(Vec::new());
        }
        self.scope.add(part);
        self.bound();
    }

    /// Finds out which blocks are outside of what callers want, as far as the length is known.
    fn bound(&mut self) {
        let meta = self.meta.as_ref();
        self.outside = meta.map_or_else(BlockSet::new, |meta| self.scope.outside(&meta.layout));
        self.front.0 = self.first_missing(BlockIndex(0));
    }

    /// A block is here no more. Whether it was.
    pub(crate) fn lose_block(&mut self, block: BlockIndex) -> bool {
        self.front.0 = self.front.0.min(block);
        self.have.remove(block)
    }

    /// A local caller wants the task from now on.
    pub(crate) fn want(&mut self, cx: &mut Context<'_>) {
        if !self.wants {
            self.wants = true;
            self.began = cx.now;
            self.last_gain = cx.now;
            self.partners = 0;
            self.survey(cx.now);
            self.unreached.clear();
            self.front.1 = front_due(cx);
            // What neighbours told while nothing was wanted was not asked about.
            self.ask_digests_at(cx.now);
            if !self.is_complete() {
                // Neighbours from the time of an earlier caller offer nothing to one that wants nothing.
                self.tell_all(cx, None);
            }
            self.make_room(cx);
        }
    }

    /// Nobody here wants the task any more; what is held is still served.
    pub(crate) fn unwant(&mut self, cx: &mut Context<'_>) {
        self.wants = false;
        self.release_all_wanted(cx);
        self.tell_all(cx, None);
    }

    /// A batch that this node signed, or had signed before it was started.
    pub(crate) fn enter_own(&mut self, batch: SignedBatch) {
        self.signs = true;
        self.ledger.enter(batch);
    }

    /// The version is known now (or its length is).
    pub(crate) fn set_meta(&mut self, cx: &mut Context<'_>, meta: Meta) {
        let known = self.meta.as_ref().map(|old| old.version);
        if known == Some(meta.version) {
            self.hear_length(cx, meta.layout.length());
            return;
        }
        self.meta = Some(meta);
        self.bound();
        for peer in self.peers.values_mut() {
            peer.same_version = false;
        }
        self.greet_again(cx);
        self.arm_tick(cx.now);
    }

    /// Tells all whom this node greeted what it holds now, in place of what it said before.
    pub(crate) fn greet_again(&mut self, cx: &mut Context<'_>) {
        for peer in self.greeted() {
            self.greet(cx, peer);
        }
    }

    /// All whom this node has told who it is.
    pub(crate) fn greeted(&self) -> Vec<PeerId> {
        self.peers
            .iter()
            .filter(|(_, peer)| peer.state != Acquaintance::Dialling)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Somebody tells the length of a stream: what lies here or was signed beyond it makes it none.
    pub(crate) fn hear_length(&mut self, cx: &mut Context<'_>, length: Option<u64>) {
        if length.is_some_and(|bytes| !self.goes_beyond(bytes)) {
            self.learn_length(cx, length);
        }
    }

    /// Whether anything of a stream lies here or was signed beyond so many bytes.
    pub(crate) fn goes_beyond(&self, bytes: u64) -> bool {
        let Some(meta) = self
            .meta
            .as_ref()
            .filter(|meta| meta.layout.length().is_none())
        else {
            return false;
        };
        let ended = meta.layout.ended_at(bytes);
        if !ended.is_sound() {
            return false;
        }
        let within = BlockSet::all(ended.blocks().unwrap_or(0));
        self.have.has_beyond(&within) || self.ledger.known().has_beyond(&within)
    }

    /// A stream's end told its length: one that the cut cannot have is none.
    pub(crate) fn learn_length(&mut self, cx: &mut Context<'_>, length: Option<u64>) -> bool {
        let (Some(meta), Some(length)) = (&mut self.meta, length) else {
            return false;
        };
        if meta.layout.length().is_some() {
            return false;
        }
        let ended = meta.layout.ended_at(length);
        if !ended.is_sound() {
            return false;
        }
        meta.layout = ended;
        self.bound();
        self.tell_all(cx, Some(length));
        true
    }

    /// The source has another version: everything of the old one is void.
    pub(crate) fn restart(&mut self, cx: &mut Context<'_>) {
        self.release_all_wanted(cx);
        self.cancel_all_uploads(cx);
        self.meta = None;
        self.have = BlockSet::new();
        self.front = (BlockIndex(0), front_due(cx));
        self.reading = BlockSet::new();
        self.ledger = Ledger::default();
        self.counts = Counts::default();
        self.asked = digests::Asked::default();
        self.news.clear();
        self.sent.clear();
        self.forget_across();
        self.last_gain = cx.now;
        for peer in self.peers.values_mut() {
            peer.have = BlockSet::new();
            peer.same_version = false;
            peer.batches.clear();
            peer.told = 0;
            peer.untold_since = None;
            peer.declined = None;
        }
    }

    /// Anything from a neighbour shows that it lives.
    pub(crate) fn heard(&mut self, now: Now, from: &PeerId) {
        if let Some(known) = self.peers.get_mut(from) {
            known.last_heard = now;
            known.asked = None;
            known.silent = false;
        }
    }

    /// Uploads, and downloads, of this task at once. With many neighbours more transfers find each other.
    ///
    /// Who lost neighbours has no fewer: those who are left share their links among as many as before, so that of few
    /// transfers too little would come. Nor has who fell behind, for the same reason: a host that came last to a great
    /// crowd has the eight neighbours that it was named, and nobody is named it.
    fn width(&self) -> usize {
        let waiting = self.answer.as_micros() / ANSWER_STEP.as_micros();
        let few = FEW_TRANSFERS.saturating_add(usize::try_from(waiting).unwrap_or(usize::MAX));
        let is_behind = self.wants && self.rate < BEHIND * self.fastest;
        if is_behind && self.partners >= MANY_PARTNERS {
            return usize::MAX;
        }
        few.max(self.partners * 2 / 3)
    }

    fn arm_tick(&mut self, now: Now) {
        if self.tick_at.is_none() {
            self.tick_at = Some(now + TICK);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        [self.flush_at, self.tick_at].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        if self.flush_at.is_some_and(|at| cx.now >= at) {
            self.flush(cx);
        }
        if self.tick_at.is_some_and(|at| cx.now >= at) {
            self.tick_at = None;
            self.survey(cx.now);
            self.end_silent_uploads(cx);
            self.end_silent_wants(cx);
            self.look_across(cx.now);
            self.ask_digests_again(cx);
            self.ask_silent(cx);
            self.offer(cx);
            let busy = self.wants
                || self
                    .peers
                    .values()
                    .any(|peer| peer.wants || !peer.uploads.is_empty());
            if busy && !self.peers.is_empty() {
                self.arm_tick(cx.now);
            } else {
                self.partners = 0;
            }
        }
    }
}
