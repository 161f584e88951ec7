//! Sockets, disk, clock and keys around the pure machines.
