//! Membership, failure detection and event spreading, as a machine without clock or socket.
//!
//! [`Gossip`] is driven like every pure machine of dfnode: hand it what happened
//! ([`handle_datagram`](Gossip::handle_datagram), [`handle_timeout`](Gossip::handle_timeout) and
//! the like) together with the time, then drain [`poll_output`](Gossip::poll_output), then wait
//! until [`poll_timeout`](Gossip::poll_timeout) or the next thing that happens. Equal seeds and
//! equal inputs give equal runs.
//!
//! The parts: `swim` wraps foca and settles what foca leaves open (who is really down when views
//! disagree); `roster` lists who is alive; `slots` holds the last word of everybody on everything;
//! `spread` passes news on; `outbox` paces our own; `wire` alone knows bytes; `gossip` connects
//! them and holds no logic that one of them could hold. `docs/protocol-gossip.md` has the layout
//! and the rules with their reasons.

mod config;
mod error;
mod event;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod gossip;
mod labels;
mod member;
mod now;
mod outbox;
mod output;
mod peer_id;
mod roster;
mod slots;
mod spread;
mod swim;
mod wire;

pub use config::Config;
pub use error::{PublishError, Violation};
pub use event::{Event, EventKind, MAX_BODY_BYTES, Subject};
pub use gossip::{Footprint, Gossip};
pub use labels::{InvalidZone, Labels, MAX_ZONE_BYTES, Zone};
pub use member::{MAX_ADDRS, Member};
pub use now::Now;
pub use output::{Output, SignRequestId};
pub use peer_id::{ParsePeerIdError, PeerId};
pub use slots::{MAX_SLOTS, MAX_SLOTS_PER_ORIGIN, MAX_SLOTS_PER_SUBJECT};
pub use spread::MAX_BACKLOG;
pub use wire::datagram_sender;

/// The most bytes of an [`Output::Datagram`]. With the seal and the headers of IPv6 and UDP it
/// stays below the 1280 bytes that every IPv6 link carries.
pub const MAX_DATAGRAM_BYTES: usize = 1164;

/// The most bytes of one event on the wire, keys and signature included.
pub const MAX_ITEM_BYTES: usize = 512;

/// The most bytes of one push/pull message.
pub const MAX_SYNC_BYTES: usize = 4 * 1024 * 1024;

/// The most members that are known at a time, the dead of the last day included.
pub const MAX_MEMBERS: usize = 20_000;
