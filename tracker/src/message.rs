//! What nodes say to each other about tasks. Byte layout and bounds: `wire`; meaning: docs/protocol.md.

use std::net::SocketAddr;
use std::ops::Range;

use dfnode_gossip::PeerId;
use serde::{Deserialize, Serialize};

use crate::holds::Holds;
use crate::ids::{BlockDigest, BlockIndex, DigestTag, TaskId, VersionId};
use crate::meta::{Meta, SourceFailure};
use crate::scope::Part;

/// Peers that one answer of a home names at most.
pub const MAX_PEERS_NAMED: usize = 8;
/// Members of its zone that one [`Border`] names at most, and those of other zones.
pub const MAX_BORDER_PEERS: usize = 16;
/// Digests that one signed batch holds at most.
pub const MAX_BATCH_DIGESTS: usize = 256;

/// A message between two nodes.
///
/// `Register` to `Border` may come twice, late or never: each is asked again by a deadline. The rest
/// belongs to a link, which delivers in order or breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A node tells a home that it wants or holds a task.
    Register(Register),
    /// The home's answer, and its word when something changes for a registrant.
    Registered(Registered),
    /// A reader tells the home how far its lease is.
    LeaseReport(LeaseReport),
    /// A registrant no longer wants nor holds the task.
    Leave(TaskId),
    /// A home asks another rank what it holds of a task.
    HomeProbe(HomeProbe),
    /// The other rank's answer, or rank 1's copy to rank 2.
    HomeState(HomeState),
    /// A home tells a registrant who brings blocks into its zone. Only where registrants stand in several.
    Border(Border),
    /// First word of a session on a link, and again when the sender's version changes.
    Hello(Hello),
    /// Digests for blocks that are or will be offered.
    Batches(Batches),
    /// The sender got further blocks.
    Have(Have),
    /// The sender would upload one block.
    Offer(Grant),
    /// The receiver of an offer names the block.
    Want(Want),
    /// The receiver of an offer has no use for it now.
    Decline(Decline),
    /// Who declined an offer has use for one now.
    Room(TaskId),
    /// The asker no longer needs the block that it wanted.
    Cancel(Cancel),
    /// The wanted block cannot be sent: ask elsewhere.
    Refuse(Cancel),
    /// The sender ends its session for this task on this link.
    Bye(TaskId),
    /// The sender wants to know what these blocks must hash to.
    AskDigests(AskDigests),
}

/// See [`Message::Register`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// The task.
    pub task: TaskId,
    /// Repeated by the answer.
    pub request: u64,
    /// The version that the registrant has or had part in.
    pub meta: Option<Meta>,
    /// What it holds of that version.
    pub holds: Holds,
    /// What its neighbours hold of it: a home that is new to the task need not have it read again.
    pub nearby: Holds,
    /// Whether it still wants blocks.
    pub wants: bool,
    /// Whether it may and can read the source.
    pub can_read: bool,
    /// Leases that it is reading under, so that a successor learns of them.
    pub leases: Vec<Lease>,
    /// The oldest validation that its caller accepts, milliseconds.
    pub max_age_ms: u64,
    /// How long ago the version was known to be current at the source, milliseconds.
    pub validated_ms: u64,
    /// Whether it wants blocks and has got none for a while.
    pub stalled: bool,
    /// Where to reach the registrant, for neighbours that do not know it yet.
    pub addr: Option<SocketAddr>,
    /// The parts that its callers want, if they do not want the whole: it reads no block that none of them touches.
    pub parts: Vec<Part>,
}

/// See [`Message::Registered`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The task.
    pub task: TaskId,
    /// The request that this answers; 0 when the home speaks first.
    pub request: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a home says to a registrant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "an outcome is made, sent and gone; boxing its usual variant would only cost"
)]
pub enum Outcome {
    /// The registrant is known.
    Welcome {
        /// Peers to exchange blocks with.
        peers: Vec<PeerRef>,
        /// The version being shared, once a reader learnt it.
        meta: Option<Meta>,
        /// An extent of the source to read now.
        lease: Option<Lease>,
        /// Whether to announce the task by gossip.
        announce: bool,
        /// How many leases on the source are out, at least one as long as something that is wanted here is unread: a
        /// reader leaves that much of its link to its own.
        readers: u32,
    },
    /// Another node is the home now.
    Redirect {
        /// Who.
        home: PeerId,
    },
    /// The home cannot grant yet (it is new, or asks the other ranks first): keep waiting.
    NotYet,
    /// The source gave the whole task up: no reader can succeed.
    Failed {
        /// Why.
        failure: SourceFailure,
    },
    /// The home wants to know whether the registrant lives and what it holds: register again, now.
    Report,
    /// The lease was given to somebody else: stop reading under it.
    LeaseGone {
        /// Which.
        lease: u64,
    },
    /// The home has no room for a further task or registrant.
    Busy,
}

