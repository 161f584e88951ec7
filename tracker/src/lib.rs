//! Tasks, pieces and blocks; the Tracker, homes and leases; the swarm session: who sends which block to whom.
//!
//! Pure: no socket, file, clock or ambient chance. Every machine is driven by `handle_*`, drained by
//! `poll_output` and told the time; equal seeds and inputs give equal outputs, so the code that runs in
//! production is the code that is simulated.

mod blocks;
mod context;
mod events;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod holds;
mod home;
mod ids;
mod layout;
mod ledger;
mod local;
mod message;
mod meta;
mod output;
mod reads;
mod registration;
mod scope;
mod session;
mod slots;
mod task;
mod tracker;
mod view;
pub mod wire;

pub use blocks::BlockSet;
pub use events::{Progress, decode_length};
pub use holds::Holds;
pub use ids::{
    BlockDigest, BlockIndex, Digest, DigestTag, ParseDigestError, PieceIndex, Selector, TaskId,
    VersionId,
};
pub use layout::{Layout, MAX_BLOCK_BYTES, MAX_BLOCKS, MAX_PIECE_BYTES, MIN_BLOCK_BYTES};
pub use ledger::verify_signature;
pub use local::{
    Config, Footprint, LinkState, LocalTracker, MemberChange, PROBATION, TaskView, Verify,
    Violation,
};
pub use message::{
    AskDigests, Batches, Border, Cancel, Decline, DeclineReason, Extent, Grant, Have, Hello,
    HomeProbe, HomeState, Lease, LeaseEnd, LeaseReport, MAX_BATCH_DIGESTS, MAX_BORDER_PEERS,
    MAX_PEERS_NAMED, Message, Outcome, PeerRef, Register, Registered, SignedBatch, TableCopy, Want,
};
pub use meta::{MAX_VALIDATOR_BYTES, Meta, SourceFailure, SourceHead, Validators};
pub use output::{BlameReason, Origin, Output, ReadPlan, TaskEvent, TaskFailure};
pub use scope::Part;
pub use session::Arrival;
pub use task::Wish;
pub use tracker::{PieceReport, Tracker};
pub use view::best_homes;
