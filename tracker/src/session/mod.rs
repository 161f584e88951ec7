//! The swarm session of one task: neighbours, what they have, and who sends which block to whom.
//!
//! One grant per block: whoever holds blocks offers the next upload to the neighbour that is most behind; the
//! receiver answers with the block it wants, or declines. So the sender chooses whom and the receiver what, neither
//! holds more transfers than it can feed or drain, and no block is sent twice.

mod download;
mod neighbour;
mod upload;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use dfnode_gossip::{Now, PeerId};

use self::neighbour::{Acquaintance, Neighbour};
use crate::blocks::BlockSet;
use crate::context::{Context, Slots};
use crate::ids::{BlockIndex, TaskId};
use crate::ledger::{BadBatch, BatchIndex, Ledger};
use crate::message::{Batches, Have, Hello, Holds, Message, PeerRef, SignedBatch};
use crate::meta::Meta;
use crate::output::{BlameReason, Output};
use crate::wire::MAX_BATCHES;

pub use self::download::Arrival;

/// Neighbours at most, whoever began the acquaintance.
pub(crate) const MAX_NEIGHBOURS: usize = 32;
/// News of blocks wait this long for company.
const HAVE_BATCH: Duration = Duration::from_millis(5);
/// How often deadlines of transfers are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Without a byte on a wanted block for this long, it is asked of somebody else.
pub(crate) const FLOW_PATIENCE: Duration = Duration::from_millis(500);

/// The swarm of one task as one node sees it.
#[derive(Debug)]
pub(crate) struct Session {
    task: TaskId,
    pub(crate) meta: Option<Meta>,
    pub(crate) have: BlockSet,
    pub(crate) wants: bool,
    pub(crate) ledger: Ledger,
    /// Blocks that own reads of the source will bring.
    pub(crate) reading: BlockSet,
    began: Now,
    pub(crate) last_gain: Now,
    peers: BTreeMap<PeerId, Neighbour>,
    wanted: BTreeMap<BlockIndex, Vec<download::Wanted>>,
    /// How many neighbours hold each block.
    counts: Vec<u16>,
    /// Held blocks that neighbours have not been told of.
    fresh: Vec<BlockIndex>,
    flush_at: Option<Now>,
    tick_at: Option<Now>,
    next_grant: u32,
    /// How often this node sent each block: rare blocks are suggested in turn.
    sent: BTreeMap<BlockIndex, u32>,
    service: Duration,
}

impl Session {
    pub(crate) fn new(task: TaskId, now: Now) -> Self {
        Self {
            task,
            meta: None,
            have: BlockSet::new(),
            wants: false,
            ledger: Ledger::default(),
            reading: BlockSet::new(),
            began: now,
            last_gain: now,
            peers: BTreeMap::new(),
            wanted: BTreeMap::new(),
            counts: Vec::new(),
            fresh: Vec::new(),
            flush_at: None,
            tick_at: None,
            next_grant: 0,
            sent: BTreeMap::new(),
            service: Duration::from_millis(100),
        }
    }

    pub(crate) fn blocks(&self) -> Option<u32> {
        self.meta.as_ref().and_then(|meta| meta.layout.blocks())
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.blocks() == Some(self.have.len())
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

    /// Blocks that this node holds and no neighbour does.
    pub(crate) fn unspread(&self) -> u32 {
        let lonely = self
            .have
            .iter()
            .filter(|block| self.count(*block) == 0)
            .count();
        u32::try_from(lonely).unwrap_or(u32::MAX)
    }

    fn count(&self, block: BlockIndex) -> u16 {
        self.counts.get(block.0 as usize).copied().unwrap_or(0)
    }

    /// A local caller wants the task from now on.
    pub(crate) fn want(&mut self, now: Now) {
        if !self.wants {
            self.wants = true;
            self.began = now;
            self.last_gain = now;
        }
    }

    /// Nobody here wants the task any more; what is held is still served.
    pub(crate) fn unwant(&mut self, cx: &mut Context<'_>) {
        self.wants = false;
        self.release_all_wanted(cx);
        self.flush(cx);
        self.tell_all(cx, &[], None);
    }

    /// The version is known now (or its length is).
    pub(crate) fn set_meta(&mut self, cx: &mut Context<'_>, meta: Meta) {
        let known = self.meta.as_ref().map(|old| old.version);
        if known == Some(meta.version) {
            self.learn_length(cx, meta.layout.length());
            return;
        }
        self.meta = Some(meta);
        for peer in self.peers.values_mut() {
            peer.same_version = false;
        }
        let greeted: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.state != Acquaintance::Dialling)
            .map(|(id, _)| *id)
            .collect();
        for peer in greeted {
            self.greet(cx, peer);
        }
        self.arm_tick(cx.now);
    }