/// A peer and one way to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRef {
    /// Who.
    pub peer: PeerId,
    /// Where, as the home knows it.
    pub addr: Option<SocketAddr>,
}

/// A permission, for a time, to read part of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Chosen at random by the home.
    pub id: u64,
    /// What to read.
    pub extent: Extent,
}

/// The part of the source that a lease covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// The first read: the first piece, from which length and validators are learnt.
    Probe,
    /// Blocks of a known version.
    Blocks {
        /// The version, validators and cut.
        meta: Meta,
        /// Which blocks.
        run: Range<u32>,
    },
    /// A conditional request: is this version still current?
    Validate {
        /// The version held by the cluster.
        meta: Meta,
    },
}

/// See [`Message::LeaseReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReport {
    /// The task.
    pub task: TaskId,
    /// The lease.
    pub lease: u64,
    /// Every block of the extent below this one is read, verified and with a neighbour, if there are any. A read that is
    /// done is reported again until that is so of all of it.
    pub read_to: u32,
    /// Bytes received so far, verified or not: shows life within a block.
    pub bytes: u64,
    /// What the probe learnt.
    pub meta: Option<Meta>,
    /// Blocks of this reader that no neighbour has yet: above an extent's worth it gets no further lease.
    pub unspread: u32,
    /// Set in the last report.
    pub end: Option<LeaseEnd>,
}

/// How a lease ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseEnd {
    /// The extent is read, or the version is confirmed.
    Done,
    /// The source failed this reader.
    Failed(SourceFailure),
    /// The reader gives the rest back (its caller left).
    Returned,
}

/// See [`Message::HomeProbe`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeProbe {
    /// The task.
    pub task: TaskId,
    /// Repeated by the answer.
    pub request: u64,
}

/// See [`Message::HomeState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeState {
    /// The task.
    pub task: TaskId,
    /// The probe that this answers; 0 for a copy.
    pub request: u64,
    /// What the sender holds, if it holds a table.
    pub table: Option<TableCopy>,
}

/// A home's soft state, as far as a successor needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCopy {
    /// The version being read.
    pub meta: Option<Meta>,
    /// Blocks that no lease covers yet.
    pub unread: Holds,
    /// Leases out, with their holders and the first block that each has not read.
    pub leases: Vec<(PeerId, Lease, u32)>,
    /// How long ago the version was known to be current, milliseconds.
    pub validated_ms: u64,
}

/// See [`Message::Border`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Border {
    /// The task.
    pub task: TaskId,
    /// The inlets of the receiver's zone, itself among them; none if it is none.
    pub inlets: Vec<PeerRef>,
    /// Peers in other zones to exchange blocks with.
    pub outside: Vec<PeerRef>,
}

/// See [`Message::Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The task.
    pub task: TaskId,
    /// The version that the sender holds or wants, once it knows one.
    pub meta: Option<Meta>,
    /// What it holds.
    pub holds: Holds,
    /// Whether it wants the rest.
    pub wants: bool,
    /// Milliseconds since it began: progress is judged against each node's own start.
    pub age_ms: u64,
}

/// See [`Message::Batches`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batches {
    /// The task.
    pub task: TaskId,
    /// Signed digests.
    pub batches: Vec<SignedBatch>,
}

/// Digests of consecutive blocks, signed by the node that read them from the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedBatch {
    /// The version.
    pub version: VersionId,
    /// Who read them.
    pub signer: PeerId,
    /// The first block.
    pub first: BlockIndex,
    /// One digest for each block from there on.
    pub digests: Vec<BlockDigest>,
    /// Ed25519 over [`SignedBatch::signing_bytes`], 64 bytes.
    pub signature: Vec<u8>,
}

/// See [`Message::AskDigests`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskDigests {
    /// The task.
    pub task: TaskId,
    /// The version.
    pub version: VersionId,
    /// The blocks, lowest first.
    pub runs: Vec<Range<u32>>,
}

/// See [`Message::Have`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// The task.
    pub task: TaskId,
    /// The version.
    pub version: VersionId,
    /// The blocks that are new since the last word.
    pub runs: Vec<Range<u32>>,
    /// The length of a stream, told once its end is reached.
    pub length: Option<u64>,
    /// Whether the sender still wants blocks.
    pub wants: bool,
}

