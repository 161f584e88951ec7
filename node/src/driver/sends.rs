//! Uploads: one task a block, from the store to a stream.

use std::collections::BTreeMap;

use dfnode_gossip::{Now, PeerId};
use dfnode_tracker::{BlockIndex, TaskId, VersionId};
use tokio::task::AbortHandle;
use tracing::{debug, trace};

use super::{Driver, Parts, Report};
use crate::store::ReadError;
use crate::transport::{BlockHeader, Link};

/// One block on its way to one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SendKey {
    pub(super) to: PeerId,
    pub(super) task: TaskId,
    pub(super) block: BlockIndex,
}

/// The uploads under way.
#[derive(Default)]
pub(super) struct Sends {
    running: BTreeMap<SendKey, AbortHandle>,
}

impl Sends {
    /// How many uploads are under way.
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }
}

impl Driver {
    /// Starts an upload.
    pub(super) fn send_block(&mut self, now: Now, key: SendKey, version: VersionId) {
        let Some(link) = self.links.get(&key.to).cloned() else {
            self.tracker
                .handle_send_broken_off(now, key.to, &key.task, key.block);
            return;
        };
        self.links.touch(now, &key.to);
        let parts = self.parts.clone();
        // What is being served is not evicted.
        let in_use = self.parts.store.hold(key.task);
        let running = self.parts.spawn(async move {
            let _in_use = in_use;
            let sent = upload(&parts, &link, key, version).await;
            parts.report(Report::Sent { key, sent }).await;
        });
        if let Some(older) = self.sends.running.insert(key, running) {
            older.abort();
        }
    }

    /// Stops an upload that nobody wants any more; the stream is reset.
    pub(super) fn stop_send(&mut self, key: SendKey) {
        if let Some(running) = self.sends.running.remove(&key) {
            running.abort();
        }
    }

    /// An upload ended.
    pub(super) fn handle_sent(&mut self, now: Now, key: SendKey, sent: Sent) {
        if self.sends.running.remove(&key).is_none() {
            return;
        }
        self.links.touch(now, &key.to);
        if self.tasks.touch(&key.task) {
            self.parts.store.touch(key.task);
        }
        if let Sent::All(bytes) = sent {
            self.parts.stats.to_peers.add(bytes);
            self.peers.sent(key.to, bytes);
        }
        let SendKey { to, task, block } = key;
        match sent {
            Sent::All(_) => self.tracker.handle_block_sent(now, to, &task, block, true),
            Sent::BrokenOff => self.tracker.handle_send_broken_off(now, to, &task, block),
            Sent::Unreadable => self.tracker.handle_block_sent(now, to, &task, block, false),
        }
    }
}

/// How an upload ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sent {
    /// So many bytes were acknowledged: the block.
    All(u64),
    /// The receiver did not want it any more, or the link is gone.
    BrokenOff,
    /// This node cannot send it.
    Unreadable,
}

/// Sends a block.
async fn upload(parts: &Parts, link: &Link, key: SendKey, version: VersionId) -> Sent {
    let SendKey { task, block, .. } = key;
    let body = match parts.store.read(task, version, block).await {
        Ok(bytes) => bytes,
        Err(error) => {
            debug!(task = %task.short(), %block, %error, "a block to upload cannot be read");
            if matches!(error, ReadError::Damaged(_)) {
                parts.report(Report::Damaged { task, block }).await;
            }
            return Sent::Unreadable;
        }
    };
    let body = parts.faults.on_upload(body);
    let bytes = body.len() as u64;
    parts.limits.upload.take(bytes).await;
    let Ok(length) = u32::try_from(bytes) else {
        return Sent::Unreadable;
    };
    match link
        .send_block(
            BlockHeader {
                task,
                version,
                block,
                length,
            },
            body,
        )
        .await
    {
        Ok(()) => Sent::All(bytes),
        Err(error) => {
            trace!(task = %task.short(), %block, %error, "upload ended early");
            Sent::BrokenOff
        }
    }
}