    /// A stream's end told its length.
    pub(crate) fn learn_length(&mut self, cx: &mut Context<'_>, length: Option<u64>) -> bool {
        let (Some(meta), Some(length)) = (&mut self.meta, length) else {
            return false;
        };
        if meta.layout.length().is_some() {
            return false;
        }
        meta.layout = meta.layout.ended_at(length);
        self.tell_all(cx, &[], Some(length));
        true
    }

    /// Tells neighbours that this node wants blocks now.
    pub(crate) fn tell_wants(&mut self, cx: &mut Context<'_>) {
        let Some(version) = self.meta.as_ref().map(|meta| meta.version) else {
            return;
        };
        for (peer, known) in &self.peers {
            if known.same_version {
                let have = Have {
                    task: self.task,
                    version,
                    runs: Vec::new(),
                    length: None,
                    wants: self.wants,
                };
                cx.send(*peer, Message::Have(have));
            }
        }
    }

    /// The source has another version: everything of the old one is void.
    pub(crate) fn restart(&mut self, cx: &mut Context<'_>) {
        self.release_all_wanted(cx);
        self.cancel_all_uploads(cx);
        self.meta = None;
        self.have = BlockSet::new();
        self.reading = BlockSet::new();
        self.ledger = Ledger::default();
        self.counts.clear();
        self.fresh.clear();
        self.sent.clear();
        self.last_gain = cx.now;
        for peer in self.peers.values_mut() {
            peer.have = BlockSet::new();
            peer.same_version = false;
            peer.batches.clear();
            peer.declined = None;
        }
    }

    /// Gets acquainted with peers that a home or gossip named.
    pub(crate) fn meet(&mut self, cx: &mut Context<'_>, peers: &[PeerRef]) {
        for named in peers {
            let known = self.peers.contains_key(&named.peer);
            if known
                || named.peer == cx.view.me()
                || cx.is_isolated(&named.peer)
                || self.peers.len() >= MAX_NEIGHBOURS
            {
                continue;
            }
            self.peers
                .insert(named.peer, Neighbour::new(cx.now, Acquaintance::Dialling));
            if cx.links.contains(&named.peer) {
                self.greet(cx, named.peer);
            } else {
                cx.out.push_back(Output::Connect {
                    peer: named.clone(),
                });
            }
        }
        self.arm_tick(cx.now);
    }

    pub(crate) fn link_up(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        if self
            .peers
            .get(&peer)
            .is_some_and(|known| known.state == Acquaintance::Dialling)
        {
            self.greet(cx, peer);
        }
    }

    /// The link to a neighbour is gone, or it left the session, or it is isolated.
    pub(crate) fn lose(&mut self, cx: &mut Context<'_>, peer: &PeerId) {
        let Some(lost) = self.peers.remove(peer) else {
            return;
        };
        self.uncount(&lost.have);
        cx.slots.free_uploads(lost.uploads.len());
        for upload in lost.uploads.values() {
            if let neighbour::Upload::Sending { block, .. } = upload {
                cx.out.push_back(Output::StopSend {
                    to: *peer,
                    task: self.task,
                    block: *block,
                });
            }
        }
        self.release_wanted_of(cx, peer);
        self.offer(cx);
    }

    fn greet(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if known.state == Acquaintance::Dialling {
            known.state = Acquaintance::Greeted;
        }
        let blocks = self.meta.as_ref().and_then(|meta| meta.layout.blocks());
        // What is held but not signed yet is told when it can be verified.
        let told: BlockSet = self
            .have
            .iter()
            .filter(|block| self.ledger.knows(*block))
            .collect();
        let hello = Hello {
            task: self.task,
            meta: self.meta.clone(),
            holds: if cx.view.leech() {
                Holds::Nothing
            } else {
                Holds::pack(&told, blocks)
            },
            wants: self.wants,
            age_ms: u64::try_from(cx.now.saturating_since(self.began).as_millis())
                .unwrap_or(u64::MAX),
        };
        let batches: Vec<BatchIndex> = told
            .iter()
            .filter_map(|block| self.ledger.batch_of(block))
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        cx.send(peer, Message::Hello(hello));
        if !cx.view.leech() {
            self.send_batches(cx, peer, &batches);
        }
    }

