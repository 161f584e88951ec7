//! What the driver's own tasks tell the loop.

use bytes::Bytes;
use dfnode_gossip::PeerId;
use dfnode_tracker::{
    BlockDigest, BlockIndex, Digest, Meta, ReadPlan, SourceHead, TaskId, VersionId,
};
use tokio::sync::oneshot;

use super::Driver;
use super::access::Answer;
use super::credentials::{Credential, task_of};
use super::downloads::{Asker, Waits};
use super::files::Place;
use super::pump::Left;
use super::sends::{SendKey, Sent};
use super::source_reads::{CutBlock, ReadEnd, ReadKey};
use crate::discovery::Candidate;
use crate::store::{ReserveError, Returns};
use crate::transport::{BlockHeader, ConnectError, Link, Room};

/// One thing that a task beside the loop found out or ended with.
pub(crate) enum Report {
    /// A dial ended.
    Dialed {
        peer: PeerId,
        result: Result<(), String>,
    },
    /// A candidate of the discovery answered or not.
    Joined {
        candidate: Candidate,
        link: Result<Link, ConnectError>,
    },
    /// A push/pull begins: the first message is due.
    SyncStart { open: oneshot::Sender<Vec<u8>> },
    /// The answer came: the last message is due.
    SyncAnswer {
        from: PeerId,
        answer: Bytes,
        last: oneshot::Sender<Vec<u8>>,
    },
    /// A push/pull that we began ended.
    SyncEnded {
        peer: PeerId,
        result: Result<(), String>,
    },
    /// The last message of a push/pull that a peer began.
    SyncLast { from: PeerId, last: Bytes },
    /// The head of a source's answer.
    SourceHead {
        key: ReadKey,
        head: SourceHead,
        plan: oneshot::Sender<Option<ReadPlan>>,
    },
    /// Bytes came from the source.
    SourceBytes { key: ReadKey, bytes: u64 },
    /// A block was read from the source.
    SourceBlock { key: ReadKey, cut: CutBlock },
    /// A read ended by itself.
    SourceEnd { key: ReadKey, end: ReadEnd },
    /// An upload ended.
    Sent { key: SendKey, sent: Sent },
    /// A block that had to wait for the limit of its task.
    Admitted {
        from: PeerId,
        header: BlockHeader,
        body: Bytes,
        digest: BlockDigest,
        room: Room,
    },
    /// A block still waits for the limit: a sign of life for the tracker.
    StillFlowing { from: PeerId, header: BlockHeader },
    /// The store made room or could not.
    Reserved {
        task: TaskId,
        meta: Meta,
        place: Result<Place, ReserveError>,
    },
    /// The whole was hashed.
    Checked {
        task: TaskId,
        version: VersionId,
        found: Result<Vec<Digest>, String>,
    },
    /// The source was asked about one caller.
    Access {
        task: TaskId,
        caller: u64,
        version: VersionId,
        answer: Answer,
    },
    /// A download from the source alone, or a wait for a place, ended.
    DirectEnded,
    /// A caller for whom there was no place may ask again.
    WaitedForPlace {
        task: TaskId,
        credential: Credential,
        asker: Box<Asker>,
        returns: Returns,
    },
    /// The store found a block damaged.
    Damaged { task: TaskId, block: BlockIndex },
    /// A local caller's download ended, or belongs to another task.
    CallerLeft {
        task: TaskId,
        caller: u64,
        left: Left,
    },
}

impl Driver {
    /// Hands a report to whom it concerns.
    pub(super) fn handle_report(&mut self, now: dfnode_gossip::Now, report: Report) {
        match report {
            Report::Dialed { peer, result } => self.handle_dialed(now, peer, result),
            // The loop takes these to the discovery before it comes here.
            Report::Joined { .. } => {}
            Report::DirectEnded => self.directs -= 1,
            Report::WaitedForPlace {
                task,
                credential,
                asker,
                returns,
            } => {
                let is_own = task != task_of(&asker.request, None);
                let waits = Waits {
                    has_waited: true,
                    returns,
                };
                self.join(now, task, is_own, credential, *asker, waits);
            }
            Report::Damaged { task, block } => self.handle_damaged(now, task, block),
            Report::SyncStart { open } => self.handle_sync_start(now, open),
            Report::SyncAnswer { from, answer, last } => {
                self.handle_sync_answer(now, from, &answer, last);
            }
            Report::SyncEnded { peer, result } => self.handle_sync_ended(now, peer, result),
            Report::SyncLast { from, last } => self.handle_sync_last(now, from, &last),
            Report::SourceHead { key, head, plan } => {
                self.handle_source_head(now, key, &head, plan);
            }
            Report::SourceBytes { key, bytes } => self.handle_source_bytes(now, key, bytes),
            Report::SourceBlock { key, cut } => self.handle_source_block(now, key, cut),
            Report::SourceEnd { key, end } => self.handle_source_end(now, key, end),
            Report::Sent { key, sent } => self.handle_sent(now, key, sent),
            Report::Admitted {
                from,
                header,
                body,
                digest,
                room: _room,
            } => self.admit_block(now, from, header, body, digest),
            Report::StillFlowing { from, header } => {
                self.tracker
                    .handle_flow(now, &from, &header.task, header.block);
            }
            Report::Reserved { task, meta, place } => self.handle_reserved(now, task, &meta, place),
            Report::Checked {
                task,
                version,
                found,
            } => self.handle_checked(now, task, version, found),
            Report::Access {
                task,
                caller,
                version,
                answer,
            } => self.handle_access(now, task, caller, version, answer),
            Report::CallerLeft { task, caller, left } => {
                self.handle_caller_left(now, task, caller, left);
            }
        }
    }
}
