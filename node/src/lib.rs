//! Sockets, disk, clock and keys around the pure machines.

pub mod ambient;
pub mod control;
pub mod get;
pub mod limits;
