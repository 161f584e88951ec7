//! Sockets, disk, clock and keys around the pure machines.

pub mod control;
pub mod get;
