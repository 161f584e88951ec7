//! Sockets, disk, clock and keys around the pure machines.

pub mod ambient;
pub mod cluster_key;
pub mod control;
pub mod discovery;
pub mod get;
pub mod identity;
pub mod limits;
mod private_file;
pub mod source;
pub mod store;
pub mod transport;
pub mod whole_digest;