    /// Sends those of `batches` that the neighbour has not got from or given to us.
    fn send_batches(&mut self, cx: &mut Context<'_>, peer: PeerId, batches: &[BatchIndex]) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        let mut unsent = Vec::new();
        for index in batches {
            if known.batches.insert(*index) {
                unsent.extend(self.ledger.batch(*index).cloned());
            }
        }
        for batches in unsent.chunks(MAX_BATCHES) {
            cx.send(
                peer,
                Message::Batches(Batches {
                    task: self.task,
                    batches: batches.to_vec(),
                }),
            );
        }
    }

    /// A neighbour says who it is. `false` if there is no place for it.
    pub(crate) fn handle_hello(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        hello: &Hello,
    ) -> bool {
        if !self.peers.contains_key(&from)
            && self.peers.len() >= MAX_NEIGHBOURS
            && !self.make_place(cx)
        {
            return false;
        }
        let now = cx.now;
        let known = self
            .peers
            .entry(from)
            .or_insert_with(|| Neighbour::new(now, Acquaintance::Dialling));
        let greeted = known.state != Acquaintance::Dialling;
        let theirs = hello.meta.as_ref().map(|meta| meta.version);
        let changed = std::mem::replace(&mut known.version, theirs) != theirs;
        let old = std::mem::take(&mut known.have);
        let version = self.meta.as_ref().map(|meta| meta.version);
        if changed && greeted && theirs == version {
            // What it was told before it had this version it could not use: tell it all again.
            known.batches.clear();
        }
        self.uncount(&old);
        if !greeted || (changed && theirs == version && theirs.is_some()) {
            self.greet(cx, from);
        }
        let same = version.is_some() && theirs == version;
        if let (true, Some(theirs)) = (same, &hello.meta) {
            self.learn_length(cx, theirs.layout.length());
        }
        let blocks = self.blocks();
        let Some(known) = self.peers.get_mut(&from) else {
            return false;
        };
        known.state = Acquaintance::Known;
        known.same_version = same;
        known.wants = hello.wants;
        known.last_heard = now;
        known.silent = false;
        known.declined = None;
        known.began = Now::from_micros(
            now.as_micros()
                .saturating_sub(hello.age_ms.saturating_mul(1000)),
        );
        if same && let Some(have) = hello.holds.unpack(blocks) {
            self.set_have(from, have);
        }
        self.arm_tick(now);
        self.offer(cx);
        true
    }

    /// Lets a neighbour go that neither gives nor takes. `false` if each does.
    fn make_place(&mut self, cx: &mut Context<'_>) -> bool {
        let idle = self
            .peers
            .iter()
            .find(|(_, peer)| !peer.wants && (!self.wants || !peer.have.has_beyond(&self.have)))
            .map(|(id, _)| *id);
        let Some(idle) = idle else { return false };
        cx.send(idle, Message::Bye(self.task));
        self.lose(cx, &idle);
        true
    }

    fn set_have(&mut self, from: PeerId, have: BlockSet) {
        for block in have.iter() {
            self.count_up(block);
        }
        if let Some(known) = self.peers.get_mut(&from) {
            known.have = have;
        }
    }

