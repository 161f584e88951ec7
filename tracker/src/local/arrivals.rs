//! What the owner reports of sources, blocks and signatures.

use dfnode_gossip::{Now, PeerId};

use super::LocalTracker;
use super::context;
use crate::ids::{BlockDigest, BlockIndex, TaskId};
use crate::message::SignedBatch;
use crate::meta::{SourceFailure, SourceHead};
use crate::output::{Output, ReadPlan};
use crate::reads::Unsigned;

impl LocalTracker {
    /// The head of the source's answer. `None` tells the reader to stop.
    pub fn handle_source_head(
        &mut self,
        now: Now,
        id: &TaskId,
        lease: u64,
        head: &SourceHead,
    ) -> Option<ReadPlan> {
        let mut cx = context!(self, now);
        let plan = self
            .tasks
            .get_mut(id)
            .and_then(|task| task.handle_source_head(&mut cx, lease, head));
        self.settle(now);
        plan
    }

    /// Bytes of a read came: shows life within a block.
    pub fn handle_source_bytes(&mut self, now: Now, id: &TaskId, lease: u64, bytes: u64) {
        let mut cx = context!(self, now);
        if let Some(task) = self.tasks.get_mut(id) {
            task.handle_source_bytes(&mut cx, lease, bytes);
        }
        self.settle(now);
    }

    /// A whole block was read and hashed; its bytes are parked until `Keep` or `Drop`.
    pub fn handle_source_block(
        &mut self,
        now: Now,
        id: &TaskId,
        lease: u64,
        block: BlockIndex,
        digest: BlockDigest,
    ) {
        let mut cx = context!(self, now);
        match self.tasks.get_mut(id) {
            Some(task) => {
                let unsigned = task.handle_source_block(&mut cx, lease, block, digest);
                self.sign(*id, unsigned);
            }
            None => self.outputs.push_back(Output::Drop {
                task: *id,
                block,
                origin: crate::output::Origin::Source(lease),
            }),
        }
        self.settle(now);
    }

    /// A read ended: at its extent's end (of a stream: with the whole length), confirmed (304), or by a failure.
    pub fn handle_source_end(
        &mut self,
        now: Now,
        id: &TaskId,
        lease: u64,
        end: Result<Option<u64>, SourceFailure>,
    ) {
        let mut cx = context!(self, now);
        if let Some(task) = self.tasks.get_mut(id) {
            let unsigned = task.handle_source_end(&mut cx, lease, end);
            self.sign(*id, unsigned);
        }
        self.settle(now);
    }

    /// Bytes of a wanted block came from a peer.
    pub fn handle_flow(&mut self, now: Now, from: &PeerId, id: &TaskId, block: BlockIndex) {
        self.note_flow(now, from);
        if let Some(task) = self.tasks.get_mut(id) {
            task.session.handle_flow(now, from, block);
        }
    }

    /// The peer's line moves, whatever task it moves for.
    pub(super) fn note_flow(&mut self, now: Now, from: &PeerId) {
        if let Some(last) = self.links.get_mut(from) {
            *last = now;
        }
    }

    /// The stream of a block from a peer broke.
    pub fn handle_block_lost(&mut self, now: Now, from: PeerId, id: &TaskId, block: BlockIndex) {
        let mut cx = context!(self, now);
        if let Some(task) = self.tasks.get_mut(id) {
            task.session.handle_lost(&mut cx, from, block, false);
        }
        self.settle(now);
    }

    /// A block that [`Output::SendBlock`] asked for was broken off on its way. That need not be because it cannot be had
    /// here: whoever was told so would never ask for it again.
    pub fn handle_send_broken_off(&mut self, now: Now, to: PeerId, id: &TaskId, block: BlockIndex) {
        let mut cx = context!(self, now);
        if let Some(task) = self.tasks.get_mut(id) {
            task.session.handle_send_broken_off(&mut cx, &to, block);
        }
        self.settle(now);
    }

    /// A block that [`Output::SendBlock`] asked for was taken by the peer (`done`), or cannot be read here.
    pub fn handle_block_sent(
        &mut self,
        now: Now,
        to: PeerId,
        id: &TaskId,
        block: BlockIndex,
        done: bool,
    ) {
        let mut cx = context!(self, now);
        if let Some(task) = self.tasks.get_mut(id) {
            task.session.handle_sent(&mut cx, to, block, done);
        }
        self.settle(now);
    }

    /// The store lost a block that it was believed to hold (damage on disk).
    pub fn handle_block_damaged(&mut self, now: Now, id: &TaskId, block: BlockIndex) {
        let mut cx = context!(self, now);
        if let Some(task) = self.tasks.get_mut(id) {
            task.lose_block(&mut cx, block);
        }
        self.settle(now);
    }

    /// The whole does not match the digest that a caller named.
    pub fn handle_wrong_digest(&mut self, now: Now, id: &TaskId) {
        let mut cx = context!(self, now);
        if let Some(task) = self.tasks.get_mut(id) {
            task.handle_wrong_digest(&mut cx);
        }
        self.settle(now);
    }

    /// The signature that [`Output::Sign`] asked for.
    pub fn handle_signature(&mut self, now: Now, request: u64, signature: [u8; 64]) {
        let Some((id, unsigned)) = self.signing.remove(&request) else {
            return;
        };
        let batch = SignedBatch {
            version: unsigned.version,
            signer: self.view.me(),
            first: unsigned.first,
            digests: unsigned.digests,
            signature: signature.to_vec(),
        };
        let mut cx = context!(self, now);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.handle_batch(&mut cx, batch);
        }
        self.settle(now);
    }

    pub(super) fn sign(&mut self, id: TaskId, unsigned: Option<Unsigned>) {
        let Some(unsigned) = unsigned else { return };
        let request = self.next_signing;
        self.next_signing += 1;
        let Unsigned {
            version,
            first,
            digests,
        } = &unsigned;
        let bytes = SignedBatch::signing_bytes(&id, version, *first, digests);
        self.signing.insert(request, (id, unsigned));
        self.outputs.push_back(Output::Sign { request, bytes });
    }
}
