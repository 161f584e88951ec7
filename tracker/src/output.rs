//! What the tracker asks of the node that owns it, and what it tells local callers.

use std::ops::Range;

use bytes::Bytes;
use dfnode_gossip::{EventKind, PeerId, Subject};

use crate::ids::{BlockIndex, TaskId, VersionId};
use crate::message::{Lease, Message, PeerRef, SignedBatch};
use crate::meta::{Meta, SourceFailure};

/// One effect that the machine wants; to be performed in order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "outputs are few at a time; boxing messages would cost an allocation each"
)]
pub enum Output {
    /// Send a message: over the link if one is up, else sealed in a packet unless it needs a link.
    Send {
        /// To whom.
        to: PeerId,
        /// What.
        message: Message,
    },
    /// Make a link to this peer and tell how that ended.
    Connect {
        /// Whom to dial.
        peer: PeerRef,
    },
    /// Read the source under this lease.
    ReadSource {
        /// The task.
        task: TaskId,
        /// What to read.
        lease: Lease,
    },
    /// Stop a read; its parked blocks are of no use.
    StopSource {
        /// The task.
        task: TaskId,
        /// The lease's id.
        lease: u64,
    },
    /// Upload a block on a stream of its own and tell how that ended.
    SendBlock {
        /// To whom.
        to: PeerId,
        /// The task.
        task: TaskId,
        /// The version.
        version: VersionId,
        /// Which block.
        block: BlockIndex,
    },
    /// The receiver no longer wants this block.
    StopSend {
        /// The receiver.
        to: PeerId,
        /// The task.
        task: TaskId,
        /// Which block.
        block: BlockIndex,
    },
    /// This node no longer wants a block that is arriving.
    StopReceive {
        /// The sender.
        from: PeerId,
        /// The task.
        task: TaskId,
        /// Which block.
        block: BlockIndex,
    },
    /// The parked block matched its digest: store it and let it be read, at once.
    Keep {
        /// The task.
        task: TaskId,
        /// The version.
        version: VersionId,
        /// Which block.
        block: BlockIndex,
        /// Where the parked bytes came from.
        origin: Origin,
    },
    /// The parked block is of no use: throw its bytes away.
    Drop {
        /// The task.
        task: TaskId,
        /// Which block.
        block: BlockIndex,
        /// Where the parked bytes came from.
        origin: Origin,
    },
    /// Store these digests with the task, so that it can be served after a restart.
    KeepBatch {
        /// The task.
        task: TaskId,
        /// The digests.
        batch: SignedBatch,
    },
    /// Sign with the node's key and hand the signature back.
    Sign {
        /// Repeated by the answer.
        request: u64,
        /// What to sign.
        bytes: Vec<u8>,
    },
    /// Hand this to the gossip machine.
    Publish {
        /// The task, or the accused peer.
        subject: Subject,
        /// Which slot.
        kind: EventKind,
        /// Its value.
        body: Bytes,
    },
    /// Take back what was handed to the gossip machine, if it is there.
    Withdraw {
        /// The task.
        subject: Subject,
        /// Which slot.
        kind: EventKind,
    },
    /// Something that local callers and the store must know.
    Task {
        /// The task.
        task: TaskId,
        /// What happened.
        event: TaskEvent,
    },
    /// Have nothing to do with this peer until its probation.
    Blame {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: BlameReason,
    },
}

/// Where the bytes of a parked block came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A peer's stream.
    Peer(PeerId),
    /// The read of the source under this lease.
    Source(u64),
}

/// News of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEvent {
    /// The version is known, or its length became known: reserve its file.
    Meta(Meta),
    /// The source has a newer version: what was got of the older one is void.
    Restarted,
    /// The version is what the source has, as the newest caller understands "now"; blocks may still be missing.
    Current,
    /// Every block is here and verified.
    Complete,
    /// The task cannot be got.
    Failed(TaskFailure),
    /// No home answers, and this node reads the source as if it were the only one.
    Alone,
    /// That is over.
    NotAlone,
}

/// Why a task cannot be got by this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskFailure {
    /// The source failed and no peer has what is missing.
    #[error("{0}")]
    Source(SourceFailure),
    /// The bytes that the source has do not match the digest that the caller named.
    #[error("the content at the source does not match the digest asked for")]
    WrongDigest,
    /// The source changed more often than a download could follow.
    #[error("the content keeps changing at the source")]
    KeepsChanging,
    /// Reading the source is not allowed here, and no peer has the task.
    #[error("no peer has this and reading the source is not allowed")]
    NoSource,
}

/// Why a peer is isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlameReason {
    /// It sent a block whose bytes do not match the signed digest.
    AlteredBytes,
    /// It signed a digest that the source's bytes do not have.
    FalseDigest,
    /// It broke the protocol.
    Violation,
    /// Several members accuse it.
    Accused,
}

impl BlameReason {
    /// The reason in words for `dfnode peers`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlteredBytes => "sent altered bytes",
            Self::FalseDigest => "signed a false digest",
            Self::Violation => "broke the protocol",
            Self::Accused => "accused by several members",
        }
    }
}

/// What a read of the source must yield once its head is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPlan {
    /// The version, and the layout to cut by.
    pub meta: Meta,
    /// The blocks to report, lowest first; up to `u32::MAX` for a stream, which ends when it ends.
    pub run: Range<u32>,
}
