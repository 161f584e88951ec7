//! The Tracker's verbs, after the first interface between a peer and its supernode.

use dfnode_gossip::{Now, PeerId};

use crate::ids::{BlockDigest, BlockIndex, TaskId, VersionId};
use crate::output::BlameReason;
use crate::session::Arrival;
use crate::task::Wish;

/// What a peer asks of its tracker: there, a supernode; here, a machine in the same process.
///
/// `PullPiece`, the fifth verb, is answered within the session: when a neighbour offers an upload, the machine itself
/// chooses the block, because only then is it known who has a slot free.
pub trait Tracker {
    /// A local caller wants a task. Its news come as [`crate::Output::Task`].
    fn register(&mut self, now: Now, task: TaskId, wish: Wish);
    /// A whole block came from a peer and was hashed; its bytes are parked until the machine says keep or drop.
    fn report_piece(&mut self, now: Now, report: PieceReport) -> Arrival;
    /// The last local caller of a task left: what is held is still served, nothing more is fetched.
    fn service_down(&mut self, now: Now, task: &TaskId);
    /// A peer did what no correct peer does.
    fn report_error(&mut self, now: Now, peer: PeerId, reason: BlameReason);
}

/// See [`Tracker::report_piece`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceReport {
    /// Who sent it.
    pub from: PeerId,
    /// The task.
    pub task: TaskId,
    /// The version that the sender named.
    pub version: VersionId,
    /// Which block.
    pub block: BlockIndex,
    /// What its bytes hash to.
    pub digest: BlockDigest,
}
