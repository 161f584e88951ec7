//! What arrives from peers.

use std::time::Duration;

use bytes::Bytes;
use dfnode_gossip::{Now, PeerId};
use dfnode_tracker::{BlockDigest, Origin, PieceReport, Tracker as _};
use futures::FutureExt as _;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::{Driver, Report};
use crate::transport::{Arrival, BlockHeader, Room};

/// A block that waits for a limit shows life this often.
const LIFE_SIGN_PERIOD: Duration = Duration::from_millis(100);

impl Driver {
    /// Hands an arrival to whom it concerns.
    pub(super) fn handle_arrival(&mut self, now: Now, arrival: Arrival) {
        match arrival {
            Arrival::Packet {
                kind, from, bytes, ..
            } => self.handle_packet(now, kind, from, &bytes),
            Arrival::LinkUp(link) => self.handle_link_up(now, link),
            Arrival::LinkDown { peer } => self.handle_link_down(now, peer),
            Arrival::Message { from, bytes } => self.handle_message(now, from, &bytes),
            Arrival::Flow { from, header } => {
                self.links.touch(now, &from);
                self.tracker
                    .handle_flow(now, &from, &header.task, header.block);
            }
            Arrival::Block {
                from,
                header,
                body,
                digest,
                room,
            } => self.handle_block(now, from, header, body, digest, room),
            Arrival::BlockLost { from, header } => {
                self.tracker
                    .handle_block_lost(now, from, &header.task, header.block);
            }
            Arrival::Sync { from, open, reply } => self.handle_sync_open(now, from, &open, reply),
        }
    }

    /// A whole block came. A limit, or a disk that is behind, holds it back here: the tracker asks for no
    /// other in its place meanwhile.
    fn handle_block(
        &mut self,
        now: Now,
        from: PeerId,
        header: BlockHeader,
        body: Bytes,
        digest: BlockDigest,
        room: Room,
    ) {
        self.links.touch(now, &from);
        if !self.is_of_use(&header) {
            // The tracker says what is to be done; the limits are for what was asked for.
            self.admit_block(now, from, header, body, digest);
            return;
        }
        let bytes = body.len() as u64;
        let wait = self
            .parts
            .limits
            .download
            .claim(bytes)
            .max(self.tasks.limiter(&header.task).claim(bytes));
        let has_room = self.parts.store.room().now_or_never().is_some();
        if wait.is_zero() && has_room {
            self.admit_block(now, from, header, body, digest);
            return;
        }
        let parts = self.parts.clone();
        self.parts.spawn(async move {
            let free = async {
                sleep(wait).await;
                parts.store.room().await;
            };
            tokio::pin!(free);
            while timeout(LIFE_SIGN_PERIOD, &mut free).await.is_err() {
                parts.report(Report::StillFlowing { from, header }).await;
            }
            parts
                .report(Report::Admitted {
                    from,
                    header,
                    body,
                    digest,
                    room,
                })
                .await;
        });
    }

    /// Whether the tracker may keep such a block: only those wait for a limit, and use it up.
    fn is_of_use(&self, header: &BlockHeader) -> bool {
        let limiter = self.tasks.limiter(&header.task);
        if limiter.is_unlimited() && self.parts.limits.download.is_unlimited() {
            return true;
        }
        let Some(task) = self.tracker.task(&header.task) else {
            return false;
        };
        let is_current = task.meta.is_some_and(|meta| meta.version == header.version);
        !task.complete && is_current && self.tracker.digest(&header.task, header.block).is_some()
    }

    /// Whether a block is as long as its place: the store could not take another.
    fn may_be(&self, header: &BlockHeader, body: &Bytes) -> bool {
        let entry = self.tasks.entries.get(&header.task);
        let meta = entry.and_then(|entry| entry.meta.as_ref());
        let current = meta.filter(|meta| meta.version == header.version);
        current.is_none_or(|meta| {
            let range = meta.layout.range_of(header.block);
            let is_open = meta.layout.length().is_none();
            let (length, place) = (body.len() as u64, range.end - range.start);
            length == place || is_open && length < place
        })
    }

    /// A block's bytes are parked until the tracker has judged its digest.
    pub(super) fn admit_block(
        &mut self,
        now: Now,
        from: PeerId,
        header: BlockHeader,
        body: Bytes,
        digest: BlockDigest,
    ) {
        let BlockHeader {
            task,
            version,
            block,
            ..
        } = header;
        // Who signed for it, or told the length, lied: who sends it need not know.
        if self.tracker.digest(&task, block) == Some(digest) && !self.may_be(&header, &body) {
            debug!(task = %task.short(), %block, from = %from.short(), "a block of a wrong length");
            self.tracker.handle_block_lost(now, from, &task, block);
            return;
        }
        if self
            .parked
            .park(task, Origin::Peer(from), block, body, None)
            .is_err()
        {
            debug!(task = %task.short(), %block, "no room for a block");
            self.tracker.handle_block_lost(now, from, &task, block);
            return;
        }
        self.tracker.report_piece(
            now,
            PieceReport {
                from,
                task,
                version,
                block,
                digest,
            },
        );
    }
}