    fn count_up(&mut self, block: BlockIndex) {
        let index = block.0 as usize;
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] = self.counts[index].saturating_add(1);
    }

    fn uncount(&mut self, have: &BlockSet) {
        for BlockIndex(index) in have.iter() {
            if let Some(count) = self.counts.get_mut(index as usize) {
                *count = count.saturating_sub(1);
            }
        }
    }

    pub(crate) fn handle_batches(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        batches: Vec<SignedBatch>,
    ) -> Result<(), BadBatch> {
        let Some(version) = self.meta.as_ref().map(|meta| meta.version) else {
            return Ok(());
        };
        let blocks = self.blocks();
        for batch in batches {
            if batch.version != version || cx.signs_falsely(&batch.signer) {
                continue;
            }
            let signer = batch.signer;
            match self.ledger.add(&version, blocks, batch) {
                Ok(None) => {}
                Ok(Some(index)) => {
                    if let Some(known) = self.peers.get_mut(&from) {
                        known.batches.insert(index);
                    }
                    if let Some(batch) = self.ledger.batch(index) {
                        cx.out.push_back(Output::KeepBatch {
                            task: self.task,
                            batch: batch.clone(),
                        });
                    }
                }
                Err(BadBatch::Contradiction) => cx.blame(signer, BlameReason::FalseDigest),
                Err(bad @ (BadBatch::Misplaced | BadBatch::Signature)) => return Err(bad),
            }
        }
        Ok(())
    }

    /// A neighbour got further blocks. `false` if it names blocks that cannot be.
    pub(crate) fn handle_have(&mut self, cx: &mut Context<'_>, from: PeerId, have: &Have) -> bool {
        if self.meta.as_ref().map(|meta| meta.version) != Some(have.version) {
            return true;
        }
        self.learn_length(cx, have.length);
        let Some(blocks) = BlockSet::from_runs(
            &have.runs,
            self.blocks().unwrap_or(crate::layout::MAX_BLOCKS),
        ) else {
            return have.runs.is_empty();
        };
        let Some(known) = self.peers.get_mut(&from) else {
            return true;
        };
        known.wants = have.wants;
        let news: Vec<BlockIndex> = blocks
            .iter()
            .filter(|block| known.have.insert(*block))
            .collect();
        for block in news {
            self.count_up(block);
        }
        if !have.wants {
            self.end_uploads_to(cx, from);
        }
        self.offer(cx);
        true
    }

    /// Anything from a neighbour shows that it lives.
    pub(crate) fn heard(&mut self, now: Now, from: &PeerId) {
        if let Some(known) = self.peers.get_mut(from) {
            known.last_heard = now;
            known.silent = false;
        }
    }

    /// A block is here and verified. Neighbours are told once its digest is signed.
    pub(crate) fn gain(&mut self, cx: &mut Context<'_>, block: BlockIndex) {
        if !self.have.insert(block) {
            return;
        }
        self.last_gain = cx.now;
        if self.ledger.knows(block) {
            self.announce(cx, block);
        }
    }

    /// Puts a held block whose digest is signed on the next news.
    pub(crate) fn announce(&mut self, cx: &mut Context<'_>, block: BlockIndex) {
        self.fresh.push(block);
        if self.is_complete() && self.wants {
            self.wants = false;
            self.flush(cx);
        } else if self.fresh.len() == 1 {
            // With few blocks in all, each is news enough to be told at once.
            let wait = if self.blocks().is_some_and(|blocks| blocks <= 16) {
                Duration::ZERO
            } else {
                HAVE_BATCH
            };
            self.flush_at = Some(cx.now + wait);
        }
    }

    /// Tells all neighbours of the fresh blocks, digests first.
    fn flush(&mut self, cx: &mut Context<'_>) {
        self.flush_at = None;
        if self.fresh.is_empty() {
            return;
        }
        let fresh: BlockSet = std::mem::take(&mut self.fresh).into_iter().collect();
        if cx.view.leech() {
            return self.tell_all(cx, &[], None);
        }
        let batches: std::collections::BTreeSet<BatchIndex> = fresh
            .iter()
            .filter_map(|block| self.ledger.batch_of(block))
            .collect();
        let batches: Vec<BatchIndex> = batches.into_iter().collect();
        let partners: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.same_version)
            .map(|(id, _)| *id)
            .collect();
        for peer in partners {
            if self.peers.get(&peer).is_some_and(|known| known.wants) {
                self.send_batches(cx, peer, &batches);
            }
        }
        self.tell_all(cx, &fresh.runs(), None);
        self.offer(cx);
    }

    fn tell_all(&mut self, cx: &mut Context<'_>, runs: &[Range<u32>], length: Option<u64>) {
        let Some(version) = self.meta.as_ref().map(|meta| meta.version) else {
            return;
        };
        for (peer, known) in &self.peers {
            // A neighbour that wants nothing more has no use for our news, but for the end of our own wanting.
            if known.same_version && (known.wants || length.is_some() || !self.wants) {
                let runs = if known.wants {
                    runs.to_vec()
                } else {
                    Vec::new()
                };
                cx.send(
                    *peer,
                    Message::Have(Have {
                        task: self.task,
                        version,
                        runs,
                        length,
                        wants: self.wants,
                    }),
                );
            }
        }
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
            self.end_silent_uploads(cx);
            self.end_silent_wants(cx);
            self.offer(cx);
            let busy = self.wants
                || self
                    .peers
                    .values()
                    .any(|peer| peer.wants || !peer.uploads.is_empty());
            if busy && !self.peers.is_empty() {
                self.arm_tick(cx.now);
            }
        }
    }

    fn slots<'a>(cx: &'a Context<'_>) -> &'a Slots {
        cx.slots
    }
}