/// See [`Message::Offer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The task.
    pub task: TaskId,
    /// The version.
    pub version: VersionId,
    /// The offerer's number for this offer.
    pub grant: u32,
    /// Blocks that the offerer would rather send, because few have them.
    pub suggest: Vec<BlockIndex>,
}

/// See [`Message::Want`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The task.
    pub task: TaskId,
    /// The version.
    pub version: VersionId,
    /// The offer that this takes up.
    pub grant: u32,
    /// The block to send.
    pub block: BlockIndex,
    /// What its bytes are to hash to, shortened: who knows it by another digest refuses, instead of being taken for
    /// one who alters bytes.
    pub digest: DigestTag,
}

/// See [`Message::Decline`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decline {
    /// The task.
    pub task: TaskId,
    /// The offer that this declines.
    pub grant: u32,
    /// Why.
    pub reason: DeclineReason,
}

/// Why an offer is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeclineReason {
    /// The offerer has nothing that is to be asked for now; [`Message::Room`] follows if that changes.
    Nothing,
    /// As many blocks as may be inbound are inbound; [`Message::Room`] follows.
    Full,
}

/// See [`Message::Cancel`] and [`Message::Refuse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The task.
    pub task: TaskId,
    /// The version.
    pub version: VersionId,
    /// The block.
    pub block: BlockIndex,
}

impl Message {
    /// The kind's name, for figures and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::Registered(_) => "registered",
            Self::LeaseReport(_) => "lease report",
            Self::Leave(_) => "leave",
            Self::HomeProbe(_) => "home probe",
            Self::HomeState(_) => "home state",
            Self::Border(_) => "border",
            Self::Hello(_) => "hello",
            Self::Batches(_) => "batches",
            Self::Have(_) => "have",
            Self::Offer(_) => "offer",
            Self::Want(_) => "want",
            Self::Decline(_) => "decline",
            Self::Room(_) => "room",
            Self::Cancel(_) => "cancel",
            Self::Refuse(_) => "refuse",
            Self::Bye(_) => "bye",
            Self::AskDigests(_) => "ask digests",
        }
    }

    /// The task that the message is about.
    pub const fn task(&self) -> TaskId {
        match self {
            Self::Register(m) => m.task,
            Self::Registered(m) => m.task,
            Self::LeaseReport(m) => m.task,
            Self::HomeProbe(m) => m.task,
            Self::HomeState(m) => m.task,
            Self::Border(m) => m.task,
            Self::Hello(m) => m.task,
            Self::Batches(m) => m.task,
            Self::Have(m) => m.task,
            Self::Offer(m) => m.task,
            Self::Want(m) => m.task,
            Self::Decline(m) => m.task,
            Self::Cancel(m) | Self::Refuse(m) => m.task,
            Self::AskDigests(m) => m.task,
            Self::Leave(task) | Self::Room(task) | Self::Bye(task) => *task,
        }
    }

    /// Whether the message belongs to a link: it is lost with it, and never sent without it.
    pub const fn needs_link(&self) -> bool {
        match self {
            Self::Register(_)
            | Self::Registered(_)
            | Self::LeaseReport(_)
            | Self::Leave(_)
            | Self::HomeProbe(_)
            | Self::HomeState(_)
            | Self::Border(_) => false,
            Self::Hello(_)
            | Self::Batches(_)
            | Self::Have(_)
            | Self::Offer(_)
            | Self::Want(_)
            | Self::Decline(_)
            | Self::Room(_)
            | Self::Cancel(_)
            | Self::Refuse(_)
            | Self::Bye(_)
            | Self::AskDigests(_) => true,
        }
    }
}

impl SignedBatch {
    /// What the signature covers.
    ///
    /// The task is in it: two tasks may have versions of one name, such as the same `ETag`, and other bytes.
    pub fn signing_bytes(
        task: &TaskId,
        version: &VersionId,
        first: BlockIndex,
        digests: &[BlockDigest],
    ) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(96 + digests.len() * 32);
        bytes.extend_from_slice(b"dfnode 1 block digests\0");
        bytes.extend_from_slice(task.as_bytes());
        bytes.extend_from_slice(version.as_bytes());
        bytes.extend_from_slice(&first.0.to_le_bytes());
        for digest in digests {
            bytes.extend_from_slice(&digest.0);
        }
        bytes
    }

    /// The blocks that the batch speaks of.
    pub fn run(&self) -> Range<u32> {
        let count = u32::try_from(self.digests.len()).unwrap_or(u32::MAX);
        self.first.0..self.first.0.saturating_add(count)
    }
}
